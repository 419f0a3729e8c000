//! The forms in which values are read.

use std::collections::BTreeMap;

use super::*;

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
    duration("+1m30s", 90_000);
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
fn proxies_are_checked_and_no_proxy_for_all_is_kept() {
    let with = |name: &str, value: &str| Sources {
        proxies: BTreeMap::from([(name.to_owned(), value.to_owned())]),
        ..Sources::empty(NOW)
    };
    for value in [
        "socks5h://127.0.0.1:1080",
        "http://u:p@proxy.example:3128/",
        "proxy.example:3128",
        "socks4a://[::1]:1",
        "http://[::1]",
        "",
    ] {
        for name in ["ALL_PROXY", "https_proxy"] {
            assert!(!load(&with(name, value)).web.is_direct, "{value}");
        }
    }
    for value in [
        "socks://secret@h:1",
        "ftp://secret",
        "http://",
        "secret secret",
        "socks5h://",
        "http://secret:99999",
        "socks5://u:secret@h:0",
    ] {
        let text = faults(&with("HTTPS_PROXY", value));
        assert!(text.contains("HTTPS_PROXY (environment)") && !text.contains("secret"), "{text}");
    }
    for (value, expected) in [
        ("*", true),
        ("a.example, * ", true),
        ("\"*\"", true),
        ("'a.example,*'", true),
        ("*.example", false),
        ("", false),
    ] {
        let config = load(&with("no_proxy", value));
        assert_eq!((config.web.is_direct, config.oauth.is_direct), (expected, expected), "{value}");
    }
}

#[test]
fn a_base_path_is_a_plain_path() {
    for (text, expected) in [("/qwen", "/qwen"), ("/a/b-c/", "/a/b-c"), ("/", ""), ("//", "")] {
        assert_eq!(load(&env(&[("BASE_PATH", text)])).http.base_path, expected, "{text}");
    }
    for text in ["qwen", "/a//b", "/../admin", "/a b", "/a?b", "/ü", "http://a.example/qwen"] {
        let faults = faults(&env(&[("BASE_PATH", text)]));
        assert!(faults.contains("BASE_PATH"), "{text}: {faults}");
    }
}
