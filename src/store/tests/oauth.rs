//! Files of credentials: modes, damage, locks, and several programs at once.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::base::ids::UnixSeconds;
use crate::base::oauth::{AccountId, OAuthCredentials, RefreshToken, TokenGrant, UnixMillis};
use crate::store::oauth_files::{OAuthFileError, OAuthFiles, Replaced};

use super::{mode, names};

const NOW: UnixSeconds = UnixSeconds(1_790_000_000);

fn id(text: &str) -> AccountId {
    AccountId::parse(text).unwrap()
}

fn text(token: &str) -> String {
    json!({"access_token": "a", "refresh_token": token, "expiry_date": 1_790_000_000_000_i64}).to_string()
}

fn credentials(token: &str) -> OAuthCredentials {
    OAuthCredentials::parse(&text(token), NOW).unwrap()
}

fn token(credentials: &OAuthCredentials) -> String {
    credentials.refresh_token().map_or("-", RefreshToken::expose).to_owned()
}

fn old(path: &Path, seconds: u64) {
    let then = SystemTime::now() - Duration::from_secs(seconds);
    fs::File::options().write(true).open(path).unwrap().set_modified(then).unwrap();
}

#[tokio::test]
async fn a_login_is_written_privately_and_read_again() {
    let dir = TempDir::new().unwrap();
    let files = OAuthFiles::all_in(&dir.path().join("new/.qwen"));
    assert!(files.scan().await.unwrap().is_empty(), "no folder, no accounts");
    let stamp = files.write(&id("me@example.com"), credentials("r1")).await.unwrap();
    files.write(&AccountId::unnamed(), credentials("r2")).await.unwrap();
    assert_eq!(names(files.dir()), ["oauth_creds.json", "oauth_creds_me@example.com.json"]);
    assert_eq!((mode(files.dir()), mode(&files.path_of(&id("me@example.com")))), (0o700, 0o600));
    let found = files.read(&id("me@example.com"), NOW).await.unwrap();
    assert_eq!((token(&found.credentials), found.stamp), ("r1".to_owned(), stamp));
    let scanned: Vec<_> = files.scan().await.unwrap().into_iter().collect();
    assert_eq!(scanned[1], (id("me@example.com"), stamp));
    assert_eq!(scanned[0].0, AccountId::unnamed());
    assert!(files.remove(&id("me@example.com")).await.unwrap());
    assert!(!files.remove(&id("me@example.com")).await.unwrap());
    let missing = files.read(&id("me@example.com"), NOW).await.unwrap_err();
    assert!(matches!(missing, OAuthFileError::Missing(_)), "{missing}");
}

