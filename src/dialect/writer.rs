//! The common part of every dialect's stream of an answer.

use bytes::Bytes;

use crate::chat::failure::Failure;
use crate::chat::reply::{Ending, ReplySink};

/// A comment of an event stream: clients skip it, proxies see that the connection lives.
pub const COMMENT: Bytes = Bytes::from_static(b": keepalive\n\n");

/// The most text that one event carries, in bytes as plain text. With every byte escaped its line stays under 64 KiB;
/// some clients give up on lines of 128 KiB.
pub(crate) const EVENT_TEXT_BYTES_MAX: usize = 10 * 1024;

/// An answer on its way out as an event stream, in the words of a dialect. What is ready to be sent gathers in it.
pub trait StreamWriter: ReplySink {
    /// The keep-alive of a silent stream, valid at any place between two events.
    fn keepalive() -> Bytes
    where
        Self: Sized,
    {
        COMMENT
    }

    /// The first event, which goes out with the headers and belongs to no attempt. `None` for a dialect whose first
    /// event waits for the answer: a stream that is opened before that begins with [`StreamWriter::keepalive`].
    fn head(&mut self) -> Option<Bytes>;

    /// Writes the end of the answer.
    fn finish(&mut self, ending: &Ending);

    /// Writes a failure as the last event. `request_id` is the id of the HTTP request, as in its header.
    fn fail(&mut self, failure: &Failure, request_id: &str);

    /// Takes what is ready to be sent; `None` when there is nothing.
    fn take(&mut self) -> Option<Bytes>;
}
