//! One sentence about the end of a request and the owner's options, in English and in Chinese.

use serde::Serialize;

use crate::gateway::answer::trace::{History, What};

/// A sentence in both languages of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Advice {
    /// The sentence in English.
    pub en: &'static str,
    /// The same sentence in simplified Chinese.
    pub zh: &'static str,
}

/// The sentence about a request with this outcome. `outcome` is `open`, `ok`, `caller_left` or the code of a failure.
pub(crate) fn advice(outcome: &str, history: &History) -> Advice {
    let failed = history.entries.iter().filter(|entry| matches!(entry.what, What::Failed { was_asked: true, .. }));
    let (en, zh) = match outcome {
        "open" => ("It is being answered.", "正在回答。"),
        "ok" if failed.count() > 0 => (
            "Answered, after another attempt had failed. Look at that account if this happens often.",
            "已回答，但之前有一次尝试失败。若经常发生，请检查对应账号。",
        ),
        "ok" => ("Answered. Nothing to do.", "已回答，无需处理。"),
        "caller_left" => (
            "The client closed the connection before the end. Give it a longer timeout if that was not meant.",
            "客户端在回答结束前断开了连接。若非本意，请调大客户端的超时时间。",
        ),
        _ => return failure(outcome),
    };
    Advice { en, zh }
}

