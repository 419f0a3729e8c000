//! Layers, values, faults and identities.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use std::collections::BTreeMap;

use super::*;
use crate::base::ids::UnixSeconds;
use crate::config::settings::names;

const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

fn env(pairs: &[(&str, &str)]) -> Sources {
    let mut sources = Sources::empty(NOW);
    for (name, value) in pairs {
        sources.env.insert((*name).to_owned(), (*value).to_owned());
    }
    sources
}

fn file(text: &str) -> Sources {
    Sources { file: Some(text.to_owned()), ..Sources::empty(NOW) }
}

fn cookie_file(text: &str) -> Sources {
    Sources { cookie_file: Some(text.to_owned()), ..Sources::empty(NOW) }
}

fn load(sources: &Sources) -> Config {
    Config::load(sources).unwrap_or_else(|error| panic!("{error}"))
}

fn faults(sources: &Sources) -> String {
    Config::load(sources).unwrap_err().to_string()
}

/// An unsigned JWT of an account.
fn jwt(account: &str) -> String {
    let claims = format!("{{\"id\":\"{account}\",\"exp\":1800009999}}");
    format!("e30.{}.sig", URL_SAFE_NO_PAD.encode(claims))
}

/// The identities as text: the cookie, `+`, the account of the token.
fn identities(sources: &Sources) -> Vec<String> {
    load(sources)
        .identities
        .iter()
        .map(|seed| {
            let cookie = seed.cookie.as_ref().map_or("", |cookie| cookie.expose());
            let token = seed.token.as_ref().map_or("", |token| token.account().unwrap_or(token.expose()));
            format!("{cookie}+{token}")
        })
        .collect()
}

#[test]
fn without_settings_it_serves_on_loopback() {
    let config = load(&Sources::empty(NOW));
    assert_eq!(config.http.listen, "127.0.0.1:8000".parse().unwrap());
    assert_eq!(config.key_policy, KeyPolicy::OpenOnLoopback);
    assert!(config.identities.is_empty());
    assert_eq!(config.warnings, Vec::<String>::new());
}

/// Each default is documented in the README; here is what has to hold between them.
#[test]
fn the_default_times_and_counts_fit_each_other() {
    let config = load(&Sources::empty(NOW));
    let (http, pool, web) = (&config.http, &config.pool, &config.web);
    // The headers wait for a first failure and its retry, but are out before usual proxies give up.
    assert!(http.headers_hold < http.keepalive_interval && http.keepalive_interval < Duration::from_secs(30));
    // A silence is noticed while its caller still listens, and before the whole answer is given up.
    assert!(web.connect_timeout < web.first_event_timeout && web.first_event_timeout <= web.idle_timeout);
    assert!(web.idle_timeout < web.total_timeout && http.keepalive_interval < web.first_event_timeout);
    // An identity is degraded before it goes down, and a probe ends before the next one.
    assert!(pool.degrade_after < pool.trip_after && pool.probe_lease < pool.cooldown_base);
    assert!(pool.cooldown_base < pool.cooldown_max);
    // A failed attempt can be repeated, and a stop lets a usual answer finish.
    assert!(config.chat.retries_max > 0 && config.shutdown_timeout >= Duration::from_secs(10));
}

#[test]
fn each_key_comes_from_the_strongest_layer() {
    let check = |flag: &str, env: &str, dotenv: &str, file: &str, expected: u32| {
        let mut sources = Sources::empty(NOW);
        sources.flags.insert("MAX_RETRIES".to_owned(), flag.to_owned());
        sources.env.insert("MAX_RETRIES".to_owned(), env.to_owned());
        sources.dotenv = Some(format!("MAX_RETRIES={dotenv}\nTRIP_AFTER=9"));
        sources.file = Some(format!("{{MAX_RETRIES: {file}, QUEUE_MAX: 7}}"));
        let config = load(&sources);
        assert_eq!(config.chat.retries_max, expected);
        assert_eq!((config.pool.trip_after, config.pool.queue_max), (9, 7));
    };
    check("4", "5", "6", "7", 4);
    check("", "5", "6", "7", 5);
    check(" ", "", "6", "7", 6);
    check("", "", "", "7", 7);
    check("", "", "", "null", 2);
}

