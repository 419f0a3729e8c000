//! The bytes of a file as the body of a request.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::files::blob::Blob;

/// The bytes of a blob as a body: one chunk in memory at a time, however large it is. A file is read by a blocking
/// thread, and only when the connection has taken what came before.
pub(crate) struct BlobBody {
    pub(crate) blob: Blob,
    pub(crate) at: u64,
    pub(crate) reading: Option<JoinHandle<io::Result<Bytes>>>,
    /// Number of bytes that the connection has taken.
    pub(crate) progress: watch::Sender<u64>,
}

impl Body for BlobBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        if this.at >= this.blob.len() {
            return Poll::Ready(None);
        }
        let chunk = match this.blob.in_memory() {
            Some(bytes) => {
                let start = usize::try_from(this.at).unwrap_or(bytes.len()).min(bytes.len());
                bytes.slice(start..bytes.len().min(start + CHUNK_BYTES))
            }
            None => {
                let (blob, at) = (&this.blob, this.at);
                let reading = this.reading.get_or_insert_with(|| {
                    let blob = blob.clone();
                    tokio::task::spawn_blocking(move || {
                        let mut chunk = vec![0; CHUNK_BYTES];
                        let count = blob.read_at(at, &mut chunk)?;
                        chunk.truncate(count);
                        Ok(Bytes::from(chunk))
                    })
                });
                let read = ready!(Pin::new(reading).poll(cx));
                this.reading = None;
                read.map_err(io::Error::other)??
            }
        };
        if chunk.is_empty() {
            return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into())));
        }
        this.at += chunk.len() as u64;
        this.progress.send_replace(this.at);
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.at >= self.blob.len()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.blob.len().saturating_sub(self.at))
    }
}

/// Bytes of a file that are in memory at a time.
const CHUNK_BYTES: usize = 256 * 1024;
