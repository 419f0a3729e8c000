//! Sentences for the owner about an account, in English and in Chinese.

use crate::base::bilingual::Bilingual;
use crate::base::facts::{AccountKind, CoolingReason};
use crate::chat::failure::{Failure, FailureKind};
use crate::gateway::accounts::book::BookError;
use crate::gateway::accounts::error::RefreshError;
use crate::gateway::answer::error::ChatError;
use crate::pool::IdentityReason;
use crate::telemetry::ErrorChain;
use crate::upstream::error::UpstreamErrorKind;

/// Advice about an account in this state.
pub(crate) fn advice(reason: Option<IdentityReason>, kind: AccountKind) -> Bilingual {
    let (en, zh) = match (reason, kind) {
        (None, _) => ("Nothing to do.", "无需处理。"),
        (Some(IdentityReason::LoginNeeded), AccountKind::Web) => {
            ("Log in at chat.qwen.ai again and replace the cookie.", "请在 chat.qwen.ai 重新登录，然后更换 Cookie。")
        }
        (Some(IdentityReason::LoginNeeded), AccountKind::OAuth) => ("Log the account in again.", "请重新登录该账号。"),
        (Some(IdentityReason::LoginNeeded), AccountKind::Key) => {
            ("Replace the key by one that its endpoint accepts.", "请更换为上游接受的密钥。")
        }
        (Some(IdentityReason::Resting(_, CoolingReason::Challenge)), _) => (
            "Open chat.qwen.ai in a browser with this account and pass its check. It is used again after its rest.",
            "请在浏览器中用该账号打开 chat.qwen.ai 并通过验证；休息结束后会恢复使用。",
        ),
        (Some(IdentityReason::Resting(_, CoolingReason::Quota)), _) => (
            "Wait: the upstream's quota is used up and comes back by itself. Another account helps at once.",
            "请等待：上游额度已用完，会自动恢复。添加账号可立即缓解。",
        ),
        (Some(IdentityReason::Resting(_, CoolingReason::Rate)), _) => {
            ("Wait: the upstream asked for a rest after too many requests.", "请等待：请求过多，上游要求暂停一段时间。")
        }
        (Some(IdentityReason::Resting(_, CoolingReason::Owner)), _) => {
            ("You sent it to rest. Wake it to use it at once.", "您已让它休息；唤醒后立即可用。")
        }
        (Some(IdentityReason::Tripped | IdentityReason::Probing), _) => {
            ("It failed several times in a row and is tried again by itself.", "连续多次失败，稍后会自动重试。")
        }
        (Some(IdentityReason::Refused), _) => (
            "The upstream refuses it although its token is fresh. Test it, and log in again if that does not help.",
            "令牌有效但上游仍然拒绝。请测试；若无效请重新登录。",
        ),
        (Some(IdentityReason::TokenMissing), _) => {
            ("It has no token yet; one is fetched by itself.", "暂无令牌，会自动获取。")
        }
        (Some(IdentityReason::Failing), _) => ("It failed a few times and is still used.", "有几次失败，仍在使用。"),
    };
    Bilingual::new(en, zh)
}

/// Sentence about the result of asking the upstream about an account.
pub(crate) fn verdict(result: &Result<(), ChatError>) -> Bilingual {
    use UpstreamErrorKind as Kind;
    let error = match result {
        Ok(()) => return Bilingual::new("The account works.", "账号可用。"),
        Err(error) => error,
    };
    if is_refusal(error) {
        return Bilingual::new(
            "The upstream does not accept this login: log in again and paste the new credential.",
            "上游不接受该登录：请重新登录并粘贴新的凭据。",
        );
    }
    let kind = match error {
        ChatError::Upstream { error, .. } => Some(error.kind),
        ChatError::Session(error, _) => error.upstream().map(|error| error.kind),
        _ => None,
    };
    let shown = ErrorChain(error).to_string();
    match kind {
        Some(Kind::Challenged) => Bilingual::new(
            "The upstream wants a human: open chat.qwen.ai in a browser with this account and pass its check.",
            "上游要求人工验证：请在浏览器中用该账号打开 chat.qwen.ai 并通过验证。",
        ),
        Some(Kind::RateLimited | Kind::QuotaExhausted { .. }) => {
            Bilingual::new("The login works; the upstream asks for a rest.", "登录有效，但上游要求暂停一段时间。")
        }
        Some(Kind::Timeout) => Bilingual::new("The upstream did not answer in time.", "上游没有及时响应。"),
        _ => Bilingual::new(format!("The upstream could not be asked: {shown}"), format!("无法向上游查询：{shown}")),
    }
}

/// Whether the upstream says that the login itself is not accepted.
pub(crate) fn is_refusal(error: &ChatError) -> bool {
    match error {
        ChatError::Upstream { error, .. } => {
            matches!(error.kind, UpstreamErrorKind::Unauthorized | UpstreamErrorKind::Forbidden)
        }
        ChatError::Session(error, _) => {
            matches!(error, RefreshError::Refused { .. } | RefreshError::OtherAccount { .. })
        }
        _ => false,
    }
}

/// The failure for a change that the book did not make.
pub(crate) fn refused(error: &BookError) -> Failure {
    let (kind, code, en, zh) = match error {
        BookError::Taken(other) => (
            FailureKind::Conflict,
            "account_exists",
            format!("This account is there already, as {other}. Replace its credential there."),
            format!("该账号已存在：{other}。请在那里更换凭据。"),
        ),
        BookError::OtherAccount(identity) => (
            FailureKind::Conflict,
            "other_account",
            format!("This is the credential of another account than {identity}. Add it as an account of its own."),
            format!("这是另一个账号的凭据，不是 {identity}。请把它作为新账号添加。"),
        ),
        BookError::OfFile(place) => (
            FailureKind::Conflict,
            "account_of_file",
            format!("This account is given in {place}: change it there. The server takes the change up by itself."),
            format!("该账号来自 {place}：请在那里修改，服务会自动生效。"),
        ),
        BookError::Unknown(id) => (
            FailureKind::NotFound,
            "account_not_found",
            format!("There is no account {id}."),
            format!("没有账号 {id}。"),
        ),
        BookError::OtherKind => (
            FailureKind::Invalid,
            "other_kind",
            "This credential is of another kind of account.".to_owned(),
            "凭据与账号类型不符。".to_owned(),
        ),
        BookError::NoEarlierSession(identity) => (
            FailureKind::Conflict,
            "no_earlier_session",
            format!(
                "There is no earlier session of {identity} to go back to: no renewal has changed how it signs in. To use \
                 another login, replace its credential."
            ),
            format!("{identity} 没有可恢复的旧会话：尚无续期改变过它的登录。要使用其他登录，请更换凭据。"),
        ),
        BookError::Label => (
            FailureKind::Invalid,
            "invalid_label",
            format!("The label cannot be used: {error}."),
            "名称须为 1 到 60 个字符，且不含控制字符。".to_owned(),
        ),
        BookError::Full => (
            FailureKind::Conflict,
            "too_many_accounts",
            format!("No more accounts can be added: {error}."),
            "账号数量已达上限。".to_owned(),
        ),
        BookError::Store(_) | BookError::File(_) => (
            FailureKind::Internal,
            "not_written",
            format!("The change was not made: {}.", ErrorChain(error)),
            format!("未能保存修改：{}。", ErrorChain(error)),
        ),
    };
    Failure::bilingual(kind, code, Bilingual::new(en, zh))
}
