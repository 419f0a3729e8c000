//! The channel between routes that ask for changed settings to be taken up and the task that does it.

use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::sync::{mpsc, oneshot};

use crate::base::ids::UnixSeconds;

/// Most requests to reload that wait.
const ASKED_MAX: usize = 8;

/// The result of a reload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Outcome {
    pub at: UnixSeconds,
    /// Settings and accounts that are other ones now.
    pub changed: Vec<String>,
    /// Settings that changed and are in use after a restart only.
    pub needs_restart: Vec<String>,
    /// The faults because of which nothing was changed.
    pub faults: Vec<String>,
}

impl Outcome {
    /// Nothing changed and nothing is wrong, at this moment.
    #[must_use]
    pub(crate) fn nothing(at: UnixSeconds) -> Self {
        Self { at, changed: Vec::new(), needs_restart: Vec::new(), faults: Vec::new() }
    }
}

/// Other values for settings, as the owner's page sends them.
#[derive(Debug)]
pub(crate) struct SettingsChange {
    /// New values by the names of their settings; `null` takes the page's value back.
    pub values: Map<String, Value>,
    /// The version of the settings that the owner saw; `None` for any.
    pub version: Option<String>,
}

/// Why nothing was changed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ChangeRefused {
    /// The settings are other ones than those that the owner saw.
    Outdated,
    /// All that is wrong with the values.
    Faults(Vec<String>),
    /// The state cannot keep the values.
    NotKept,
}

/// A question to the task that reloads, with the way back.
#[derive(Debug)]
pub(crate) enum Question {
    /// To read all sources again.
    Reload(oneshot::Sender<Outcome>),
    /// To change settings.
    Change(SettingsChange, oneshot::Sender<Result<Outcome, ChangeRefused>>),
}

/// The way to the task that reloads. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Reloads {
    asking: mpsc::Sender<Question>,
    last: Arc<Mutex<Option<Outcome>>>,
}

/// The questions to the task that reloads.
#[derive(Debug)]
pub(crate) struct Asked(mpsc::Receiver<Question>);

impl Reloads {
    /// A way, and its end.
    #[must_use]
    pub(crate) fn new() -> (Self, Asked) {
        let (asking, asked) = mpsc::channel(ASKED_MAX);
        (Self { asking, last: Arc::default() }, Asked(asked))
    }

    /// Keeps how the last reload went.
    pub(crate) fn note(&self, outcome: Outcome) {
        *self.last.lock() = Some(outcome);
    }

    /// The result of the last reload; `None` before the first.
    #[must_use]
    pub(crate) fn last(&self) -> Option<Outcome> {
        self.last.lock().clone()
    }

    /// Asks for a reload; `None` where nothing reloads, as in a demonstration.
    pub(crate) async fn ask(&self) -> Option<Outcome> {
        let (answer, answered) = oneshot::channel();
        self.asking.send(Question::Reload(answer)).await.ok()?;
        answered.await.ok()
    }

    /// Asks for other values of settings; `None` where nothing changes them, as in a demonstration.
    pub(crate) async fn change(&self, change: SettingsChange) -> Option<Result<Outcome, ChangeRefused>> {
        let (answer, answered) = oneshot::channel();
        self.asking.send(Question::Change(change, answer)).await.ok()?;
        answered.await.ok()
    }
}

impl Asked {
    /// Waits for the next question; `None` once no handle is left that could ask.
    pub(crate) async fn next(&mut self) -> Option<Question> {
        self.0.recv().await
    }
}
