//! The budget of all request bodies together: memory while they are read, and threads that parse large ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::extract::Request;
use tokio::sync::Semaphore;

use crate::chat::failure::Failure;

/// Memory of all bodies that are being read or are not yet understood, in bytes.
const BYTES_MAX: usize = 512 * 1024 * 1024;
/// Large bodies that are worked on at once.
const PARSING_MAX: usize = 4;
/// Bytes from which on work on a body goes to a blocking thread.
const LARGE_BYTES: usize = 256 * 1024;

/// The budget of one server; an extension of its requests. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Bodies(Arc<Budget>);

#[derive(Debug)]
struct Budget {
    bytes_max: usize,
    bytes: AtomicUsize,
    parsing: Arc<Semaphore>,
}

impl Default for Bodies {
    fn default() -> Self {
        Self::with_bytes(BYTES_MAX)
    }
}

impl Bodies {
    fn with_bytes(bytes_max: usize) -> Self {
        let parsing = Arc::new(Semaphore::new(PARSING_MAX));
        Self(Arc::new(Budget { bytes_max, bytes: AtomicUsize::new(0), parsing }))
    }

    /// The budget that this request is counted in.
    pub(crate) fn of(request: &Request) -> Self {
        request.extensions().get::<Self>().cloned().unwrap_or_default()
    }

    /// A share for one body, of nothing so far.
    pub(crate) fn share(&self) -> BodyShare {
        BodyShare { budget: Arc::clone(&self.0), bytes: 0 }
    }
}

/// One body's share of the budget, given back on drop.
#[derive(Debug)]
pub(crate) struct BodyShare {
    budget: Arc<Budget>,
    bytes: usize,
}

impl BodyShare {
    /// Raises the share to this number of bytes; a share never shrinks.
    ///
    /// # Errors
    /// 429 `server_busy` when the budget does not have them.
    pub(crate) fn grow_to(&mut self, bytes: usize) -> Result<(), Failure> {
        let more = bytes.saturating_sub(self.bytes);
        let taken = self.budget.bytes.fetch_add(more, Ordering::Relaxed);
        self.bytes += more;
        // Excess goes back with the share.
        if taken.saturating_add(more) > self.budget.bytes_max { Err(Failure::too_many_bodies()) } else { Ok(()) }
    }
}

impl BodyShare {
    /// Works on the body of this share. Work on more than [`LARGE_BYTES`] would hold up other requests, so it is done on
    /// a thread of its own, when there is one for it. The share comes back with the result.
    ///
    /// Work on a thread goes on when the caller has left. Its place and the share go with it, so that they count until
    /// it ends.
    ///
    /// # Errors
    /// [`Failure::internal`] when the work panics on its thread.
    pub(crate) async fn work<T: Send + 'static>(
        self,
        bytes: usize,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<(Self, T), Failure> {
        if bytes <= LARGE_BYTES {
            return Ok((self, work()));
        }
        let place = Arc::clone(&self.budget.parsing).acquire_owned().await.map_err(|_| Failure::internal())?;
        let working = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(place);
            (self, done)
        });
        working.await.map_err(|_| Failure::internal())
    }
}

impl Drop for BodyShare {
    fn drop(&mut self) {
        self.budget.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn work_that_its_caller_left_keeps_its_place_and_its_bytes() {
        let bodies = Bodies::with_bytes(100);
        let mut gates = Vec::new();
        for _ in 0..PARSING_MAX {
            let mut share = bodies.share();
            share.grow_to(25).unwrap();
            let ((open, gate), (began, has_begun)) = (mpsc::channel::<()>(), oneshot::channel());
            let mut working = Box::pin(share.work(LARGE_BYTES + 1, move || {
                began.send(()).unwrap();
                gate.recv()
            }));
            assert!(futures_util::poll!(&mut working).is_pending());
            has_begun.await.unwrap();
            gates.push(open);
        }
        assert_eq!(bodies.0.bytes.load(Ordering::Relaxed), 100);
        assert_eq!(bodies.0.parsing.available_permits(), 0);
        let (_, small) = bodies.share().work(LARGE_BYTES, || 7).await.unwrap();
        assert_eq!(small, 7, "small work needs no place");
        let mut next = Box::pin(bodies.share().work(LARGE_BYTES + 1, || 8));
        assert!(futures_util::poll!(&mut next).is_pending());
        drop(gates);
        assert_eq!(next.await.unwrap().1, 8);
    }

    #[test]
    fn shares_add_up_and_go_back() {
        let bodies = Bodies::with_bytes(100);
        let (mut one, mut other) = (bodies.share(), bodies.share());
        assert_eq!(one.grow_to(60), Ok(()));
        assert_eq!(one.grow_to(50), Ok(()), "a share never shrinks");
        assert_eq!(other.grow_to(40), Ok(()));
        assert_eq!(other.grow_to(41).unwrap_err().code, "server_busy");
        drop(other);
        assert_eq!(bodies.0.bytes.load(Ordering::Relaxed), 60);
        assert_eq!(one.grow_to(100), Ok(()));
        drop(one);
        assert_eq!(bodies.0.bytes.load(Ordering::Relaxed), 0);
    }
}
