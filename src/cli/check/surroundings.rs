//! Checks beside those of the accounts: the port, folders, proxies, and addresses with a mistake in their path.

use std::net::SocketAddr;
use std::path::Path;

use url::Url;

use crate::config::Config;

/// Paths that stand at the end of an address by mistake: the endpoint is added to a base URL.
const ENDPOINTS: [&str; 6] = ["/chat/completions", "/completions", "/responses", "/messages", "/embeddings", "/models"];

/// Remarks about the surroundings, one sentence each.
pub(super) fn notes(config: &Config) -> Vec<String> {
    let mut notes: Vec<String> = config.proxies.clone();
    notes.extend(port_note(config.http.listen));
    notes.extend(folder_note("QWEN_DIR", &config.accounts.dir));
    let api = config.accounts.api_base.iter().map(|base| ("API_BASE_URL", base));
    let keys = config.static_keys.iter().map(|key| ("QWEN_API_KEYS", &key.base));
    for (name, base) in api.chain(keys) {
        notes.extend(base_hint(base).map(|right| format!("{name} has the address {base}; write {right}")));
    }
    notes
}

/// Whether something listens at this address, usually a server of ours.
pub(super) fn is_taken(listen: SocketAddr) -> bool {
    std::net::TcpListener::bind(listen).is_err_and(|error| error.kind() == std::io::ErrorKind::AddrInUse)
}

/// The fault that keeps a server from listening at an address; usually another one runs already.
fn port_note(listen: SocketAddr) -> Option<String> {
    let error = std::net::TcpListener::bind(listen).err()?;
    Some(format!("cannot listen at {listen} ({}); a server may be running there already", error.kind()))
}

/// A remark about a folder that exists and cannot be written. A missing folder is made when it is needed.
fn folder_note(name: &str, folder: &Path) -> Option<String> {
    #[cfg(unix)]
    {
        use rustix::fs::{Access, access};
        if folder.exists() && access(folder, Access::WRITE_OK | Access::EXEC_OK).is_err() {
            return Some(format!(
                "{name} is {}, which this user cannot write: renewed credentials are kept in memory only",
                folder.display()
            ));
        }
    }
    #[cfg(not(unix))]
    let _ = (name, folder);
    None
}

/// The base URL that was meant by one with `/v1` twice or with an endpoint at its end.
pub(super) fn base_hint(base: &Url) -> Option<String> {
    let path = base.path().trim_end_matches('/');
    let mut right = path;
    for endpoint in ENDPOINTS {
        right = right.strip_suffix(endpoint).unwrap_or(right);
    }
    while let Some(shorter) = right.strip_suffix("/v1").filter(|shorter| shorter.ends_with("/v1")) {
        right = shorter;
    }
    (right != path).then(|| with_path(base, right))
}

fn with_path(base: &Url, path: &str) -> String {
    let mut url = base.clone();
    url.set_path(path);
    url.as_str().trim_end_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_in_base_urls_are_told_with_the_right_one() {
        for (base, right) in [
            ("https://example.org/v1", None),
            ("https://example.org/compatible-mode/v1/", None),
            ("https://example.org", None),
            ("https://example.org/v1/v1", Some("https://example.org/v1")),
            ("https://example.org/v1/v1/v1/", Some("https://example.org/v1")),
            ("https://example.org/v1/chat/completions", Some("https://example.org/v1")),
            ("https://example.org/v1/v1/models", Some("https://example.org/v1")),
            ("https://example.org/api/responses/", Some("https://example.org/api")),
        ] {
            assert_eq!(base_hint(&Url::parse(base).unwrap()).as_deref(), right, "{base}");
        }
    }

    #[test]
    fn a_port_that_is_taken_is_told() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let listen = taken.local_addr().unwrap();
        assert!(port_note(listen).unwrap().contains("already"));
        drop(taken);
        assert_eq!(port_note(listen), None);
    }
}
