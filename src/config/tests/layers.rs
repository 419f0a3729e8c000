//! The place that a setting is taken from, and its value without any.

use super::*;

/// Settings that apply while the server runs; `reload` of the whole server's tests tries each kind.
#[test]
fn the_settings_that_need_a_restart() {
    let at_a_restart: Vec<&str> =
        SETTINGS.iter().filter(|setting| setting.needs_restart).map(|setting| setting.name).collect();
    let expected = "ADMIN_SECRET_KEY SERVER_MODE ALLOW_OPEN AUTO_REFRESH_TOKEN TOKEN_REFRESH_INTERVAL_HOURS \
                    QWEN_DIR TOKEN_REFRESH_BUFFER QWEN_OAUTH_BASE_URL QWEN_OAUTH_CLIENT_ID \
                    QWEN_OAUTH_SCOPE API_BASE_URL SERVER_HOST SERVER_PORT PORT BASE_PATH METRICS_ADDRESS \
                    CORS_ORIGINS TRUSTED_PROXIES QWEN_WEB_BASE_URL QWEN_AUTH_BASE_URL QWEN_OSS_BASE_URL \
                    QWEN_WEB_HEADERS CONNECT_TIMEOUT CONFIG_FILE STATE_DIR LOG_FORMAT COLOR DEBUG_MODE";
    assert_eq!(at_a_restart.join(" "), expected);
}
use crate::config::settings::names;

#[test]
fn without_settings_it_serves_on_loopback() {
    let config = load(&Sources::empty(NOW));
    assert_eq!(config.http.listen, "127.0.0.1:8000".parse().unwrap());
    assert_eq!(config.key_policy, KeyPolicy::OpenOnLoopback);
    assert!(config.identities.is_empty());
    assert_eq!(config.warnings, Vec::<String>::new());
}

/// Each default is listed in docs/settings.md; here is what has to hold between them.
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
    check("SERVER_PORT", "\"tcp://10.96.0.7:8000\"");
    check("PORT", " 'TCP://10.96.0.7:8000' ");
    check("MAX_RETRIES", "sctp://10.96.0.7:8000");
    check("SERVER_HOST", "tcp://10.96.0.7:8000");
    check("MEDIA_FETCH", "tcp://10.96.0.7:8000");
    // A value in a file was written on purpose.
    assert!(faults(&file("{SERVER_PORT: \"tcp://10.96.0.7:8000\"}")).contains("SERVER_PORT"));
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
