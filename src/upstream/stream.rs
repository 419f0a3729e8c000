//! One answer on its way: bytes pulled from the upstream's connection, events handed on.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::Body as _;

use crate::chat::reply::{ReplyError, ReplyEvent, TokenCounts};
use crate::sse::{SseDecoder, SseError};
use crate::upstream::classify::{classify_body, is_marked};
use crate::upstream::error::{UpstreamError, UpstreamErrorKind};
use crate::upstream::openai::decode::ChatDecoder;
use crate::upstream::openai::error;
use crate::upstream::web::decode::QwenReplyDecoder;

/// Most bytes of one pull, so that a fast upstream does not starve the other connections.
const PULL_BYTES_MAX: usize = 256 * 1024;
/// Bytes of a stream without events that are kept, to classify it.
const HEAD_BYTES_MAX: usize = 4 * 1024;

const DOING: &str = "reading an answer";

/// The decoder of the events, by the dialect of the upstream.
enum Decoder {
    Qwen(Box<QwenReplyDecoder>),
    OpenAi(ChatDecoder),
}

impl Decoder {
    fn push(&mut self, data: &[u8], sink: &mut impl FnMut(ReplyEvent<'_>)) -> Result<(), ReplyError> {
        match self {
            Self::Qwen(decoder) => decoder.push(data, sink),
            Self::OpenAi(decoder) => decoder.push(data, sink),
        }
    }

    fn finish(&mut self, sink: &mut impl FnMut(ReplyEvent<'_>)) -> Result<(), ReplyError> {
        match self {
            Self::Qwen(decoder) => decoder.finish(sink),
            Self::OpenAi(decoder) => decoder.finish(sink),
        }
    }

    /// The meaning of a failure, by the upstream's own table.
    fn error(&self, error: &ReplyError) -> UpstreamError {
        match self {
            Self::Qwen(_) => UpstreamError::in_stream(error),
            Self::OpenAi(_) => error::of_reply(error),
        }
    }

    /// The failure that a body without events tells in their place, by the same table; `None` if it tells of none.
    fn failure_in(&self, head: &[u8]) -> Option<UpstreamError> {
        match self {
            Self::Qwen(_) => classify_body(DOING, 200, "", head),
            Self::OpenAi(_) => error::of_body(head),
        }
    }

    fn failed(&self, error: PullError) -> UpstreamError {
        match error {
            PullError::Framing => UpstreamError::new(DOING, UpstreamErrorKind::Protocol),
            PullError::Reply(error) => self.error(&error),
        }
    }
}

/// An answer that is being streamed. The reader pulls it; dropping it closes the connection.
pub(crate) struct ReplyStream {
    body: reqwest::Body,
    sse: SseDecoder,
    decoder: Decoder,
    /// The first bytes, until the first event shows that this is an event stream.
    head: Option<Vec<u8>>,
}

/// The result of a pull.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pulled {
    /// At least one event came: the upstream is alive.
    pub progress: bool,
    /// Whether the answer is complete.
    pub finished: bool,
}

enum PullError {
    /// The framing breaks a limit.
    Framing,
    Reply(ReplyError),
}

impl From<SseError> for PullError {
    fn from(_: SseError) -> Self {
        Self::Framing
    }
}

impl ReplyStream {
    /// A stream of the web chat over the body of a response.
    #[must_use]
    pub(crate) fn new(body: reqwest::Body, decoder: QwenReplyDecoder) -> Self {
        Self { body, sse: SseDecoder::new(), decoder: Decoder::Qwen(Box::new(decoder)), head: Some(Vec::new()) }
    }

    /// A stream of an upstream that speaks OpenAI's dialect.
    #[must_use]
    pub(crate) fn relayed(body: reqwest::Body) -> Self {
        let decoder = Decoder::OpenAi(ChatDecoder::default());
        Self { body, sse: SseDecoder::new(), decoder, head: Some(Vec::new()) }
    }

    /// The upstream's id of the answer, once it is known; only the web chat has a use for it.
    #[must_use]
    pub(crate) fn response_id(&self) -> Option<&str> {
        match &self.decoder {
            Decoder::Qwen(decoder) => decoder.response_id(),
            Decoder::OpenAi(_) => None,
        }
    }

