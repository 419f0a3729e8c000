//! Responses that are kept for their callers for the time of `KEEP_RESPONSES`.

use std::sync::Arc;
use std::time::Duration;

use crate::base::live::Live;
use crate::pool::Now;
use crate::store::{Chain, KeptResponse, Store, StoreError};

/// The largest response that is kept, its input included, in bytes of JSON.
const KEPT_BYTES_MAX: usize = 20 << 20;

/// Keeps, finds and deletes responses. Cheap to clone.
#[derive(Clone)]
pub(crate) struct KeptResponses {
    store: Arc<Store>,
    keep: Live<Duration>,
}

/// A finished response to be kept.
#[derive(Debug)]
pub(crate) struct NewResponse {
    /// Id of the response, `resp_…`.
    pub id: String,
    /// Hash of the caller's key or credential. Only the same caller may see the response.
    pub owner: String,
    /// Id of the response that it continues, if any.
    pub previous: Option<String>,
    /// Whether another one may continue it.
    pub is_continuable: bool,
    /// The items that came with its request: a JSON array.
    pub input: String,
    /// The whole response as JSON.
    pub response: String,
}

impl KeptResponses {
    /// Keeps responses in `store` for `keep` after they were made or last continued; zero keeps none.
    #[must_use]
    pub(crate) fn new(store: Arc<Store>, keep: Live<Duration>) -> Self {
        Self { store, keep }
    }

    /// Whether a response with an input of this size, in bytes of JSON, is kept.
    #[must_use]
    pub(crate) fn takes(&self, input_bytes: usize) -> bool {
        !self.keep.now().is_zero() && input_bytes <= KEPT_BYTES_MAX
    }

    /// Keeps a response; found from now on, written later.
    pub(crate) fn keep(&self, new: NewResponse) {
        let NewResponse { id, owner, previous, is_continuable, input, response } = new;
        let now = Now::read().unix;
        let expires_at = now.plus(i64::try_from(self.keep.now().as_secs()).unwrap_or(i64::MAX));
        let kept = KeptResponse { id, owner, previous, is_continuable, expires_at, input, response };
        self.store.keep_response(kept, now);
    }

    /// Finds a response of this caller.
    ///
    /// # Errors
    /// The state file cannot be read.
    pub(crate) async fn find(&self, owner: &str, id: &str) -> Result<Option<KeptResponse>, StoreError> {
        self.store.response(owner.to_owned(), id.to_owned(), Now::read().unix).await
    }

    /// Finds a response of this caller and all responses that it continues.
    ///
    /// # Errors
    /// The state file cannot be read.
    pub(crate) async fn chain(&self, owner: &str, id: &str) -> Result<Chain, StoreError> {
        self.store.response_chain(owner.to_owned(), id.to_owned(), Now::read().unix).await
    }

    /// Deletes a response of this caller. `false` if it has none of this id.
    ///
    /// # Errors
    /// The state file cannot be read or written.
    pub(crate) async fn forget(&self, owner: &str, id: &str) -> Result<bool, StoreError> {
        if self.find(owner, id).await?.is_none() {
            return Ok(false);
        }
        self.store.forget_response(owner.to_owned(), id.to_owned()).await?;
        Ok(true)
    }
}
