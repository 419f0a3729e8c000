//! Ownership of the background tasks of this process, and their shutdown.
//!
//! Nothing else may spawn. Called by `app`, which stops in order; used by every room that needs a background task.
//! Never imports another room.

use std::any::Any;
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::io;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::FutureExt as _;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tokio_util::task::TaskTracker;
use tracing::{error, warn};

/// Waits for the cancellation of a token inside of another future that is polled often, such as that of a connection. It
/// registers once for each waker; after that a poll only looks whether the token is cancelled.
pub(crate) struct Cancelled {
    token: CancellationToken,
    /// The registration, and the waker that it wakes.
    waiting: Option<(Pin<Box<WaitForCancellationFutureOwned>>, Waker)>,
}

impl Cancelled {
    /// Waits for this token.
    pub(crate) fn of(token: CancellationToken) -> Self {
        Self { token, waiting: None }
    }

    /// Ready when the token is cancelled. Otherwise the task of `cx` is woken when that happens.
    pub(crate) fn poll(&mut self, cx: &Context<'_>) -> Poll<()> {
        if self.token.is_cancelled() {
            return Poll::Ready(());
        }
        if self.waiting.as_ref().is_some_and(|(_, waker)| waker.will_wake(cx.waker())) {
            return Poll::Pending;
        }
        let mut waiting = Box::pin(self.token.clone().cancelled_owned());
        let polled = waiting.as_mut().poll(&mut Context::from_waker(cx.waker()));
        self.waiting = Some((waiting, cx.waker().clone()));
        polled
    }

    /// The result of `work`, or `None` when the token is cancelled before.
    pub(crate) async fn or<T>(mut self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending => self.poll(cx).map(|()| None),
        })
        .await
    }
}

/// Spawns every task, gives each a name and the stop signal, and waits for them at the end. Clones share one set.
#[derive(Clone, Debug, Default)]
pub(crate) struct Supervisor {
    tasks: TaskTracker,
    /// Cancelled when stopping begins: tasks finish what they do.
    stopping: CancellationToken,
    /// Cancelled at the deadline: what is left is dropped where it waits.
    aborting: CancellationToken,
    running: Arc<Mutex<BTreeMap<&'static str, usize>>>,
}

impl Supervisor {
    /// A supervisor without tasks.
    #[must_use]
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Runs a task until it ends, or until the deadline of [`Supervisor::stop`] drops it.
    ///
    /// A panic ends only this task and is logged as an error with its name. Needs a tokio runtime around it.
    pub(crate) fn spawn<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let running = Running::enter(name, &self.running);
        let aborting = self.aborting.clone();
        // In a box, as the futures around it would each be as large again.
        let task = Box::pin(task);
        self.tasks.spawn(async move {
            let _running = running;
            let task = AssertUnwindSafe(task).catch_unwind();
            if let Some(Err(panic)) = Cancelled::of(aborting).or(task).await {
                error!(task.name = name, panic = panic_text(&*panic), "task panicked");
            }
        });
    }

    /// Runs work to its end, also when the returned future is dropped before. The work begins at once.
    ///
    /// Resolves to its result; to `None` when it panicked or was dropped at the end of the process.
    pub(crate) fn finish<F>(
        &self,
        name: &'static str,
        work: F,
    ) -> impl Future<Output = Option<F::Output>> + Send + use<F>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let (done, result) = oneshot::channel();
        self.spawn(name, async move {
            // An error says that the task which asked is gone.
            let _ = done.send(work.await);
        });
        async move { result.await.ok() }
    }

    /// The signal that stopping has begun. It can be awaited (`cancelled`), asked and handed on.
    #[must_use]
    pub(crate) fn stopping(&self) -> CancellationToken {
        self.stopping.clone()
    }

    /// Asks every task to stop, waits for them at most `patience`, then drops those that are left and says which.
    ///
    /// Returns whether all ended by themselves. A task that never waits cannot be dropped; it is given one more
    /// second and then left behind.
    pub(crate) async fn stop(&self, patience: Duration) -> bool {
        self.stopping.cancel();
        self.tasks.close();
        if timeout(patience, self.tasks.wait()).await.is_ok() {
            return true;
        }
        warn!(tasks = self.running_names(), "tasks still ran at the deadline and are dropped");
        self.aborting.cancel();
        if timeout(ABORT_PATIENCE, self.tasks.wait()).await.is_err() {
            error!(tasks = self.running_names(), "tasks could not be dropped and are left behind");
        }
        false
    }

    fn running_names(&self) -> String {
        let running = self.running.lock();
        let names: Vec<String> = running
            .iter()
            .map(|(name, count)| match count {
                1 => (*name).to_owned(),
                _ => format!("{name} x{count}"),
            })
            .collect();
        names.join(", ")
    }
}

