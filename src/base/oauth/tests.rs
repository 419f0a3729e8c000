use proptest::prelude::*;
use serde_json::json;

use super::*;

const NOW: UnixSeconds = UnixSeconds(1_790_000_000);
const NOW_MS: UnixMillis = UnixMillis(1_790_000_000_500);

fn parse(value: &Value) -> Result<OAuthCredentials, CredentialsError> {
    OAuthCredentials::parse(&value.to_string(), NOW)
}

#[test]
fn names_of_accounts() {
    for good in ["a", "work", "me@example.com", "A-1_b.c", "default", &"x".repeat(64)] {
        assert_eq!(AccountId::parse(good).map(|id| id.to_string()), Ok(good.to_owned()));
    }
    let bad = ["", ".", ".a", "..", "a/b", "a\\b", "a b", "a\n", "a'", "$(a)", "é", "a:b", "a\0", "%2e"];
    for bad in bad.into_iter().chain([&*"x".repeat(65)]) {
        assert_eq!(AccountId::parse(bad), Err(AccountIdError), "{bad:?}");
    }
    assert_eq!(AccountId::parse("work").unwrap().identity().as_str(), "oauth:work");
    assert!(AccountId::unnamed().is_unnamed() && AccountId::parse("default").unwrap().is_unnamed());
}

#[test]
fn every_form_of_an_expiry() {
    let check = |fields: Value, expected: Result<Option<i64>, CredentialsError>| {
        let mut all = json!({"access_token": "a"});
        all.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        assert_eq!(parse(&all).map(|it| it.expires_at().map(|at| at.0)), expected, "{fields}");
    };
    let bad = || Err(CredentialsError::Expiry("expiry_date"));
    check(json!({}), Ok(None));
    check(json!({"expiry_date": null}), Ok(None));
    check(json!({"expiry_date": " "}), Ok(None));
    check(json!({"expiry_date": 1_790_000_000_123_i64}), Ok(Some(1_790_000_000_123)));
    check(json!({"expiry_date": 1_000_000_000_000_i64}), Ok(Some(1_000_000_000_000)));
    check(json!({"expiry_date": 1_790_000_000}), Ok(Some(1_790_000_000_000)));
    check(json!({"expiry_date": 1_790_000_000.5}), Ok(Some(1_790_000_000_500)));
    check(json!({"expiry_date": "1790000000123"}), Ok(Some(1_790_000_000_123)));
    check(json!({"expiry_date": " 1790000000 "}), Ok(Some(1_790_000_000_000)));
    check(json!({"expiry_date": "2026-09-21T13:33:20Z"}), Ok(Some(1_789_997_600_000)));
    check(json!({"expiry_date": "2026-09-21T21:33:20.25+08:00"}), Ok(Some(1_789_997_600_250)));
    check(json!({"expired": "2026-09-21T13:33:20Z"}), Ok(Some(1_789_997_600_000)));
    check(json!({"expiry_date": 7, "expired": 8}), Ok(Some(7000)));
    check(json!({"expiry_date": 0}), Ok(Some(0)));
    check(json!({"expiry_date": -1}), bad());
    check(json!({"expiry_date": 1e300}), bad());
    check(json!({"expiry_date": "NaN"}), bad());
    check(json!({"expiry_date": "inf"}), bad());
    check(json!({"expiry_date": "soon"}), bad());
    check(json!({"expiry_date": true}), bad());
    check(json!({"expiry_date": [1]}), bad());
    check(json!({"expired": "soon"}), Err(CredentialsError::Expiry("expired")));
}

