//! Answers in the Responses dialect: a stream of typed events, or a whole response.
//!
//! An answer is a list of items: thoughts, messages, calls of tools. A text item ends where another item begins; a call
//! ends when the upstream says so. Ids of items are made of the response's own id and their place.

use bytes::Bytes;

use crate::chat::reply::{Ending, FinishReason, ReplyEvent, ReplySink, Text};
use crate::dialect::responses::events::{
    AnnotationEvent, CallDone, ContentEvent, DeltaOf, Events, ItemEvent, PartEvent, RefusalDone, SummaryDone, TextDone,
};
use crate::dialect::responses::output::{Call, Content, Item, Part, Status};
use crate::dialect::responses::wire::{
    Echo, IncompleteDetails, Response, ResponseError, ResponseUsage, SummaryText, UrlCitation,
};

/// The most tool calls of one answer that are passed on.
const CALLS_MAX: u32 = 256;

/// The fields of a response that are known before its answer begins.
#[derive(Clone, Debug)]
pub(crate) struct ResponseHead {
    /// `resp_` and 32 hexadecimal digits.
    pub id: String,
    /// Creation, in Unix seconds.
    pub created_at: i64,
    /// The model's name as the caller wrote it.
    pub model: String,
    /// The fields that repeat the request.
    pub echo: Echo,
    /// The names of the freeform tools.
    pub freeform: Vec<String>,
}

/// A finished response, successful or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finished {
    /// `completed`, `incomplete` or `failed`.
    pub status: &'static str,
    /// The response as JSON, for the body and for the store.
    pub json: String,
}

/// Puts a response together, and writes its events where it is streamed.
#[derive(Debug)]
pub(crate) struct ResponseReply {
    head: ResponseHead,
    /// `None` for a whole response.
    events: Option<Events>,
    items: Vec<Item>,
    finished: Option<Finished>,
}

impl ResponseReply {
    /// A response that is streamed.
    #[must_use]
    pub(crate) fn streamed(head: ResponseHead) -> Self {
        Self { head, events: Some(Events::default()), items: Vec::new(), finished: None }
    }

    /// A response that is given as a whole.
    #[must_use]
    pub(crate) fn whole(head: ResponseHead) -> Self {
        Self { head, events: None, items: Vec::new(), finished: None }
    }

    /// The first two events of a stream.
    pub(crate) fn head(&mut self) -> Bytes {
        let response = self.json("in_progress", None, None);
        let Some(events) = &mut self.events else { return Bytes::new() };
        events.response("response.created", &response);
        events.response("response.in_progress", &response);
        events.end_head()
    }

    /// Takes the events that are ready; `None` when there are none.
    pub(crate) fn take(&mut self) -> Option<Bytes> {
        self.events.as_mut().and_then(Events::take)
    }

    /// Ends the response and returns it.
    pub(crate) fn finish(&mut self, ending: &Ending) -> &Finished {
        let (status, details) = match ending.reason {
            FinishReason::Stop | FinishReason::ToolCalls => (Status::Completed, None),
            FinishReason::Length => (Status::Incomplete, Some("max_output_tokens")),
            FinishReason::ContentFilter => (Status::Incomplete, Some("content_filter")),
        };
        self.annotate(ending);
        for place in 0..self.items.len() {
            self.close(place, status);
        }
        let details = details.map(|reason| IncompleteDetails { reason });
        let usage = ResponseUsage::from(&ending.usage);
        self.end(status.as_str(), Some((usage, details)), None)
    }

    /// Ends the response with a failure and returns it. `code` is this server's word for the failure; `is_callers`
    /// tells whether the caller is to blame.
    pub(crate) fn fail(&mut self, code: &str, message: &str, is_callers: bool) -> &Finished {
        // Items that broke off get no closing event, but the response shows them as they are.
        for item in &mut self.items {
            if item.status == Status::Open {
                item.status = Status::Incomplete;
            }
        }
        self.items.retain(|item| !matches!(&item.content, Content::Call(call) if !call.is_announced));
        let word = error_word(code, is_callers);
        let message = if word == code { message.to_owned() } else { format!("{message} ({code})") };
        self.end("failed", None, Some(ResponseError { code: word, message: &message }))
    }

    fn end(
        &mut self,
        status: &'static str,
        ending: Option<(ResponseUsage, Option<IncompleteDetails>)>,
        error: Option<ResponseError<'_>>,
    ) -> &Finished {
        let json = self.json(status, ending, error);
        let name = match status {
            "completed" => "response.completed",
            "incomplete" => "response.incomplete",
            _ => "response.failed",
        };
        if let Some(events) = &mut self.events {
            events.response(name, &json);
        }
        self.finished.insert(Finished { status, json })
    }

