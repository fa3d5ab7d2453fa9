//! Who has a place at a listener. When many of the places are taken, a new connection takes one from the address that
//! has most of them: its connection that is idle for longest ends. So whoever opens thousands keeps nobody out, and
//! below that number nobody loses a connection. A connection without any answer yet is spared until half as many again
//! are served, so that many that come at once are served. When all are taken by connections that are not idle, the
//! newest ones have one of a few reserved places, at which only probes and peers are answered.
//!
//! Where the address with most connections opens another one itself, that one is [`pending`](super::pending) first.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use axum::extract::Request;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::AbortHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tonic::Code;

use super::{
    address::Address,
    fair::{FairQueue, Flow},
};
use crate::{
    api::error::ApiError,
    gateway::listener::arrival::Arrival,
    limits::{
        CONNECTIONS_CROWDED, CONNECTIONS_MAX, CONNECTIONS_RESERVED, IDLE_LOOKED_AT_MAX, PLACE_TIMEOUT,
        REQUEST_COST,
    },
};

/// How many connections a listener has places for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Those of everybody.
    pub places: usize,
    /// Those beyond them.
    pub reserved: usize,
}

impl Room {
    /// As much as a listener ever takes.
    pub const MOST: Self = Self { places: CONNECTIONS_MAX, reserved: CONNECTIONS_RESERVED };

    /// What a listener takes of so many descriptors.
    pub fn within(descriptors: usize) -> Self {
        let reserved = (descriptors / 4).min(Self::MOST.reserved);
        Self { places: (descriptors - reserved).min(Self::MOST.places), reserved }
    }
}

/// Whether the request came on a connection beyond all places.
pub(in crate::gateway) fn is_on_reserved_place(request: &Request) -> bool {
    request.extensions().get().is_some_and(Arrival::is_on_reserved_place)
}

/// Refuses such a request with this code.
pub(in crate::gateway) fn refuse_on_reserved_place(request: &Request, code: Code) -> Result<(), ApiError> {
    if is_on_reserved_place(request) {
        let detail = "every connection that this node has a place for is in use; ask another node, or try again in a second";
        return Err(ApiError::new(code, detail));
    }
    Ok(())
}

/// The places of a listener.
#[derive(Debug)]
pub(in crate::gateway) struct Places {
    places: usize,
    /// So many of everybody's may be taken before an address loses connections.
    crowded_from: usize,
    free: Arc<Semaphore>,
    reserved: Arc<Semaphore>,
    taken: Arc<Mutex<TakenPlaces>>,
    count: AtomicU64,
    uses: Arc<AtomicU64>,
    queue: FairQueue,
}

/// The connections that have a place of everybody's, by their addresses and by numbers that are never used again.
#[derive(Debug, Default)]
struct TakenPlaces {
    by_address: HashMap<Address, BTreeMap<u64, Arc<Usage>>>,
    count: usize,
}

impl TakenPlaces {
    fn insert(&mut self, address: Address, number: u64, usage: Arc<Usage>) {
        self.by_address.entry(address).or_default().insert(number, usage);
        self.count += 1;
    }

    fn remove(&mut self, address: Address, number: u64) -> Option<Arc<Usage>> {
        let connections = self.by_address.get_mut(&address)?;
        let usage = connections.remove(&number)?;
        self.count -= 1;
        if connections.is_empty() {
            self.by_address.remove(&address);
        }
        Some(usage)
    }

    /// Of the oldest connections of the address with most of them, the one that is idle for longest. A connection
    /// without any answer yet counts only if `new_may_go`.
    fn idlest_of_largest(&self, new_may_go: bool) -> Option<(Address, u64)> {
        let (address, largest) = self.by_address.iter().max_by_key(|(_, connections)| connections.len())?;
        longest_idle(may_go(largest, new_may_go).map(|(number, usage)| ((*address, *number), usage)))
    }

    /// Whether no address has more connections than this one, and one of its own is idle and may end.
    fn is_largest_and_idle(&self, address: Address, new_may_go: bool) -> bool {
        self.by_address.get(&address).is_some_and(|own| {
            self.by_address.values().all(|other| other.len() <= own.len())
                && may_go(own, new_may_go).any(|(_, usage)| usage.is_idle())
        })
    }

