use url::Url;

use super::*;
use crate::upstream::web::upload::sts::link_life;

#[test]
fn credentials() {
    let good = json!({"access_key_id": "STS.x", "access_key_secret": "s", "security_token": "t",
        "file_url": "https://b.oss.aliyuncs.com/u/f_a.png?x-oss-expires=600", "file_path": "u/f_a b.png",
        "file_id": "f", "bucketname": "qwen-webui-prod", "region": "oss-ap-southeast-1",
        "endpoint": "oss-accelerate.aliyuncs.com"});
    let with = |name: &str, value: Value| {
        let mut data = good.clone();
        data[name] = value;
        data
    };
    let check = |data: Value, expected: Result<&str, &str>| {
        for value in [json!({"success": true, "data": data}), data] {
            let sts = StsCredential::parse(&value, None, Instant::now());
            let target = sts.as_ref().map(|sts| sts.target.as_str()).map_err(|error| *error);
            match (target, expected) {
                (Err(error), Err(word)) => assert!(error.contains(word), "{error}: {value}"),
                (target, expected) => assert_eq!(target, expected, "{value}"),
            }
        }
    };
    let usual = "https://qwen-webui-prod.oss-accelerate.aliyuncs.com/u/f_a%20b.png";
    check(good.clone(), Ok(usual));
    check(with("endpoint", json!("https://oss-accelerate.aliyuncs.com/")), Ok(usual));
    check(with("endpoint", json!("qwen-webui-prod.oss-accelerate.aliyuncs.com")), Ok(usual));
    check(with("region", json!(null)), Ok(usual));
    check(with("file_path", json!("/u/f_a b.png")), Ok(usual));
    check(
        with("file_path", json!("u/f_%2e%2e#?ä.png")),
        Ok("https://qwen-webui-prod.oss-accelerate.aliyuncs.com/u/f_%252e%252e%23%3F%C3%A4.png"),
    );
    for endpoint in [
        "http://oss-accelerate.aliyuncs.com",
        "aliyuncs.com.evil.com",
        "evilaliyuncs.com",
        ".aliyuncs.com",
        "aliyuncs.com",
        "oss.aliyuncs.com:444",
        "oss.aliyuncs.com@evil.com",
        "evil.com/oss.aliyuncs.com",
        "evil.com#.aliyuncs.com",
        "evil.com?.aliyuncs.com",
        "evil.com\\.aliyuncs.com",
        "oss..aliyuncs.com",
        "127.0.0.1",
    ] {
        check(with("endpoint", json!(endpoint)), Err("leads to a host"));
    }
    for path in ["//u/f", "u/../f", "../f", "u/./f", "u//f", "u/f/", "u/f\r\nx: y", "u\\f", &"x".repeat(1024)] {
        check(with("file_path", json!(path)), Err("path is not safe"));
    }
    for bucket in ["b", "a.b", "A-b", "-ab", "evil.com/x", "a@b"] {
        check(with("bucketname", json!(bucket)), Err("bucket"));
    }
    check(with("security_token", json!("a\nb")), Err("fits no header"));
    check(with("access_key_id", json!("a/b")), Err("key id"));
    check(with("file_id", json!("../x")), Err("file id"));
    check(with("file_url", json!("javascript:x")), Err("link"));
    check(with("region", json!("a b")), Err("region"));
    for name in ["access_key_id", "access_key_secret", "security_token", "file_id", "file_path", "bucketname"] {
        check(with(name, json!(7)), Err("has no"));
        check(with(name, json!(" ")), Err("has no"));
    }
    let base = Url::parse("http://127.0.0.1:9/store/").unwrap();
    let sts = StsCredential::parse(&with("endpoint", json!("evil.com")), Some(&base), Instant::now());
    assert_eq!(sts.ok().unwrap().target.as_str(), "http://127.0.0.1:9/store/u/f_a%20b.png");
}

#[test]
fn lives_of_links() {
    let check = |query: &str, seconds: u64| {
        let link = Url::parse(&format!("https://b.aliyuncs.com/f?{query}")).unwrap();
        assert_eq!(link_life(&link), Duration::from_secs(seconds), "{query}");
    };
    check("x-oss-expires=600&x=1", 600);
    check("", 300);
    check("x-oss-expires=-1", 300);
    check("x-oss-expires=99999999999", 86_400);
    check("x-oss-expires=0", 0);
}

#[test]
fn states_of_documents() {
    let check = |value: Value, expected: &str| {
        let state = match parse_state(&value, "f") {
            ParseState::Pending => "pending".to_owned(),
            ParseState::Done => "done".to_owned(),
            ParseState::Failed(quote) => format!("failed {}", quote.raw()),
        };
        assert_eq!(state, expected, "{value}");
    };
    check(json!({"data": [{"file_id": "f", "status": "success"}]}), "done");
    check(json!({"data": [{"file_id": "g", "status": "success"}]}), "pending");
    check(json!({"data": [{"file_id": "f", "status": "running", "error_msg": null}]}), "pending");
    check(
        json!({"data": [{"file_id": "f", "status": "failed", "error_msg": "bad\nhttps://x y"}]}),
        "failed bad\nhttps://x y",
    );
    check(json!({"data": {"status": "success"}}), "done");
    check(json!({"status": "FAILED"}), "failed ");
    check(json!({"data": []}), "pending");
    check(json!({"data": true}), "pending");
}
