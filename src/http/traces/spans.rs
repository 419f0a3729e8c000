//! A request that has ended, as spans: one for the request, with children for the waits and attempts inside.

use std::time::{Duration, SystemTime};

use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use crate::base::caller_key::KeyName;
use crate::base::ids::IdentityId;
use crate::gateway::answer::trace::What;
use crate::gateway::requests::EndedRequest;

/// The spans of one request, the request's own first. `new_id` gives random numbers that are not zero.
pub(super) fn spans(request: &EndedRequest, new_id: &mut impl FnMut() -> u64) -> Vec<SpanData> {
    let parent = request.head.parent;
    let trace_id = parent.map_or_else(
        || TraceId::from(u128::from(new_id()) << 64 | u128::from(new_id())),
        |parent| TraceId::from(parent.trace),
    );
    let mut make = Maker { trace_id, began: request.head.came_at, root: SpanId::from(new_id()), new_id };
    let head = &request.head;
    let mut attributes = vec![
        KeyValue::new("http.request.method", head.method.clone()),
        KeyValue::new("http.route", head.route.clone()),
        KeyValue::new("http.response.status_code", i64::from(request.status)),
        KeyValue::new("qwen_bridge.request_id", head.id.clone()),
        KeyValue::new("qwen_bridge.outcome", request.outcome),
        KeyValue::new("qwen_bridge.stream", head.is_streamed),
    ];
    let optional = [
        ("qwen_bridge.key", head.key.as_ref().map(KeyName::to_string)),
        ("gen_ai.request.model", head.model.clone()),
        ("qwen_bridge.account", request.history.account.as_ref().map(|(_, identity)| identity.to_string())),
    ];
    attributes.extend(optional.into_iter().filter_map(|(name, value)| Some(KeyValue::new(name, value?))));
    let tokens = request.history.tokens;
    if tokens.prompt > 0 {
        let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        attributes.push(KeyValue::new("gen_ai.usage.input_tokens", count(tokens.prompt)));
        attributes.push(KeyValue::new("gen_ai.usage.output_tokens", count(tokens.completion)));
    }
    let status = match request.status {
        500.. => Status::error(request.outcome),
        _ => Status::Unset,
    };
    let root = SpanData {
        parent_span_id: parent.map_or(SpanId::INVALID, |parent| SpanId::from(parent.span)),
        parent_span_is_remote: parent.is_some(),
        span_kind: SpanKind::Server,
        status,
        span_context: make.context(make.root),
        ..make.span(format!("{} {}", head.method, head.route), (Duration::ZERO, request.total), attributes)
    };
    let mut all = vec![root];
    children(request, &mut make, &mut all);
    all
}

/// The spans inside of a request.
fn children(request: &EndedRequest, make: &mut Maker<'_, impl FnMut() -> u64>, all: &mut Vec<SpanData>) {
    // An attempt begins when what was needed for it is there.
    let mut ready = Duration::ZERO;
    for entry in &request.history.entries {
        let at = entry.at;
        let account = |identity: &IdentityId| KeyValue::new("qwen_bridge.account", identity.to_string());
        match &entry.what {
            What::Chosen { identity, waited } => {
                all.push(make.child("lease", (at.saturating_sub(*waited), at), vec![account(identity)]));
                ready = at;
            }
            What::NoAccount { kind, waited } => {
                let kind = KeyValue::new("qwen_bridge.account.kind", kind.as_str());
                let lease = make.child("lease", (at.saturating_sub(*waited), at), vec![kind]);
                all.push(SpanData { status: Status::error("no account"), ..lease });
            }
            What::Token { identity, took, is_usable } => {
                let refresh = make.child("refresh", (at.saturating_sub(*took), at), vec![account(identity)]);
                let status = if *is_usable { Status::Unset } else { Status::error("no usable token") };
                all.push(SpanData { status, ..refresh });
                ready = at;
            }
            What::Files { count, took } => {
                let count = KeyValue::new("qwen_bridge.files", i64::try_from(*count).unwrap_or(i64::MAX));
                all.push(make.child("upload", (at.saturating_sub(*took), at), vec![count]));
            }
            What::Failed { identity, was_asked: true, class, next } => {
                let attributes = vec![
                    account(identity),
                    KeyValue::new("error.type", *class),
                    KeyValue::new("qwen_bridge.next", *next),
                ];
                let attempt = make.child("attempt", (ready, at), attributes);
                all.push(SpanData { status: Status::error(*class), span_kind: SpanKind::Client, ..attempt });
                ready = at;
            }
            What::Answered { identity } => {
                let attempt = make.child("attempt", (ready, request.total), vec![account(identity)]);
                all.push(SpanData { span_kind: SpanKind::Client, ..attempt });
            }
            What::FirstContent => all.push(make.child("first_token", (Duration::ZERO, at), Vec::new())),
            What::Understood { .. }
            | What::Failed { was_asked: false, .. }
            | What::PassedOver { .. }
            | What::Continued { .. }
            | What::NotContinued { .. }
            | What::ToolsInText
            | What::AskedAgain { .. } => {}
        }
    }
}

