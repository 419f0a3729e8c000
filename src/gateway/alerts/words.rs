//! The messages to the owner about a condition, in English and Chinese, and as facts for programs.

use serde_json::json;

use crate::base::ids::UnixSeconds;
use crate::gateway::alerts::conditions::{AlertKind, News};
use crate::upstream::webhook::WebhookText;

/// The message of one piece of news.
#[must_use]
pub(crate) fn message(news: &News, now: UnixSeconds) -> WebhookText {
    let of = &news.trouble.of;
    let (title, english, chinese) = if news.is_over { over(news) } else { begun(news.trouble.kind, of) };
    let title = format!("qwen-bridge: {title}");
    let text = format!("{english}\n{chinese}");
    let account = match news.trouble.kind {
        AlertKind::LoginNeeded | AlertKind::EndsSoon | AlertKind::Challenge => Some(of),
        AlertKind::QuotaGone | AlertKind::Drift | AlertKind::StateNotWritable => None,
    };
    let facts = json!({
        "service": "qwen-bridge",
        "event": news.trouble.kind.as_str(),
        "state": if news.is_over { "over" } else { "begun" },
        "account": account,
        "subject": of,
        "title": title,
        "message": english,
        "message_zh": chinese,
        "since": news.since.0,
        "at": now.0,
    });
    WebhookText { title, text, facts }
}

/// A title, a sentence in English and one in Chinese.
type Words = (String, String, String);

fn begun(kind: AlertKind, of: &str) -> Words {
    match kind {
        AlertKind::LoginNeeded => (
            format!("{of} needs a login"),
            format!(
                "The upstream refuses the login of {of}, so that it is not used. Log in to that account again and give the \
                 server its new cookie or login."
            ),
            format!("上游拒绝了 {of} 的登录，该账号已停用。请重新登录该账号，并更新 Cookie 或登录凭据。"),
        ),
        AlertKind::EndsSoon => (
            format!("the session of {of} ends within 72 hours"),
            format!(
                "The session of {of} ends within 72 hours, and nothing can renew it. Log in again and paste the whole Cookie \
                 header."
            ),
            format!("{of} 的会话将在 72 小时内过期，且无法自动续期。请重新登录并粘贴完整的 Cookie。"),
        ),
        AlertKind::Challenge => (
            format!("the upstream wants a human at {of}"),
            format!(
                "The upstream wants a human at {of}, which rests until then. Open chat.qwen.ai in a browser with that account \
                 and pass its check."
            ),
            format!("上游要求对 {of} 进行人机验证，该账号暂停使用。请用该账号在浏览器中打开 chat.qwen.ai 完成验证。"),
        ),
        AlertKind::QuotaGone => (
            format!("the quota of all {of} accounts is used up"),
            format!("The upstream's quota of chats is used up on every account of the kind {of}. They rest until it is renewed."),
            format!("所有 {of} 类账号的对话额度均已用完，将在额度恢复后继续使用。"),
        ),
        AlertKind::Drift => (
            "the upstream's protocol has changed".to_owned(),
            format!(
                "The upstream sent something that this version does not know: {of}. Answers go on; look for a newer version of \
                 qwen-bridge."
            ),
            format!("上游发送了此版本无法识别的内容：{of}。服务仍可继续使用，请留意 qwen-bridge 的新版本。"),
        ),
        AlertKind::StateNotWritable => (
            "the state cannot be written".to_owned(),
            "The state folder cannot be written. The newest state is in memory and is lost when the server stops; /health says \
             why."
                .to_owned(),
            "状态目录无法写入。最新状态仅保存在内存中，服务停止后将丢失；原因见 /health。".to_owned(),
        ),
    }
}

fn over(news: &News) -> Words {
    let of = &news.trouble.of;
    match news.trouble.kind {
        AlertKind::LoginNeeded => (
            format!("{of} is logged in"),
            format!("The login of {of} is not refused any more."),
            format!("{of} 的登录已恢复。"),
        ),
        AlertKind::EndsSoon => (
            format!("the session of {of} goes on"),
            format!("The session of {of} does not end within 72 hours any more."),
            format!("{of} 的会话不会在 72 小时内过期了。"),
        ),
        AlertKind::Challenge => (
            format!("{of} is used again"),
            format!("The upstream does not ask for a human at {of} any more."),
            format!("上游不再要求对 {of} 进行人机验证，该账号已恢复使用。"),
        ),
        AlertKind::QuotaGone => (
            format!("{of} accounts have quota again"),
            format!("At least one account of the kind {of} has quota again."),
            format!("{of} 类账号已恢复额度。"),
        ),
        AlertKind::Drift => ("the upstream's protocol".to_owned(), of.clone(), of.clone()),
        AlertKind::StateNotWritable => (
            "the state can be written again".to_owned(),
            "The state folder can be written again; what was in memory has been written.".to_owned(),
            "状态目录已可写入，内存中的状态已保存。".to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::alerts::conditions::Trouble;

    #[test]
    fn a_title_can_be_a_header_and_names_the_account() {
        for word in ["login_needed", "session_ends_soon", "challenge", "quota_gone", "drift", "state_not_writable"] {
            for is_over in [false, true] {
                let kind = AlertKind::of(word).unwrap();
                let trouble = Trouble { kind, of: "identity-1".to_owned() };
                let text = message(&News { trouble, since: UnixSeconds(5), is_over }, UnixSeconds(9));
                assert!(text.title.is_ascii() && text.title.len() < 100, "{}", text.title);
                assert!(text.text.contains('\n'), "{}", text.text);
                assert_eq!(text.facts["event"], word);
                assert_eq!(text.facts["since"], 5);
            }
        }
    }
}
