//! Cookies, tokens, OAuth accounts and static keys.

use super::*;

#[test]
fn cookies_are_split_and_cleaned() {
    let check = |sources: &Sources, expected: &[&str]| {
        let expected: Vec<String> = expected.iter().map(|cookie| format!("{cookie}+")).collect();
        assert_eq!(identities(sources), expected, "{sources:?}");
    };
    check(&env(&[("COOKIE", "a=1; b=2")]), &["a=1; b=2"]);
    check(&env(&[("COOKIE", "a=1|||b=2 ||| ")]), &["a=1", "b=2"]);
    check(&env(&[("COOKIE", "a=1\r\nb=2\n")]), &["a=1", "b=2"]);
    check(&env(&[("COOKIE", "a=1\\nb=2\\n# c=3")]), &["a=1", "b=2"]);
    check(&env(&[("COOKIE", "# mine\na=1|||# d=4|||b=2\n;c=3")]), &["a=1", "b=2;c=3"]);
    check(&env(&[("COOKIE", "# only a comment\nCookie: a=1")]), &["a=1"]);
    check(&cookie_file("a=1\n# comment\n\n  b=2  \ncookie: c=3"), &["a=1", "b=2", "c=3"]);
    check(&cookie_file("\u{feff}a=1\r\n\u{a0}b=2;\u{a0}c=3\u{200b}\r\n  # d\r\n"), &["a=1", "b=2; c=3"]);
    check(&cookie_file("a=1\u{1}\u{7f}; b=2\tc"), &["a=1; b=2c"]);
    check(&cookie_file("a=1\rb=2"), &["a=1", "b=2"]);
    check(&cookie_file("# nothing\n\n"), &[]);
    let mut both = cookie_file("b=2\na=1");
    both.env.insert("COOKIE".to_owned(), "a=1".to_owned());
    check(&both, &["a=1", "b=2"]);
    insta::assert_snapshot!(load(&both).warnings.join("\n"), @r"
    cookie.txt line 2 repeats an earlier cookie and is left out
    COOKIE entry 1 (environment): has neither the cookie `token` nor `refresh_token`, so it does not sign in; paste the whole Cookie request header of a logged-in chat.qwen.ai tab
    cookie.txt line 1: has neither the cookie `token` nor `refresh_token`, so it does not sign in; paste the whole Cookie request header of a logged-in chat.qwen.ai tab
    ");
}

#[test]
fn what_people_paste_is_one_account_and_said() {
    let check = |sources: &Sources, expected: &[&str], note: &str| {
        let expected: Vec<String> = expected.iter().map(|cookie| format!("{cookie}+")).collect();
        assert_eq!(identities(sources), expected, "{note}");
        let notes = load(sources).notes.join("\n");
        assert!(notes.contains(note), "{notes}");
        assert!(!notes.contains("a.b.c"), "{notes}");
    };
    let export = r#"[{"domain": ".qwen.ai", "name": "token", "value": "a.b.c"}, {"domain": "chat.qwen.ai", "name": "cna", "value": "1"}]"#;
    check(
        &cookie_file("token=a.b.c\ncna=1\n"),
        &["token=a.b.c; cna=1"],
        "cookie.txt lines 1 to 2: read as one cookie a line, one account",
    );
    check(&cookie_file(export), &["token=a.b.c; cna=1"], "cookie.txt line 1: read as JSON, one account");
    check(
        &cookie_file("curl 'https://chat.qwen.ai/' \\\n  -b 'token=a.b.c'"),
        &["token=a.b.c"],
        "lines 1 to 2: read as a cURL command",
    );
    check(
        &env(&[("COOKIE", "token=a.b.c\ncna=1")]),
        &["token=a.b.c; cna=1"],
        "COOKIE entry 1: read as one cookie a line",
    );
    check(
        &env(&[("COOKIE", "token=a.b.c\\ncna=1")]),
        &["token=a.b.c; cna=1"],
        "COOKIE entry 1: read as one cookie a line",
    );
    check(&env(&[("COOKIE", &format!("'{export}'"))]), &["token=a.b.c; cna=1"], "COOKIE entry 1: read as JSON");
    check(
        &env(&[("COOKIE", &format!("{export}|||token=d"))]),
        &["token=a.b.c; cna=1", "token=d"],
        "COOKIE entry 1: read as JSON",
    );
    check(&file(&format!("{{COOKIE: {export}}}")), &["token=a.b.c; cna=1"], "COOKIE entry 1: read as JSON");
    check(&file("{COOKIE: {token: \"a.b.c\", cna: \"1\"}}"), &["cna=1; token=a.b.c"], "COOKIE entry 1: read as JSON");
    let text = faults(&cookie_file("# one\nfetch(\"https://chat.qwen.ai/\", {\"credentials\": \"include\"});"));
    assert!(text.contains("cookie.txt line 2: is a fetch call without a cookie, which browsers leave out"), "{text}");
}

#[test]
fn tokens_and_oauth_credentials_may_stand_among_the_cookies() {
    let one = jwt("one");
    let bare = format!("eyJhIjoxfQ.{}", one.strip_prefix("e30.").unwrap());
    let oauth = r#"{"access_token": "a", "refresh_token": "r", "expiry_date": 1}"#;
    let config = load(&cookie_file(&format!("# a token\nBearer {bare}\n# OAuth\n{oauth}\ncna=1; token=b")));
    let cookies: Vec<_> = config.identities.iter().map(|seed| seed.cookie.as_ref().unwrap().expose()).collect();
    assert_eq!(cookies, [&format!("token={bare}"), "cna=1; token=b"]);
    assert_eq!(config.accounts.given.len(), 1);
    insta::assert_snapshot!(config.notes.join("\n"), @r"
    cookie.txt line 2: read as an access token, one account
    cookie.txt line 4: read as OAuth credentials, one account
    ");
}

/// A wrong file has one fault for each kind of mistake, with all of its places.
#[test]
fn one_mistake_is_one_fault() {
    let prose = vec!["words and words"; 210].join("\n");
    insta::assert_snapshot!(faults(&cookie_file(&prose)), @r"
    1 fault in the configuration:
    - cookie.txt lines 1 to 210: is not a Cookie header (expected name=value; name=value); paste the whole Cookie request header of a logged-in chat.qwen.ai tab
    ");
    let scattered: String = (0..30).map(|n| format!("token=a{n}; cna=1\nwords\n")).collect();
    insta::assert_snapshot!(faults(&cookie_file(&scattered)), @r"
    1 fault in the configuration:
    - cookie.txt lines 2, 4, 6, 8, 10, 12, 14, 16 and 22 more: is not a Cookie header (expected name=value; name=value); paste the whole Cookie request header of a logged-in chat.qwen.ai tab
    ");
    let ended = format!("eyJhIjoxfQ.{}.sig", URL_SAFE_NO_PAD.encode("{\"id\":\"u\",\"exp\":5}"));
    let warnings = load(&cookie_file(&format!("token={ended}; cna=1\ncna=2; isg=3"))).warnings.join("\n");
    assert!(
        warnings.contains("line 1: has a token that has ended; log in") && !warnings.contains(&ended),
        "{warnings}"
    );
    assert!(warnings.contains("line 2: has neither the cookie `token` nor"), "{warnings}");
    let text = faults(&cookie_file("token=eyJhIjoxfQ.eyJhIj; cna=1"));
    assert!(text.contains("line 1: has a `token` whose value is cut off") && !text.contains("eyJ"), "{text}");
    let text = faults(&env(&[("COOKIE", "curl 'https://www.google.com/' -b 'SID=secret'")]));
    assert!(
        text.contains("COOKIE entry 1 (environment): has no cookie of chat.qwen.ai: it is of another site"),
        "{text}"
    );
}

#[test]
fn tokens_join_the_cookie_of_their_account() {
    let (one, two) = (jwt("one"), jwt("two"));
    let check = |cookies: &str, tokens: &str, expected: &[String]| {
        let mut sources = cookie_file(cookies);
        sources.env.insert("QWEN_TOKEN".to_owned(), tokens.to_owned());
        assert_eq!(identities(&sources), expected);
    };
    let of_one = format!("token={one}; cna=1");
    check("", &one, &["+one".to_owned()]);
    check("", &format!("Bearer {one}, {two},opaque"), &["+one".to_owned(), "+two".to_owned(), "+opaque".to_owned()]);
    check("cna=1", &one, &["cna=1+one".to_owned()]);
    check("cna=1", "opaque", &["cna=1+opaque".to_owned()]);
    check(&of_one, &one, &[format!("{of_one}+one")]);
    check(&of_one, &two, &[format!("{of_one}+")]);
    check(&of_one, "opaque", &[format!("{of_one}+")]);
    check(&format!("cna=1\n{of_one}"), &format!("{two},{one}"), &["cna=1+".to_owned(), format!("{of_one}+one")]);
    check("cna=1\ncna=2", &one, &["cna=1+".to_owned(), "cna=2+".to_owned()]);
    check(&format!("refresh_token={one}; x=1"), &one, &[format!("refresh_token={one}; x=1+one")]);
    check(&of_one, &format!("{one},{one}"), &[format!("{of_one}+one")]);
}

#[test]
fn two_sessions_of_one_account_are_one_identity() {
    let (one, two) = (jwt("one"), jwt("two"));
    let first = format!("token={one}; cna=1");
    let second = format!("refresh_token={one}; cna=2");
    let mut sources = cookie_file(&format!("{first}\ntoken={two}\n{second}"));
    sources.env.insert("QWEN_TOKEN".to_owned(), "opaque".to_owned());
    let config = load(&sources);
    assert_eq!(identities(&sources), [format!("{first}+"), format!("token={two}+")]);
    let spares: Vec<_> = config.identities[0].spares.iter().map(|cookie| cookie.expose()).collect();
    assert_eq!(spares, [second.as_str()]);
    assert!(config.identities[1].spares.is_empty());
    insta::assert_snapshot!(config.warnings.join("\n"), @r"
    two cookies are of one account: the later one is a spare of cookie 1
    QWEN_TOKEN entry 1 is left out: none of the cookies is known to be of its account
    ");
}

#[test]
fn oauth_accounts() {
    let config = load(&Sources::empty(NOW));
    assert_eq!(config.oauth.base.as_str(), "https://chat.qwen.ai/");
    assert_eq!(config.oauth.client_id, "f0304373b74a44d2b584a3fb70ca9e56");
    assert_eq!(config.oauth.scope, "openid profile email model.completion");
    assert_eq!(config.oauth.connect_timeout, Duration::from_secs(10));
    assert_eq!((config.accounts.dir, config.accounts.shared_dir), (PathBuf::from(".qwen"), None));
    assert_eq!((config.accounts.refresh_buffer, config.accounts.api_base), (Duration::from_secs(300), None));
    assert!(config.accounts.given.is_empty() && config.static_keys.is_empty());

    let folder = |given: &str| {
        let sources = Sources { home: Some("/home/me".to_owned()), ..env(&[("QWEN_DIR", given)]) };
        let accounts = load(&sources).accounts;
        assert_eq!(accounts.shared_dir, Some(PathBuf::from("/home/me/.qwen")));
        accounts.dir.to_str().unwrap().to_owned()
    };
    assert_eq!(folder("accounts"), "accounts");
    assert_eq!(folder("/var/lib/x"), "/var/lib/x");
    assert_eq!(folder("~"), "/home/me/");
    assert_eq!(folder("~/.qwen"), "/home/me/.qwen");
    assert!(faults(&env(&[("QWEN_DIR", "~/x")])).contains("no HOME"));
    assert!(faults(&env(&[("QWEN_DIR", "~other/x")])).contains("whole path"));

    let base = |given: &str| load(&env(&[("API_BASE_URL", given)])).accounts.api_base.unwrap().to_string();
    assert_eq!(base("https://portal.qwen.ai"), "https://portal.qwen.ai/v1");
    assert_eq!(base("https://a.example/x/v1/"), "https://a.example/x/v1");
    assert_eq!(base("http://127.0.0.1:9"), "http://127.0.0.1:9/v1");
    assert!(faults(&env(&[("API_BASE_URL", "http://a.example")])).contains("https://"));

    let given = |text: &str| load(&env(&[("QWEN_OAUTH_CREDS", text)])).accounts.given.len();
    assert_eq!(given(r#"{"access_token": "a"}"#), 1);
    assert_eq!(given(r#"[{"access_token": "a"}, {"refresh_token": "b"}]"#), 2);
    let from_file = |text: &str| load(&file(text)).accounts.given.len();
    assert_eq!(from_file(r#"{QWEN_OAUTH_CREDS: {access_token: "a", expiry_date: 1800000000000}}"#), 1);
    assert_eq!(from_file(r#"{QWEN_OAUTH_CREDS: ["{\"access_token\": \"a\"}", "{\"access_token\": \"b\"}"]}"#), 2);
    for bad in [r#"{"access_token": "hush"#, r#"{"x": "hush"}"#, "hush", r#"{"access_token": "hu sh"}"#] {
        let text = faults(&env(&[("QWEN_OAUTH_CREDS", bad)]));
        assert!(text.contains("QWEN_OAUTH_CREDS (environment)") && !text.contains("hu"), "{text}");
    }
}

#[test]
fn static_keys() {
    let keys = |text: &str| -> Vec<String> {
        let keys = load(&env(&[("QWEN_API_KEYS", text)])).static_keys;
        keys.iter().map(|it| format!("{} {}", it.key.expose(), it.base)).collect()
    };
    assert_eq!(
        keys("sk-1@https://dashscope.aliyuncs.com/compatible-mode/v1/, a@b@http://127.0.0.1:9/v1"),
        ["sk-1 https://dashscope.aliyuncs.com/compatible-mode/v1", "a@b http://127.0.0.1:9/v1"]
    );
    for (bad, expected) in [
        ("hush", "entry 1 must be key@https://"),
        ("a@https://x.example/v1,hush@", "entry 2 must be key@https://"),
        ("@https://x.example/v1", "has a key that is empty"),
        ("hu sh@https://x.example/v1", "has a key that has characters"),
        ("hush@http://x.example/v1", "has an address that must begin with https://"),
        ("hush@https://x.example/v1?a=b", "has an address that must be without query"),
    ] {
        let text = faults(&env(&[("QWEN_API_KEYS", bad)]));
        assert!(text.contains(expected) && !text.contains("hush"), "{text}");
    }
}
