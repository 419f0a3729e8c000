//! The closed lists of forms of a paste and of its mistakes, with sentences in English and in Chinese.

use std::fmt;

use crate::base::bilingual::Bilingual;

/// The form in which a credential was pasted, when it was not a plain Cookie header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// An export of a cookie extension, of a test browser, or an object of cookies or headers.
    Json,
    /// A network recording of a browser (HAR).
    Recording,
    /// "Copy as cURL", for bash or cmd.
    Curl,
    /// A command for `wget`, `http` or `xh`.
    Request,
    /// "Copy as fetch (Node.js)" of the developer tools.
    Fetch,
    /// "Copy as PowerShell" of the developer tools.
    PowerShell,
    /// Netscape's `cookies.txt`, or the cookie table of the developer tools.
    Table,
    /// A block of request headers.
    Block,
    /// `Set-Cookie` headers of an answer.
    SetCookie,
    /// One `name=value` a line.
    Column,
    /// A Cookie header that an editor or a terminal broke into lines.
    Wrapped,
    /// An access token on its own.
    Token,
    /// The credentials of an OAuth account as JSON.
    OAuth,
}

impl Form {
    /// Sentence for a person about the recognised form; `None` is a plain header.
    #[must_use]
    pub(crate) fn told(form: Option<Self>) -> Bilingual {
        let en = form.map_or_else(|| "a Cookie header".to_owned(), |form| form.to_string());
        let zh = match form {
            None => "Cookie 请求头",
            Some(Self::Json) => "JSON",
            Some(Self::Recording) => "网络记录（HAR）",
            Some(Self::Curl) => "cURL 命令",
            Some(Self::Request) => "命令行请求",
            Some(Self::Fetch) => "fetch 调用",
            Some(Self::PowerShell) => "PowerShell 请求",
            Some(Self::Table) => "cookies.txt 或 Cookie 表格",
            Some(Self::Block) => "一组请求头",
            Some(Self::SetCookie) => "Set-Cookie 响应头",
            Some(Self::Column) => "每行一个 Cookie",
            Some(Self::Wrapped) => "被换行拆开的 Cookie 请求头",
            Some(Self::Token) => "访问令牌（token）",
            Some(Self::OAuth) => "OAuth 凭据",
        };
        Bilingual::new(en, zh)
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Json => "JSON",
            Self::Recording => "a network recording (HAR)",
            Self::Curl => "a cURL command",
            Self::Request => "a request of a command line",
            Self::Fetch => "a fetch call",
            Self::PowerShell => "a PowerShell request",
            Self::Table => "a cookies.txt or table of cookies",
            Self::Block => "a block of request headers",
            Self::SetCookie => "Set-Cookie headers",
            Self::Column => "one cookie a line",
            Self::Wrapped => "a Cookie header that is broken into lines",
            Self::Token => "an access token",
            Self::OAuth => "OAuth credentials",
        })
    }
}

/// Reasons why a part of a paste has no credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mistake {
    /// No text, or only comments.
    Empty,
    /// Neither a Cookie header nor any form that is read.
    Unknown,
    /// The source of a web page.
    WebPage,
    /// A key such as `sk-…`.
    ApiKey,
    /// It begins like JSON, and is cut off or broken.
    BrokenJson,
    /// JSON that holds no cookies and no credentials.
    JsonWithoutCookies,
    /// A network recording that browsers made without its cookies.
    RecordingWithoutCookies,
    /// Cookies or a request of another site.
    OtherSite,
    /// A cURL command without a cookie.
    CurlWithoutCookie,
    /// A command for another program without a cookie.
    RequestWithoutCookie,
    /// A `fetch` call without a cookie, as for a browser.
    FetchWithoutCookie,
    /// A `PowerShell` request without a cookie.
    PowerShellWithoutCookie,
    /// A block of headers without the header `Cookie`.
    BlockWithoutCookie,
    /// More accounts than one text may hold.
    TooMany,
}

impl Mistake {
    /// The mistake for people, as a whole sentence.
    #[must_use]
    pub(crate) fn told(self) -> Bilingual {
        let en = match self {
            Self::Empty => "Nothing was pasted.".to_owned(),
            Self::TooMany => "This holds more accounts than one text may hold.".to_owned(),
            other => format!("This {other}."),
        };
        let zh = match self {
            Self::Empty => "没有粘贴任何内容。",
            Self::Unknown => "这不是 Cookie 请求头（应为 名称=值; 名称=值），也不是其他可识别的格式。",
            Self::WebPage => "这是网页源代码，不是 Cookie。",
            Self::ApiKey => "这是 API 密钥，不是 chat.qwen.ai 的 Cookie；请把它写入 QWEN_API_KEYS。",
            Self::BrokenJson => "内容以 JSON 开头，但不完整或无法解析。",
            Self::JsonWithoutCookies => "JSON 里没有 chat.qwen.ai 的 Cookie。",
            Self::RecordingWithoutCookies => {
                "网络记录里没有 chat.qwen.ai 的 Cookie：浏览器导出时会去掉它们，请改用“复制为 cURL”，或导出包含敏感数据的 HAR。"
            }
            Self::OtherSite => "这是其他网站的内容，里面没有 chat.qwen.ai 的 Cookie。",
            Self::CurlWithoutCookie => "这条 cURL 命令里没有 Cookie。",
            Self::RequestWithoutCookie => "这条命令里没有 Cookie 请求头。",
            Self::FetchWithoutCookie => {
                "这个 fetch 调用里没有 Cookie（浏览器会去掉它）；请改用“复制为 cURL”或“复制为 fetch（Node.js）”。"
            }
            Self::PowerShellWithoutCookie => "这条 PowerShell 请求里没有 Cookie。",
            Self::BlockWithoutCookie => "这组请求头里没有 Cookie。",
            Self::TooMany => "内容里的账号太多。",
        };
        Bilingual::new(en, zh)
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "is empty",
            Self::Unknown => "is not a Cookie header (expected name=value; name=value)",
            Self::WebPage => "is the source of a web page and not a cookie",
            Self::ApiKey => "is an API key and not a cookie of chat.qwen.ai; keys belong into QWEN_API_KEYS",
            Self::BrokenJson => "begins like JSON and cannot be read as such",
            Self::JsonWithoutCookies => "is JSON without cookies of chat.qwen.ai",
            Self::RecordingWithoutCookies => {
                "is a network recording without cookies of chat.qwen.ai, which browsers leave out; copy as cURL, or export the \
                 HAR with sensitive data"
            }
            Self::OtherSite => "has no cookie of chat.qwen.ai: it is of another site",
            Self::CurlWithoutCookie => "is a cURL command without a cookie",
            Self::RequestWithoutCookie => "is a request without a Cookie header",
            Self::FetchWithoutCookie => {
                "is a fetch call without a cookie, which browsers leave out; copy as cURL, or as fetch for Node.js"
            }
            Self::PowerShellWithoutCookie => "is a PowerShell request without a cookie",
            Self::BlockWithoutCookie => "is a block of headers without a Cookie header",
            Self::TooMany => "has more accounts than one text may hold",
        })
    }
}