#[tokio::test]
async fn only_what_is_ours_is_listed() {
    let dir = TempDir::new().unwrap();
    for name in [
        "oauth_creds.json",
        "oauth_creds_a.json",
        "oauth_creds_default.json",
        "oauth_creds_.hidden.json",
        "oauth_creds_a b.json",
        "oauth_creds_.json",
        "oauth_creds.lock",
        "oauth_creds_a.lock",
        "settings.json",
        "oauth_creds_a.json.bak",
    ] {
        fs::write(dir.path().join(name), text("r")).unwrap();
    }
    fs::create_dir(dir.path().join("oauth_creds_folder.json")).unwrap();
    symlink("/nowhere", dir.path().join("oauth_creds_dangling.json")).unwrap();
    symlink("oauth_creds_a.json", dir.path().join("oauth_creds_link.json")).unwrap();
    let listed = |files: OAuthFiles| async move {
        files.scan().await.unwrap().into_keys().map(|id| id.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(listed(OAuthFiles::all_in(dir.path())).await, ["a", "default", "link"]);
    assert_eq!(listed(OAuthFiles::unnamed_in(dir.path())).await, ["default"]);
}

#[tokio::test]
async fn what_cannot_be_used_is_named_and_left_alone() {
    let dir = TempDir::new().unwrap();
    let files = OAuthFiles::all_in(dir.path());
    let path = files.path_of(&id("a"));
    let check = async |content: &[u8], expected: &str| {
        fs::write(&path, content).unwrap();
        let error = files.read(&id("a"), NOW).await.unwrap_err();
        let shown = crate::telemetry::ErrorChain(&error).to_string();
        assert!(shown.contains(expected) && shown.contains("oauth_creds_a.json"), "{shown}");
        assert!(!shown.contains("hush"), "{shown}");
        let replaced = files.replace(&id("a"), credentials("r"), credentials("s"), NOW).await;
        assert!(replaced.is_err(), "{replaced:?}");
        assert_eq!(fs::read(&path).unwrap(), content);
    };
    check(b"", "is empty").await;
    check(br#"{"access_token": "hush"#, "not complete JSON").await;
    check(b"\xff\xfehush", "not complete JSON").await;
    check(br#"{"hush": 1}"#, "neither access_token nor refresh_token").await;
    check(&[b' '; 70_000], "not a file of OAuth credentials").await;
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(matches!(files.read(&id("a"), NOW).await, Err(OAuthFileError::NotAFile(_))));
    assert_eq!(names(dir.path()), ["oauth_creds_a.json"], "nothing is left behind");
}

#[tokio::test]
async fn only_the_version_that_was_renewed_is_replaced() {
    let dir = TempDir::new().unwrap();
    let files = OAuthFiles::all_in(dir.path());
    files.write(&id("a"), credentials("r1")).await.unwrap();
    let replaced = files.replace(&id("a"), credentials("r1"), credentials("r2"), NOW).await.unwrap();
    let Replaced::Done(stamp) = replaced else { panic!("{replaced:?}") };
    assert_eq!(files.read(&id("a"), NOW).await.unwrap().stamp, stamp);
    let replaced = files.replace(&id("a"), credentials("r1"), credentials("r3"), NOW).await.unwrap();
    let Replaced::Superseded(found) = replaced else { panic!("{replaced:?}") };
    assert_eq!(token(&found.credentials), "r2");
    files.remove(&id("a")).await.unwrap();
    let gone = files.replace(&id("a"), credentials("r2"), credentials("r3"), NOW).await;
    assert!(matches!(gone, Err(OAuthFileError::Missing(_))), "{gone:?}");
    assert_eq!(names(dir.path()), Vec::<String>::new(), "a file that was taken away does not come back");
}

#[tokio::test]
async fn a_link_stays_one() {
    let (dir, elsewhere) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let files = OAuthFiles::all_in(dir.path());
    let target = elsewhere.path().join("real.json");
    fs::write(&target, text("r1")).unwrap();
    symlink(&target, files.path_of(&id("a"))).unwrap();
    files.replace(&id("a"), credentials("r1"), credentials("r2"), NOW).await.unwrap();
    assert!(fs::symlink_metadata(files.path_of(&id("a"))).unwrap().is_symlink());
    assert!(fs::read_to_string(&target).unwrap().contains("r2"));
    assert_eq!(mode(&target), 0o600);
}

#[tokio::test]
async fn the_lock_is_the_one_of_the_official_command_line() {
    let dir = TempDir::new().unwrap();
    let files = OAuthFiles::all_in(dir.path());
    let lock = files.lock(&AccountId::unnamed()).await.unwrap();
    let named = files.lock(&id("a")).await.unwrap();
    assert_eq!(names(dir.path()), ["oauth_creds.lock", "oauth_creds_a.lock"]);
    let content = fs::read_to_string(dir.path().join("oauth_creds.lock")).unwrap();
    assert_eq!(uuid::Uuid::parse_str(&content).unwrap().get_version_num(), 4);
    drop((lock, named));
    assert_eq!(names(dir.path()), Vec::<String>::new());
}

#[tokio::test]
async fn a_held_lock_is_waited_for_and_a_forgotten_one_taken_away() {
    let dir = TempDir::new().unwrap();
    let files = OAuthFiles::all_in(dir.path());
    let path = dir.path().join("oauth_creds_a.lock");
    fs::write(&path, "theirs").unwrap();
    let begin = Instant::now();
    let release = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        fs::remove_file(&path).unwrap();
    };
    let account = id("a");
    let (lock, ()) = tokio::join!(files.lock(&account), release);
    assert!(begin.elapsed() >= Duration::from_millis(200));
    drop(lock.unwrap());
    fs::write(&path, "theirs").unwrap();
    old(&path, 9);
    let quick = tokio::time::timeout(Duration::from_millis(150), files.lock(&id("a"))).await;
    assert!(quick.is_err(), "nine seconds are not stale");
    old(&path, 11);
    let lock = tokio::time::timeout(Duration::from_millis(90), files.lock(&id("a"))).await.unwrap().unwrap();
    assert_eq!(names(dir.path()), ["oauth_creds_a.lock"]);
    // Another process took our lock for a forgotten one: it is not ours to remove any more.
    fs::write(&path, "theirs again").unwrap();
    drop(lock);
    assert_eq!(fs::read_to_string(&path).unwrap(), "theirs again");
}

#[tokio::test]
async fn a_login_waits_for_a_refresh_to_end() {
    let dir = TempDir::new().unwrap();
    let files = OAuthFiles::all_in(dir.path());
    let account = id("a");
    let lock = files.lock(&account).await.unwrap();
    let begin = Instant::now();
    let release = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        drop(lock);
    };
    let (written, ()) = tokio::join!(files.write(&account, credentials("r")), release);
    written.unwrap();
    assert!(begin.elapsed() >= Duration::from_millis(200));
    assert_eq!(names(dir.path()), ["oauth_creds_a.json"]);
}

#[tokio::test(start_paused = true)]
async fn a_lock_that_is_never_given_back_is_given_up() {
    let dir = TempDir::new().unwrap();
    let files = OAuthFiles::all_in(dir.path());
    let path = dir.path().join("oauth_creds_a.lock");
    fs::write(&path, "theirs").unwrap();
    let future = SystemTime::now() + Duration::from_secs(3600);
    fs::File::options().write(true).open(&path).unwrap().set_modified(future).unwrap();
    let begin = tokio::time::Instant::now();
    let result = files.lock(&id("a")).await;
    assert!(matches!(result, Err(OAuthFileError::Locked(_))), "{result:?}");
    let waited = begin.elapsed().as_secs();
    assert!((24..40).contains(&waited), "{waited} s");
    assert_eq!(fs::read_to_string(&path).unwrap(), "theirs");
}

#[tokio::test]
async fn leftovers_of_a_crash_go_away() {
    let dir = TempDir::new().unwrap();
    let (young, aged) = (dir.path().join(".oauth_creds.1.tmp"), dir.path().join(".oauth_creds.2.tmp"));
    for path in [&young, &aged] {
        fs::write(path, "x").unwrap();
    }
    old(&aged, 3700);
    OAuthFiles::all_in(dir.path()).scan().await.unwrap();
    assert_eq!(names(dir.path()), [".oauth_creds.1.tmp"]);
}

/// A token endpoint on which each refresh token is good once. Tokens are `login-generation`.
#[derive(Default)]
struct Endpoint(Mutex<Vec<u64>>);

impl Endpoint {
    fn login(&self) -> String {
        let mut logins = self.0.lock();
        logins.push(0);
        format!("{}-0", logins.len() - 1)
    }

    fn refresh(&self, token: &str) -> Option<TokenGrant> {
        let (login, generation) = parts(token);
        let mut logins = self.0.lock();
        let newest = &mut logins[login];
        if *newest != generation {
            return None;
        }
        *newest += 1;
        let answer = json!({"access_token": "a", "refresh_token": format!("{login}-{newest}")});
        TokenGrant::parse(&answer, NOW)
    }
}

fn parts(token: &str) -> (usize, u64) {
    let (login, generation) = token.split_once('-').unwrap();
    (login.parse().unwrap(), generation.parse().unwrap())
}

/// The steps of each program: lock, read, refresh, write.
async fn refresh_once(files: &OAuthFiles, endpoint: &Endpoint, superseded: &AtomicUsize) -> bool {
    let account = AccountId::unnamed();
    let Ok(_lock) = files.lock(&account).await else { return false };
    let Ok(found) = files.read(&account, NOW).await else { return false };
    let old = found.credentials;
    let grant = endpoint.refresh(&token(&old)).unwrap_or_else(|| panic!("{} was lost", token(&old)));
    let new = old.renewed(grant, UnixMillis(NOW.0 * 1000));
    match files.replace(&account, old, new, NOW).await.unwrap() {
        Replaced::Done(_) => {}
        Replaced::Superseded(_) => drop(superseded.fetch_add(1, Ordering::Relaxed)),
    }
    true
}

/// An editor finds the file, and writes into it once another one has taken its place.
#[tokio::test]
async fn a_write_into_the_file_that_was_just_taken_away_is_kept() {
    const ROUNDS: usize = 20;
    let (dir, account) = (TempDir::new().unwrap(), AccountId::unnamed());
    let (files, path) = (OAuthFiles::all_in(dir.path()), dir.path().join("oauth_creds.json"));
    let mut kept = 0;
    for _ in 0..ROUNDS {
        fs::write(&path, text("1-0")).unwrap();
        let file = fs::File::options().write(true).open(&path).unwrap();
        let at = path.clone();
        let editor = std::thread::spawn(move || {
            let found = file.metadata().unwrap().ino();
            while fs::metadata(&at).is_ok_and(|metadata| metadata.ino() == found) {
                std::thread::yield_now();
            }
            file.set_len(0).unwrap();
            (&file).write_all(text("2-0").as_bytes()).unwrap();
        });
        let old = files.read(&account, NOW).await.unwrap().credentials;
        let grant = TokenGrant::parse(&json!({"access_token": "a", "refresh_token": "1-1"}), NOW).unwrap();
        let new = old.renewed(grant, UnixMillis(NOW.0 * 1000));
        let replaced = files.replace(&account, old, new, NOW).await.unwrap();
        editor.join().unwrap();
        let there = token(&OAuthCredentials::parse(&fs::read_to_string(&path).unwrap(), NOW).unwrap());
        match replaced {
            Replaced::Superseded(_) => assert_eq!(there, "2-0"),
            Replaced::Done(_) => assert_eq!(there, "1-1"),
        }
        kept += usize::from(there == "2-0");
        assert_eq!(names(dir.path()), ["oauth_creds.json"]);
    }
    // A thread that waits for a processor may come too late.
    assert!(kept > ROUNDS / 2, "{kept} of {ROUNDS}");
}

#[test]
fn no_token_is_lost_among_two_programs_and_an_editor() {
    const ROUNDS: usize = 1000;
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("oauth_creds.json");
    let endpoint = Arc::new(Endpoint::default());
    fs::write(&path, text(&endpoint.login())).unwrap();
    let is_over = Arc::new(AtomicBool::new(false));
    let counts = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
    let programs: Vec<_> = (0..2)
        .map(|_| {
            let (files, endpoint) = (OAuthFiles::all_in(dir.path()), Arc::clone(&endpoint));
            let (is_over, counts) = (Arc::clone(&is_over), Arc::clone(&counts));
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
                while !is_over.load(Ordering::Relaxed) {
                    if runtime.block_on(refresh_once(&files, &endpoint, &counts.1)) {
                        counts.0.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        })
        .collect();
    // The editor knows no lock. Every other time it writes into the file as it lies there.
    for round in 1..=ROUNDS {
        let login = endpoint.login();
        if round % 2 == 0 {
            fs::write(&path, text(&login)).unwrap();
        } else {
            let temp = dir.path().join("editor.tmp");
            fs::write(&temp, text(&login)).unwrap();
            fs::rename(&temp, &path).unwrap();
        }
        let deadline = Instant::now() + Duration::from_secs(5);
        let seen = || {
            let value: Value = serde_json::from_slice(&fs::read(&path).ok()?).ok()?;
            Some(parts(value["refresh_token"].as_str()?).0)
        };
        while seen() != Some(round) {
            assert!(Instant::now() < deadline, "login {round} was overwritten with {:?}", seen());
            std::thread::yield_now();
        }
        std::thread::park_timeout(Duration::from_micros(fastrand::u64(0..4000)));
    }
    is_over.store(true, Ordering::Relaxed);
    for program in programs {
        program.join().unwrap();
    }
    let last = OAuthCredentials::parse(&fs::read_to_string(&path).unwrap(), NOW).unwrap();
    let (login, generation) = parts(&token(&last));
    assert_eq!((login, generation), (ROUNDS, endpoint.0.lock()[ROUNDS]), "the newest token of the last login");
    let (refreshes, superseded) = (counts.0.load(Ordering::Relaxed), counts.1.load(Ordering::Relaxed));
    println!("{refreshes} refreshes, {superseded} superseded");
    assert!(refreshes > 100, "{refreshes}");
    assert_eq!(last.to_json().expose_secret().lines().count(), 6);
    assert_eq!(names(dir.path()), ["oauth_creds.json"]);
}
