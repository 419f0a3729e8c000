//! Fetching media from servers that mean no good.

use std::io::Write as _;
use std::process::Command;
use std::time::Duration;

use http::HeaderValue;
use http_body_util::BodyExt as _;

use crate::files::blob::MEMORY_BYTES_MAX;
use crate::upstream::MediaFetch;
use crate::upstream::media::fetch::{FetchError, Fetched, MediaFetcher, Patience};
use crate::upstream::tests::server::{Server, answer};

const LIMIT: u64 = 4 * 1024 * 1024;
const SECOND: Duration = Duration::from_secs(1);

fn fetcher(rules: &str, own: &[(String, u16)]) -> MediaFetcher {
    let patience = Patience { connect: 5 * SECOND, idle: 5 * SECOND };
    MediaFetcher::with_patience(MediaFetch::parse(rules).unwrap(), own, patience).unwrap()
}

/// Fetches from a server that the owner listed.
async fn fetch(server: &Server, path: &str) -> Result<Fetched, FetchError> {
    let dir = tempfile::tempdir().unwrap();
    let rules = format!("public,{}", server.address);
    fetcher(&rules, &[]).fetch(&format!("http://{}{path}", server.address), LIMIT, dir.path(), 20 * SECOND).await
}

fn text(outcome: Result<Fetched, FetchError>) -> String {
    outcome.unwrap_err().to_string()
}

#[tokio::test]
async fn a_file() {
    let body: Vec<u8> = (0..MEMORY_BYTES_MAX * 3).map(|at| u8::try_from(at % 251).unwrap()).collect();
    for body in [b"GIF89a".to_vec(), Vec::new(), body] {
        let content = body.clone();
        let server = Server::answering(move |_, _| answer(200, &[("content-type", "image/gif")], &content));
        let fetched = fetch(&server, "/a/b%20c.gif?key=x").await.unwrap();
        assert_eq!(fetched.name.as_deref(), Some("b_c.gif"));
        assert_eq!(fetched.content.len(), body.len() as u64);
        assert_eq!(fetched.content.in_memory().is_some(), body.len() <= MEMORY_BYTES_MAX);
        assert!(fetched.content.head(body.len()).unwrap() == body);
        let seen = &server.seen()[0];
        assert_eq!(seen.target, "/a/b%20c.gif?key=x");
        assert_eq!(seen.header("user-agent"), concat!("qwen-bridge/", env!("CARGO_PKG_VERSION")));
        assert_eq!(seen.header("accept-encoding"), "identity");
        for name in ["cookie", "authorization", "referer", "origin"] {
            assert_eq!(seen.header(name), "", "{name}");
        }
    }
}

#[tokio::test]
async fn who_may_be_reached() {
    let server = Server::answering(|_, _| answer(200, &[], b"x"));
    let url = format!("http://{}/x", server.address);
    let named = format!("http://localhost:{}/x", server.address.port());
    let dir = tempfile::tempdir().unwrap();
    for rules in ["off", "public", "*.example.com", "127.0.0.1", "127.0.0.1:1"] {
        // Callers must not reach the host of the upstream's results.
        let fetcher = fetcher(rules, &[("127.0.0.1".to_owned(), server.address.port())]);
        for url in [&url, &named] {
            let error = fetcher.fetch(url, LIMIT, dir.path(), 5 * SECOND).await.unwrap_err();
            assert!(matches!(error, FetchError::Refused(_)), "{rules}: {error:?}");
        }
    }
    assert!(server.calls().is_empty());
    let rules = format!("localhost:{}", server.address.port());
    fetcher(&rules, &[]).fetch(&named, LIMIT, dir.path(), 5 * SECOND).await.unwrap();
    assert_eq!(server.calls().len(), 1);
}

#[test]
fn what_counts_as_a_result() {
    let fetcher = fetcher("public", &[("127.0.0.1".to_owned(), 9000)]);
    for (url, expected) in [
        ("https://cdn.qwenlm.ai/output/u/t2i/r/1.png?key=x", true),
        ("https://cdn.qwenlm.ai/x.png", true),
        ("http://cdn.qwenlm.ai/output/u/t2i/r/1.png?key=x", false),
        ("https://cdn.qwenlm.ai.example.com/output/x.png?key=x", false),
        ("http://127.0.0.1:9000/output/u/t2i/r/1.png", true),
        ("http://127.0.0.1:9000/results/1.png?key=x", true),
        ("http://127.0.0.1:9000/static/favicon.png", false),
        ("http://127.0.0.1:9000/", false),
        ("http://127.0.0.1:9001/output/u/t2i/r/1.png?key=x", false),
        ("/output/1.png?key=x", false),
    ] {
        assert_eq!(fetcher.is_own_link(url), expected, "{url}");
    }
}