    fn json(
        &self,
        status: &'static str,
        ending: Option<(ResponseUsage, Option<IncompleteDetails>)>,
        error: Option<ResponseError<'_>>,
    ) -> String {
        let response = Response {
            id: &self.head.id,
            object: "response",
            created_at: self.head.created_at,
            status,
            background: false,
            error,
            incomplete_details: ending.and_then(|(_, details)| details),
            model: &self.head.model,
            output: self.items.iter().map(Item::wire).collect(),
            usage: ending.map(|(usage, _)| usage),
            echo: &self.head.echo,
        };
        // These types always serialise.
        serde_json::to_string(&response).unwrap_or_default()
    }

    fn item_id(&self, prefix: &str) -> String {
        let digits = self.head.id.strip_prefix("resp_").unwrap_or(&self.head.id);
        format!("{prefix}_{digits}{:02x}", self.items.len())
    }

    /// The place of the last item, if it is one of this kind that is still open.
    fn open_text(&self, is_kind: impl Fn(&Content) -> bool) -> Option<usize> {
        let place = self.items.len().checked_sub(1)?;
        let item = self.items.get(place)?;
        (item.status == Status::Open && is_kind(&item.content)).then_some(place)
    }

    /// Ends text items, announces calls and begins the next item. Gives its place.
    fn begin(&mut self, prefix: &str, content: Content) -> usize {
        self.close_texts();
        for place in 0..self.items.len() {
            if self.call_at(place).is_some_and(|call| !call.name.is_empty()) {
                self.announce_call(place);
            }
        }
        let place = self.items.len();
        self.items.push(Item { id: self.item_id(prefix), status: Status::Open, content });
        place
    }

    fn close_texts(&mut self) {
        for place in 0..self.items.len() {
            if self.items.get(place).is_some_and(|item| !matches!(item.content, Content::Call(_))) {
                self.close(place, Status::Completed);
            }
        }
    }

    fn reasoning(&mut self, piece: Text<'_>) {
        let is_reasoning = |content: &Content| matches!(content, Content::Reasoning(_));
        let place = self.open_text(is_reasoning).unwrap_or_else(|| {
            let place = self.begin("rs", Content::Reasoning(String::new()));
            self.announce(place);
            if let (Some(events), Some(item)) = (&mut self.events, self.items.get(place)) {
                let part = SummaryText { text: "" };
                let name = "response.reasoning_summary_part.added";
                events.write(name, &PartEvent { item_id: &item.id, output_index: place, summary_index: 0, part });
            }
            place
        });
        let Some(item) = self.items.get_mut(place) else { return };
        if let Content::Reasoning(text) = &mut item.content {
            piece.append_to(text);
        }
        if let Some(events) = &mut self.events {
            let of = DeltaOf {
                name: "response.reasoning_summary_text.delta",
                item_id: &item.id,
                output_index: place,
                index: Some(("summary_index", 0)),
                has_logprobs: false,
            };
            events.delta(of, piece);
        }
    }

    fn text(&mut self, piece: Text<'_>, is_refusal: bool) {
        let is_message = |content: &Content| matches!(content, Content::Message(_));
        let place = self.open_text(is_message).unwrap_or_else(|| {
            let place = self.begin("msg", Content::Message(Vec::new()));
            self.announce(place);
            place
        });
        self.part(place, is_refusal);
        let Some(Item { id, content: Content::Message(parts), .. }) = self.items.get_mut(place) else { return };
        let content_index = parts.len().saturating_sub(1);
        match parts.last_mut() {
            Some(Part::Text { text, .. } | Part::Refusal(text)) => piece.append_to(text),
            None => {}
        }
        if let Some(events) = &mut self.events {
            let of = DeltaOf {
                name: if is_refusal { "response.refusal.delta" } else { "response.output_text.delta" },
                item_id: id,
                output_index: place,
                index: Some(("content_index", content_index)),
                has_logprobs: !is_refusal,
            };
            events.delta(of, piece);
        }
    }