/// The advice for a failure with this code.
fn failure(code: &str) -> Advice {
    let (en, zh) = match code {
        "invalid_api_key" => (
            "The client sent no key or a wrong one. Copy the key of this server into the client.",
            "客户端未发送密钥或密钥错误。请把本服务的密钥填入客户端。",
        ),
        "too_many_wrong_keys" => (
            "This address sent many wrong keys and has to wait. Mend the key in the client first.",
            "该地址多次发送错误密钥，需要等待。请先在客户端改正密钥。",
        ),
        "upstream_unauthorized" => (
            "The upstream refuses the credential that the caller brought. The caller has to log in again.",
            "上游拒绝了调用方自带的凭据，调用方需要重新登录。",
        ),
        "no_available_account" => (
            "No account could answer. Look at the accounts: one that needs a login does not come back by itself.",
            "没有可用账号。请查看账号页：需要登录的账号不会自行恢复。",
        ),
        "upstream_challenge" => (
            "The upstream wants a human: open chat.qwen.ai in a browser with this account and pass its check.",
            "上游要求人工验证：请在浏览器中用该账号打开 chat.qwen.ai 并通过验证。",
        ),
        "rate_limit_exceeded" => (
            "Too many requests in a short time. Wait, send fewer at once, or add an account.",
            "短时间内请求过多。请稍候、减少并发，或添加账号。",
        ),
        "insufficient_quota" | "key_limit_reached" => (
            "The quota is used up. Wait until it returns, add an account, or raise the limit of the key.",
            "额度已用完。请等待恢复、添加账号，或提高该密钥的限额。",
        ),
        "server_busy" => (
            "More requests came at once than are let in. Send fewer at once, or raise MAX_IN_FLIGHT or QUEUE_WAIT.",
            "同时到达的请求超过上限。请减少并发，或调大 MAX_IN_FLIGHT、QUEUE_WAIT。",
        ),
        "model_not_found" => (
            "No upstream has this model. Choose one of /v1/models, or give it an alias with MODEL_MAP.",
            "没有上游提供该模型。请从 /v1/models 中选择，或用 MODEL_MAP 设置别名。",
        ),
        "model_access_denied" | "model_not_allowed" => (
            "The account or the key may not use this model. Choose another one.",
            "该账号或密钥无权使用此模型，请换一个模型。",
        ),
        "context_length_exceeded" | "request_too_large" => (
            "The request is too long. Begin a new conversation, or send fewer and smaller files.",
            "请求过长。请开始新的对话，或减少、缩小文件。",
        ),
        "content_filter" => {
            ("The upstream's content policy refused it. Rephrase the question.", "被上游的内容策略拒绝。请换一种问法。")
        }
        "rejected_by_upstream" => (
            "The upstream did not accept the request. If other requests work, something in this one is at fault.",
            "上游不接受该请求。若其他请求正常，则问题出在此请求本身。",
        ),
        "tool_call_invalid" => (
            "The model called a tool with wrong arguments, twice. Try a stronger model, or fewer tools.",
            "模型两次以错误参数调用工具。请换更强的模型，或减少工具数量。",
        ),
        "structured_output_invalid" => (
            "The model gave no JSON of the wished form, twice. Try a stronger model, or a simpler schema.",
            "模型两次未给出符合要求的 JSON。请换更强的模型，或简化 schema。",
        ),
        "upstream_timeout" => (
            "The upstream did not answer in time. Try again; if it lasts, look at chat.qwen.ai in a browser.",
            "上游未及时回答。请重试；若持续出现，请在浏览器中查看 chat.qwen.ai。",
        ),
        "upstream_error" | "upstream_empty" | "upstream_truncated" => (
            "The upstream failed or broke off. Try again; if it lasts, the site itself may be down.",
            "上游出错或中断。请重试；若持续出现，可能是网站本身故障。",
        ),
        "shutting_down" => ("The server was being stopped. Send it again.", "服务当时正在停止，请重新发送。"),
        "internal_error" => (
            "This is a fault of this server. Its log has more under the same request id; please report it.",
            "这是本服务的故障。日志中同一请求编号处有详情，请反馈给开发者。",
        ),
        "unknown_url" | "method_not_supported" => (
            "The client asked for a path that is not here. The base URL ends in /v1, without anything after it.",
            "客户端请求了不存在的路径。基础地址应以 /v1 结尾，其后不带其他内容。",
        ),
        "embeddings_not_supported" => (
            "Embeddings need an endpoint that has them: name one in QWEN_API_KEYS.",
            "向量嵌入需要支持它的接口：请在 QWEN_API_KEYS 中配置。",
        ),
        _ => (
            "The request is at fault. Its error message, which the client got, names the field and the mend.",
            "请求本身有误。客户端收到的错误信息指明了字段和改法。",
        ),
    };
    Advice { en, zh }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::base::ids::IdentityId;
    use crate::gateway::answer::trace::Entry;

    #[test]
    fn every_sentence_is_there_in_both_languages() {
        let own = include_str!("advice.rs").split("#[cfg(test)]").next().unwrap();
        let codes = own
            .split("        \"")
            .skip(1)
            .filter_map(|rest| rest.split_once('"'))
            .filter(|(_, after)| after.starts_with(" =>") || after.starts_with(" |") || after.starts_with(" if"));
        let codes: Vec<&str> = codes.map(|(code, _)| code).chain(["caller_left", "invalid_value"]).collect();
        assert!(codes.len() > 20, "{codes:?}");
        for code in codes {
            let Advice { en, zh } = advice(code, &History::default());
            assert!(en.is_ascii() && en.ends_with('.') && en.len() > 20, "{code}: {en}");
            let is_chinese = |c: char| ('\u{4e00}'..='\u{9fff}').contains(&c);
            assert!(zh.ends_with('。') && zh.chars().filter(|c| is_chinese(*c)).count() > 3, "{code}: {zh}");
        }
    }

    #[test]
    fn an_answer_after_a_failed_attempt_is_told_apart() {
        let mut history = History::default();
        assert_eq!(advice("ok", &history).en, "Answered. Nothing to do.");
        let what =
            What::Failed { identity: IdentityId::named("a"), was_asked: true, class: "timeout", next: "next_identity" };
        history.entries.push(Entry { at: Duration::ZERO, what });
        assert!(advice("ok", &history).en.contains("another attempt had failed"));
        assert!(advice("upstream_challenge", &history).zh.contains("chat.qwen.ai"));
    }
}
