//! The record of a run: every request, how its answer ended, and violations, which no correct client causes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::script::Endpoint;

/// Which of the two hosts was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SiteHost {
    /// `chat.qwen.ai`, with the OAuth endpoints, the portal, the key endpoint, the object storage and the CDN.
    Chat,
    /// `auth.qwen.ai`, which refreshes sessions.
    Auth,
}

/// One request and what became of it, as far as it had come when asked.
#[derive(Clone, Debug)]
pub struct RecordedRequest {
    /// Counts from 1 over both hosts.
    pub number: u64,
    /// Which host was called.
    pub host: SiteHost,
    /// The endpoint that was called; `None` for an unknown path.
    pub endpoint: Option<Endpoint>,
    /// Name of the account by its credentials; with mixed ones, the jar's.
    pub account: Option<String>,
    /// HTTP method in upper case.
    pub method: String,
    /// Request target as it was sent: path and query.
    pub path: String,
    /// Names in lower case, values as text, in the order of arrival.
    pub headers: Vec<(String, String)>,
    /// The body, if it is JSON; of a form, an object of its fields.
    pub body: Option<Value>,
    /// Length of the body in bytes; of an upload, the bytes read so far.
    pub body_bytes: usize,
    /// When the whole request had arrived; of an upload, its head.
    pub received_at: Instant,
    /// The HTTP status answered; `None` before the head was sent.
    pub status: Option<u16>,
    /// The `x-actual-status-code` answered, else as `status`.
    pub effective_status: Option<u16>,
    /// The id of the answer, for completions that streamed.
    pub response_id: Option<String>,
    /// Packets of the answer's body that were handed to the socket.
    pub packets_sent: u64,
    /// Bytes of the answer's body that were handed to the socket.
    pub bytes_sent: u64,
    /// Whether the frame that finishes an answer was sent.
    pub finish_sent: bool,
    /// How the answer ended; `None` while it goes on.
    pub ended: Option<Ended>,
}

/// The end of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// What ended the answer.
    pub how: EndedHow,
    /// When the simulator noticed the end.
    pub at: Instant,
}

/// What ended an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndedHow {
    /// The whole body was handed to the socket.
    Completed,
    /// The client closed the connection before the end of the body.
    ClientClosed,
    /// The script tore the connection.
    Torn,
    /// A call of the stop endpoint ended the stream.
    StoppedByCall,
    /// The simulator was stopped.
    Shutdown,
}

impl RecordedRequest {
    /// The first value of a header; name in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(found, _)| found == name);
        found.map(|(_, value)| value.as_str())
    }

    /// When the client closed the connection before the answer was over.
    #[must_use]
    pub fn client_closed_at(&self) -> Option<Instant> {
        self.ended.filter(|ended| ended.how == EndedHow::ClientClosed).map(|ended| ended.at)
    }

    /// Whether this is a call of that endpoint by that account.
    #[must_use]
    pub fn is(&self, account: &str, endpoint: Endpoint) -> bool {
        self.endpoint == Some(endpoint) && self.account.as_deref() == Some(account)
    }
}

/// Counts of a run, from its start, except those of what is open now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallCounts {
    /// Requests to either host, refused ones included.
    pub requests: u64,
    /// Completions whose answer is under way now.
    pub open_streams: u64,
    /// Calls of the completions endpoint, refused ones included.
    pub completions: u64,
    /// Calls of the refresh endpoint, refused ones included.
    pub refreshes: u64,
    /// Chats that were deleted, one for each chat of a batch.
    pub deletes: u64,
    /// Calls for the right to upload, on either route, refused ones included.
    pub grants: u64,
    /// Uploads to the object storage, failed ones included.
    pub puts: u64,
    /// Device logins begun, refused ones included.
    pub device_logins: u64,
    /// Polls of device logins, refused ones included.
    pub polls: u64,
    /// Refreshes of OAuth tokens, refused ones included.
    pub oauth_refreshes: u64,
    /// Completions of the portal and with keys, refused ones included.
    pub api_chats: u64,
    /// Connections to either host that are open now.
    pub open_connections: u64,
}