/// Resolves at the first SIGTERM or SIGINT. From then on a second one ends the process at once, without draining,
/// with the status a shell expects (130 for SIGINT, 143 for SIGTERM).
///
/// # Errors
/// The operating system refused to install the handlers.
#[cfg(unix)]
pub(crate) async fn signal() -> io::Result<&'static str> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let name = tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    };
    #[expect(
        clippy::disallowed_methods,
        reason = "must outlive the drain, which waits for everything that a Supervisor owns"
    )]
    tokio::spawn(async move {
        let status = tokio::select! {
            _ = terminate.recv() => 143,
            _ = interrupt.recv() => 130,
        };
        #[expect(clippy::exit, reason = "a second signal means: end at once")]
        std::process::exit(status);
    });
    Ok(name)
}

/// Resolves at the first Ctrl-C.
///
/// # Errors
/// The operating system refused to install the handler.
#[cfg(not(unix))]
pub async fn signal() -> io::Result<&'static str> {
    tokio::signal::ctrl_c().await?;
    Ok("Ctrl-C")
}

/// Counts a task by its name for as long as it lives.
struct Running {
    name: &'static str,
    all: Arc<Mutex<BTreeMap<&'static str, usize>>>,
}

impl Running {
    fn enter(name: &'static str, all: &Arc<Mutex<BTreeMap<&'static str, usize>>>) -> Self {
        *all.lock().entry(name).or_default() += 1;
        Self { name, all: Arc::clone(all) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut all = self.all.lock();
        if let Some(count) = all.get_mut(self.name) {
            *count -= 1;
            if *count == 0 {
                all.remove(self.name);
            }
        }
    }
}

/// The text of a panic, if it has one.
fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(no text)")
}

/// Longest time for a task to be dropped.
const ABORT_PATIENCE: Duration = Duration::from_secs(1);

/// The signals that ask for a reload: SIGHUP, where there is such a thing.
pub(crate) struct Hangups {
    #[cfg(unix)]
    signals: Option<tokio::signal::unix::Signal>,
}

/// From now on SIGHUP does not end the process.
pub(crate) fn hangups() -> Hangups {
    Hangups {
        #[cfg(unix)]
        signals: tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()).ok(),
    }
}

impl Hangups {
    /// Waits for the next one.
    pub(crate) async fn next(&mut self) {
        #[cfg(unix)]
        if let Some(signals) = &mut self.signals
            && signals.recv().await.is_some()
        {
            return;
        }
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn tasks_that_heed_the_signal_end_in_time() {
        let supervisor = Supervisor::new();
        let ended = Arc::new(AtomicUsize::new(0));
        for _ in 0..3 {
            let (stopping, ended) = (supervisor.stopping(), Arc::clone(&ended));
            supervisor.spawn("polite", async move {
                stopping.cancelled().await;
                ended.fetch_add(1, Ordering::Relaxed);
            });
        }
        assert!(supervisor.stop(Duration::from_secs(5)).await);
        assert_eq!(ended.load(Ordering::Relaxed), 3);
        assert_eq!(supervisor.running_names(), "");
    }

    #[tokio::test]
    async fn tasks_that_do_not_are_dropped_at_the_deadline() {
        struct OnDrop(Arc<AtomicUsize>);
        impl Drop for OnDrop {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let supervisor = Supervisor::new();
        let dropped = Arc::new(AtomicUsize::new(0));
        for _ in 0..2 {
            let guard = OnDrop(Arc::clone(&dropped));
            supervisor.spawn("deaf", async move {
                let _guard = guard;
                std::future::pending::<()>().await;
            });
        }
        assert_eq!(supervisor.running_names(), "deaf x2");
        assert!(!supervisor.stop(Duration::from_millis(20)).await);
        assert_eq!(dropped.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn a_panic_ends_one_task_only() {
        let supervisor = Supervisor::new();
        supervisor.spawn("broken", async { panic!("as planned") });
        assert!(supervisor.stop(Duration::from_secs(5)).await);
    }
}