    /// Makes the last part of a message one of this kind.
    fn part(&mut self, place: usize, is_refusal: bool) {
        let Self { items, events, .. } = self;
        let Some(Item { id, content: Content::Message(parts), .. }) = items.get_mut(place) else { return };
        match parts.last() {
            Some(Part::Text { .. }) if !is_refusal => return,
            Some(Part::Refusal(_)) if is_refusal => return,
            Some(part) => {
                if let Some(events) = events {
                    part_done(events, id, place, parts.len() - 1, part);
                }
            }
            None => {}
        }
        let part = if is_refusal {
            Part::Refusal(String::new())
        } else {
            Part::Text { text: String::new(), annotations: Vec::new() }
        };
        if let Some(events) = events {
            let body = ContentEvent { item_id: id, output_index: place, content_index: parts.len(), part: part.wire() };
            events.write("response.content_part.added", &body);
        }
        parts.push(part);
    }

    /// Notes a call. It is announced when its arguments or another item begin, since its name may come in pieces.
    fn call(&mut self, index: u32, id: &str, name: &str) {
        if index >= CALLS_MAX {
            return;
        }
        let place = self.place_of_call(index).unwrap_or_else(|| {
            let call = Call {
                index,
                call_id: String::new(),
                name: String::new(),
                arguments: String::new(),
                is_freeform: false,
                is_announced: false,
            };
            self.begin("fc", Content::Call(call))
        });
        let Some(call) = self.call_at(place) else { return };
        if call.is_announced {
            return;
        }
        call.call_id.push_str(id);
        call.name.push_str(name);
    }

    fn arguments(&mut self, index: u32, json: &str) {
        let Some(place) = self.place_of_call(index) else { return };
        self.announce_call(place);
        let Some(Item { id, content: Content::Call(call), .. }) = self.items.get_mut(place) else { return };
        call.arguments.push_str(json);
        // The input of a freeform tool is extracted from its JSON, which has to be complete for that.
        if let (Some(events), false) = (&mut self.events, call.is_freeform) {
            arguments_delta(events, "response.function_call_arguments.delta", id, place, json);
        }
    }

    fn place_of_call(&self, index: u32) -> Option<usize> {
        let is_it = |item: &Item| matches!(&item.content, Content::Call(call) if call.index == index);
        self.items.iter().position(|item| is_it(item) && item.status == Status::Open)
    }

    fn call_at(&mut self, place: usize) -> Option<&mut Call> {
        match self.items.get_mut(place) {
            Some(Item { content: Content::Call(call), .. }) => Some(call),
            _ => None,
        }
    }

    /// Tells the caller of a call, whose name is known.
    fn announce_call(&mut self, place: usize) {
        let digits = self.head.id.strip_prefix("resp_").unwrap_or(&self.head.id).to_owned();
        let Self { items, head, .. } = self;
        let Some(Item { id, content: Content::Call(call), .. }) = items.get_mut(place) else { return };
        if call.is_announced {
            return;
        }
        if call.call_id.is_empty() {
            call.call_id = format!("call_{digits}{place:02x}");
        }
        call.is_announced = true;
        call.is_freeform = head.freeform.contains(&call.name);
        if call.is_freeform {
            *id = id.replacen("fc_", "ctc_", 1);
        }
        self.announce(place);
    }

    fn announce(&mut self, place: usize) {
        let Self { items, events, .. } = self;
        if let (Some(events), Some(item)) = (events, items.get(place)) {
            events.write("response.output_item.added", &ItemEvent { output_index: place, item: item.wire() });
        }
    }

    /// Closes an item that is open and writes the closing events.
    fn close(&mut self, place: usize, status: Status) {
        if self.items.get(place).is_none_or(|item| item.status != Status::Open) {
            return;
        }
        if self.call_at(place).is_some() {
            self.announce_call(place);
        }
        let Self { items, events, .. } = self;
        let Some(item) = items.get_mut(place) else { return };
        item.status = status;
        let Item { id, content, .. } = item;
        let has_untold = match content {
            Content::Call(call) => call.complete(status),
            Content::Reasoning(_) | Content::Message(_) => false,
        };
        let Some(events) = events else { return };
        match content {
            Content::Reasoning(text) => {
                let body = SummaryDone { item_id: id, output_index: place, summary_index: 0, text };
                events.write("response.reasoning_summary_text.done", &body);
                let part = SummaryText { text };
                let body = PartEvent { item_id: id, output_index: place, summary_index: 0, part };
                events.write("response.reasoning_summary_part.done", &body);
            }
            Content::Message(parts) => {
                if let Some(part) = parts.last() {
                    part_done(events, id, place, parts.len() - 1, part);
                }
            }
            Content::Call(Call { name, arguments, is_freeform, .. }) => {
                let [delta, done] = if *is_freeform {
                    ["response.custom_tool_call_input.delta", "response.custom_tool_call_input.done"]
                } else {
                    ["response.function_call_arguments.delta", "response.function_call_arguments.done"]
                };
                if has_untold {
                    arguments_delta(events, delta, id, place, arguments);
                }
                let arguments: &str = arguments;
                let (name, arguments, input) = if *is_freeform {
                    (None, None, Some(arguments))
                } else {
                    (Some(name.as_str()), Some(arguments), None)
                };
                // The arguments of an interrupted call are not complete.
                if status == Status::Completed {
                    events.write(done, &CallDone { item_id: id, output_index: place, name, arguments, input });
                }
            }
        }
        let body = ItemEvent { output_index: place, item: item.wire() };
        events.write("response.output_item.done", &body);
    }