/// The record of all requests of a run.
pub(crate) struct Journal {
    entries: Mutex<VecDeque<Arc<Entry>>>,
    entries_max: usize,
    violations: Mutex<Vec<String>>,
    pub(crate) tallies: Tallies,
    changes: watch::Sender<u64>,
    stop: CancellationToken,
}

#[derive(Default)]
pub(crate) struct Tallies {
    pub(crate) requests: AtomicU64,
    pub(crate) open_streams: AtomicU64,
    pub(crate) completions: AtomicU64,
    pub(crate) refreshes: AtomicU64,
    pub(crate) deletes: AtomicU64,
    pub(crate) grants: AtomicU64,
    pub(crate) puts: AtomicU64,
    pub(crate) device_logins: AtomicU64,
    pub(crate) polls: AtomicU64,
    pub(crate) oauth_refreshes: AtomicU64,
    pub(crate) api_chats: AtomicU64,
    pub(crate) open_connections: AtomicU64,
}

struct Entry {
    number: u64,
    request: Mutex<RecordedRequest>,
    packets_sent: AtomicU64,
    bytes_sent: AtomicU64,
}

/// The line of one request in the journal. Dropped before its end, it means that the client went away.
pub(crate) struct Ticket {
    journal: Arc<Journal>,
    entry: Arc<Entry>,
    is_stream: bool,
}

impl Journal {
    pub(crate) fn new(entries_max: usize, stop: CancellationToken) -> Self {
        Self {
            entries: Mutex::default(),
            entries_max,
            violations: Mutex::default(),
            tallies: Tallies::default(),
            changes: watch::Sender::new(0),
            stop,
        }
    }

    pub(crate) fn open(self: &Arc<Self>, mut request: RecordedRequest) -> Ticket {
        request.number = self.tallies.requests.fetch_add(1, Ordering::SeqCst) + 1;
        let entry = Arc::new(Entry {
            number: request.number,
            request: Mutex::new(request),
            packets_sent: AtomicU64::new(0),
            bytes_sent: AtomicU64::new(0),
        });
        {
            let mut entries = self.entries.lock();
            if entries.len() >= self.entries_max {
                entries.pop_front();
            }
            entries.push_back(Arc::clone(&entry));
        }
        self.changed();
        Ticket { journal: Arc::clone(self), entry, is_stream: false }
    }

    pub(crate) fn requests(&self) -> Vec<RecordedRequest> {
        let entries = self.entries();
        entries.iter().map(|entry| entry.now(Clone::clone)).collect()
    }

    /// The first request, past or to come, of which this is true.
    pub(crate) async fn wait_until(
        &self,
        mut is_it: impl FnMut(&RecordedRequest) -> bool,
        within: Duration,
    ) -> Option<RecordedRequest> {
        let mut changes = self.changes.subscribe();
        let search = async {
            loop {
                changes.mark_unchanged();
                // Each is looked at in its place: a copy of thousands at every change would starve the streams.
                let entries = self.entries();
                let found = entries.iter().find(|entry| entry.now(&mut is_it));
                if let Some(found) = found {
                    return Some(found.now(Clone::clone));
                }
                changes.changed().await.ok()?;
            }
        };
        tokio::time::timeout(within, search).await.ok().flatten()
    }

    /// Waits until this is true of the figures.
    pub(crate) async fn wait_for_counters(
        &self,
        mut is_it: impl FnMut(&CallCounts) -> bool,
        within: Duration,
    ) -> Option<CallCounts> {
        let mut changes = self.changes.subscribe();
        let search = async {
            loop {
                changes.mark_unchanged();
                let counters = self.counters();
                if is_it(&counters) {
                    return Some(counters);
                }
                changes.changed().await.ok()?;
            }
        };
        tokio::time::timeout(within, search).await.ok().flatten()
    }

