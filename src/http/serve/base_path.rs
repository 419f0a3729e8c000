//! `BASE_PATH`: the server below a path, such as `/qwen` behind a proxy that serves other programs as well.

use http::Uri;
use http::uri::PathAndQuery;

/// The paths that are also served at the root, because monitors and platforms ask for them there.
const AT_ROOT: &[&str] = &["/health", "/ready"];

/// The target of a path on a server with a base path.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Inside {
    /// This path of the server's own routes.
    At(Uri),
    /// The base path itself, without the slash at its end.
    Root,
    /// No route: the path is not below the base path.
    Outside,
}

/// Removes the base path from a URI. `base` is empty or like `/a/b`.
pub(crate) fn inside(uri: &Uri, base: &str) -> Inside {
    let path = uri.path();
    if base.is_empty() || AT_ROOT.contains(&path) {
        return Inside::At(uri.clone());
    }
    // Doubled slashes at the beginning come from careless joining.
    let Some(rest) = path.trim_start_matches('/').strip_prefix(base.trim_start_matches('/')) else {
        return Inside::Outside;
    };
    if rest.is_empty() {
        return Inside::Root;
    }
    if !rest.starts_with('/') {
        return Inside::Outside;
    }
    at(uri, rest).map_or(Inside::Outside, Inside::At)
}

/// The URI with another path.
pub(crate) fn at(uri: &Uri, path: &str) -> Option<Uri> {
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(format!("{path}{query}")).ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_inside() {
        let check = |base: &str, path: &str, expected: &str| {
            let found = match inside(&path.parse().unwrap(), base) {
                Inside::At(uri) => uri.to_string(),
                other => format!("{other:?}"),
            };
            assert_eq!(found, expected, "{path} under {base}");
        };
        check("", "/v1/models", "/v1/models");
        check("", "/", "/");
        for base in ["/qwen", "/a/b"] {
            check(base, &format!("{base}/v1/models?a=b"), "/v1/models?a=b");
            check(base, &format!("//{base}/v1/models"), "/v1/models");
            check(base, &format!("{base}//v1/models"), "//v1/models");
            check(base, &format!("{base}/"), "/");
            check(base, &format!("{base}/health"), "/health");
            check(base, base, "Root");
            check(base, &format!("{base}x/v1/models"), "Outside");
            check(base, &format!("{base}/.."), "/..");
            for path in ["/", "/v1/models", "/admin", "/health/detailed", "/QWEN/v1", "*"] {
                check(base, path, "Outside");
            }
            check(base, "/health?x", "/health?x");
            check(base, "/ready", "/ready");
        }
    }
}