#[tokio::test]
async fn redirects() {
    let elsewhere = Server::answering(|_, _| answer(200, &[], b"secret"));
    let target = format!("http://{}/", elsewhere.address);
    let check = async |location: String, words: &str| {
        let shown = location.clone();
        let server = Server::answering(move |_, _| answer(302, &[("location", &location)], b""));
        let error = fetch(&server, "/").await.unwrap_err();
        assert_eq!(error.to_string(), words, "{shown}");
    };
    check(target, "refused: the port is neither 80 nor 443").await;
    check("http://127.0.0.1/".to_owned(), "refused: the address is not a public one").await;
    check("//169.254.169.254/latest/meta-data/".to_owned(), "refused: the address is not a public one").await;
    check("http://[::1]/".to_owned(), "refused: the address is not a public one").await;
    check("http://localhost/".to_owned(), "refused: the host's name is a private one").await;
    check("file:///etc/passwd".to_owned(), "refused: the scheme is neither http nor https").await;
    check("http://u:p@example.com/".to_owned(), "refused: the address has a user in it").await;
    assert!(elsewhere.calls().is_empty());

    let circle = Server::answering(|_, _| answer(301, &[("location", "/again")], b""));
    assert_eq!(text(fetch(&circle, "/").await), "refused: too many redirects");
    assert_eq!(circle.calls().len(), 4);
    let three = Server::answering(|_, count| match count {
        0..3 => answer(307, &[("location", "next")], b""),
        _ => answer(200, &[], b"there"),
    });
    assert_eq!(fetch(&three, "/a.png").await.unwrap().content.head(9).unwrap(), b"there");
    let nowhere = Server::answering(|_, _| answer(302, &[], b""));
    assert_eq!(text(fetch(&nowhere, "/").await), "answered 302");
}

#[tokio::test]
async fn lengths_and_encodings() {
    let huge = Server::writing(|_, _, stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10737418240\r\n\r\nx");
        std::thread::park();
    });
    assert_eq!(text(fetch(&huge, "/").await), format!("larger than {LIMIT} bytes"));
    let endless = Server::writing(|_, _, stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        while stream.write_all(&[0; 65536]).is_ok() {}
    });
    assert_eq!(text(fetch(&endless, "/").await), format!("larger than {LIMIT} bytes"));
    let exact = Server::answering(|_, _| answer(200, &[], &vec![0; usize::try_from(LIMIT).unwrap()]));
    assert_eq!(fetch(&exact, "/").await.unwrap().content.len(), LIMIT);
    let cut = Server::writing(|_, _, stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx");
    });
    assert_eq!(text(fetch(&cut, "/").await), "cannot be reached");
    for encoding in ["gzip", "br", "zstd", "identity, gzip"] {
        let server = Server::answering(move |_, _| answer(200, &[("content-encoding", encoding)], b"\x1f\x8b\x08"));
        let error = fetch(&server, "/").await.unwrap_err();
        assert!(matches!(error, FetchError::Refused(why) if why.contains("encoded")), "{encoding}: {error:?}");
    }
    let plain = Server::answering(|_, _| answer(200, &[("content-encoding", "Identity")], b"x"));
    fetch(&plain, "/").await.unwrap();
    for status in [204, 206, 304, 404, 500] {
        let server = Server::answering(move |_, _| answer(status, &[], b""));
        let error = fetch(&server, "/").await.unwrap_err();
        assert!(matches!(error, FetchError::Status(told) if told == status), "{error:?}");
    }
}

#[tokio::test]
async fn slow_servers() {
    let silent = Server::writing(|_, _, _| std::thread::park());
    let dir = tempfile::tempdir().unwrap();
    let rules = MediaFetch::parse(&silent.address.to_string()).unwrap();
    let patience = Patience { connect: SECOND, idle: SECOND / 10 };
    let fetcher = MediaFetcher::with_patience(rules, &[], patience).unwrap();
    let error = fetcher.fetch(silent.url().as_str(), LIMIT, dir.path(), 20 * SECOND).await.unwrap_err();
    assert!(matches!(error, FetchError::Timeout), "{error:?}");
    let drip = Server::writing(|_, _, stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n");
        while stream.write_all(b"x").is_ok() {
            std::thread::park_timeout(Duration::from_millis(20));
        }
    });
    let fetcher = self::fetcher(&drip.address.to_string(), &[]);
    let error = fetcher.fetch(drip.url().as_str(), LIMIT, dir.path(), SECOND / 2).await.unwrap_err();
    assert!(matches!(error, FetchError::Timeout), "{error:?}");
}