/// Makes the spans of one request.
struct Maker<'a, F> {
    trace_id: TraceId,
    began: SystemTime,
    root: SpanId,
    new_id: &'a mut F,
}

impl<F: FnMut() -> u64> Maker<'_, F> {
    fn context(&self, span: SpanId) -> SpanContext {
        SpanContext::new(self.trace_id, span, TraceFlags::SAMPLED, false, TraceState::NONE)
    }

    /// A span inside of the request, from one moment of it to another.
    fn child(&mut self, name: &'static str, times: (Duration, Duration), attributes: Vec<KeyValue>) -> SpanData {
        let id = SpanId::from((self.new_id)());
        SpanData {
            span_context: self.context(id),
            parent_span_id: self.root,
            ..self.span(name.to_owned(), times, attributes)
        }
    }

    fn span(&self, name: String, (from, to): (Duration, Duration), attributes: Vec<KeyValue>) -> SpanData {
        SpanData {
            span_context: SpanContext::NONE,
            parent_span_id: SpanId::INVALID,
            parent_span_is_remote: false,
            span_kind: SpanKind::Internal,
            name: name.into(),
            start_time: self.began + from,
            end_time: self.began + to.max(from),
            attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: InstrumentationScope::builder("qwen-bridge")
                .with_version(env!("CARGO_PKG_VERSION"))
                .build(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::facts::AccountKind;
    use crate::gateway::answer::trace::{Entry, History};
    use crate::gateway::requests::{RequestHead, SpanParent};

    fn request(parent: Option<SpanParent>) -> EndedRequest {
        let identity = IdentityId::named("a");
        let at = |ms, what| Entry { at: Duration::from_millis(ms), what };
        let entries = vec![
            at(10, What::Chosen { identity: identity.clone(), waited: Duration::from_millis(4) }),
            at(30, What::Token { identity: identity.clone(), took: Duration::from_millis(20), is_usable: true }),
            at(
                50,
                What::Failed { identity: identity.clone(), was_asked: true, class: "timeout", next: "next_identity" },
            ),
            at(51, What::Chosen { identity: identity.clone(), waited: Duration::ZERO }),
            at(80, What::FirstContent),
            at(81, What::Answered { identity: identity.clone() }),
        ];
        let mut history = History::default();
        (history.entries, history.account) = (entries, Some((AccountKind::Web, identity)));
        EndedRequest {
            head: RequestHead {
                method: "POST".to_owned(),
                route: "/v1/messages".to_owned(),
                parent,
                ..RequestHead::default()
            },
            status: 200,
            outcome: "ok",
            total: Duration::from_millis(100),
            history,
        }
    }

    #[test]
    fn waits_and_attempts_are_children_of_the_request() {
        let mut number = 0;
        let all = spans(&request(None), &mut || {
            number += 1;
            number
        });
        let shown: Vec<String> = all
            .iter()
            .map(|span| {
                let ms = |at: SystemTime| at.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
                let is_child = span.parent_span_id == all[0].span_context.span_id();
                format!(
                    "{} {}-{} child={is_child} {:?}",
                    span.name,
                    ms(span.start_time),
                    ms(span.end_time),
                    span.status
                )
            })
            .collect();
        insta::assert_snapshot!(shown.join("\n"), @r#"
        POST /v1/messages 0-100 child=false Unset
        lease 6-10 child=true Unset
        refresh 10-30 child=true Unset
        attempt 30-50 child=true Error { description: "timeout" }
        lease 51-51 child=true Unset
        first_token 0-80 child=true Unset
        attempt 51-100 child=true Unset
        "#);
        let trace = all[0].span_context.trace_id();
        assert!(all.iter().all(|span| span.span_context.trace_id() == trace && span.span_context.is_valid()));
    }

    #[test]
    fn the_callers_own_trace_goes_on() {
        let all = spans(&request(Some(SpanParent { trace: 7, span: 9 })), &mut || 1);
        assert_eq!(all[0].parent_span_id, SpanId::from(9));
        assert!(all.iter().all(|span| span.span_context.trace_id() == TraceId::from(7)));
    }
}
