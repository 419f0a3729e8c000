//! The budget of all request bodies together: memory while they are read, and threads that parse large ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::extract::Request;
use tokio::sync::Semaphore;

use crate::chat::failure::Failure;

/// Memory of all bodies that are being read or are not yet understood, in bytes.
const BYTES_MAX: usize = 512 * 1024 * 1024;
/// Large bodies that are parsed at once.
const PARSING_MAX: usize = 4;

/// The budget of one server; an extension of its requests. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Bodies(Arc<Budget>);

#[derive(Debug)]
struct Budget {
    bytes_max: usize,
    bytes: AtomicUsize,
    parsing: Semaphore,
}

impl Default for Bodies {
    fn default() -> Self {
        Self::with_bytes(BYTES_MAX)
    }
}

impl Bodies {
    fn with_bytes(bytes_max: usize) -> Self {
        Self(Arc::new(Budget { bytes_max, bytes: AtomicUsize::new(0), parsing: Semaphore::new(PARSING_MAX) }))
    }

    /// The budget that this request is counted in.
    pub(crate) fn of(request: &Request) -> Self {
        request.extensions().get::<Self>().cloned().unwrap_or_default()
    }

    /// A share for one body, of nothing so far.
    pub(crate) fn share(&self) -> BodyShare {
        BodyShare { budget: Arc::clone(&self.0), bytes: 0 }
    }

    /// Runs work that would hold up other requests on a thread of its own, when there is one for it.
    ///
    /// # Errors
    /// [`Failure::internal`] when the work panics.
    pub(crate) async fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let place = self.0.parsing.acquire().await.map_err(|_| Failure::internal())?;
        let done = tokio::task::spawn_blocking(work).await.map_err(|_| Failure::internal());
        drop(place);
        done
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

impl Drop for BodyShare {
    fn drop(&mut self) {
        self.budget.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
