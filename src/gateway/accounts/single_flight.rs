//! One run at a time for each key, whose result goes to every task that asked while it was under way.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::Shared;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::shutdown::Supervisor;

/// Runs of one kind, by key. A run belongs to the supervisor: it goes on when every caller has left, so what it
/// rotates upstream is never lost half way.
pub(crate) struct SingleFlight<K, T> {
    supervisor: Supervisor,
    /// The name of the runs' tasks.
    name: &'static str,
    runs: Arc<Mutex<HashMap<K, Run<T>>>>,
}

type Run<T> = Shared<oneshot::Receiver<T>>;

impl<K, T> SingleFlight<K, T>
where
    K: Clone + Eq + Hash + Send + 'static,
    T: Clone + Send + Sync + 'static,
{
    /// No run yet. `name` is what their tasks are called in logs.
    pub(crate) fn new(supervisor: Supervisor, name: &'static str) -> Self {
        Self { supervisor, name, runs: Arc::default() }
    }

    /// Joins the run of this key, or begins one. The run begins at once, whether or not the returned future is polled.
    ///
    /// Resolves to the run's result; to `None` when it panicked or was dropped at the end of the process. A run that
    /// has finished is not joined, so `run` itself looks first whether it is still needed.
    pub(crate) fn join<F>(&self, key: K, run: F) -> impl Future<Output = Option<T>> + Send + use<F, K, T>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let mut begun = None;
        let joined = {
            let mut runs = self.runs.lock();
            runs.entry(key.clone())
                .or_insert_with(|| {
                    let (done, result) = oneshot::channel();
                    begun = Some(done);
                    result.shared()
                })
                .clone()
        };
        // Without the lock: a runtime that ends drops the task at once, and its place with it, which takes the lock.
        if let Some(done) = begun {
            let place = Place { runs: Arc::clone(&self.runs), key };
            self.supervisor.spawn(self.name, async move {
                let result = run.await;
                // First, so that a caller who saw the result begins a new run and does not join this one.
                drop(place);
                // An error says that every caller has left.
                let _ = done.send(result);
            });
        }
        async move { joined.await.ok() }
    }
}

/// A key's place among the runs; given back however the run ends.
struct Place<K: Eq + Hash, T> {
    runs: Arc<Mutex<HashMap<K, Run<T>>>>,
    key: K,
}

impl<K: Eq + Hash, T> Drop for Place<K, T> {
    fn drop(&mut self) {
        self.runs.lock().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    fn flights() -> SingleFlight<&'static str, usize> {
        SingleFlight::new(Supervisor::new(), "test")
    }

    #[tokio::test(start_paused = true)]
    async fn callers_share_the_run_under_way_and_later_ones_begin_anew() {
        let (flights, runs) = (flights(), Arc::new(AtomicUsize::new(0)));
        let run = || {
            let runs = Arc::clone(&runs);
            async move {
                tokio::time::sleep(Duration::from_secs(1)).await;
                runs.fetch_add(1, Ordering::SeqCst) + 1
            }
        };
        let (one, two, other) = (flights.join("a", run()), flights.join("a", run()), flights.join("b", run()));
        let results = tokio::join!(one, two, other);
        assert_eq!(results.0, results.1);
        assert_eq!(runs.load(Ordering::SeqCst), 2);
        assert_eq!(flights.join("a", run()).await, Some(3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_goes_on_when_its_callers_have_left() {
        let (flights, (done, mut is_done)) = (flights(), oneshot::channel());
        drop(flights.join("a", async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let _ = done.send(());
            1
        }));
        assert!(is_done.try_recv().is_err());
        is_done.await.unwrap();
    }

    #[test]
    fn a_run_that_a_runtime_at_its_end_drops_at_once_gives_its_place_back() {
        let flights = flights();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let handle = runtime.handle().clone();
        drop(runtime);
        let _inside = handle.enter();
        for _ in 0..2 {
            assert_eq!(flights.join("a", async { 7 }).now_or_never(), Some(None));
        }
    }

    #[tokio::test]
    async fn a_run_that_panics_gives_its_place_back() {
        let flights = flights();
        assert_eq!(flights.join("a", async { panic!("on purpose") }).await, None);
        assert_eq!(flights.join("a", async { 7 }).await, Some(7));
    }
}