    fn entries(&self) -> Vec<Arc<Entry>> {
        self.entries.lock().iter().map(Arc::clone).collect()
    }

    pub(crate) fn counters(&self) -> CallCounts {
        let tallies = &self.tallies;
        CallCounts {
            requests: tallies.requests.load(Ordering::SeqCst),
            open_streams: tallies.open_streams.load(Ordering::SeqCst),
            completions: tallies.completions.load(Ordering::SeqCst),
            refreshes: tallies.refreshes.load(Ordering::SeqCst),
            deletes: tallies.deletes.load(Ordering::SeqCst),
            grants: tallies.grants.load(Ordering::SeqCst),
            puts: tallies.puts.load(Ordering::SeqCst),
            device_logins: tallies.device_logins.load(Ordering::SeqCst),
            polls: tallies.polls.load(Ordering::SeqCst),
            oauth_refreshes: tallies.oauth_refreshes.load(Ordering::SeqCst),
            api_chats: tallies.api_chats.load(Ordering::SeqCst),
            open_connections: tallies.open_connections.load(Ordering::SeqCst),
        }
    }

    pub(crate) fn violation(&self, text: String) {
        let mut violations = self.violations.lock();
        if violations.len() < VIOLATIONS_MAX {
            violations.push(text);
        }
        drop(violations);
        self.changed();
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        self.violations.lock().clone()
    }

    /// Wakes the tasks in [`Journal::wait_until`] and [`Journal::wait_for_counters`].
    pub(crate) fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }
}

impl Entry {
    /// Looks at the request as it is now.
    fn now<T>(&self, look: impl FnOnce(&RecordedRequest) -> T) -> T {
        let mut request = self.request.lock();
        request.packets_sent = self.packets_sent.load(Ordering::SeqCst);
        request.bytes_sent = self.bytes_sent.load(Ordering::SeqCst);
        look(&request)
    }
}

impl Ticket {
    /// The number of the request.
    pub(crate) fn number(&self) -> u64 {
        self.entry.number
    }

    /// More of an upload was read.
    pub(crate) fn read(&self, bytes: usize) {
        self.entry.request.lock().body_bytes += bytes;
        if self.journal.changes.receiver_count() > 0 {
            self.journal.changed();
        }
    }

    pub(crate) fn answered(&self, status: u16, effective_status: u16) {
        {
            let mut request = self.entry.request.lock();
            request.status = Some(status);
            request.effective_status = Some(effective_status);
        }
        self.journal.changed();
    }

    pub(crate) fn streams(&mut self, response_id: &str) {
        self.is_stream = true;
        self.entry.request.lock().response_id = Some(response_id.to_owned());
        let tallies = &self.journal.tallies;
        tallies.open_streams.fetch_add(1, Ordering::SeqCst);
        self.journal.changed();
    }

    pub(crate) fn sent(&self, bytes: usize) {
        self.entry.packets_sent.fetch_add(1, Ordering::SeqCst);
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.entry.bytes_sent.fetch_add(bytes, Ordering::SeqCst);
        // Thousands of streams send millions of packets; they notify only if a test waits.
        if self.journal.changes.receiver_count() > 0 {
            self.journal.changed();
        }
    }

    pub(crate) fn finish_sent(&self) {
        self.entry.request.lock().finish_sent = true;
        self.journal.changed();
    }

    /// The answer ended this way; only the first call counts.
    pub(crate) fn ended(&self, how: EndedHow) {
        {
            let mut request = self.entry.request.lock();
            if request.ended.is_some() {
                return;
            }
            let at = Instant::now();
            request.ended = Some(Ended { how, at });
        }
        if self.is_stream {
            let tallies = &self.journal.tallies;
            tallies.open_streams.fetch_sub(1, Ordering::SeqCst);
        }
        self.journal.changed();
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.ended(if self.journal.stop.is_cancelled() { EndedHow::Shutdown } else { EndedHow::ClientClosed });
    }
}

const VIOLATIONS_MAX: usize = 1_000;
