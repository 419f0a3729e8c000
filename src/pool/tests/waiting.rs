//! The queue. Time stands still here and jumps to the next timer, so nothing is slept through.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::{JoinSet, yield_now};
use tokio::time::{advance, timeout};

use crate::base::facts::Usage;
use crate::pool::tests::{id, key, own_fault, pool_with, s, settings};
use crate::pool::{CallerId, IdentityPool, Lease, LeaseError, Now, Outcome, PoolSettings, Wanted};

fn one_at_a_time() -> PoolSettings {
    PoolSettings { in_flight_max: 1, ..settings() }
}

fn wanted(caller: u64) -> Wanted {
    wanted_for(Usage::Chat, caller)
}

fn wanted_for(usage: Usage, caller: u64) -> Wanted {
    Wanted {
        caller: CallerId(caller),
        usage,
        uploads: false,
        tried: Vec::new(),
        preferred: None,
        deadline: Now::read().instant + s(600),
    }
}

type Answers = JoinSet<(&'static str, Result<Lease, LeaseError>)>;

/// Lets every task run until it waits.
async fn settle() {
    for _ in 0..50 {
        yield_now().await;
    }
}

fn ask(answers: &mut Answers, pool: &IdentityPool, name: &'static str, wanted: Wanted) {
    let pool = pool.clone();
    answers.spawn(async move { (name, pool.lease(&wanted).await) });
}

async fn next(answers: &mut Answers) -> (&'static str, Result<Lease, LeaseError>) {
    answers.join_next().await.unwrap().unwrap()
}

fn queued(pool: &IdentityPool) -> usize {
    pool.summary(Now::read()).queued
}

fn is_busy(answer: &Result<Lease, LeaseError>) -> bool {
    matches!(answer, Err(LeaseError::Busy { .. }))
}

#[tokio::test(start_paused = true)]
async fn callers_take_turns_in_the_order_they_came() {
    let pool = pool_with(1, one_at_a_time(), Now::read());
    let mut held = pool.lease(&wanted(1)).await.unwrap();
    let mut answers = Answers::new();
    for (name, caller) in [("a1", 1), ("a2", 1), ("a3", 1), ("b1", 2), ("b2", 2), ("c1", 3)] {
        ask(&mut answers, &pool, name, wanted(caller));
        settle().await;
    }
    assert_eq!(queued(&pool), 6);
    let mut order = Vec::new();
    for left in (0..6).rev() {
        assert!(answers.try_join_next().is_none(), "one slot, one lease");
        held.finish(Outcome::Success, Now::read());
        let (name, lease) = next(&mut answers).await;
        order.push(name);
        held = lease.unwrap();
        assert_eq!(queued(&pool), left);
        assert_eq!(pool.summary(Now::read()).in_flight, 1);
    }
    assert_eq!(order, ["a1", "b1", "c1", "a2", "b2", "a3"]);
}

#[tokio::test(start_paused = true)]
async fn waiting_ends_at_the_limit_or_the_deadline() {
    let pool = pool_with(1, one_at_a_time(), Now::read());
    let _held = pool.lease(&wanted(1)).await.unwrap();
    for (left, expected) in [(s(600), s(10)), (s(3), s(3)), (s(10), s(10))] {
        let began = Now::read().instant;
        let mut wanted = wanted(1);
        wanted.deadline = began + left;
        assert!(is_busy(&pool.lease(&wanted).await));
        let waited = Now::read().instant - began;
        assert!((expected..expected + Duration::from_millis(5)).contains(&waited), "{waited:?}");
        assert_eq!(queued(&pool), 0);
    }
    let mut over = wanted(1);
    over.deadline = Now::read().instant;
    let began = Now::read().instant;
    assert!(is_busy(&pool.lease(&over).await));
    assert_eq!(Now::read().instant, began, "no wait at all");
}

#[tokio::test(start_paused = true)]
async fn a_request_with_files_gets_the_one_whose_rest_from_files_ends() {
    let pool = pool_with(2, one_at_a_time(), Now::read());
    let with_files = || Wanted { uploads: true, ..wanted(1) };
    let limited = Outcome::RateLimited { retry_after: Some(s(2)) };
    pool.lease(&with_files()).await.unwrap().finish_as(Usage::Upload, limited, Now::read());
    let _held = pool.lease(&with_files()).await.unwrap();
    let began = Now::read().instant;
    let lease = pool.lease(&with_files()).await.unwrap();
    assert_eq!(*lease.identity(), id(1));
    let waited = Now::read().instant - began;
    assert!((s(2)..s(2) + Duration::from_millis(5)).contains(&waited), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_refuses_at_once() {
    let mut small = one_at_a_time();
    small.queue_max = 2;
    let pool = pool_with(1, small, Now::read());
    let held = pool.lease(&wanted(1)).await.unwrap();
    let mut answers = Answers::new();
    ask(&mut answers, &pool, "first", wanted(1));
    ask(&mut answers, &pool, "second", wanted(2));
    settle().await;
    let began = Now::read().instant;
    assert!(is_busy(&pool.lease(&wanted(3)).await));
    assert_eq!(Now::read().instant, began);
    drop(held);
    assert!(next(&mut answers).await.1.is_ok());
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_what_cannot_come() {
    let pool = pool_with(2, one_at_a_time(), Now::read());
    let held = pool.lease(&wanted(1)).await.unwrap();
    pool.lease(&wanted(1)).await.unwrap().finish(Outcome::Quota { rest: s(9) }, Now::read());
    let mut answers = Answers::new();
    ask(&mut answers, &pool, "waits", wanted(1));
    let mut other = wanted(2);
    other.tried = vec![key(1)];
    let began = Now::read().instant;
    let refused = pool.lease(&other).await.unwrap_err();
    assert!(matches!(refused, LeaseError::Resting { .. }), "{refused:?}");
    settle().await;
    assert_eq!(queued(&pool), 1);
    held.finish(Outcome::Forbidden, Now::read());
    let (_, answer) = next(&mut answers).await;
    assert!(matches!(answer, Err(LeaseError::Resting { .. })), "{answer:?}");
    assert_eq!(Now::read().instant, began, "told at once");
    assert_eq!(queued(&pool), 0);
}

#[tokio::test(start_paused = true)]
async fn a_rest_that_ends_serves_those_who_wait() {
    let pool = pool_with(2, one_at_a_time(), Now::read());
    let _held = pool.lease(&wanted(1)).await.unwrap();
    let rest = Outcome::RateLimited { retry_after: Some(s(4)) };
    pool.lease(&wanted(1)).await.unwrap().finish(rest, Now::read());
    let began = Now::read().instant;
    let lease = pool.lease(&wanted(1)).await.unwrap();
    assert_eq!(*lease.identity(), id(2));
    let waited = Now::read().instant - began;
    assert!((s(4)..s(5)).contains(&waited), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_token_or_a_reset_serves_those_who_wait() {
    use crate::pool::CredentialState::{Missing, Ready};

    let pool = pool_with(2, one_at_a_time(), Now::read());
    let retry_at = Now::read().instant + s(3600);
    pool.set_credential(&key(2), Missing { retry_at }, Now::read());
    let held = pool.lease(&wanted(1)).await.unwrap();
    let mut answers = Answers::new();
    ask(&mut answers, &pool, "token", wanted(1));
    settle().await;
    assert_eq!(queued(&pool), 1);
    pool.set_credential(&key(2), Ready, Now::read());
    let second = next(&mut answers).await.1.unwrap();
    assert_eq!(*second.identity(), id(2));
    second.finish(Outcome::Quota { rest: s(3600) }, Now::read());
    ask(&mut answers, &pool, "reset", wanted(1));
    settle().await;
    pool.reset(&key(2), Now::read());
    assert_eq!(*next(&mut answers).await.1.unwrap().identity(), id(2));
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn a_probe_with_content_makes_room() {
    let mut two = settings();
    two.in_flight_max = 2;
    let pool = pool_with(2, two, Now::read());
    let second = |tried: usize| {
        let mut wanted = wanted(1);
        wanted.tried = vec![key(tried)];
        wanted
    };
    for _ in 0..5 {
        let lease = pool.lease(&second(1)).await.unwrap();
        lease.finish(own_fault(2), Now::read());
    }
    advance(s(300)).await;
    let _held = [pool.lease(&second(2)).await.unwrap(), pool.lease(&second(2)).await.unwrap()];
    let probe = pool.lease(&second(1)).await.unwrap();
    assert!(probe.is_probe());
    let mut answers = Answers::new();
    ask(&mut answers, &pool, "waits", wanted(1));
    settle().await;
    assert_eq!(queued(&pool), 1);
    probe.first_content();
    assert_eq!(*next(&mut answers).await.1.unwrap().identity(), id(2));
}

#[tokio::test(start_paused = true)]
async fn those_who_want_another_do_not_block_the_line() {
    let pool = pool_with(2, one_at_a_time(), Now::read());
    let first = pool.lease(&wanted(1)).await.unwrap();
    let _second = pool.lease(&wanted(1)).await.unwrap();
    let mut answers = Answers::new();
    let mut picky = wanted(1);
    picky.tried = vec![key(1)];
    ask(&mut answers, &pool, "picky", picky);
    settle().await;
    ask(&mut answers, &pool, "any", wanted(1));
    settle().await;
    drop(first);
    let (name, lease) = next(&mut answers).await;
    assert_eq!(name, "any");
    assert_eq!(*lease.unwrap().identity(), id(1));
}

#[tokio::test(start_paused = true)]
async fn a_freed_slot_goes_to_the_first_that_it_fits() {
    let pool = pool_with(2, one_at_a_time(), Now::read());
    let (first, second) = (pool.lease(&wanted(1)).await.unwrap(), pool.lease(&wanted(1)).await.unwrap());
    let mut answers = Answers::new();
    for (name, usage) in [("video", Usage::Video), ("chat", Usage::Chat), ("image", Usage::Image)] {
        ask(&mut answers, &pool, name, wanted_for(usage, 1));
        settle().await;
    }
    assert_eq!(queued(&pool), 3);
    first.finish(Outcome::Success, Now::read());
    let (name, video) = next(&mut answers).await;
    assert_eq!(name, "video");
    video.unwrap().finish(Outcome::Quota { rest: s(3600) }, Now::read());
    let (name, chat) = next(&mut answers).await;
    let chat = chat.unwrap();
    assert_eq!((name, chat.identity()), ("chat", &id(1)), "it rests from videos alone");
    ask(&mut answers, &pool, "another video", wanted_for(Usage::Video, 2));
    settle().await;
    chat.finish(Outcome::Success, Now::read());
    let (name, image) = next(&mut answers).await;
    assert_eq!((name, image.unwrap().identity()), ("image", &id(1)));
    settle().await;
    assert_eq!(queued(&pool), 1, "the first is no use for a video");
    second.finish(Outcome::Success, Now::read());
    let (name, lease) = next(&mut answers).await;
    assert_eq!((name, lease.unwrap().identity()), ("another video", &id(2)));
}

#[tokio::test(start_paused = true)]
async fn those_who_want_something_else_do_not_block_the_line() {
    let pool = pool_with(2, one_at_a_time(), Now::read());
    pool.lease(&wanted_for(Usage::Video, 1)).await.unwrap().finish(Outcome::Quota { rest: s(3600) }, Now::read());
    let (first, _second) = (pool.lease(&wanted(1)).await.unwrap(), pool.lease(&wanted(1)).await.unwrap());
    assert_eq!(*first.identity(), id(1));
    let mut answers = Answers::new();
    for (name, usage) in [("video", Usage::Video), ("chat", Usage::Chat)] {
        ask(&mut answers, &pool, name, wanted_for(usage, 1));
        settle().await;
    }
    first.finish(Outcome::Success, Now::read());
    let (name, lease) = next(&mut answers).await;
    assert_eq!((name, lease.unwrap().identity()), ("chat", &id(1)));
    assert_eq!(queued(&pool), 1);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_rest_from_one_thing_serves_those_who_wait_for_it() {
    let pool = pool_with(2, one_at_a_time(), Now::read());
    let rest = Outcome::RateLimited { retry_after: Some(s(4)) };
    pool.lease(&wanted_for(Usage::Video, 1)).await.unwrap().finish(rest, Now::read());
    let _held = pool.lease(&wanted_for(Usage::Video, 1)).await.unwrap();
    let began = Now::read().instant;
    let lease = pool.lease(&wanted_for(Usage::Video, 1)).await.unwrap();
    assert_eq!(*lease.identity(), id(1));
    let waited = Now::read().instant - began;
    assert!((s(4)..s(5)).contains(&waited), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn whoever_leaves_gives_up_the_place() {
    let pool = pool_with(1, one_at_a_time(), Now::read());
    let held = pool.lease(&wanted(1)).await.unwrap();
    {
        let wanted = wanted(1);
        let waiting = pool.lease(&wanted);
        assert!(timeout(s(1), waiting).await.is_err());
    }
    assert_eq!(queued(&pool), 0);
    drop(held);
    assert_eq!(pool.summary(Now::read()).in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn an_answer_nobody_reads_goes_to_the_next() {
    let pool = pool_with(1, one_at_a_time(), Now::read());
    let held = pool.lease(&wanted(1)).await.unwrap();
    let first = wanted(1);
    let mut first = Box::pin(pool.lease(&first));
    assert!(timeout(Duration::ZERO, &mut first).await.is_err());
    let mut answers = Answers::new();
    ask(&mut answers, &pool, "next", wanted(2));
    settle().await;
    assert_eq!(queued(&pool), 2);
    held.finish(Outcome::Success, Now::read());
    assert_eq!(queued(&pool), 1, "the first has its answer");
    assert_eq!(pool.summary(Now::read()).in_flight, 1);
    drop(first);
    let (name, lease) = next(&mut answers).await;
    assert_eq!((name, queued(&pool)), ("next", 0));
    drop(lease);
    assert_eq!(pool.summary(Now::read()).in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_overtakes_nobody() {
    let pool = pool_with(2, one_at_a_time(), Now::read());
    let _held = pool.lease(&wanted(1)).await.unwrap();
    let rest = Outcome::RateLimited { retry_after: Some(s(4)) };
    pool.lease(&wanted(1)).await.unwrap().finish(rest, Now::read());
    let first = wanted(1);
    let mut first = Box::pin(pool.lease(&first));
    assert!(timeout(Duration::ZERO, &mut first).await.is_err());
    // The first one is not polled when the rest ends; its place counts all the same.
    advance(s(4)).await;
    let now = Now::read();
    assert!(matches!(pool.try_lease(&wanted(2), now), Err(LeaseError::Busy { .. })));
    assert_eq!(*first.await.unwrap().identity(), id(2));
}

#[test]
fn no_slot_is_lost_in_a_crowd() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_time().build().unwrap();
    let mut busy = settings();
    busy.in_flight_max = 2;
    busy.queue_max = 400;
    let pool = pool_with(3, busy, Now::read());
    let most = Arc::new(AtomicUsize::new(0));
    runtime.block_on(async {
        let mut crowd = JoinSet::new();
        for number in 0..400_u64 {
            let (pool, most) = (pool.clone(), Arc::clone(&most));
            crowd.spawn(async move {
                for round in 0..20_u64 {
                    let wanted = wanted(number % 7);
                    // Some leave at about the moment when their turn comes.
                    let patience = Duration::from_micros((number * 37 + round * 101) % 3000);
                    if let Ok(Ok(lease)) = timeout(patience, pool.lease(&wanted)).await {
                        let in_flight = pool.summary(Now::read()).in_flight;
                        most.fetch_max(in_flight, Ordering::Relaxed);
                        yield_now().await;
                        if round % 3 == 0 {
                            drop(lease);
                        } else {
                            lease.finish(Outcome::Success, Now::read());
                        }
                    }
                }
            });
        }
        let all = async { while crowd.join_next().await.is_some() {} };
        timeout(s(60), all).await.unwrap();
        let summary = pool.summary(Now::read());
        assert_eq!((summary.in_flight, summary.queued), (0, 0));
        assert!(most.load(Ordering::Relaxed) <= 6);
        // Every slot is still there.
        let now = Now::read();
        let held: Vec<_> = (0..6).map(|_| pool.try_lease(&wanted(1), now).unwrap()).collect();
        assert!(pool.try_lease(&wanted(1), now).is_err());
        drop(held);
        // All that wait are served, even if others give up in between.
        let mut patient = JoinSet::new();
        for number in 0..200 {
            let pool = pool.clone();
            patient.spawn(async move { pool.lease(&wanted(number)).await.is_ok() });
        }
        while let Some(served) = patient.join_next().await {
            assert!(served.unwrap());
        }
    });
}

#[test]
fn a_thousand_at_the_end_of_a_cooldown_bring_one_probe() {
    let now = Now::read();
    let pool = pool_with(1, settings(), now);
    for _ in 0..5 {
        pool.try_lease(&wanted(1), now).unwrap().finish(own_fault(1), now);
    }
    let due = Now { instant: now.instant + s(300), unix: now.unix.plus(300) };
    // Keep the early probe out of it: it has been spent just before.
    let almost = Now { instant: due.instant - Duration::from_millis(1), ..due };
    let early = pool.try_lease(&wanted(1), almost).unwrap();
    early.finish(Outcome::Neutral, almost);
    let probes: Vec<_> = std::thread::scope(|scope| {
        let ask = || (0..250).filter_map(|_| pool.try_lease(&wanted(1), due).ok()).collect::<Vec<_>>();
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(probes.len(), 1);
    assert!(probes[0].is_probe());
}
