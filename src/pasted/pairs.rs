//! Single cookies, and the `Cookie` header that they make together.

use crate::pasted::words::Mistake;

/// One cookie as a list of cookies gives it.
pub(super) struct Pair {
    pub(super) name: String,
    pub(super) value: String,
    /// The site that it belongs to, where the list says so.
    pub(super) domain: Option<String>,
}

impl Pair {
    /// A cookie whose site is not told.
    pub(super) fn new(name: &str, value: &str) -> Self {
        Self { name: name.trim().to_owned(), value: value.trim().to_owned(), domain: None }
    }

    /// A cookie of a site.
    pub(super) fn of(domain: &str, name: &str, value: &str) -> Self {
        Self { domain: Some(domain.trim().to_owned()), ..Self::new(name, value) }
    }

    fn is_sendable(&self) -> bool {
        is_cookie_name(&self.name) && self.value.bytes().all(|byte| (0x20..0x7f).contains(&byte) && byte != b';')
    }
}

/// `name=value; name=value` of the cookies that a browser would send to the site. Of two with one name the one of the
/// more special domain is taken. A cookie that no header can carry is left out.
///
/// # Errors
/// None of the cookies belongs to the site.
pub(super) fn header(pairs: Vec<Pair>) -> Result<String, Mistake> {
    let mut sent: Vec<Pair> = Vec::new();
    for pair in pairs.into_iter().filter(|pair| pair.domain.as_deref().is_none_or(is_of_site)) {
        if !pair.is_sendable() {
            continue;
        }
        let rank = |pair: &Pair| pair.domain.as_ref().map_or(0, |domain| domain.trim_start_matches('.').len());
        match sent.iter_mut().find(|known| known.name == pair.name) {
            Some(known) if rank(known) > rank(&pair) => {}
            Some(known) => *known = pair,
            None => sent.push(pair),
        }
    }
    if sent.is_empty() {
        return Err(Mistake::OtherSite);
    }
    let sent: Vec<String> = sent.iter().map(|pair| format!("{}={}", pair.name, pair.value)).collect();
    Ok(sent.join("; "))
}

/// Whether cookies of this domain go to chat.qwen.ai or to auth.qwen.ai, which renews its tokens.
pub(super) fn is_of_site(domain: &str) -> bool {
    let domain = domain.trim_start_matches('.').to_ascii_lowercase();
    domain == SITE || domain.strip_suffix(SITE).is_some_and(|host| host.ends_with('.'))
}

/// Whether the site is known to set a cookie of this name.
pub(super) fn is_known(name: &str) -> bool {
    KNOWN.contains(&name)
}

/// Whether `name` is a token of RFC 9110, as a cookie's name has to be.
pub(super) fn is_cookie_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

const SITE: &str = "qwen.ai";
/// Cookies that chat.qwen.ai has been seen to set.
const KNOWN: &[&str] = &[
    "_bl_uid",
    "acw_sc__v2",
    "acw_tc",
    "atpsida",
    "aui",
    "cna",
    "cnaui",
    "isg",
    "lswusea",
    "qwen-locale",
    "qwen-theme",
    "refresh_token",
    "sca",
    "ssxmod_itna",
    "ssxmod_itna2",
    "tfstk",
    "token",
    "x-ap",
    "x5sec",
    "xlly_s",
];
