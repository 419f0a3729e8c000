//! Values that are replaced while they are in use, such as settings that change without a restart.

use std::sync::Arc;

use arc_swap::ArcSwap;

/// A value that its owner replaces as a whole. Clones share it. A reader that began with one value may go on with it.
#[derive(Debug)]
pub(crate) struct Live<T>(Arc<ArcSwap<T>>);

impl<T> Live<T> {
    /// A holder that starts with this value.
    #[must_use]
    pub(crate) fn new(value: T) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(value)))
    }

    /// The value of this moment.
    #[must_use]
    pub(crate) fn now(&self) -> Arc<T> {
        self.0.load_full()
    }

    /// Replaces the value for every later call of [`Live::now`].
    pub(crate) fn put(&self, value: T) {
        self.0.store(Arc::new(value));
    }
}

impl<T> Clone for Live<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}
