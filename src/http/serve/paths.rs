//! Paths that mean an endpoint although they are not its own: what is left when a client joins its base URL and the
//! endpoint in another way than it was meant. Pure.

use http::Uri;
use http::uri::PathAndQuery;
use percent_encoding::percent_decode_str;

/// The endpoints under `/v1/`, and whether an id may follow them.
const ENDPOINTS: &[(&str, bool)] = &[
    ("chat/completions", false),
    ("completions", false),
    ("embeddings", false),
    ("images/edits", false),
    ("images/generations", false),
    ("messages", false),
    ("messages/count_tokens", false),
    ("models", true),
    ("responses", true),
    ("videos", true),
];
/// Least similarity (0 to 1) of a path to an endpoint to count as a slip.
const LIKENESS_MIN: f64 = 0.9;

/// A request's address with the path that it means, if that is another than the one it has: doubled slashes, a missing
/// or doubled `/v1`, an endpoint twice or behind another one, a slash or encoded white space at the end.
pub(crate) fn meant(uri: &Uri) -> Option<Uri> {
    let path = canonical(uri.path())?;
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(format!("{path}{query}")).ok()?);
    Uri::from_parts(parts).ok()
}

fn canonical(path: &str) -> Option<String> {
    let given = path.strip_prefix('/')?;
    let mut trimmed = given;
    while let Some(rest) = SPACES.iter().find_map(|space| trimmed.strip_suffix(space)) {
        trimmed = rest;
    }
    let meant = match endpoint_of(without_version(&segments(trimmed))) {
        Some((endpoint, [])) => format!("/v1/{endpoint}"),
        // The segments behind an id may be part of it.
        found => {
            let segments = segments(given);
            let end = if given.ends_with('/') && !segments.is_empty() { "/" } else { "" };
            match (found, endpoint_of(without_version(&segments))) {
                (Some(_), Some((endpoint, rest))) => format!("/v1/{endpoint}/{}{end}", rest.join("/")),
                _ => format!("/{}{end}", segments.join("/")),
            }
        }
    };
    (meant != path).then_some(meant)
}

fn segments(path: &str) -> Vec<&str> {
    path.split('/').filter(|segment| !segment.is_empty()).collect()
}

fn without_version<'a, 'b>(segments: &'a [&'b str]) -> &'a [&'b str] {
    let count = segments.iter().take_while(|segment| **segment == "v1").count();
    segments.get(count..).unwrap_or_default()
}

