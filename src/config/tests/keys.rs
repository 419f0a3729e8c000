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
