//! The table of the breaker, row by row.

use std::time::{Duration, Instant};

use crate::pool::identity::breaker::{Breaker, State};
use crate::pool::identity::window::Tally;
use crate::pool::tests::{s, settings};

const NO_RESULTS: Tally = Tally { good: 0, bad: 0 };
const WELL: Tally = Tally { good: 80, bad: 20 };

/// A breaker and its moment, moved by short commands.
struct Bench {
    breaker: Breaker,
    now: Instant,
    epoch: u64,
    jitter: f64,
}

impl Bench {
    fn new() -> Self {
        Self { breaker: Breaker::new(), now: Instant::now(), epoch: 0, jitter: 0.0 }
    }

    fn wait(&mut self, length: Duration) {
        self.now += length;
    }

    /// Picks it, whether or not it is due.
    fn pick(&mut self) -> bool {
        let admission = self.breaker.admit(self.now, &settings(), self.jitter);
        self.epoch = admission.epoch;
        admission.is_probe
    }

    fn fail(&mut self) {
        self.fail_while(NO_RESULTS);
    }

    fn fail_while(&mut self, rest: Tally) {
        self.breaker.fail(self.epoch, self.now, rest, &settings(), self.jitter);
    }

    fn succeed(&mut self) {
        self.epoch = self.breaker.succeed(self.epoch, self.now);
    }

    fn fail_times(&mut self, times: u32) {
        for _ in 0..times {
            self.pick();
            self.fail();
        }
    }

    fn state(&self) -> State {
        self.breaker.state(self.now)
    }

    /// Time for which it stays open from now on.
    fn open_for(&self) -> Duration {
        match self.state() {
            State::Open { until } => until.saturating_duration_since(self.now),
            state => panic!("not open: {state:?}"),
        }
    }

    /// Waits until it is due, probes, and fails again.
    fn relapse(&mut self) {
        self.wait(self.open_for());
        assert!(self.pick(), "a probe");
        self.fail();
    }
}

fn closed(fails: u32) -> State {
    State::Closed { fails }
}

#[test]
fn row_1_a_success_forgives_everything() {
    let mut bench = Bench::new();
    bench.fail_times(4);
    assert_eq!(bench.state(), closed(4));
    bench.succeed();
    assert_eq!(bench.state(), closed(0), "not one less: none");
    bench.fail_times(4);
    assert_eq!(bench.state(), closed(4), "four more do not trip it");
}

#[test]
fn rows_2_and_3_failures_in_a_row_trip_it() {
    let mut bench = Bench::new();
    for fails in 1..5 {
        bench.fail_times(1);
        assert_eq!(bench.state(), closed(fails));
        assert_eq!(bench.breaker.fails(), fails);
        assert_eq!(bench.breaker.usable_at(), None);
    }
    let epoch = bench.epoch;
    bench.fail_times(1);
    assert_eq!(bench.open_for(), s(300));
    assert_eq!(bench.breaker.usable_at(), Some(bench.now + s(300)));
    assert_eq!(bench.breaker.fails(), 0);
    bench.pick();
    assert!(bench.epoch > epoch);
}

#[test]
fn cooldowns_double_up_to_their_bound_and_jitter_only_lengthens() {
    let mut bench = Bench::new();
    bench.fail_times(5);
    let mut lengths = vec![bench.open_for().as_secs()];
    for _ in 0..5 {
        bench.relapse();
        lengths.push(bench.open_for().as_secs());
    }
    assert_eq!(lengths, [300, 600, 1200, 2400, 3600, 3600]);
    for (jitter, first, second) in [(0.5, 315, 630), (1.0, 330, 660)] {
        let mut bench = Bench::new();
        bench.jitter = jitter;
        bench.fail_times(5);
        assert_eq!(bench.open_for(), s(first));
        bench.relapse();
        assert_eq!(bench.open_for(), s(second));
    }
}

/// Brings results into the window without failing five times in a row.
fn mixed(bench: &mut Bench, good: u32, bad: u32) {
    let (mut good, mut bad) = (good, bad);
    while good + bad > 0 {
        for _ in 0..2.min(bad) {
            bad -= 1;
            bench.fail();
        }
        if good > 0 {
            good -= 1;
            bench.succeed();
        }
    }
}

