//! Limits of open connections: how many in all, how many from one address, and which one closes when all places are
//! taken.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Context;
use std::time::{Duration, Instant};

use futures_util::task::AtomicWaker;
use ipnet::IpNet;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Most open connections, if the system allows as many.
const OPEN_MAX: usize = 20_000;
/// Most connections from one address, unless it is this machine's or a trusted proxy's.
const PER_ADDRESS_MAX: usize = 256;
/// Connections beyond the others, which may only ask for the server's health.
const RESERVE_MAX: usize = 16;
/// Time without a request after which a place may be given away: a new connection may have sent one that was not read
/// yet.
const IDLE_MIN: Duration = Duration::from_millis(200);
/// File descriptors that the program needs for itself: the state file, the listener, standard streams, signals.
const OWN_DESCRIPTORS: usize = 32;

/// The limits of [`Connections`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    open: usize,
    reserve: usize,
    per_address: usize,
    trusted_proxies: Vec<IpNet>,
}

impl Limits {
    /// The limits of a process with this many file descriptors. A stream needs one on either side of this program, so
    /// callers get 60 % of those that it does not need for itself.
    pub(crate) fn new(descriptors: usize, trusted_proxies: &[IpNet]) -> Self {
        let open = (descriptors.saturating_sub(OWN_DESCRIPTORS) / 5 * 3).clamp(4, OPEN_MAX);
        let trusted_proxies = trusted_proxies.to_vec();
        Self { open, reserve: (open / 4).clamp(2, RESERVE_MAX), per_address: PER_ADDRESS_MAX, trusted_proxies }
    }
}

/// All open connections. Clones share one list.
#[derive(Clone, Debug)]
pub(crate) struct Connections(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limits: Limits,
    open: Mutex<Open>,
    /// Notified when a connection or a request ends.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Open {
    /// Connections by number, so that the oldest comes first.
    places: BTreeMap<u64, Arc<Use>>,
    per_address: HashMap<IpAddr, usize>,
    next_number: u64,
}

/// The present use of a connection.
#[derive(Debug)]
struct Use {
    /// Since when it has had no request; `None` while one is under way.
    idle_since: Mutex<Option<Instant>>,
    /// Whether it has ever had a request.
    had_request: AtomicBool,
    is_reserve: bool,
    /// Set when its place is needed for another connection.
    is_unwanted: AtomicBool,
    /// Set when the server stops.
    is_stopping: AtomicBool,
    /// Wakes the connection's task when one of the two is set.
    waker: AtomicWaker,
}

/// Reasons why a connection gets no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoPlace {
    /// Its address has the most connections that one may have.
    Address,
    /// All places are taken, and none of their connections has been idle for long.
    Full,
}

/// The place of an open connection. Dropping it makes room.
#[derive(Debug)]
pub(crate) struct Place {
    shared: Arc<Shared>,
    number: u64,
    address: IpAddr,
    now: Arc<Use>,
    /// Whether it is one of the reserve, which may only ask for the server's health.
    pub(crate) is_reserve: bool,
}

/// What a connection is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Serve requests as they come.
    GoOn,
    /// Close after the request that is under way, since the server stops.
    Finish,
    /// Close at once, since its place is needed for another connection.
    Close,
}

/// Marks a request as under way on a connection, until it is dropped.
#[derive(Debug)]
pub(crate) struct Busy {
    shared: Arc<Shared>,
    now: Arc<Use>,
}

impl Connections {
    /// No connections yet, under these limits.
    pub(crate) fn new(limits: Limits) -> Self {
        Self(Arc::new(Shared { limits, open: Mutex::default(), changed: Notify::new() }))
    }

    /// Takes a place for a connection from this address.
    ///
    /// When all places are taken, the oldest connection without a request for a while is closed for it. If all have
    /// requests, the new connection is one of a small reserve until a place is free.
    ///
    /// # Errors
    /// [`NoPlace`]: this address has too many, or the reserve is taken as well.
    pub(crate) fn admit(&self, address: IpAddr) -> Result<Place, NoPlace> {
        let Shared { limits, open, .. } = &*self.0;
        let address = address.to_canonical();
        let mut open = open.lock();
        let count = open.per_address.get(&address).copied().unwrap_or(0);
        let is_unlimited = address.is_loopback() || limits.trusted_proxies.iter().any(|net| net.contains(&address));
        if count >= limits.per_address && !is_unlimited {
            return Err(NoPlace::Address);
        }
        while open.places.len() >= limits.open && open.close_idle() {}
        if open.places.len() >= limits.open + limits.reserve {
            return Err(NoPlace::Full);
        }
        let is_reserve = open.places.len() >= limits.open;
        let now = Arc::new(Use::new(is_reserve));
        let number = open.next_number;
        open.next_number += 1;
        open.places.insert(number, Arc::clone(&now));
        *open.per_address.entry(address).or_default() += 1;
        Ok(Place { shared: Arc::clone(&self.0), number, address, now, is_reserve })
    }

    /// Waits until a connection or a request ends, since the last call.
    pub(crate) async fn changed(&self) {
        self.0.changed.notified().await;
    }

    /// Closes the oldest connection without a request for a while, to free its resources. `false` if all have requests.
    pub(crate) fn close_idle(&self) -> bool {
        self.0.open.lock().close_idle()
    }

    /// Tells all connections that the server stops. None may be admitted after this.
    pub(crate) fn stop(&self) {
        self.0.open.lock().places.values().for_each(|now| now.tell(&now.is_stopping));
    }
}