    /// The connection that is idle for longest.
    fn idlest(&self) -> Option<(Address, u64)> {
        let all = self.by_address.iter().flat_map(|(address, connections)| {
            connections.iter().map(|(number, usage)| ((*address, *number), usage))
        });
        longest_idle(all)
    }
}

/// The oldest connections of an address, without those that were answered nothing yet unless these may go, too.
fn may_go(
    connections: &BTreeMap<u64, Arc<Usage>>,
    new_may_go: bool,
) -> impl Iterator<Item = (&u64, &Arc<Usage>)> {
    let oldest = connections.iter().take(IDLE_LOOKED_AT_MAX);
    oldest.filter(move |(_, usage)| new_may_go || !usage.flow.is_new())
}

fn longest_idle<'a>(
    connections: impl Iterator<Item = ((Address, u64), &'a Arc<Usage>)>,
) -> Option<(Address, u64)> {
    let idle = connections.filter_map(|(place, usage)| Some((usage.idle_since()?, place)));
    idle.min_by_key(|(since, _)| *since).map(|(_, place)| place)
}

/// A connection's place, which is free again when this is dropped.
#[derive(Debug)]
pub(in crate::gateway) struct Place {
    pub(in crate::gateway) usage: Arc<Usage>,
    permit: Mutex<OwnedSemaphorePermit>,
    free: Arc<Semaphore>,
    taken: Arc<Mutex<TakenPlaces>>,
    address: Address,
    number: u64,
}

/// What a connection does.
#[derive(Debug)]
pub(in crate::gateway) struct Usage {
    is_reserved: AtomicBool,
    /// Requests that are not answered to the end.
    requests: AtomicUsize,
    /// To whom its work is charged.
    pub(in crate::gateway) flow: Arc<Flow>,
    /// There is more to write than the client has read.
    is_unread: AtomicBool,
    /// When it was last used, as a number in the order of all uses, because a clock would be read at each answer.
    used: AtomicU64,
    /// All uses of the listener's connections so far.
    uses: Arc<AtomicU64>,
    leave: CancellationToken,
    /// The task that serves it.
    task: OnceLock<AbortHandle>,
}

impl Places {
    pub(in crate::gateway) fn new(room: Room, queue: FairQueue) -> Self {
        let [free, reserved] = [room.places, room.reserved].map(|places| Arc::new(Semaphore::new(places)));
        let (crowded_from, count) = (room.places.div_ceil(2).min(CONNECTIONS_CROWDED), AtomicU64::new(0));
        Self {
            places: room.places,
            crowded_from,
            free,
            reserved,
            taken: Arc::default(),
            count,
            uses: Arc::default(),
            queue,
        }
    }

    /// Whether every place of everybody's is taken.
    pub(in crate::gateway) fn is_full(&self) -> bool {
        self.free.available_permits() == 0
    }

    /// Whether so many are served that an address loses connections.
    pub(in crate::gateway) fn is_crowded(&self) -> bool {
        lock(&self.taken).count >= self.crowded_from
    }

    /// Whether a connection from this address would end an idle one of that address itself. `held` places are taken by
    /// connections that are not served.
    pub(in crate::gateway) fn is_crowded_by(&self, address: Address, held: usize) -> bool {
        let taken = lock(&self.taken);
        taken.count >= self.crowded_from && taken.is_largest_and_idle(address, self.new_may_go(held))
    }