#[test]
fn addresses_are_read_in_every_form() {
    let check = |pairs: &[(&str, &str)], expected: &str| {
        let listen = load(&env(pairs)).http.listen;
        assert_eq!(listen.to_string(), expected, "{pairs:?}");
    };
    check(&[("PORT", "9000")], "127.0.0.1:9000");
    check(&[("PORT", "9000"), ("SERVER_PORT", "9001")], "127.0.0.1:9001");
    check(&[("SERVER_PORT", ":9001")], "127.0.0.1:9001");
    check(&[("SERVER_PORT", "0.0.0.0:9001")], "0.0.0.0:9001");
    check(&[("SERVER_PORT", "[::1]:9001")], "[::1]:9001");
    check(&[("SERVER_PORT", "LocalHost:0")], "127.0.0.1:0");
    check(&[("SERVER_HOST", "::")], "[::]:8000");
    check(&[("SERVER_HOST", "[::1]")], "[::1]:8000");
    check(&[("SERVER_HOST", "localhost")], "127.0.0.1:8000");
    check(&[("SERVER_HOST", "10.0.0.1"), ("PORT", "0.0.0.0:1")], "10.0.0.1:1");
}

// S003-06
#[test]
fn the_stronger_place_beats_the_stronger_name() {
    let check = |env: &[(&str, &str)], dotenv: &str, file: &str, expected: &str| {
        let mut sources = self::env(env);
        sources.dotenv = Some(dotenv.to_owned());
        sources.file = Some(file.to_owned());
        assert_eq!(load(&sources).http.listen.to_string(), expected, "{env:?} {dotenv} {file}");
    };
    check(&[("PORT", "21098")], "", "{SERVER_PORT: 9000}", "127.0.0.1:21098");
    check(&[("PORT", "21098")], "SERVER_PORT=9001", "{SERVER_PORT: 9000}", "127.0.0.1:21098");
    check(&[], "PORT=9001", "{SERVER_PORT: 9000}", "127.0.0.1:9001");
    check(&[("PORT", "1"), ("SERVER_PORT", "2")], "", "{}", "127.0.0.1:2");
    check(&[], "PORT=1", "{PORT: 2}", "127.0.0.1:1");
    // The address follows the same rule.
    check(&[("SERVER_PORT", "0.0.0.0:1")], "", "{SERVER_HOST: \"10.0.0.1\"}", "0.0.0.0:1");
    check(&[("SERVER_HOST", "10.0.0.1")], "", "{SERVER_PORT: \"0.0.0.0:1\"}", "10.0.0.1:1");
}

/// Kubernetes describes each service to every container: a service named `server` sets `SERVER_PORT`.
#[test]
fn addresses_of_services_are_no_settings() {
    let check = |name: &str, value: &str| {
        let mut sources = env(&[(name, value)]);
        sources.file = Some("{SERVER_PORT: 9000, MAX_RETRIES: 1}".to_owned());
        let config = load(&sources);
        assert_eq!((config.http.listen.port(), config.chat.retries_max), (9000, 1), "{name}={value}");
        let warnings = config.warnings.join("\n");
        assert!(warnings.contains(&format!("{name} (environment) is the address of a service")), "{warnings}");
    };
    check("SERVER_PORT", "tcp://10.96.0.7:8000");
    check("SERVER_PORT", "tcp://[fd00::1]:8000");
    check("PORT", "udp://10.96.0.7:53");
    check("MAX_RETRIES", "sctp://10.96.0.7:8000");
    check("SERVER_HOST", "tcp://10.96.0.7:8000");
    check("MEDIA_FETCH", "tcp://10.96.0.7:8000");
    // A value in a file was written on purpose.
    assert!(faults(&file("{SERVER_PORT: \"tcp://10.96.0.7:8000\"}")).contains("SERVER_PORT"));
}