/// The endpoint that the segments begin with, and what follows it. Of several endpoints in a row the last one counts:
/// the others were part of a base URL.
fn endpoint_of<'a, 'b>(segments: &'a [&'b str]) -> Option<(&'static str, &'a [&'b str])> {
    let begins = |(endpoint, _): &&(&str, bool)| {
        let mut given = segments.iter();
        endpoint.split('/').all(|wanted| given.next() == Some(&wanted))
    };
    let longest = ENDPOINTS.iter().filter(begins).max_by_key(|(endpoint, _)| endpoint.len())?;
    let (endpoint, has_ids) = *longest;
    let rest = segments.get(endpoint.split('/').count()..).unwrap_or_default();
    match endpoint_of(without_version(rest)) {
        Some((next, rest)) if !has_ids || next == endpoint => Some((next, rest)),
        _ => Some((endpoint, rest)),
    }
}

/// The endpoint that an unknown path may have been meant for.
pub(crate) fn nearest(path: &str) -> Option<String> {
    let lower = percent_decode_str(path).decode_utf8_lossy().to_ascii_lowercase();
    let trimmed = lower.trim_end_matches(|c: char| c == '/' || c.is_whitespace());
    let inside = ENDPOINTS
        .iter()
        .filter(|(endpoint, _)| trimmed.strip_suffix(endpoint).is_some_and(|before| before.ends_with('/')));
    let longest = inside.max_by_key(|(endpoint, _)| endpoint.len()).map(|(endpoint, _)| format!("/v1/{endpoint}"));
    longest.filter(|endpoint| endpoint != path).or_else(|| {
        let likeness = |(endpoint, _): &(&str, bool)| {
            let endpoint = format!("/v1/{endpoint}");
            (strsim::normalized_levenshtein(trimmed, &endpoint), endpoint)
        };
        let (likeness, endpoint) =
            ENDPOINTS.iter().map(likeness).max_by(|(one, _), (other, _)| one.total_cmp(other))?;
        (likeness >= LIKENESS_MIN && endpoint != trimmed).then_some(endpoint)
    })
}

/// White space that is pasted behind an address.
const SPACES: &[&str] = &["%20", "%0a", "%0A", "%0d", "%0D"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_path_means() {
        let check = |path: &str, expected: &str| {
            let uri: Uri = path.parse().unwrap();
            let meant = meant(&uri).map_or_else(|| path.to_owned(), |uri| uri.to_string());
            assert_eq!(meant, expected, "{path}");
        };
        for path in [
            "/",
            "/health",
            "/health/",
            "/v1",
            "/v1/",
            "/admin",
            "/admin/accounts",
            "/auth?account=a//b",
            "/v1/chat/completions",
            "/v1/models/a/b",
            "/v1/models/completions",
            "/v1/models/qwen3-max/",
            "/v1/models/qwen3-max%20",
            "/v1/responses/resp_1/input_items",
            "/v1/videos/video_1/content",
            "/v1/messages/nowhere",
            "/v1/messages/count_tokens",
            "/v1/messagesx",
            "/V1/Chat/Completions",
            "/api/v1/chat/completions",
            "http://evil.example/v1/models",
            "*",
        ] {
            check(path, path);
        }
        let chat = "/v1/chat/completions";
        for path in [
            "/v1//chat/completions",
            "//v1/chat//completions",
            "/chat/completions",
            "/v1/v1/chat/completions",
            "/v1/chat/completions/",
            "/v1/chat/completions/chat/completions",
            "/v1/chat/completions/v1/chat/completions",
            "/chat/completions/chat/completions/chat/completions/",
            "/v1/completions/chat/completions",
            "/v1/chat/completions%20",
            "/v1/chat/completions%0D%0A",
        ] {
            check(path, chat);
        }
        check("/v1//chat/completions?a=b//c", "/v1/chat/completions?a=b//c");
        check("/models", "/v1/models");
        check("/v1/chat/completions/models", "/v1/models");
        check("/models/qwen3-max", "/v1/models/qwen3-max");
        check("/v1/messages/v1/messages", "/v1/messages");
        check("/v1/messages/v1/messages/count_tokens", "/v1/messages/count_tokens");
        check("/v1/responses/responses", "/v1/responses");
        check("/v1/responses/responses/resp_1", "/v1/responses/resp_1");
        check("//health", "/health");
        check("//admin//accounts", "/admin/accounts");
        check("///", "/");
    }

    #[test]
    fn the_nearest_endpoint() {
        let check = |path: &str, expected: Option<&str>| assert_eq!(nearest(path).as_deref(), expected, "{path}");
        check("/api/v1/chat/completions", Some("/v1/chat/completions"));
        check("/openai/deployments/qwen3-max/chat/completions", Some("/v1/chat/completions"));
        check("/V1/Chat/Completions/", Some("/v1/chat/completions"));
        check("/v1/chat/completion", Some("/v1/chat/completions"));
        check("/v1/embedding", Some("/v1/embeddings"));
        check("/v1/chat%2Fcompletions", Some("/v1/chat/completions"));
        check("/v1/chat/completions%09", Some("/v1/chat/completions"));
        check("/v1/models/chat/completions", Some("/v1/chat/completions"));
        check("/v1/audio/speech", None);
        check("/health/", None);
        check("/x", None);
    }
}