#[tokio::test]
async fn a_file_that_cannot_be_kept() {
    let server = Server::answering(|_, _| answer(200, &[], &vec![0; 2 * MEMORY_BYTES_MAX]));
    let dir = tempfile::tempdir().unwrap().path().join("gone");
    let url = format!("http://{}/", server.address);
    let error = fetcher(&server.address.to_string(), &[]).fetch(&url, LIMIT, &dir, 5 * SECOND).await.unwrap_err();
    assert!(matches!(error, FetchError::Spool(_)), "{error:?}");
}

#[tokio::test]
async fn results() {
    let server = Server::answering(|seen, _| match seen.header("range") {
        "" => answer(200, &[("content-type", "video/mp4"), ("set-cookie", "a=b"), ("server", "x")], b"0123456789"),
        "bytes=2-4" => answer(206, &[("content-range", "bytes 2-4/10")], b"234"),
        _ => answer(416, &[("content-range", "bytes */10")], b""),
    });
    let url = format!("http://{}/v.mp4?key=x", server.address);
    let fetcher = fetcher("off", &[("127.0.0.1".to_owned(), server.address.port())]);
    let check = async |range: Option<&'static str>, status: u16, headers: &[(&str, &str)], body: &[u8]| {
        let range = range.map(HeaderValue::from_static);
        let opened = fetcher.open_result(&url, range.as_ref()).await.unwrap();
        assert_eq!(opened.status.as_u16(), status);
        let found: Vec<(&str, &str)> =
            opened.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        assert_eq!(found, headers);
        assert_eq!(opened.body.collect().await.unwrap().to_bytes(), body);
    };
    check(None, 200, &[("content-type", "video/mp4"), ("content-length", "10")], b"0123456789").await;
    check(Some("bytes=2-4"), 206, &[("content-length", "3"), ("content-range", "bytes 2-4/10")], b"234").await;
    check(Some("bytes=99-"), 416, &[("content-length", "0"), ("content-range", "bytes */10")], b"").await;

    let picture = fetcher.fetch_result(&url, 10).await.unwrap();
    assert_eq!(&picture[..], b"0123456789");
    assert!(matches!(fetcher.fetch_result(&url, 9).await.unwrap_err(), FetchError::TooLarge { limit: 9 }));
    for page in ["text/html; charset=utf-8", "application/json", "Application/XML"] {
        let server = Server::answering(move |_, _| answer(200, &[("content-type", page)], b"expired"));
        let fetcher = self::fetcher("off", &[("127.0.0.1".to_owned(), server.address.port())]);
        let refused = fetcher.open_result(&format!("http://{}/v.mp4", server.address), None).await;
        assert!(matches!(refused, Err(FetchError::Refused(_))), "{page}");
    }
    let other = Server::answering(|_, _| answer(200, &[], b"x"));
    let error = fetcher.fetch_result(&format!("http://{}/", other.address), 10).await.unwrap_err();
    assert!(matches!(error, FetchError::Refused(_)), "{error:?}");
    assert!(other.calls().is_empty());
}

/// The environment belongs to the whole process, so the part with a proxy in it is a process of its own.
#[tokio::test]
async fn proxies_are_ignored() {
    const TARGET: &str = "FETCH_TEST_TARGET";
    if let Some(target) = std::env::var_os(TARGET) {
        let target = target.into_string().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let fetched = fetcher(&target, &[]).fetch(&format!("http://{target}/"), LIMIT, dir.path(), 5 * SECOND).await;
        assert_eq!(fetched.unwrap().content.head(9).unwrap(), b"direct");
        return;
    }
    let proxy = Server::answering(|_, _| answer(200, &[], b"proxied"));
    let server = Server::answering(|_, _| answer(200, &[], b"direct"));
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "upstream::tests::fetch::proxies_are_ignored"]).env(TARGET, server.address.to_string());
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        child.env(name, proxy.url().as_str());
    }
    child.env_remove("NO_PROXY").env_remove("no_proxy");
    let output = child.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!((server.calls().len(), proxy.calls().len()), (1, 0));
}
