//! The OAuth endpoints: answers that clients have seen, and answers of other forms.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use url::{Url, form_urlencoded};

use crate::base::ids::UnixSeconds;
use crate::base::oauth::{RefreshToken, UnixMillis};
use crate::upstream::OAuthSettings;
use crate::upstream::error::UpstreamErrorKind as Kind;
use crate::upstream::oauth::client::{Poll, QwenOAuth, RefreshFailure};
use crate::upstream::tests::server::{Seen, Server, answer, json as json_answer};

const NOW: UnixMillis = UnixMillis(1_790_000_000_000);

fn client(base: Url) -> QwenOAuth {
    let settings = OAuthSettings {
        base,
        client_id: "the client".to_owned(),
        scope: "openid model.completion".to_owned(),
        connect_timeout: Duration::from_secs(5),
        is_direct: true,
    };
    QwenOAuth::new(settings).unwrap()
}

fn form(seen: &Seen) -> BTreeMap<String, String> {
    assert_eq!(seen.header("content-type"), "application/x-www-form-urlencoded");
    assert_eq!(seen.header("accept"), "application/json");
    assert_eq!(seen.header("cookie"), "");
    form_urlencoded::parse(&seen.body).into_owned().collect()
}

fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn secret(text: &str) -> SecretString {
    SecretString::from(text)
}

#[tokio::test]
async fn a_login_begins() {
    let server = Server::answering(|_, _| {
        json_answer(
            200,
            &json!({
                "device_code": "hush-d", "user_code": "ABC_DEF", "verification_uri": "https://chat.qwen.ai/authorize",
                "verification_uri_complete": "https://chat.qwen.ai/authorize?user_code=ABC_DEF&client=qwen-code",
                "expires_in": 900, "interval": 7,
            }),
        )
    });
    let code = client(server.url()).device_code("a+challenge").await.unwrap();
    assert_eq!((code.user_code.as_str(), code.device_code.expose_secret()), ("ABC_DEF", "hush-d"));
    assert_eq!((code.expires_in.as_secs(), code.interval.as_secs()), (900, 7));
    assert_eq!(code.verification_uri, "https://chat.qwen.ai/authorize");
    assert_eq!(code.verification_uri_complete, "https://chat.qwen.ai/authorize?user_code=ABC_DEF&client=qwen-code");
    assert!(!format!("{code:?}").contains("hush"));
    let seen = &server.seen()[0];
    assert_eq!((seen.method.as_str(), seen.target.as_str()), ("POST", "/api/v1/oauth2/device/code"));
    let expected = [
        ("client_id", "the client"),
        ("scope", "openid model.completion"),
        ("code_challenge", "a+challenge"),
        ("code_challenge_method", "S256"),
    ];
    assert_eq!(form(seen), pairs(&expected));
    assert_eq!(seen.header("x-request-id").len(), 36);
}

#[tokio::test]
async fn what_a_login_lacks_is_filled_in() {
    let body = json!({"device_code": "d", "user_code": "A B&C"});
    let server = Server::answering(move |_, _| json_answer(200, &body));
    let code = client(server.url()).device_code("c").await.unwrap();
    assert_eq!(code.verification_uri_complete, "https://chat.qwen.ai/authorize?user_code=A+B%26C&client=qwen-code");
    assert_eq!((code.expires_in.as_secs(), code.interval.as_secs()), (600, 5));
}

#[tokio::test]
async fn a_login_that_does_not_begin() {
    let check = async |bytes: Vec<u8>, kind: Kind, words: &str| {
        let server = Server::answering(move |_, _| bytes.clone());
        let error = client(server.url()).device_code("c").await.unwrap_err();
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.to_string().contains(words), "{error}");
    };
    let html = |status, body: &str| answer(status, &[("content-type", "text/html")], body.as_bytes());
    check(
        json_answer(200, &json!({"error": "e1", "error_description": "d1"})),
        Kind::Unavailable,
        "beginning a login: the upstream failed",
    )
    .await;
    check(json_answer(400, &json!({"error": "invalid_client"})), Kind::Unavailable, "invalid_client").await;
    check(json_answer(429, &json!({"error": "slow_down"})), Kind::RateLimited, "slow_down").await;
    check(json_answer(200, &json!({})), Kind::Protocol, "").await;
    check(json_answer(200, &json!([])), Kind::Protocol, "").await;
    check(html(200, "<html>aliyun_waf</html>"), Kind::Challenged, "human").await;
    check(html(405, "<html></html>"), Kind::Challenged, "human").await;
    check(html(502, "<html>Bad Gateway</html>"), Kind::Unavailable, "").await;
    check(json_answer(200, &json!({"ret": ["FAIL_SYS_USER_VALIDATE"]})), Kind::Challenged, "human").await;
    check(answer(302, &[("location", "https://elsewhere.example/")], b""), Kind::Unavailable, "").await;
    let bad = json!({"device_code": "d", "user_code": "u", "verification_uri_complete": "javascript:alert(1)"});
    check(json_answer(200, &bad), Kind::Protocol, "").await;
}

