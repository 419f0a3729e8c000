//! The store on a real folder, a module for each table or promise.

mod contents;
mod daily;
mod disk;
mod file;
mod missing;
mod oauth;
mod queue;
mod responses;
mod usage;
mod videos;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rusqlite::Connection;
use secrecy::{ExposeSecret as _, SecretString};

use super::*;
use crate::base::facts::{Cooling, CoolingReason, OpenBreaker, PerUsage, Usage};

fn key(name: &str) -> CredentialKey {
    CredentialKey::of(name)
}

fn snapshot(cookies: &str, token: Option<&str>) -> SessionSnapshot {
    SessionSnapshot { cookies: SecretString::from(cookies), token: token.map(SecretString::from), earlier: None }
}

fn chat(number: i64) -> OwnedChat {
    let chat_id = format!("chat-{number}");
    OwnedChat { chat_id, key: key("a"), created_at: UnixSeconds(number), kept_until: None, answers: Vec::new() }
}

fn cooling(reason: CoolingReason, until: i64) -> Cooling {
    Cooling { reason, until: UnixSeconds(until), set_at: UnixSeconds(50), strikes: 0 }
}

/// A rest from one thing alone.
fn only(usage: Usage, cooling: Cooling) -> PerUsage<Option<Cooling>> {
    PerUsage::of(|each| (each == usage).then_some(cooling))
}

/// Facts of an account that is dead, parked, rests from videos for long and from chats for a while.
fn facts() -> IdentityFacts {
    let cooling = PerUsage::of(|usage| match usage {
        Usage::Chat => Some(Cooling { strikes: 4, ..cooling(CoolingReason::Rate, 70) }),
        Usage::Image | Usage::Research => None,
        Usage::Video => Some(cooling(CoolingReason::Quota, 90)),
        Usage::Upload => Some(cooling(CoolingReason::Quota, 95)),
    });
    let breaker =
        OpenBreaker { until: UnixSeconds(99), set_at: UnixSeconds(50), trips: 3, refusals: 2, is_refused: true };
    IdentityFacts { cooling, dead_since: Some(UnixSeconds(7)), breaker: Some(breaker) }
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A closed state file with one of everything.
async fn filled(dir: &Path) {
    let (store, _) = Store::open(dir).unwrap();
    store.save_session(key("a"), snapshot("token=1", Some("jwt")), UnixSeconds(5)).await.unwrap();
    store.save_oauth(key("a"), SecretString::from("{\"r\":1}"), UnixSeconds(5)).await.unwrap();
    store.save_facts(key("a"), facts);
    for number in 1..=40 {
        store.note_chat(chat(number));
    }
    store.save_video(video(1)).await.unwrap();
    store.save_generated_key(&ApiKey::new("sk-made")).await.unwrap();
    store.close().await;
}

fn video(number: i64) -> VideoJob {
    VideoJob {
        id: format!("video_{number:03}"),
        owner: "caller".to_owned(),
        key: key("a"),
        is_pooled: number % 2 == 0,
        state: VideoState::Queued,
        model: "qwen-video".to_owned(),
        upstream_model: "wan".to_owned(),
        prompt: "CANARY-prompt".to_owned(),
        size: "1280x720".to_owned(),
        ratio: "16:9".to_owned(),
        seconds: "5".to_owned(),
        created_at: UnixSeconds(number),
        completed_at: None,
        chat_id: None,
        task_id: None,
        link: None,
        error: None,
        picture: None,
        idempotency: None,
        fingerprint: None,
    }
}

/// Everything of a job, to compare.
fn whole(job: &VideoJob) -> String {
    let VideoJob { id, owner, key, is_pooled, state, model, upstream_model, prompt, size, ratio, seconds, .. } = job;
    let VideoJob { created_at, completed_at, chat_id, task_id, link, error, picture, idempotency, fingerprint, .. } =
        job;
    let picture = picture.as_ref().map(|picture| match picture {
        VideoPicture::Bytes(bytes) => format!("{bytes:?}"),
        VideoPicture::Link(link) => link.expose_secret().to_owned(),
    });
    let link = link.as_ref().map(|link| link.expose_secret());
    format!(
        "{id} {owner} {key:?} {is_pooled} {state:?} {model} {upstream_model} {prompt} {size} {ratio} {seconds} \
         {created_at:?} {completed_at:?} {chat_id:?} {task_id:?} {link:?} {error:?} {idempotency:?} {fingerprint:?} \
         {picture:?}"
    )
}

/// Changes the file of a closed store by hand.
fn edit(dir: &Path, statements: &str) {
    let connection = Connection::open(dir.join("state.db")).unwrap();
    connection.execute_batch(statements).unwrap();
    connection.close().unwrap();
}
