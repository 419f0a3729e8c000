//! Routing: the endpoint of a request, by host, method and path.

use http::Method;

use crate::record::SiteHost;
use crate::script::Endpoint;

/// The endpoint of a request; `None` for an unknown path.
pub(crate) fn endpoint_of(host: SiteHost, method: &Method, path: &str) -> Option<Endpoint> {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let path = path.trim_end_matches('/');
    let is_get = method == Method::GET;
    let is_post = method == Method::POST;
    let is_delete = method == Method::DELETE;
    if host == SiteHost::Auth {
        return match path {
            "/api/v2/auths" if is_get => Some(Endpoint::Session),
            "/api/v2/auths/refresh" if is_get => Some(Endpoint::Refresh),
            _ => None,
        };
    }
    match path {
        "/api/v1/auths" if is_get => Some(Endpoint::Auths),
        "/api/models" | "/api/v2/models" if is_get => Some(Endpoint::Models),
        "/api/v2/chats/new" if is_post => Some(Endpoint::NewChat),
        "/api/v2/chats" if is_get => Some(Endpoint::ListChats),
        "/api/v2/chats" if is_delete => Some(Endpoint::DeleteChat),
        "/api/v2/chats/batch_delete" if is_post => Some(Endpoint::DeleteChat),
        "/api/v2/chat/completions" if is_post => Some(Endpoint::Completions),
        "/api/v2/chat/completions/stop" if is_post => Some(Endpoint::Stop),
        "/api/v2/users/status" if is_post => Some(Endpoint::UserStatus),
        "/api/v2/users/user/settings" if is_get => Some(Endpoint::Settings),
        "/api/v2/users/user/settings/update" if is_post => Some(Endpoint::Settings),
        "/api/v2/files/getstsToken" if is_post => Some(Endpoint::Sts),
        "/api/v1/files/getstsToken" if is_post => Some(Endpoint::StsV1),
        "/api/v2/files/parse" if is_post => Some(Endpoint::FileParse),
        "/api/v2/files/parse/status" if is_post => Some(Endpoint::FileParseStatus),
        "/api/v1/oauth2/device/code" if is_post => Some(Endpoint::DeviceCode),
        "/api/v1/oauth2/token" if is_post => Some(Endpoint::DeviceToken),
        "/portal/v1/chat/completions" if is_post => Some(Endpoint::PortalChat),
        "/portal/v1/models" if is_get => Some(Endpoint::PortalModels),
        "/key/v1/chat/completions" if is_post => Some(Endpoint::KeyChat),
        "/key/v1/models" if is_get => Some(Endpoint::KeyModels),
        "/key/v1/embeddings" if is_post => Some(Endpoint::KeyEmbeddings),
        _ if is_get && query.contains("x-oss-signature=") => Some(Endpoint::OssGet),
        _ => endpoint_with_id(method, path),
    }
}

/// Paths that end with an id, and those of other hosts, which answer here as well.
fn endpoint_with_id(method: &Method, path: &str) -> Option<Endpoint> {
    let has_id = |prefix: &str| path.strip_prefix(prefix).is_some_and(|id| !id.is_empty() && !id.contains('/'));
    let is_get = method == Method::GET;
    if has_id("/api/v2/chats/") {
        return match *method {
            Method::GET => Some(Endpoint::ReadChat),
            Method::DELETE => Some(Endpoint::DeleteChat),
            _ => None,
        };
    }
    if path.starts_with("/api/") {
        let is_new = is_get && has_id("/api/v2/task/status/");
        let is_old = is_get && has_id("/api/v1/tasks/status/");
        return is_new.then_some(Endpoint::TaskStatus).or(is_old.then_some(Endpoint::TaskStatusV1));
    }
    if method == Method::PUT {
        return Some(Endpoint::OssPut);
    }
    if is_get && path.starts_with("/output/") {
        return Some(Endpoint::MediaLink);
    }
    None
}