fn shown(poll: &Poll) -> String {
    match poll {
        Poll::Granted(credentials) => format!(
            "granted {} {} {}",
            credentials.access_token().unwrap().expose(),
            credentials.refresh_token().map_or("-", RefreshToken::expose),
            credentials.expires_at().unwrap().0 - NOW.0
        ),
        Poll::RateLimited { retry_after } => format!("limited {:?}", retry_after.map(|wait| wait.as_secs())),
        Poll::Failed { message } => format!("failed {message}"),
        Poll::Unreachable(error) => format!("unreachable {}", error.kind.code()),
        Poll::Pending | Poll::SlowDown | Poll::Denied | Poll::Expired => format!("{poll:?}"),
    }
}

#[tokio::test]
async fn every_answer_to_a_poll() {
    let check = async |status: u16, body: Value, expected: &str| {
        let sent = body.clone();
        let server = Server::answering(move |_, _| json_answer(status, &sent));
        let poll = client(server.url()).poll(&secret("d+c"), &secret("v"), NOW).await;
        assert_eq!(shown(&poll), expected, "{status} {body}");
    };
    let error = |code: &str| json!({"error": code, "error_description": "why"});
    check(400, error("authorization_pending"), "Pending").await;
    check(428, error("authorization_pending"), "Pending").await;
    check(429, error("slow_down"), "SlowDown").await;
    check(400, error("slow_down"), "SlowDown").await;
    check(400, error("expired_token"), "Expired").await;
    check(400, error("access_denied"), "Denied").await;
    check(400, error("invalid_grant"), "failed the login was refused with status 400 (invalid_grant)").await;
    check(400, error("invalid_request"), "failed the login was refused with status 400 (invalid_request)").await;
    check(
        400,
        error("unsupported_grant_type"),
        "failed the login was refused with status 400 (unsupported_grant_type)",
    )
    .await;
    check(400, json!({}), "failed the login was refused with status 400").await;
    check(401, error("anything"), "Expired").await;
    check(401, json!({}), "Expired").await;
    check(429, error("too_many"), "limited None").await;
    check(200, json!({"status": "pending"}), "Pending").await;
    check(200, json!({"status": "pending", "slowDown": true}), "SlowDown").await;
    check(200, error("access_denied"), "Denied").await;
    check(200, error("odd"), "failed the login was refused with status 200").await;
    check(200, json!({"access_token": null}), "Pending").await;
    check(200, json!({"access_token": ""}), "Pending").await;
    check(503, json!({}), "unreachable unavailable").await;
    check(500, error("server_error"), "unreachable unavailable").await;
    check(200, json!({"access_token": "a", "refresh_token": "r", "expires_in": 3600}), "granted a r 3600000").await;
    check(200, json!({"access_token": "a", "refresh_token": null, "error": null}), "granted a - 600000").await;
}

