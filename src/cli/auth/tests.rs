use std::fs;
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::upstream::tests::server::{Server, json as answer};

struct Desk {
    dir: TempDir,
    accounts: AccountSettings,
}

impl Desk {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let accounts = AccountSettings {
            dir: dir.path().join("own"),
            shared_dir: Some(dir.path().join("shared")),
            given: Vec::new(),
            refresh_buffer: Duration::from_secs(300),
            api_base: None,
        };
        Self { dir, accounts }
    }

    fn file(&self, name: &str, content: &Value) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content.to_string()).unwrap();
        path
    }
}

fn text(out: &[u8]) -> String {
    let text = String::from_utf8(out.to_vec()).unwrap();
    assert!(!text.contains("hush"), "{text}");
    text
}

fn client(server: &Server) -> QwenOAuth {
    QwenOAuth::new(OAuthSettings {
        base: server.url(),
        client_id: "c".to_owned(),
        scope: "s".to_owned(),
        connect_timeout: Duration::from_secs(5),
        is_direct: true,
    })
    .unwrap()
}

fn endpoint(last: Value) -> Server {
    Server::answering(move |seen, _| match seen.target.as_str() {
        "/api/v1/oauth2/device/code" => {
            answer(200, &json!({"device_code": "hush-d", "user_code": "ABC_DEF", "interval": 1}))
        }
        "/v1/models" => {
            let refused = json!({"error": {"message": "as the status tells"}});
            match seen.header("authorization") {
                "Bearer hush-good" => answer(200, &json!({})),
                // As the portal, which looks at the token first and has no such list.
                "Bearer hush-listless" => answer(404, &refused),
                _ => answer(401, &refused),
            }
        }
        _ => answer(if last.get("error").is_some() { 400 } else { 200 }, &last),
    })
}

