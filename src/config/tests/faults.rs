//! Faults and warnings: all of them at once, without a secret.

use super::*;

#[test]
fn all_faults_come_at_once_and_show_no_secret() {
    let mut sources = env(&[
        ("MAX_RETRIES", "many"),
        ("API_KEY", "secret key"),
        ("SERVER_PORT", "99999"),
        ("QWEN_TOKEN", "secret\u{fc}"),
        ("COOKIE", "a=1|||eyJsecret"),
        ("KEEP_CHATS", "maybe"),
        ("LOG_LEVEL", "verbose"),
        ("QWEN_WEB_BASE_URL", "http://chat.qwen.ai"),
        ("QWEN_WEB_HEADERS", "{\"authorization\": \"secret\"}"),
        ("DEFAULT_MODEL", "a model whose name is a long text that was pasted here"),
    ]);
    sources.flags.insert("SERVER_HOST".to_owned(), "example.org".to_owned());
    sources.dotenv = Some("secret\nMODELS_TTL=0\nTRIP_AFTER=2".to_owned());
    sources.file = Some(
        "{\"API_KEYS\": \"secret\", \"maxretries\": 1, \"zzz\": 1, \"MAX_BODY\": \"50 bananas\", \"QUEUE_MAX\": [1],
         \"COOLDOWN_BASE\": \"2h\", \"CONFIG_FILE\": \"x\", \"OPENAI_API_KEY\": {\"a\": {\"secret\": 1}}}"
            .to_owned(),
    );
    sources.cookie_file = Some("a=2\n# fine\nsecret\n=secret\nb=\u{fc}secret".to_owned());
    let text = faults(&sources);
    assert!(!text.contains("secret"), "{text}");
    insta::assert_snapshot!(text, @r#"
        24 faults in the configuration:
        - .env line 1: is not NAME=value; write one setting a line, and # in front of comments
        - "API_KEYS" (config.json): is not a setting; did you mean API_KEY?
        - OPENAI_API_KEY (config.json): must be an object of texts; compare it with config.json.example
        - "maxretries" (config.json): is not a setting; did you mean MAX_RETRIES?
        - "zzz" (config.json): is not a setting; config.json.example lists all of them
        - SERVER_HOST (flag): "example.org" must be an IP address such as 127.0.0.1 or 0.0.0.0, or localhost; for example SERVER_HOST=127.0.0.1
        - SERVER_PORT (environment): "99999" must be a port such as 8000, :8000 or 127.0.0.1:8000; for example SERVER_PORT=8000
        - MAX_BODY (config.json): "50 bananas" must be a size such as 50MB, 1MiB or a number of bytes; for example MAX_BODY=50MB
        - DEFAULT_MODEL (environment): must be the name of a model, such as qwen3-max; for example DEFAULT_MODEL=qwen3-max
        - MODELS_TTL (.env): "0" must be at least 1s; for example MODELS_TTL=10m
        - KEEP_CHATS (environment): "maybe" must be true or false; for example KEEP_CHATS=false
        - MAX_RETRIES (environment): "many" must be a whole number from 0 to 10; for example MAX_RETRIES=2
        - QUEUE_MAX (config.json): must be one value, not a list; for example QUEUE_MAX=64
        - QWEN_WEB_BASE_URL (environment): "http://chat.qwen.ai" must begin with https://, since cookies and tokens are sent there (http:// only on this machine); for example QWEN_WEB_BASE_URL=https://chat.qwen.ai
        - QWEN_WEB_HEADERS (environment): must not hold authorization, which this program sets itself; see config.json.example
        - CONFIG_FILE (config.json): cannot be set in the file that it names; set it in the environment or with --config
        - LOG_LEVEL (environment): "verbose" must be error, warn, info, debug, trace, off, or a filter such as info,qwen_bridge=debug; for example LOG_LEVEL=info
        - TRIP_AFTER and DEGRADE_AFTER: an identity would be down after 2 failures and degraded only after 3; let TRIP_AFTER be at least DEGRADE_AFTER
        - COOLDOWN_MAX and COOLDOWN_BASE: the longest time down would be shorter than the first; let COOLDOWN_MAX be at least COOLDOWN_BASE
        - COOKIE entry 2 (environment): has a `token` whose value is cut off; paste the whole Cookie request header of a logged-in chat.qwen.ai tab
        - QWEN_TOKEN entry 1 (environment): has characters that an HTTP header cannot carry; paste the value of the cookie `token` of chat.qwen.ai
        - API_KEY entry 1 (environment): must be printable ASCII without spaces, at most 512 bytes; choose another key, for example with: openssl rand -hex 24
        - cookie.txt lines 3 and 4: is not a Cookie header (expected name=value; name=value); paste the whole Cookie request header of a logged-in chat.qwen.ai tab
        - cookie.txt line 5: has characters that an HTTP header cannot carry; paste the whole Cookie request header of a logged-in chat.qwen.ai tab
        "#);
}

#[test]
fn values_that_make_no_sense_are_refused() {
    let check = |name: &str, value: &str| {
        let text = faults(&env(&[(name, value)]));
        assert!(text.contains(name), "{name}={value}: {text}");
        assert!(text.starts_with("1 fault"), "{text}");
    };
    for name in [
        "DEGRADE_AFTER",
        "TRIP_AFTER",
        "COOLDOWN_BASE",
        "COOLDOWN_MAX",
        "PROBE_LEASE",
        "CHALLENGE_REST",
        "MAX_IN_FLIGHT",
        "MAX_BODY",
        "MODELS_TTL",
    ] {
        check(name, "0");
    }
    for name in ["QUEUE_WAIT", "CONNECT_TIMEOUT", "SHUTDOWN_TIMEOUT", "TOKEN_REFRESH_INTERVAL_HOURS"] {
        for value in ["-1", "1x", "s", "1e9d", "NaN", "inf", "9999999h", ".", "1m30", "m30s", "1m-30s", "1m,30s"] {
            check(name, value);
        }
    }
    for value in ["5MB5", "1.5MB", "99999999999999999999GB", "2TB"] {
        check("MAX_BODY", value);
    }
    for value in [
        "chat.qwen.ai",
        "ftp://a",
        "https://a/b",
        "https://a?b",
        "https://a#b",
        "https://u:p@a",
        "http://a",
        "http://10.0.0.1",
        "https://",
    ] {
        check("QWEN_AUTH_BASE_URL", value);
    }
    for value in ["*,https://a", "a.example", "https://a/b", ","] {
        check("CORS_ORIGINS", value);
    }
    for value in ["[1]", "{\"a b\": \"c\"}", "{\"a\": \"b\\n\"}", "{\"Cookie\": \"c\"}", "text"] {
        check("QWEN_WEB_HEADERS", value);
    }
    check("LOG_LEVEL", "inof");
    check("LOG_FORMAT", "xml");
    check("REASONING_FORMAT", "both");
    check("TRUSTED_PROXIES", "10.0.0.0/99");
    check("PORT", "tcp:10.0.0.1");
    check("SERVER_MODE", "on");
    check("TRIP_AFTER", "2");
    check("DEGRADE_AFTER", "6");
    check("COOLDOWN_BASE", "2h");
    check("COOLDOWN_MAX", "1s");
    check("TOTAL_TIMEOUT", "1s");
    for base in ["http://127.0.0.1:1", "http://localhost:1/", "http://[::1]:1"] {
        load(&env(&[("QWEN_WEB_BASE_URL", base)]));
    }
    load(&env(&[("QUEUE_WAIT", "0"), ("HEADERS_HOLD", "0"), ("QUEUE_MAX", "0"), ("MAX_RETRIES", "0")]));
    let client = faults(&env(&[("API_KEY", "a;b"), ("SERVER_MODE", "false")]));
    assert!(client.contains("semicolon"), "{client}");
}

#[test]
fn a_config_json_that_is_none_says_where() {
    let check = |text: &str, expected: &str| {
        let text = faults(&file(text));
        assert!(text.contains(expected), "{text}");
        assert!(!text.contains("secret"), "{text}");
    };
    check("{\"API_KEY\": \"secret\"\n \"COOKIE\": \"secret\"}", "cannot be read as a JSON object at line 2, column ");
    check("{\"API_KEY\": secret}", "cannot be read as a JSON object at line 1, column ");
    check("{\"API_KEY\": \"secret", "JSON object");
    check("[\"secret\"]", "JSON object");
    check("\"secret\"", "JSON object");
}

#[test]
fn warnings_tell_what_stops_nothing() {
    let mut sources = env(&[
        ("SERVER_HOST", "0.0.0.0"),
        ("API_KEY", "short"),
        ("QWEN_TOKEN", &format!("e30.{}.s", URL_SAFE_NO_PAD.encode("{\"exp\":5}"))),
    ]);
    sources.file = Some("{\"RATE_LIMIT_BURST\": 3}".to_owned());
    insta::assert_snapshot!(load(&sources).warnings.join("\n"), @r#"
        QWEN_TOKEN entry 1 has expired
        a key has fewer than 16 characters and can be guessed; openssl rand -hex 24 makes a better one
        RATE_LIMIT_BURST has no effect without RATE_LIMIT_RPS
        "#);
}

#[test]
fn nothing_of_a_configuration_can_be_printed_by_accident() {
    let sources =
        env(&[("API_KEY", "sk-secret"), ("COOKIE", "token=secret"), ("QWEN_WEB_HEADERS", "{\"x\": \"secret\"}")]);
    let config = load(&sources);
    let shown = format!("{sources:?} {config:?} {:?} {:?}", config.http, config.identities);
    assert!(!shown.contains("secret"), "{shown}");
}

#[test]
fn a_name_of_the_dotenv_file_that_looks_like_a_setting_is_remarked_upon() {
    let check = |name: &str, meant: Option<&str>| {
        let mut sources = Sources::empty(UnixSeconds(1_800_000_000));
        sources.dotenv = Some(format!("{name}=secret"));
        let warnings = Config::load(&sources).unwrap().warnings;
        let expected = meant.map(|meant| format!("{name} (.env) is not a setting; did you mean {meant}?"));
        assert_eq!(warnings, Vec::from_iter(expected), "{name}");
    };
    check("API_KEYS", Some("API_KEY"));
    check("api_key", Some("API_KEY"));
    check("SERVER_PROT", Some("SERVER_PORT"));
    check("QWEN_API_KEY", Some("QWEN_API_KEYS"));
    check("CONTINUE_CHAT", Some("CONTINUE_CHATS"));
    check("ADMIN_SECRETKEY", Some("ADMIN_SECRET_KEY"));
    check("MAX_RETRYS", Some("MAX_RETRIES"));
    check("COOKIES", Some("COOKIE"));
    // Names of other programs.
    for name in [
        "SERVER_NAME",
        "PORTS",
        "DB_PORT",
        "MODEL_PATH",
        "LOG_FILE",
        "MAX_TOKENS",
        "HTTP_HOST",
        "NODE_ENV",
        "COMPOSE_PROJECT_NAME",
        "HTTP_PORT",
        "OPENAI_BASE_URL",
        "TZ",
    ] {
        check(name, None);
    }
}

#[test]
fn a_key_of_the_shell_is_named() {
    let named = |sources: &Sources| {
        let warnings = Config::load(sources).unwrap().warnings;
        warnings.iter().filter(|warning| warning.starts_with("OPENAI_API_KEY (environment)")).count()
    };
    let key = "sk-proj-abcdefghijklmnopqrstuvwxyz012345";
    assert_eq!(named(&env(&[("OPENAI_API_KEY", key)])), 1);
    // A file of this server is meant.
    let mut sources = env(&[]);
    sources.dotenv = Some(format!("OPENAI_API_KEY={key}"));
    assert_eq!(named(&sources), 0);
    assert_eq!(named(&file(&format!("{{\"OPENAI_API_KEY\": \"{key}\"}}"))), 0);
    assert_eq!(named(&env(&[("OPENAI_API_KEYS", key), ("API_KEY", "other")])), 0);
}