    /// The upstream's counts so far.
    #[must_use]
    pub(crate) fn usage(&self) -> Option<TokenCounts> {
        match &self.decoder {
            Decoder::Qwen(decoder) => decoder.usage(),
            Decoder::OpenAi(decoder) => decoder.usage(),
        }
    }

    fn is_finished(&self) -> bool {
        match &self.decoder {
            Decoder::Qwen(decoder) => decoder.is_finished(),
            Decoder::OpenAi(decoder) => decoder.is_finished(),
        }
    }

    /// Takes everything that has already arrived and hands it to `sink`; waits only when there is nothing.
    ///
    /// # Errors
    /// The connection broke, a limit was met, or the upstream told of a failure; events before it were handed on.
    pub(crate) fn poll_pull(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut impl FnMut(ReplyEvent<'_>),
    ) -> Poll<Result<Pulled, UpstreamError>> {
        let mut pulled = Pulled { progress: false, finished: false };
        let mut bytes = 0;
        loop {
            let frame = match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending if bytes > 0 => return Poll::Ready(Ok(pulled)),
                other => ready!(other),
            };
            match frame {
                Some(Ok(frame)) => {
                    let Ok(chunk) = frame.into_data() else {
                        continue;
                    };
                    bytes += chunk.len();
                    pulled.progress |= self.chunk(&chunk, sink)?;
                }
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
                None => {
                    pulled.progress = true;
                    self.end(sink)?;
                }
            }
            pulled.finished = self.is_finished();
            if pulled.finished || bytes >= PULL_BYTES_MAX {
                if !pulled.finished {
                    cx.waker().wake_by_ref();
                }
                return Poll::Ready(Ok(pulled));
            }
        }
    }

    /// Whether an event was in it.
    fn chunk(&mut self, chunk: &Bytes, sink: &mut impl FnMut(ReplyEvent<'_>)) -> Result<bool, UpstreamError> {
        if let Some(head) = &mut self.head {
            let room = HEAD_BYTES_MAX.saturating_sub(head.len());
            head.extend_from_slice(chunk.get(..room.min(chunk.len())).unwrap_or_default());
        }
        let mut any = false;
        let Self { sse, decoder, .. } = self;
        let outcome = sse.push(chunk, |data| {
            any = true;
            decoder.push(data, sink).map_err(PullError::Reply)
        });
        if any {
            self.head = None;
        }
        // An envelope that came in place of a stream need not be waited out.
        let is_whole = |head: &&Vec<u8>| {
            head.trim_ascii_start().starts_with(b"{") && serde_json::from_slice::<serde::de::IgnoredAny>(head).is_ok()
        };
        if let Some(error) = self.head.as_ref().filter(is_whole).and_then(|head| self.decoder.failure_in(head)) {
            return Err(error);
        }
        outcome.map_err(|error| self.decoder.failed(error))?;
        Ok(any)
    }

    fn end(&mut self, sink: &mut impl FnMut(ReplyEvent<'_>)) -> Result<(), UpstreamError> {
        let Self { sse, decoder, .. } = self;
        let mut any = false;
        let outcome = sse.finish(|data| {
            any = true;
            decoder.push(data, sink).map_err(PullError::Reply)
        });
        if let (false, Some(head)) = (any, self.head.take()) {
            // Not one event: maybe this was an envelope or a page under the wrong content type.
            let is_other = matches!(head.trim_ascii_start().first(), Some(b'{' | b'<')) || is_marked(&head);
            if let Some(error) = self.decoder.failure_in(&head).filter(|_| is_other) {
                return Err(error);
            }
        }
        match outcome {
            // The last frame was cut in the middle.
            Err(PullError::Reply(ReplyError::Json)) => Err(UpstreamError::new(DOING, UpstreamErrorKind::Truncated)),
            Err(error) => Err(self.decoder.failed(error)),
            Ok(()) => self.decoder.finish(sink).map_err(|error| self.decoder.error(&error)),
        }
    }
}

/// The connection failed under an answer: that is a cut, wherever it happened, and not a failure to answer.
fn broken(error: reqwest::Error) -> UpstreamError {
    let is_decode = error.is_decode();
    let error = UpstreamError::transport(DOING, error);
    let kind = match error.kind {
        UpstreamErrorKind::Unavailable if is_decode => UpstreamErrorKind::Protocol,
        UpstreamErrorKind::Unavailable => UpstreamErrorKind::Truncated,
        kind => kind,
    };
    UpstreamError { kind, ..error }
}