#[tokio::test]
async fn polls_that_are_no_json() {
    let check = async |bytes: Vec<u8>, expected: &str| {
        let server = Server::answering(move |_, _| bytes.clone());
        let poll = client(server.url()).poll(&secret("d"), &secret("v"), NOW).await;
        assert_eq!(shown(&poll), expected);
    };
    let html = |status, body: &str| answer(status, &[("content-type", "text/html")], body.as_bytes());
    check(html(200, "<html>captcha</html>"), "unreachable challenged").await;
    check(html(401, "<html>captcha</html>"), "unreachable challenged").await;
    check(html(504, "<html></html>"), "unreachable unavailable").await;
    check(answer(200, &[], b""), "unreachable protocol").await;
    check(answer(401, &[], b"no"), "Expired").await;
    check(answer(429, &[("retry-after", "17")], b"no"), "limited Some(17)").await;
    check(answer(400, &[], b"torn {"), "unreachable unavailable").await;
    check(b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n{".to_vec(), "unreachable unavailable").await;
    check(Vec::new(), "unreachable unavailable").await;
    let unreachable = client(Url::parse("http://127.0.0.1:9/").unwrap());
    assert_eq!(shown(&unreachable.poll(&secret("d"), &secret("v"), NOW).await), "unreachable unavailable");
}

#[tokio::test]
async fn a_poll_sends_what_it_should() {
    let server = Server::answering(|_, _| json_answer(400, &json!({"error": "authorization_pending"})));
    client(server.url()).poll(&secret("d+c&"), &secret("v="), NOW).await;
    let seen = &server.seen()[0];
    assert_eq!((seen.method.as_str(), seen.target.as_str()), ("POST", "/api/v1/oauth2/token"));
    let expected = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
        ("client_id", "the client"),
        ("device_code", "d+c&"),
        ("code_verifier", "v="),
    ];
    assert_eq!(form(seen), pairs(&expected));
}

#[tokio::test]
async fn refreshes() {
    let check = async |bytes: Vec<u8>, expected: &str| {
        let server = Server::answering(move |_, _| bytes.clone());
        let token = RefreshToken::parse("hush+r=&").unwrap();
        let result = client(server.url()).refresh(&token, NOW.seconds()).await;
        let shown = match &result {
            Ok(grant) => format!(
                "{} {} {:?}",
                grant.access_token.expose(),
                grant.refresh_token.as_ref().map_or("-", RefreshToken::expose),
                grant.expires_in_seconds
            ),
            Err(RefreshFailure::Dead { code }) => format!("dead {}", code.unwrap_or_default()),
            Err(RefreshFailure::Transient(error)) => format!("transient {}", error.kind.code()),
        };
        assert_eq!(shown, expected);
        if let Err(error) = result {
            assert!(!format!("{error} {error:?}").contains("hush"));
        }
        let sent = [("grant_type", "refresh_token"), ("client_id", "the client"), ("refresh_token", "hush+r=&")];
        assert_eq!(form(&server.seen()[0]), pairs(&sent));
        assert_eq!(server.seen()[0].header("x-request-id"), "");
    };
    let error = |status, code: &str| json_answer(status, &json!({"error": code, "error_description": "why"}));
    let html = |status, body: &str| answer(status, &[("content-type", "text/html")], body.as_bytes());
    let good = json!({"access_token": "a", "refresh_token": "s", "expires_in": 60});
    check(json_answer(200, &good), "a s Some(60)").await;
    check(json_answer(200, &json!({"access_token": "a"})), "a - None").await;
    check(error(400, "invalid_request"), "dead invalid_request").await;
    check(error(401, "invalid_grant"), "dead invalid_grant").await;
    check(error(200, "invalid_grant"), "dead invalid_grant").await;
    check(answer(401, &[], b""), "dead ").await;
    check(error(400, "slow_down"), "transient unavailable").await;
    check(answer(400, &[], b"Bad Request"), "transient unavailable").await;
    check(error(429, "slow_down"), "transient rate_limited").await;
    check(error(403, "forbidden"), "transient unavailable").await;
    check(error(500, "server_error"), "transient unavailable").await;
    check(html(400, "<html>aliyun_waf</html>"), "transient challenged").await;
    check(html(200, "<html></html>"), "transient challenged").await;
    check(answer(200, &[], b""), "transient protocol").await;
    check(json_answer(200, &json!({"access_token": null})), "transient protocol").await;
    check(answer(307, &[("location", "/elsewhere")], b""), "transient unavailable").await;
}

#[tokio::test]
async fn nothing_waits_longer_than_a_lock_is_good() {
    let server = Server::writing(|_, _, stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n");
        std::thread::park_timeout(Duration::from_secs(30));
    });
    let begin = std::time::Instant::now();
    let token = RefreshToken::parse("r").unwrap();
    let result = client(server.url()).refresh(&token, UnixSeconds(0)).await;
    assert!(matches!(result, Err(RefreshFailure::Transient(error)) if error.kind == Kind::Timeout));
    assert!(begin.elapsed() < Duration::from_secs(10));
}