#[test]
fn a_limit_of_0_is_off() {
    for zero in ["0", "0s", "0h0m"] {
        let config = load(&env(&[
            ("READ_TIMEOUT", zero),
            ("WRITE_TIMEOUT", zero),
            ("KEEPALIVE_INTERVAL", zero),
            ("CONNECT_TIMEOUT", zero),
            ("FIRST_EVENT_TIMEOUT", zero),
            ("IDLE_TIMEOUT", zero),
        ]));
        let (http, web) = (config.http, config.web);
        for limit in [
            http.read_timeout,
            http.write_timeout,
            http.keepalive_interval,
            web.connect_timeout,
            web.first_event_timeout,
            web.idle_timeout,
        ] {
            assert!(limit > Duration::from_secs(300 * 24 * 3600), "{limit:?}");
        }
    }
    let config = load(&env(&[("TOTAL_TIMEOUT", "0"), ("CONNECT_TIMEOUT", "20m")]));
    assert!(config.web.total_timeout > Duration::from_secs(300 * 24 * 3600));
}

#[test]
fn values_are_read_in_every_form() {
    let duration = |text: &str, expected: u64| {
        let config = load(&env(&[("CONNECT_TIMEOUT", text), ("TOTAL_TIMEOUT", "1d")]));
        assert_eq!(config.web.connect_timeout, Duration::from_millis(expected), "{text}");
    };
    duration("30s", 30_000);
    duration("5m", 300_000);
    duration("2h", 7_200_000);
    duration("500ms", 500);
    duration("7", 7000);
    duration("0.25", 250);
    duration(" 1.5 s ", 1500);
    // As Go writes them.
    duration("1m30s", 90_000);
    duration("1h1m1.5s", 3_661_500);
    duration("1.5h", 5_400_000);
    duration("1h30m", 5_400_000);
    duration("1s500ms", 1500);
    duration("2000us", 2);
    duration("1500000\u{b5}s", 1500);
    duration("1m 30s", 90_000);
    let size = |text: &str, expected: usize| {
        assert_eq!(load(&env(&[("MAX_BODY", text)])).http.body_bytes_max, expected, "{text}");
    };
    size("50MB", 50_000_000);
    size("1MiB", 1 << 20);
    size("64 kib", 65_536);
    size("2000", 2000);
    size("2000B", 2000);
    let flag = |text: &str, expected: bool| {
        assert_eq!(load(&env(&[("KEEP_CHATS", text)])).chat.keep_chats, expected, "{text}");
    };
    for text in ["true", "TRUE", "1", "yes", "Yes"] {
        flag(text, true);
    }
    for text in ["false", "False", "0", "no", "NO"] {
        flag(text, false);
    }
    let log = |pairs: &[(&str, &str)], expected: &str| {
        assert_eq!(load(&env(pairs)).log.filter, expected, "{pairs:?}");
    };
    log(&[("DEBUG_MODE", "true")], "info,qwen_bridge=debug");
    log(&[("DEBUG_MODE", "true"), ("LOG_LEVEL", "warn")], "warn");
    log(&[("LOG_LEVEL", "Trace")], "info,qwen_bridge=trace");
    log(&[("LOG_LEVEL", "warn,qwen_bridge::pool=debug")], "warn,qwen_bridge::pool=debug");
    let origins = load(&env(&[("CORS_ORIGINS", "https://A.example/, chrome-extension://abc, http://localhost:3000")]));
    assert_eq!(
        origins.http.cors_origins.unwrap(),
        ["https://a.example", "chrome-extension://abc", "http://localhost:3000"]
    );
    let proxies = load(&env(&[("TRUSTED_PROXIES", "10.0.0.0/8, ::1")]));
    assert_eq!(proxies.http.trusted_proxies.len(), 2);
}