#[test]
fn row_4_a_bad_share_trips_it_when_the_others_are_well() {
    // (good and bad before the last failure, the others, trips)
    for (good, bad, rest, trips) in [
        (9, 10, WELL, true),
        (8, 10, WELL, false),
        (10, 10, WELL, true),
        (11, 10, WELL, false),
        (10, 9, WELL, false),
        (9, 10, NO_RESULTS, false),
        (9, 10, Tally { good: 79, bad: 21 }, false),
        (9, 10, Tally { good: 4, bad: 1 }, true),
    ] {
        let mut bench = Bench::new();
        mixed(&mut bench, good, bad);
        assert_eq!(bench.state(), closed(0), "{good} {bad}: ends with a success");
        bench.fail_while(rest);
        let expected = if trips { None } else { Some(closed(1)) };
        match expected {
            Some(state) => assert_eq!(bench.state(), state, "{good} {bad} {rest:?}"),
            None => assert_eq!(bench.open_for(), s(300), "{good} {bad} {rest:?}"),
        }
    }
}

#[test]
fn row_4_looks_at_two_minutes_and_not_before_the_last_cooldown() {
    let mut bench = Bench::new();
    mixed(&mut bench, 9, 10);
    assert!(bench.breaker.suspects_itself(bench.now));
    assert_eq!(bench.breaker.tally(bench.now), Tally { good: 9, bad: 10 });
    bench.wait(s(120));
    assert!(!bench.breaker.suspects_itself(bench.now));
    bench.fail_while(WELL);
    assert_eq!(bench.state(), closed(1));

    let mut settings = settings();
    settings.cooldown_base = s(1);
    let mut breaker = Breaker::new();
    let now = Instant::now();
    for _ in 0..19 {
        breaker.fail(0, now, NO_RESULTS, &settings, 0.0);
        breaker.succeed(0, now);
    }
    for _ in 0..5 {
        breaker.fail(0, now, NO_RESULTS, &settings, 0.0);
    }
    let admission = breaker.admit(now + s(1), &settings, 0.0);
    breaker.succeed(admission.epoch, now + s(1));
    assert_eq!(breaker.tally(now + s(1)), Tally { good: 1, bad: 0 });
}

#[test]
fn rows_5_to_7_one_probe_and_not_a_moment_early() {
    let mut bench = Bench::new();
    bench.fail_times(5);
    let due = bench.now + s(300);
    bench.wait(s(300) - Duration::from_nanos(1));
    assert_eq!(bench.state(), State::Open { until: due });
    assert!(bench.breaker.usable_at() > Some(bench.now));
    bench.wait(Duration::from_nanos(1));
    assert!(bench.breaker.usable_at() <= Some(bench.now));
    let epoch = bench.epoch;
    assert!(bench.pick());
    assert_ne!(bench.epoch, epoch);
    let lost_at = bench.now + s(60);
    let then_until = lost_at + s(600);
    assert_eq!(bench.state(), State::HalfOpen { lost_at, then_until });
    assert_eq!(bench.breaker.usable_at(), Some(then_until), "no second one");
    assert_eq!(bench.breaker.fails(), 0);
}

#[test]
fn row_8_the_first_content_closes_it_and_a_later_failure_is_an_ordinary_one() {
    let mut bench = Bench::new();
    bench.fail_times(5);
    bench.wait(s(300));
    bench.pick();
    let probe = bench.epoch;
    bench.epoch = bench.breaker.prove(probe, bench.now);
    assert_eq!(bench.state(), closed(0));
    assert_ne!(bench.epoch, probe, "tagged anew");
    assert_eq!(bench.breaker.tally(bench.now), NO_RESULTS, "the result is still to come");
    bench.fail();
    assert_eq!(bench.state(), closed(1));
    assert_eq!(bench.breaker.prove(bench.epoch, bench.now), bench.epoch);
    assert_eq!(bench.state(), closed(1), "content of others moves nothing");
    bench.epoch = probe;
    bench.fail();
    assert_eq!(bench.state(), closed(1), "the old tag counts no more");
}

#[test]
fn row_9_a_failed_probe_opens_it_for_longer() {
    let mut bench = Bench::new();
    bench.fail_times(5);
    bench.wait(s(300));
    bench.pick();
    bench.wait(s(7));
    bench.fail();
    assert_eq!(bench.open_for(), s(600));
}