impl Open {
    /// Frees the place at once; its connection ends when its task next runs.
    fn close_idle(&mut self) -> bool {
        let idle = self.places.iter().find(|(_, now)| now.is_idle());
        let Some(number) = idle.map(|(number, _)| *number) else { return false };
        if let Some(now) = self.places.remove(&number) {
            now.tell(&now.is_unwanted);
        }
        true
    }
}

impl Use {
    fn new(is_reserve: bool) -> Self {
        Self {
            idle_since: Mutex::new(Some(Instant::now())),
            had_request: AtomicBool::new(false),
            is_reserve,
            is_unwanted: AtomicBool::new(false),
            is_stopping: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        }
    }

    fn tell(&self, what: &AtomicBool) {
        what.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Whether closing the connection loses nothing: it has had no request for a while. One of the reserve has got its
    /// whole answer with the first one.
    fn is_idle(&self) -> bool {
        let was_told = self.is_reserve && self.had_request.load(Ordering::Relaxed);
        self.idle_since.lock().is_some_and(|since| was_told || since.elapsed() >= IDLE_MIN)
    }
}

impl Place {
    /// Marks the connection as having a request.
    pub(crate) fn busy(&self) -> Busy {
        *self.now.idle_since.lock() = None;
        self.now.had_request.store(true, Ordering::Relaxed);
        Busy { shared: Arc::clone(&self.shared), now: Arc::clone(&self.now) }
    }

    /// Whether the connection has had a request. Closing it before the first one loses nothing.
    pub(crate) fn had_request(&self) -> bool {
        self.now.had_request.load(Ordering::Relaxed)
    }

    /// Whether the connection is to go on. The task of `cx` is woken when that changes. Called at each poll of the
    /// connection, so it costs little.
    pub(crate) fn poll_wish(&self, cx: &Context<'_>) -> Wish {
        self.now.waker.register(cx.waker());
        if self.now.is_unwanted.load(Ordering::Acquire) {
            Wish::Close
        } else if self.now.is_stopping.load(Ordering::Acquire) {
            Wish::Finish
        } else {
            Wish::GoOn
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        *self.now.idle_since.lock() = Some(Instant::now());
        self.shared.changed.notify_one();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.shared.open.lock();
        open.places.remove(&self.number);
        if let Some(count) = open.per_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.per_address.remove(&self.address);
            }
        }
        self.shared.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connections(descriptors: usize, trusted: &[&str]) -> Connections {
        let trusted: Vec<IpNet> = trusted.iter().map(|net| net.parse().unwrap()).collect();
        Connections::new(Limits::new(descriptors, &trusted))
    }

    fn is_unwanted(place: &Place) -> bool {
        place.now.is_unwanted.load(Ordering::Acquire)
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn limits_follow_the_descriptors() {
        let check = |descriptors, open, reserve| {
            let limits = Limits::new(descriptors, &[]);
            assert_eq!((limits.open, limits.reserve), (open, reserve), "{descriptors}");
        };
        check(0, 4, 2);
        check(64, 18, 4);
        check(1024, 594, 16);
        check(1 << 20, OPEN_MAX, 16);
    }

    #[test]
    fn an_address_has_its_share_unless_it_is_trusted() {
        let connections = connections(100_000, &["10.0.0.0/8"]);
        let taken: Vec<_> = (0..PER_ADDRESS_MAX).map(|_| connections.admit(address("203.0.113.9")).unwrap()).collect();
        assert_eq!(connections.admit(address("203.0.113.9")).unwrap_err(), NoPlace::Address);
        assert_eq!(connections.admit(address("::ffff:203.0.113.9")).unwrap_err(), NoPlace::Address, "the same address");
        connections.admit(address("203.0.113.10")).unwrap();
        for unlimited in ["127.0.0.1", "::1", "10.1.2.3"] {
            let places: Vec<_> = (0..=PER_ADDRESS_MAX).map(|_| connections.admit(address(unlimited))).collect();
            assert!(places.iter().all(Result::is_ok), "{unlimited}");
        }
        drop(taken);
        connections.admit(address("203.0.113.9")).unwrap();
    }

    #[test]
    fn the_oldest_idle_connection_makes_room() {
        let connections = connections(0, &[]);
        let admit = || connections.admit(address("127.0.0.1"));
        let long_idle = |place: &Place| *place.now.idle_since.lock() = Instant::now().checked_sub(IDLE_MIN);
        let places: Vec<_> = (0..4).map(|_| admit().unwrap()).collect();
        let busy = places.first().map(Place::busy);
        places.iter().skip(1).for_each(long_idle);
        let fifth = admit().unwrap();
        assert!(!fifth.is_reserve);
        let closed: Vec<bool> = places.iter().map(is_unwanted).collect();
        assert_eq!(closed, [false, true, false, false]);
        // A new connection may have sent a request that was not read yet.
        let all: Vec<_> = places.iter().skip(2).map(Place::busy).collect();
        let (sixth, seventh) = (admit().unwrap(), admit().unwrap());
        assert!(sixth.is_reserve && seventh.is_reserve && !is_unwanted(&fifth));
        assert_eq!(admit().unwrap_err(), NoPlace::Full);
        // A request in the reserve that was answered makes room at once, for one more of the reserve.
        drop(sixth.busy());
        let eighth = admit().unwrap();
        assert!(is_unwanted(&sixth) && eighth.is_reserve);
        let _held = eighth.busy();
        assert_eq!(admit().unwrap_err(), NoPlace::Full);
        drop((busy, all, sixth, seventh));
        places.iter().for_each(long_idle);
        assert!(!admit().unwrap().is_reserve);
    }
}
