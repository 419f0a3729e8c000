//! What the upstream obeys.

use std::collections::BTreeMap;
use std::time::Duration;

use url::Url;

/// Where the web chat is and how patient we are with it.
#[derive(Clone, Debug)]
pub struct WebSettings {
    /// `QWEN_WEB_BASE_URL`, `https://chat.qwen.ai`; without a path.
    pub web_base: Url,
    /// `QWEN_AUTH_BASE_URL`, `https://auth.qwen.ai`; without a path.
    pub auth_base: Url,
    /// `QWEN_OSS_BASE_URL`: where uploads go; absent: to the host that the upstream names for each.
    pub oss_base: Option<Url>,
    /// `QWEN_WEB_HEADERS`: headers that replace or join the default set, by lower-case name.
    pub headers: BTreeMap<String, String>,
    /// `CONNECT_TIMEOUT`, 10 s.
    pub connect_timeout: Duration,
    /// `FIRST_EVENT_TIMEOUT`, 60 s; doubled for thinking and search.
    pub first_event_timeout: Duration,
    /// `IDLE_TIMEOUT`, 120 s.
    pub idle_timeout: Duration,
    /// `TOTAL_TIMEOUT`, 600 s.
    pub total_timeout: Duration,
}
