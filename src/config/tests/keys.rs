//! The keys of callers and of the owner.

use super::*;

#[test]
fn keys_are_one_set() {
    let config =
        load(&env(&[("API_KEY", "sk-a, sk-b,,"), ("OPENAI_API_KEYS", "sk-c,sk-a"), ("OPENAI_API_KEY", "sk-d")]));
    assert_eq!(config.http.keys.len(), 4);
    for key in ["sk-a", "sk-b", "sk-c", "sk-d"] {
        assert!(config.http.keys.iter().any(|known| known.matches(key)), "{key}");
    }
}

/// `name key` of each, in their order.
fn named(pairs: &[(&str, &str)]) -> Vec<String> {
    let keys = load(&env(pairs)).http.keys;
    keys.iter().map(|key| format!("{} {}", key.name, key.key.expose())).collect()
}

#[test]
fn keys_have_names_or_are_numbered_by_their_place() {
    let check = |pairs: &[(&str, &str)], expected: &[&str]| assert_eq!(named(pairs), expected, "{pairs:?}");
    check(&[("API_KEY", "laptop=sk-a, sk-b,phone=sk-c")], &["laptop sk-a", "key-2 sk-b", "phone sk-c"]);
    check(&[("API_KEY", "c2VjcmV0=,c2VjcmV1==")], &["key-1 c2VjcmV0=", "key-2 c2VjcmV1=="]);
    check(&[("API_KEY", "laptop=c2VjcmV0==,a.b=c")], &["laptop c2VjcmV0==", "key-2 a.b=c"]);
    // One key in several places, with a name in one of them.
    check(
        &[("API_KEY", "sk-a,sk-b"), ("OPENAI_API_KEYS", "sk-c,tablet=sk-b"), ("OPENAI_API_KEY", "sk-a")],
        &["key-1 sk-a", "tablet sk-b", "key-3 sk-c"],
    );
}

#[test]
fn a_name_is_of_one_key_and_a_key_has_one_name() {
    let check = |pairs: &[(&str, &str)], expected: &str| {
        let text = faults(&env(pairs));
        assert!(text.contains(expected), "{text}");
        assert!(!text.contains("sk-"), "{text}");
    };
    check(
        &[("API_KEY", "laptop=sk-a"), ("OPENAI_API_KEYS", "sk-c,laptop=sk-b")],
        "OPENAI_API_KEYS entry 2 (environment): is a second key with the name laptop; give each key a name of its own",
    );
    check(
        &[("API_KEY", "laptop=sk-a,phone=sk-a")],
        "API_KEY entry 2 (environment): has the key of laptop (API_KEY entry 1) under the name phone; give each key one name",
    );
    // A bare key has a name too.
    check(&[("API_KEY", "sk-a,key-1=sk-b")], "API_KEY entry 2 (environment): is a second key with the name key-1");
    check(&[("API_KEY", "laptop=sk a")], "API_KEY entry 1 (environment): must be printable ASCII");
}

#[test]
fn limits_are_of_keys_that_there_are() {
    let limits = "laptop:requests=100/day,tokens=1000000/day,models=qwen3-*; phone : requests=5";
    let keys = load(&env(&[("API_KEY", "laptop=sk-a,sk-b,phone=sk-c"), ("KEY_LIMITS", limits)])).http.keys;
    let requests: Vec<_> = keys.iter().map(|key| key.limits.requests_per_day).collect();
    assert_eq!(requests, [Some(100), None, Some(5)]);
    assert_eq!(
        (keys[0].limits.tokens_per_day, keys[0].limits.models.as_slice()),
        (Some(1_000_000), &["qwen3-*".to_owned()][..])
    );
    let object = r#"{"API_KEY": ["sk-a"], "KEY_LIMITS": {"key-1": "tokens=5/day"}}"#;
    assert_eq!(load(&file(object)).http.keys[0].limits.tokens_per_day, Some(5));
    let generated = load(&env(&[("SERVER_HOST", "0.0.0.0"), ("KEY_LIMITS", "generated:requests=7/day")]));
    assert_eq!(generated.generated_key_limits.requests_per_day, Some(7));
    for (limits, expected) in [
        ("tablet:requests=1/day", "limits tablet, and no key has this name; the keys are laptop"),
        ("generated:requests=1/day", "limits generated, and no key has this name"),
        ("laptop:requests=1/day;laptop:tokens=1/day", "limits laptop twice"),
        ("laptop", "must be entries such as laptop:requests=100/day"),
        ("laptop:requests=1/hour", "for laptop: requests must be a whole number a day, as 100/day"),
        ("my laptop:requests=1", "has a name that must be 1 to 32 letters"),
    ] {
        let text = faults(&env(&[("API_KEY", "laptop=sk-a"), ("KEY_LIMITS", limits)]));
        assert!(text.contains(expected), "{limits}: {text}");
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