    /// Adds the citations of the open message; their positions count the characters of the whole answer.
    fn annotate(&mut self, ending: &Ending) {
        let Some(place) = self
            .items
            .iter()
            .rposition(|item| item.status == Status::Open && matches!(item.content, Content::Message(_)))
        else {
            return;
        };
        let before: usize = self.items.iter().take(place).map(Item::characters).sum();
        let Self { items, events, .. } = self;
        let Some(Item { id, content: Content::Message(parts), .. }) = items.get_mut(place) else { return };
        let content_index = parts.len().saturating_sub(1);
        let Some(Part::Text { annotations, .. }) = parts.last_mut() else { return };
        for cited in &ending.citations {
            let (Some(start_index), Some(end_index)) = (cited.start.checked_sub(before), cited.end.checked_sub(before))
            else {
                continue;
            };
            let Some(source) = ending.sources.get(cited.source) else { continue };
            let annotation =
                UrlCitation { start_index, end_index, url: source.url.clone(), title: source.title.clone() };
            if let Some(events) = events {
                let body = AnnotationEvent {
                    item_id: id,
                    output_index: place,
                    content_index,
                    annotation_index: annotations.len(),
                    annotation: &annotation,
                };
                events.write("response.output_text.annotation.added", &body);
            }
            annotations.push(annotation);
        }
    }
}

impl ReplySink for ResponseReply {
    fn event(&mut self, event: ReplyEvent<'_>) {
        match event {
            ReplyEvent::Text(text) => self.text(text, false),
            ReplyEvent::Reasoning(text) => self.reasoning(text),
            ReplyEvent::Refusal(text) => self.text(text, true),
            ReplyEvent::ToolCall { index, id, name } => self.call(index, id, name),
            ReplyEvent::ToolArguments { index, json } => self.arguments(index, json),
            ReplyEvent::ToolCallDone { index } => {
                if let Some(place) = self.place_of_call(index) {
                    self.close(place, Status::Completed);
                }
            }
            ReplyEvent::Started { .. }
            | ReplyEvent::Image { .. }
            | ReplyEvent::Video { .. }
            | ReplyEvent::Extra(_)
            | ReplyEvent::Source(_)
            | ReplyEvent::Activity
            | ReplyEvent::Unknown { .. }
            | ReplyEvent::Finished { .. } => {}
        }
    }

    fn held_bytes(&self) -> usize {
        match &self.events {
            Some(events) => events.len(),
            None => self.items.iter().map(Item::bytes).sum(),
        }
    }

    fn reset(&mut self) {
        self.items.clear();
        self.finished = None;
        if let Some(events) = &mut self.events {
            events.reset();
        }
    }
}

/// OpenAI's word for a failure of a response, where it has one.
fn error_word(code: &str, is_callers: bool) -> &str {
    match code {
        "rate_limit_exceeded" | "insufficient_quota" | "context_length_exceeded" => code,
        "server_busy" => "rate_limit_exceeded",
        _ if is_callers => "invalid_prompt",
        _ => "server_error",
    }
}

fn part_done(events: &mut Events, item_id: &str, output_index: usize, content_index: usize, part: &Part) {
    match part {
        Part::Text { text, .. } => {
            let body = TextDone { item_id, output_index, content_index, text, logprobs: [] };
            events.write("response.output_text.done", &body);
        }
        Part::Refusal(refusal) => {
            let body = RefusalDone { item_id, output_index, content_index, refusal };
            events.write("response.refusal.done", &body);
        }
    }
    let body = ContentEvent { item_id, output_index, content_index, part: part.wire() };
    events.write("response.content_part.done", &body);
}

fn arguments_delta(events: &mut Events, name: &'static str, item_id: &str, output_index: usize, text: &str) {
    events.delta(DeltaOf { name, item_id, output_index, index: None, has_logprobs: false }, Text::Plain(text));
}
