//! The usual text and the effective status of each error code of the upstream.

/// The text that goes with a code.
pub(crate) fn details_of(code: &str) -> &'static str {
    known(code).1
}

/// The `x-actual-status-code` that goes with a code.
pub(crate) fn status_of(code: &str) -> u16 {
    known(code).0
}

/// The text of a rate limit with a place for the hours.
pub(crate) const RATE_TEMPLATE: &str = "You've reached the upper limit for today's usage. Try again in {{num}} hours.";

/// For input that the model does not accept.
pub(crate) const INVALID_INPUT: &str = "输入或附件无效。请检查后重试。";

/// For a session that was revoked.
pub(crate) const REVOKED: &str = "令牌已撤销，请重新登录";

/// For an access token that has expired.
pub(crate) const EXPIRED: &str = "Token has expired, please log in again.";

/// For a chat that does not exist or belongs to another account.
pub(crate) const CHAT_GONE: &str = "This chat has been deleted. Please start a new chat to continue.";

fn known(code: &str) -> (u16, &'static str) {
    match code {
        "RateLimited" => (429, "You've reached the upper limit for today's usage."),
        "ParallelLimited" => (429, "Too many answers at the same time."),
        "Too_Many_Requests" => (429, "Too many requests."),
        "quotaLimited" | "ExceedLimit" | "quota_exhausted" => (429, "The quota is used up."),
        "RequestValidationError" => (400, "[\"Field 'chat_id': Field required\"]"),
        "PARENT_NOT_FOUND" => (404, "parent_id does not exist"),
        "CHAT_NOT_FOUND" => (404, CHAT_GONE),
        "Not_Found" => (404, "Not found"),
        "unauthorized" => (401, EXPIRED),
        "Unauthorized" => (401, "401 Unauthorized"),
        "Forbidden" => (403, "Forbidden"),
        "invalid_input" => (400, INVALID_INPUT),
        "data_inspection_failed" => (400, "内容安全警告：输入数据可能包含不适当的内容！"),
        "codeadapter" => (500, "connection failed"),
        "internal_error" | "Internal_Server_Error" => (500, "Internal Error"),
        _ => (400, "Internal error!"),
    }
}

/// A refusal of the object storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OssError {
    pub(crate) status: u16,
    pub(crate) code: &'static str,
    pub(crate) message: &'static str,
}

impl OssError {
    pub(crate) const ACCESS_DENIED: Self =
        Self { status: 403, code: "AccessDenied", message: "You have no right to access this object." };
    pub(crate) const SIGNATURE: Self = Self {
        status: 403,
        code: "SignatureDoesNotMatch",
        message: "The request signature we calculated does not match the signature you provided. Check your key and \
                  signing method.",
    };
    pub(crate) const SKEWED: Self = Self {
        status: 403,
        code: "RequestTimeTooSkewed",
        message: "The difference between the request time and the current time is too large.",
    };
    pub(crate) const TOKEN_EXPIRED: Self =
        Self { status: 403, code: "SecurityTokenExpired", message: "The security token you provided has expired." };
    pub(crate) const TOKEN_INVALID: Self =
        Self { status: 403, code: "InvalidSecurityToken", message: "The security token you provided is invalid." };
    pub(crate) const NO_SUCH_ACCESS_KEY: Self = Self {
        status: 403,
        code: "InvalidAccessKeyId",
        message: "The OSS Access Key Id you provided does not exist in our records.",
    };
    pub(crate) const INVALID_ARGUMENT: Self =
        Self { status: 400, code: "InvalidArgument", message: "Authorization or a header of it is invalid." };
    pub(crate) const NO_SUCH_KEY: Self =
        Self { status: 404, code: "NoSuchKey", message: "The specified key does not exist." };
}

/// The body of an error of the object storage.
pub(crate) fn oss_error_xml(code: &str, message: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error>\n  <Code>{code}</Code>\n  <Message>{message}</Message>\n  \
         <RequestId>65F1A2B3C4D5E6F708192A3B</RequestId>\n  \
         <HostId>qwen-webui-prod.oss-accelerate.aliyuncs.com</HostId>\n</Error>\n"
    )
}