#[test]
fn config_json_takes_comments_and_natural_types() {
    let config = load(&file(
        "\u{feff}// a comment
        {
            /* another */
            \"API_KEY\": [\"sk-one\", \"sk-two\"], \"SERVER_MODE\": true, \"MAX_RETRIES\": 1,
            \"QUEUE_WAIT\": 0.5, \"COOKIE\": [\"a=1; b=2\", \"# old\", \"c=3\"], \"MAX_BODY\": \"2MB\",
            \"QWEN_WEB_HEADERS\": {\"Accept-Language\": \"de\", \"dnt\": 1},
            \"CORS_ORIGINS\": [\"https://a.example\"],
        }",
    ));
    assert_eq!(config.http.keys.len(), 2);
    assert_eq!(config.identities.len(), 2);
    assert_eq!(config.pool.queue_wait, Duration::from_millis(500));
    assert_eq!(config.web.headers["accept-language"], "de");
    assert_eq!(config.web.headers["dnt"], "1");
    let from_env = load(&env(&[("QWEN_WEB_HEADERS", "{\"X-Y\": \"z\"}")]));
    assert_eq!(from_env.web.headers["x-y"], "z");
    load(&file("{}"));
    load(&file(" \n"));
}

#[test]
fn keys_are_one_set() {
    let config =
        load(&env(&[("API_KEY", "sk-a, sk-b,,"), ("OPENAI_API_KEYS", "sk-c,sk-a"), ("OPENAI_API_KEY", "sk-d")]));
    assert_eq!(config.http.keys.len(), 4);
    for key in ["sk-a", "sk-b", "sk-c", "sk-d"] {
        assert!(config.http.keys.iter().any(|known| known.matches(key)), "{key}");
    }
}