    /// A place of everybody's for a connection that is not served yet.
    pub(in crate::gateway) fn hold(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.free).try_acquire_owned().ok()
    }

    /// Whether connections without any answer may be ended too: many that come at once wait for their turns, and only
    /// seem idle.
    fn new_may_go(&self, held: usize) -> bool {
        let served = self.places - self.free.available_permits() - held;
        served >= self.crowded_from * 3 / 2
    }

    /// A place for a new connection, which may hold one; none if the reserved ones are taken too. `leave` tells the
    /// connection to end.
    pub(in crate::gateway) fn take(
        &self,
        from: IpAddr,
        held: Option<OwnedSemaphorePermit>,
        leave: CancellationToken,
    ) -> Option<Place> {
        let free = held.or_else(|| self.hold());
        let is_reserved = free.is_none();
        let permit = free.or_else(|| Arc::clone(&self.reserved).try_acquire_owned().ok())?;
        let number = self.count.fetch_add(1, Relaxed);
        let usage =
            Usage::new(is_reserved, leave, Flow::new(self.queue.clone(), from), Arc::clone(&self.uses));
        let (usage, permit, address) = (Arc::new(usage), Mutex::new(permit), from.into());
        let (free, taken) = (Arc::clone(&self.free), Arc::clone(&self.taken));
        let place = Place { usage, permit, free, taken, address, number };
        if !is_reserved {
            place.enter();
        }
        Some(place)
    }

    /// Tells an idle connection to end if the listener is crowded or full; returns whether there was one. `held` places
    /// are taken by connections that are not served.
    pub(in crate::gateway) fn make_room(&self, held: usize) -> bool {
        let mut taken = lock(&self.taken);
        let (is_crowded, is_full) = (taken.count >= self.crowded_from, self.is_full());
        let new_may_go = is_full || self.new_may_go(held);
        let of_largest = is_crowded.then(|| taken.idlest_of_largest(new_may_go)).flatten();
        let idlest = of_largest.or_else(|| is_full.then(|| taken.idlest()).flatten());
        let Some((address, number)) = idlest else { return false };
        // It counts for no address while it ends.
        taken.remove(address, number).inspect(|usage| usage.end()).is_some()
    }
}

impl Place {
    /// Returns when an idle connection has made room for this one, or none did so in time.
    pub(in crate::gateway) async fn settle_soon(&self) {
        let _ = timeout(PLACE_TIMEOUT, self.settle()).await;
    }

    /// Changes a reserved place for one of everybody's as soon as one is free.
    pub(in crate::gateway) async fn settle(&self) {
        if let Ok(permit) = Arc::clone(&self.free).acquire_owned().await {
            *lock(&self.permit) = permit;
            self.usage.is_reserved.store(false, Relaxed);
            self.enter();
        }
    }

    fn enter(&self) {
        lock(&self.taken).insert(self.address, self.number, Arc::clone(&self.usage));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.taken).remove(self.address, self.number);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Usage {
    pub(super) fn new(is_reserved: bool, leave: CancellationToken, flow: Flow, uses: Arc<AtomicU64>) -> Self {
        Self {
            is_reserved: AtomicBool::new(is_reserved),
            requests: AtomicUsize::new(0),
            flow: Arc::new(flow),
            is_unread: AtomicBool::new(false),
            task: OnceLock::new(),
            used: AtomicU64::new(uses.fetch_add(1, Relaxed)),
            uses,
            leave,
        }
    }

    /// This task serves it.
    pub(in crate::gateway) fn set_task(&self, task: AbortHandle) {
        let _ = self.task.set(task);
    }

    /// Ends it, at once if it was answered nothing yet.
    fn end(&self) {
        if let Some(task) = self.task.get().filter(|_| self.flow.is_new()) {
            return task.abort();
        }
        self.flow.mark_leaving();
        self.leave.cancel();
    }

    pub(in crate::gateway) fn is_reserved(&self) -> bool {
        self.is_reserved.load(Relaxed)
    }

    /// There is more to write than the client has read, or there is not.
    pub(super) fn set_unread(&self, is_unread: bool) {
        self.is_unread.store(is_unread, Relaxed);
    }

    pub(in crate::gateway) fn is_idle(&self) -> bool {
        self.requests.load(Relaxed) == 0 && !self.is_unread.load(Relaxed)
    }

    /// When it was last used, in the order of uses.
    pub(in crate::gateway) fn last_use(&self) -> u64 {
        self.used.load(Relaxed)
    }

    /// Since when it has been idle, in the order of uses; nothing if it is not.
    fn idle_since(&self) -> Option<u64> {
        self.is_idle().then(|| self.last_use())
    }

    /// Counts a request until what is returned is dropped.
    pub(in crate::gateway) fn request(self: &Arc<Self>) -> InUse {
        self.requests.fetch_add(1, Relaxed);
        self.flow.turn.charge(REQUEST_COST);
        InUse(Arc::clone(self))
    }
}

/// A request that is not answered to the end.
pub(in crate::gateway) struct InUse(Arc<Usage>);

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.used.store(self.0.uses.fetch_add(1, Relaxed), Relaxed);
        self.0.requests.fetch_sub(1, Relaxed);
        self.0.flow.mark_answered();
    }
}