#[test]
fn row_10_a_probe_that_tells_nothing_gives_its_slot_back() {
    let mut bench = Bench::new();
    bench.fail_times(5);
    bench.wait(s(300));
    bench.pick();
    bench.wait(s(1));
    let probe = bench.epoch;
    bench.breaker.pass(probe, bench.now);
    assert_eq!(bench.open_for(), s(0));
    assert!(bench.pick(), "at once");
    assert_ne!(bench.epoch, probe);
    bench.breaker.pass(probe, bench.now);
    assert!(matches!(bench.state(), State::HalfOpen { .. }), "an old one frees nothing");
    bench.fail();
    assert_eq!(bench.open_for(), s(600), "it was no trip");
}

#[test]
fn row_10_says_nothing_to_a_closed_one() {
    let mut bench = Bench::new();
    bench.fail_times(3);
    bench.breaker.pass(bench.epoch, bench.now);
    assert_eq!(bench.state(), closed(3));
}

#[test]
fn row_11_a_lost_probe_has_failed() {
    let mut bench = Bench::new();
    bench.fail_times(5);
    bench.wait(s(300));
    bench.pick();
    let (probe, lost_at) = (bench.epoch, bench.now + s(60));
    bench.wait(s(60) - Duration::from_nanos(1));
    assert!(matches!(bench.state(), State::HalfOpen { .. }));
    bench.wait(Duration::from_nanos(1));
    assert_eq!(bench.open_for(), s(600));
    bench.succeed();
    assert_eq!(bench.open_for(), s(600), "too late");
    bench.epoch = probe;
    bench.breaker.pass(probe, bench.now);
    assert_eq!(bench.open_for(), s(600));
    // Found out only when its time is up once more: the length counts from the loss.
    let mut bench = Bench::new();
    bench.fail_times(5);
    bench.wait(s(300));
    bench.pick();
    bench.wait(s(660));
    assert_eq!(bench.open_for(), s(0));
    assert!(bench.pick(), "due again");
    bench.fail();
    assert_eq!(bench.open_for(), s(1200), "two trips so far");
    assert!(bench.now > lost_at);
}

#[test]
fn row_12_late_reports_change_nothing() {
    let mut bench = Bench::new();
    bench.pick();
    let old = bench.epoch;
    bench.fail_times(5);
    let state = bench.state();
    for late in 0..3 {
        bench.epoch = old;
        match late {
            0 => bench.fail(),
            1 => bench.succeed(),
            _ => bench.breaker.pass(old, bench.now),
        }
        assert_eq!(bench.state(), state);
        assert_eq!(bench.epoch, old);
    }
    let tally = bench.breaker.tally(bench.now);
    assert_eq!(tally, Tally { good: 0, bad: 5 }, "not even in the window");
}

#[test]
fn row_13_ten_calm_minutes_make_the_next_cooldown_a_first_one() {
    for (calm, expected) in [(s(600), 300), (s(599), 1200)] {
        let mut bench = Bench::new();
        bench.fail_times(5);
        bench.relapse();
        bench.wait(s(600));
        bench.pick();
        bench.succeed();
        bench.wait(calm);
        bench.fail_times(5);
        assert_eq!(bench.open_for(), s(expected), "{calm:?} closed");
    }
    // A failure in between begins the ten minutes anew.
    let mut bench = Bench::new();
    bench.fail_times(5);
    bench.wait(s(300));
    bench.pick();
    bench.succeed();
    for _ in 0..3 {
        bench.wait(s(400));
        bench.fail();
        bench.succeed();
    }
    bench.fail_times(5);
    assert_eq!(bench.open_for(), s(600));
}

#[test]
fn row_14_a_reset_starts_over() {
    let mut bench = Bench::new();
    bench.fail_times(5);
    bench.relapse();
    let old = bench.epoch;
    bench.breaker.reset();
    assert_eq!(bench.state(), closed(0));
    bench.epoch = old;
    bench.fail();
    assert_eq!(bench.state(), closed(0), "leases of before do not count");
    assert_eq!(bench.breaker.tally(bench.now), NO_RESULTS);
    bench.pick();
    assert!(bench.epoch > old);
    bench.fail_times(5);
    assert_eq!(bench.open_for(), s(300));
}