#[test]
fn the_key_policy_follows_from_keys_and_address() {
    let check = |pairs: &[(&str, &str)], expected: KeyPolicy| {
        assert_eq!(load(&env(pairs)).key_policy, expected, "{pairs:?}");
    };
    check(&[], KeyPolicy::OpenOnLoopback);
    check(&[("SERVER_HOST", "::1")], KeyPolicy::OpenOnLoopback);
    check(&[("SERVER_HOST", "0.0.0.0")], KeyPolicy::GenerateKey);
    check(&[("SERVER_HOST", "::")], KeyPolicy::GenerateKey);
    check(&[("SERVER_HOST", "0.0.0.0"), ("API_KEY", "sk-a")], KeyPolicy::Keys);
    check(&[("API_KEY", "sk-a"), ("ALLOW_OPEN", "1")], KeyPolicy::Keys);
    check(&[("SERVER_HOST", "0.0.0.0"), ("ALLOW_OPEN", "1")], KeyPolicy::OpenKnowingly);
    check(&[("SERVER_HOST", "0.0.0.0"), ("SERVER_MODE", "no")], KeyPolicy::OpenKnowingly);
}

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
    insta::assert_snapshot!(load(&both).warnings.join("\n"), @r#"cookie.txt line 2 repeats an earlier cookie and is left out"#);
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

/// `docker --env-file` and some panels take quotes for a part of the value.
#[test]
fn quotes_around_a_value_are_taken_away() {
    let one = jwt("one");
    for quoted in [format!("\"{one}\""), format!("'{one}'"), format!("\"Bearer {one}\""), format!("token={one}")] {
        assert_eq!(identities(&env(&[("QWEN_TOKEN", &quoted)])), ["+one"], "{quoted}");
    }
    for quoted in ["\"token=a; cna=1\"", "'token=a; cna=1'", "\u{201c}token=a; cna=1\u{201d}"] {
        assert_eq!(identities(&env(&[("COOKIE", quoted)])), ["token=a; cna=1+"], "{quoted}");
    }
    assert_eq!(identities(&env(&[("COOKIE", "\"token=a; x=\"q\"\"")])), ["token=a; x=\"q\"+"]);
    assert_eq!(identities(&env(&[("COOKIE", "x=\"q\"")])), ["x=\"q\"+"]);
    for (name, quoted) in
        [("API_KEY", "\"sk-a,sk-b\""), ("OPENAI_API_KEYS", "'sk-a', \"sk-b\""), ("API_KEY", "\"sk-a\",\"sk-b\"")]
    {
        let config = load(&env(&[(name, quoted)]));
        assert_eq!(config.http.keys.len(), 2, "{quoted}");
        assert!(config.http.keys[0].matches("sk-a") && config.http.keys[1].matches("sk-b"), "{quoted}");
    }
    let config = load(&env(&[
        ("SERVER_PORT", "\"9000\""),
        ("MAX_BODY", "'2MB'"),
        ("VISION_FALLBACK_MODEL", "\"\""),
        ("ADMIN_SECRET_KEY", "\"a key\""),
    ]));
    assert_eq!((config.http.listen.port(), config.http.body_bytes_max), (9000, 2_000_000));
    assert_eq!(config.http.vision_fallback, "");
    assert!(config.http.admin_key.unwrap().matches("a key"));
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
        25 faults in the configuration:
        - .env line 1: is not NAME=value; write one setting a line, and # in front of comments
        - "API_KEYS" (config.json): is no setting; did you mean API_KEY?
        - OPENAI_API_KEY (config.json): must be an object of texts; compare it with config.json.example
        - "maxretries" (config.json): is no setting; did you mean MAX_RETRIES?
        - "zzz" (config.json): is no setting; config.json.example lists all of them
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
        - COOKIE entry 2 (environment): is not a Cookie header (expected name=value; name=value); a token on its own belongs into QWEN_TOKEN
        - QWEN_TOKEN entry 1 (environment): has characters that an HTTP header cannot carry; paste the value of the cookie `token` of chat.qwen.ai
        - API_KEY entry 1 (environment): must be printable ASCII without spaces, at most 512 bytes; choose another key, for example with: openssl rand -hex 24
        - cookie.txt line 3: is not a Cookie header (expected name=value; name=value); paste the whole Cookie request header of a logged-in chat.qwen.ai tab
        - cookie.txt line 4: is not a Cookie header (expected name=value; name=value); paste the whole Cookie request header of a logged-in chat.qwen.ai tab
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

// S004-30
#[test]
fn a_rate_has_a_burst() {
    let limit = |pairs: &[(&str, &str)]| {
        load(&env(pairs)).http.rate_limit.map(|RateLimit { per_second, burst }| (per_second, burst))
    };
    assert_eq!(limit(&[]), None);
    assert_eq!(limit(&[("RATE_LIMIT_BURST", "5")]), None);
    assert_eq!(limit(&[("RATE_LIMIT_RPS", "10")]), Some((10.0, 20)));
    assert_eq!(limit(&[("RATE_LIMIT_RPS", "1.2")]), Some((1.2, 3)));
    assert_eq!(limit(&[("RATE_LIMIT_RPS", "0.1")]), Some((0.1, 1)));
    assert_eq!(limit(&[("RATE_LIMIT_RPS", "10"), ("RATE_LIMIT_BURST", "5")]), Some((10.0, 5)));
    for (name, value) in [
        ("RATE_LIMIT_RPS", "0"),
        ("RATE_LIMIT_RPS", "-1"),
        ("RATE_LIMIT_RPS", "NaN"),
        ("RATE_LIMIT_RPS", "inf"),
        ("RATE_LIMIT_RPS", "fast"),
        ("RATE_LIMIT_BURST", "0"),
        ("RATE_LIMIT_BURST", "1.5"),
    ] {
        assert!(faults(&env(&[(name, value)])).contains(name), "{name}={value}");
    }
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

/// The sample of a document, or one that is easy to guess.
#[test]
fn a_sample_key_beyond_this_machine_is_named() {
    let warned = |name: &str, key: &str, host: &str| {
        let warnings = load(&env(&[(name, key), ("SERVER_HOST", host)])).warnings.join("\n");
        warnings.contains(&format!("the key '{key}' is a sample"))
    };
    for key in [
        "YOUR_KEY",
        "sk-123456",
        "sk-xxxx",
        "sk-your-api-key",
        "change-me",
        "sk-test-key",
        "API_KEY",
        "sk-abcdef-123456",
    ] {
        assert!(warned("API_KEY", key, "0.0.0.0"), "{key}");
        assert!(!warned("API_KEY", key, "127.0.0.1"), "{key}");
    }
    assert!(warned("ADMIN_SECRET_KEY", "changeme", "::"));
    for key in ["sk-4f9c2a7be1d04c55", "correct-horse-battery-staple", "sk-mine"] {
        assert!(!warned("API_KEY", key, "0.0.0.0"), "{key}");
    }
}

#[test]
fn proxies_are_checked_and_no_proxy_for_all_is_kept() {
    let with = |name: &str, value: &str| Sources {
        proxies: BTreeMap::from([(name.to_owned(), value.to_owned())]),
        ..Sources::empty(NOW)
    };
    for value in
        ["socks5h://127.0.0.1:1080", "http://u:p@proxy.example:3128/", "proxy.example:3128", "socks4a://[::1]:1", ""]
    {
        for name in ["ALL_PROXY", "https_proxy"] {
            assert!(!load(&with(name, value)).web.is_direct, "{value}");
        }
    }
    for value in ["socks://secret@h:1", "ftp://secret", "http://", "secret secret", "socks5h://"] {
        let text = faults(&with("HTTPS_PROXY", value));
        assert!(text.contains("HTTPS_PROXY (environment)") && !text.contains("secret"), "{text}");
    }
    for (value, expected) in [("*", true), ("a.example, * ", true), ("*.example", false), ("", false)] {
        let config = load(&with("no_proxy", value));
        assert_eq!((config.web.is_direct, config.oauth.is_direct), (expected, expected), "{value}");
    }
}

#[test]
fn named_files_are_read_and_missed() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(
        dir.path().join("settings"),
        format!("{{\"COOKIE_FILE\": {:?}, \"MAX_RETRIES\": 1}}", path("cookies")),
    )
    .unwrap();
    std::fs::write(dir.path().join("cookies"), "a=1\n").unwrap();
    let named = |file: String| Sources::from_process([("CONFIG_FILE".to_owned(), file)].into());
    let sources = named(path("settings"));
    assert_eq!(sources.cookie_file.as_deref(), Some("a=1\n"));
    assert!(sources.now.0 > 1_700_000_000);

    // As Windows writes "Unicode" text.
    let utf16: Vec<u8> = "\u{feff}a=1\r\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    std::fs::write(dir.path().join("cookies"), utf16).unwrap();
    assert_eq!(named(path("settings")).cookie_file.as_deref(), Some("a=1\r\n"));

    std::fs::write(dir.path().join("cookies"), "a=1\nno cookie\na=1\n").unwrap();
    let text = faults(&named(path("settings")));
    assert!(text.contains(&format!("{} line 2: ", path("cookies"))), "{text}");
    std::fs::write(dir.path().join("cookies"), "a=1\na=1\n").unwrap();
    let warnings = load(&named(path("settings"))).warnings.join("\n");
    assert!(warnings.contains(&format!("{} line 2 repeats", path("cookies"))), "{warnings}");

    let missing = named(path("missing"));
    let text = faults(&missing);
    assert!(
        text.contains("missing: cannot be read (entity not found); make it a readable text file, or name another one in CONFIG_FILE"),
        "{text}"
    );
    std::fs::write(dir.path().join("settings"), vec![b' '; 2_000_000]).unwrap();
    let text = faults(&named(path("settings")));
    assert!(text.contains("cannot be read (file too large)"), "{text}");
    std::fs::write(dir.path().join("settings"), [0xff, 0xfe, 0x7b]).unwrap();
    let text = faults(&named(path("settings")));
    assert!(text.contains("cannot be read (invalid data)"), "{text}");
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
fn every_setting_has_a_row_of_its_own() {
    let names = names();
    let mut once = names.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), names.len());
    for setting in SETTINGS {
        assert!(setting.help.ends_with('.'), "{}", setting.name);
    }
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