#[test]
fn what_is_no_credentials_is_said_without_repeating_it() {
    let check = |text: &str, expected: CredentialsError| {
        let error = OAuthCredentials::parse(text, NOW).unwrap_err();
        assert_eq!(error, expected, "{text}");
        assert!(!error.to_string().contains("hush"), "{error}");
    };
    let secret = |field, problem| CredentialsError::Secret { field, problem };
    check("", CredentialsError::Empty);
    check("\u{feff} \n", CredentialsError::Empty);
    check(r#"{"access_token": "hush"#, CredentialsError::NotJson { line: 1, column: 22 });
    check("hush", CredentialsError::NotJson { line: 1, column: 1 });
    check(r#"{"access_token":"hush"} x"#, CredentialsError::NotJson { line: 1, column: 25 });
    check(r#"["hush"]"#, CredentialsError::NotAnObject);
    check("{}", CredentialsError::NoToken);
    check(r#"{"access_token":"","refresh_token":null}"#, CredentialsError::NoToken);
    check(r#"{"access_token":{"hush":1}}"#, CredentialsError::NotText("access_token"));
    check(r#"{"access_token":"hush hush"}"#, secret("access_token", SecretError::NotAscii));
    check(r#"{"refresh_token":"hush\r\nX: y"}"#, secret("refresh_token", SecretError::NotAscii));
}

#[test]
fn several_in_one_text() {
    let count = |text: &str| OAuthCredentials::parse_all(text, NOW).map(|all| all.len());
    let one = r#"{"access_token":"a"}"#;
    assert_eq!(count(one), Ok(1));
    assert_eq!(count(&format!("[{one},{one}]")), Ok(2));
    assert_eq!(count(&format!("{one}\n{one} {one}")), Ok(3));
    assert_eq!(count(" "), Err(CredentialsError::Empty));
    assert_eq!(count("[]"), Err(CredentialsError::Empty));
    assert_eq!(count(&format!("{one}, {one}")), Err(CredentialsError::NotJson { line: 1, column: 21 }));
    assert_eq!(count("3"), Err(CredentialsError::NotAnObject));
}

#[test]
fn a_file_of_another_program_keeps_its_fields() {
    let text = json!({
        "access_token": "a", "refresh_token": "r", "token_type": "Bearer", "expiry_date": 1_790_000_000_123_i64,
        "resource_url": "portal.qwen.ai", "id_token": "i", "scope": "openid", "nested": {"b": [1, null]},
    });
    let credentials = parse(&text).unwrap();
    let written = credentials.to_json();
    assert_eq!(serde_json::from_str::<Value>(written.expose_secret()).unwrap(), text);
    assert!(written.expose_secret().contains("\n  \"access_token\": \"a\",\n"), "a key on each line");
    let again = OAuthCredentials::parse(written.expose_secret(), NOW).unwrap();
    assert!(again.is_same_login(&credentials));
}

#[test]
fn the_file_of_a_proxy_is_understood() {
    let credentials = parse(&json!({
        "access_token": "a", "refresh_token": "r", "resource_url": "portal.qwen.ai", "email": "e@x",
        "type": "qwen", "last_refresh": "2026-03-01T00:00:00Z", "expired": "2026-09-21T13:33:20Z",
    }))
    .unwrap();
    let written: Value = serde_json::from_str(credentials.to_json().expose_secret()).unwrap();
    assert_eq!(written["expiry_date"], 1_789_997_600_000_i64);
    assert_eq!((&written["email"], written.get("expired")), (&json!("e@x"), None));
}

#[test]
fn a_refresh_keeps_what_the_answer_leaves_out() {
    let old = parse(&json!({"access_token": "a", "refresh_token": "r", "resource_url": "u", "x": 1})).unwrap();
    let grant = |answer: Value| TokenGrant::parse(&answer, NOW).unwrap();
    let shown = |it: &OAuthCredentials| {
        let text = |token: Option<&RefreshToken>| token.map(|token| token.expose().to_owned());
        let expires_at = it.expires_at().unwrap().0;
        (text(it.refresh_token()), it.resource_url().map(str::to_owned), expires_at, it.extra.clone())
    };
    let extra = json!({"x": 1}).as_object().unwrap().clone();
    let some = |text: &str| Some(text.to_owned());
    let bare = old.renewed(grant(json!({"access_token": "b", "expires_in": 3600})), NOW_MS);
    assert_eq!(shown(&bare), (some("r"), some("u"), NOW_MS.0 + 3_600_000, extra.clone()));
    let null = json!({"access_token": "b", "refresh_token": null, "expires_in": null, "resource_url": ""});
    assert_eq!(shown(&old.renewed(grant(null), NOW_MS)), (some("r"), some("u"), NOW_MS.0 + 600_000, extra.clone()));
    let full =
        json!({"access_token": "b", "refresh_token": "s", "expires_in": "60", "endpoint": "v", "token_type": "t"});
    let full = old.renewed(grant(full), NOW_MS);
    assert_eq!(shown(&full), (some("s"), some("v"), NOW_MS.0 + 60_000, extra));
    assert_eq!(full.bearer(NOW).unwrap().expires_at(), Some(UnixSeconds(1_790_000_060)));
    for nothing in [json!({}), json!({"access_token": null}), json!({"access_token": " "}), json!([]), json!("x")] {
        assert!(TokenGrant::parse(&nothing, NOW).is_none(), "{nothing}");
    }
    let far = grant(json!({"access_token": "b", "expires_in": 1e11}));
    assert_eq!(old.renewed(far, NOW_MS).expires_at().unwrap().0, NOW_MS.0 + 400 * 86_400_000);
}

#[test]
fn an_end_that_nobody_can_believe_is_unknown() {
    let bearer = |expiry: i64| parse(&json!({"access_token": "a", "expiry_date": expiry})).unwrap().bearer(NOW);
    assert_eq!(bearer(99_000_000_000_000).unwrap().expires_at(), None);
    assert_eq!(bearer(0).unwrap().expires_at(), Some(UnixSeconds(0)));
    assert!(!bearer(0).unwrap().is_live(NOW));
}

#[test]
fn nothing_is_shown() {
    let credentials =
        parse(&json!({"access_token": "hush-1", "refresh_token": "hush-2", "id_token": "hush-3"})).unwrap();
    let grant = TokenGrant::parse(&json!({"access_token": "hush-4", "refresh_token": "hush-5"}), NOW);
    let shown = format!("{credentials:?} {:?} {grant:?}", credentials.refresh_token());
    assert!(!shown.contains("hush"), "{shown}");
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| prop::collection::vec(inner, 0..3).prop_map(Value::from))
}

proptest! {
    #[test]
    fn any_text_is_taken_or_refused(text in ".{0,200}") {
        let _ = OAuthCredentials::parse(&text, NOW);
        let _ = OAuthCredentials::parse_all(&text, NOW);
    }

    #[test]
    fn what_is_taken_is_written_so_that_it_is_taken_again(
        fields in prop::collection::btree_map(
            prop::sample::select(vec![
                "access_token", "refresh_token", "token_type", "expiry_date", "expired", "resource_url", "other",
            ]),
            values(),
            0..7,
        ),
    ) {
        let text = serde_json::to_string(&fields).unwrap();
        if let Ok(credentials) = OAuthCredentials::parse(&text, NOW) {
            let again = OAuthCredentials::parse(credentials.to_json().expose_secret(), NOW).unwrap();
            prop_assert!(again.is_same_login(&credentials));
            prop_assert_eq!(again.resource_url(), credentials.resource_url());
            prop_assert_eq!(
                fields.get("other").filter(|value| !value.is_f64()),
                again.extra.get("other").filter(|value| !value.is_f64())
            );
        }
    }
}