#[tokio::test]
async fn an_account_is_added() {
    let desk = Desk::new();
    let server = endpoint(json!({"access_token": "hush-a", "refresh_token": "hush-r", "expires_in": 60}));
    for look in [Look::Plain, Look::Terminal { opens_browser: false }, Look::Json] {
        let mut out = Vec::new();
        let account = AccountId::parse("work").unwrap();
        assert!(add(&mut out, &client(&server), &desk.accounts, &account, look).await.unwrap());
        let shown = text(&out);
        assert!(shown.contains("https://chat.qwen.ai/authorize?user_code=ABC_DEF&client=qwen-code"), "{shown}");
        assert!(shown.contains("oauth_creds_work.json"), "{shown}");
        assert_eq!(shown.contains('█'), look == Look::Terminal { opens_browser: false }, "{shown}");
        if look == Look::Json {
            assert!(shown.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{shown}");
        }
    }
    let written = fs::read_to_string(desk.accounts.dir.join("oauth_creds_work.json")).unwrap();
    assert!(written.contains("hush-r"));
}

#[tokio::test]
async fn a_login_that_is_refused_leaves_nothing() {
    let desk = Desk::new();
    let server = endpoint(json!({"error": "access_denied"}));
    let mut out = Vec::new();
    let error = add(&mut out, &client(&server), &desk.accounts, &AccountId::unnamed(), Look::Plain).await.unwrap_err();
    assert!(matches!(error, AuthError::Login(LoginFailure::Denied)), "{error}");
    assert!(!desk.accounts.dir.exists());
}

#[tokio::test]
async fn accounts_are_listed_and_removed() {
    let mut desk = Desk::new();
    let mut out = Vec::new();
    assert!(list(&mut out, &desk.accounts, false).await.unwrap());
    assert!(text(&out).starts_with("0 OAuth accounts."), "{}", text(&out));
    let far = (Now::read().unix.0 + 3600) * 1000;
    desk.file("own/oauth_creds_a.json", &json!({"access_token": "hush", "expiry_date": far}));
    desk.file("own/oauth_creds_b.json", &json!({"access_token": "hush", "refresh_token": "hush", "expiry_date": 5}));
    desk.file("own/oauth_creds_c.json", &json!({"access_token": {"hush": 1}}));
    desk.file("shared/oauth_creds.json", &json!({"access_token": "hush", "expiry_date": 5}));
    desk.accounts.given = vec![OAuthCredentials::parse(r#"{"access_token": "hush"}"#, Now::read().unix).unwrap()];
    let mut out = Vec::new();
    list(&mut out, &desk.accounts, true).await.unwrap();
    let shown: Value = serde_json::from_str(&text(&out)).unwrap();
    let states: Vec<_> = shown["accounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| format!("{} {}", row["account"].as_str().unwrap(), row["state"].as_str().unwrap()))
        .collect();
    assert_eq!(states, ["a valid", "b expired", "c unusable", "qwen-cli needs_login", "env-1 valid"]);
    let mut out = Vec::new();
    assert!(health(&mut out, &desk.accounts, None, false).await.unwrap());
    assert!(text(&out).contains("5 in all, 3 usable."), "{}", text(&out));

    let account = AccountId::parse("a").unwrap();
    assert!(remove(&mut Vec::new(), &desk.accounts, &account).await.unwrap());
    let error = remove(&mut Vec::new(), &desk.accounts, &account).await.unwrap_err();
    assert!(error.to_string().contains("no account a"), "{error}");
}

#[tokio::test]
async fn a_probe_tells_working_tokens_from_refused_ones() {
    let mut desk = Desk::new();
    let server = endpoint(json!({}));
    desk.accounts.api_base = Some(server.url().join("v1").unwrap());
    desk.file("own/oauth_creds_bad.json", &json!({"access_token": "hush-bad"}));
    let mut out = Vec::new();
    assert!(!health(&mut out, &desk.accounts, Some(&client(&server)), false).await.unwrap());
    assert!(text(&out).contains("free tier closed"), "{}", text(&out));
    desk.file("own/oauth_creds_good.json", &json!({"access_token": "hush-good"}));
    let mut out = Vec::new();
    assert!(health(&mut out, &desk.accounts, Some(&client(&server)), true).await.unwrap());
    let shown: Value = serde_json::from_str(&text(&out)).unwrap();
    assert_eq!(shown["summary"], json!({"total": 2, "usable": 2, "working": 1, "failed": 1}));
    desk.file("own/oauth_creds_listless.json", &json!({"access_token": "hush-listless"}));
    let mut out = Vec::new();
    assert!(health(&mut out, &desk.accounts, Some(&client(&server)), true).await.unwrap());
    let shown: Value = serde_json::from_str(&text(&out)).unwrap();
    assert_eq!(shown["summary"], json!({"total": 3, "usable": 3, "working": 2, "failed": 1}));
}

#[tokio::test]
async fn files_of_other_programs_are_imported() {
    let desk = Desk::new();
    let proxy = json!({"access_token": "hush", "refresh_token": "hush", "email": "me@x.example", "type": "qwen",
        "expired": "2026-09-21T13:33:20Z"});
    let path = desk.file("qwen-me@x.example.json", &proxy);
    let mut out = Vec::new();
    assert!(import(&mut out, &desk.accounts, &path, None, false).await.unwrap());
    assert!(text(&out).contains("as me@x.example into"), "{}", text(&out));
    let target = desk.accounts.dir.join("oauth_creds_me@x.example.json");
    let written: Value = serde_json::from_slice(&fs::read(&target).unwrap()).unwrap();
    assert_eq!(written["expiry_date"], 1_789_997_600_000_i64);
    let again = import(&mut Vec::new(), &desk.accounts, &path, None, false).await.unwrap_err();
    assert!(matches!(again, AuthError::Exists(_)), "{again}");
    assert!(import(&mut Vec::new(), &desk.accounts, &path, None, true).await.unwrap());
    assert!(import(&mut Vec::new(), &desk.accounts, &path, Some("other"), false).await.unwrap());
    let wide = desk.dir.path().join("wide.json");
    fs::write(&wide, proxy.to_string().encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>()).unwrap();
    assert!(import(&mut Vec::new(), &desk.accounts, &wide, Some("wide"), false).await.unwrap());
    let bad = desk.file("bad.json", &json!({"hush": 1}));
    let error = import(&mut Vec::new(), &desk.accounts, &bad, None, false).await.unwrap_err();
    assert!(!ErrorChain(&error).to_string().contains("hush"), "{error}");
    let error = import(&mut Vec::new(), &desk.accounts, &path, Some("../x"), false).await.unwrap_err();
    assert!(matches!(error, AuthError::Name(_)), "{error}");
    let missing = desk.dir.path().join("missing.json");
    assert!(import(&mut Vec::new(), &desk.accounts, &missing, None, false).await.is_err());
}

#[test]
fn imports_are_named_by_their_files() {
    for (file, expected) in [
        ("/x/oauth_creds.json", "default"),
        ("oauth_creds_work.json", "work"),
        ("qwen-1755.json", "1755"),
        ("anything.json", "default"),
        ("oauth_creds_.x.json", "default"),
    ] {
        assert_eq!(named_by(Path::new(file)).as_str(), expected, "{file}");
    }
}
