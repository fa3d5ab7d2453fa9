//! Who is there: pure, without clock, socket or runtime. It knows nothing of leaders; an [`Election`](crate::Election)
//! owns it.
//!
//! ```text
//!   lane_up · lane_stopping · lane_down · dial_failed · acked · heard · admit · adopt · tick     (now is an argument)
//!                                     │
//!                              ┌──────▼─────┐
//!             want(peer) ─────▶│ Membership │──▶ orders(peer) · members() · recent()
//!                              └────────────┘
//! ```

mod admission;
pub(crate) mod change;
mod list;
mod orders;
mod sought;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use thiserror::Error;

use crate::{
    Figures, Identity, Member, Peer, PeerAddress, Status, Time,
    limits::{CHANGES_KEPT, JOINED_KEPT, MEMBERS_MAX},
    timing,
};
use change::ANEW;

pub use change::{Change, ChangeKind, MISSED};
pub use list::{ListedMember, MemberList};
pub use orders::{DialError, Orders, Wanted};
pub use sought::Sought;

/// A node that was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Met {
    /// Its entry.
    pub peer: Peer,
    /// It is another process than the one that was met before.
    pub is_anew: bool,
    /// It had another entry, by another address, which is dropped.
    pub replaces: Option<Peer>,
}

/// Why a node cannot be a member.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
pub enum Refusal {
    /// It is this node itself, or one that is listed by another address too: one entry is enough.
    #[error("it is listed already")]
    Listed,
    /// A node with its id is alive.
    #[error("another node with its id is alive at {0}")]
    Taken(Arc<str>),
    /// Its ballot is beyond any that can have been claimed.
    #[error("its ballot is so far above all others that no election can have led to it")]
    Absurd,
    /// There are too many members.
    #[error("a cluster holds {MEMBERS_MAX} members, and this one is full")]
    Full,
}

/// A dead peer that has spoken to us so often is at another address: each time it was dialled in vain at the configured
/// one.
const VAIN_HINTS_MAX: u32 = 3;

#[derive(Debug)]
struct PeerState {
    member: Member,
    /// It was not configured: it came by itself, or a leader told of it.
    joined: bool,
    orders: Orders,
    /// The lane that is open to it.
    up: Option<Wanted>,
    /// It said that it stops, and its lane is still open for the answers that it holds.
    draining: bool,
    /// Since when it is wanted and not reached.
    unreached: Option<Time>,
    /// Why the last dial failed, since the last lane.
    error: Option<DialError>,
    /// How often it has spoken to us since then, and was dialled in vain.
    vain_hints: u32,
}

impl PeerState {
    /// Whether it speaks to us from elsewhere, while nobody answers at the address that was configured.
    fn has_left(&self) -> bool {
        self.member.status == Status::Dead && self.vain_hints >= VAIN_HINTS_MAX
    }
}

/// The table of members.
#[derive(Debug)]
pub struct Membership {
    me: Member,
    heartbeat: Duration,
    /// Between two heartbeats to the same peer, and since when.
    interval: Duration,
    interval_since: Time,
    /// A silence may last so much longer, because this node's own timers come late.
    late: Duration,
    peers: BTreeMap<Peer, PeerState>,
    next_peer: u32,
    recent: VecDeque<Change>,
    fresh: Vec<Change>,
    changes: u64,
    /// The version of the leader's list that was taken over last.
    adopted_version: u64,
}

impl Membership {
    /// A node among its configured peers; an entry with its own id or address is left out.
    pub fn new(me: &Identity, peers: &[PeerAddress], heartbeat: Duration) -> Self {
        let is_me =
            |peer: &&PeerAddress| peer.grpc_addr == me.grpc_addr || (peer.id.is_some() && peer.id == me.id);
        let mut membership = Self {
            me: Member::known(me, Status::Alive, Time::ZERO),
            heartbeat,
            interval: heartbeat,
            interval_since: Time::ZERO,
            late: Duration::ZERO,
            peers: BTreeMap::new(),
            next_peer: 0,
            recent: VecDeque::new(),
            fresh: Vec::new(),
            changes: 0,
            adopted_version: 0,
        };
        for peer in peers.iter().filter(|peer| !is_me(peer)) {
            membership.add(Member::unmet(peer, Time::ZERO), false);
        }
        membership
    }

    // ── Events ─────────────────────────────────────────────────────────────────────────────────────────────────

    /// A lane of this kind to the peer is open, and this is who answers on it.
    ///
    /// # Errors
    /// The peer is not who was looked for: its entry is dropped, or its lane is to be closed.
    pub fn lane_up(
        &mut self,
        now: Time,
        peer: Peer,
        kind: Wanted,
        identity: &Identity,
    ) -> Result<Met, Refusal> {
        if !self.peers.contains_key(&peer) {
            return Err(Refusal::Listed);
        }
        let replaces = self.drop_double(peer, identity)?;
        if let Some(twin) = self.twin(peer, identity) {
            self.redial(peer);
            return Err(Refusal::Taken(twin));
        }
        let mut met = Met { peer, is_anew: false, replaces };
        let Some(state) = self.peers.get_mut(&peer) else { return Ok(met) };
        met.is_anew = state.member.is_another_life(identity);
        let was_alive = state.member.status == Status::Alive;
        state.member.learn(identity);
        state.up = Some(kind);
        state.draining = false;
        state.unreached = None;
        (state.error, state.vain_hints) = (None, 0);
        state.member.heard = Some(now);
        if met.is_anew && was_alive {
            self.set_status(now, peer, Status::Dead, ANEW);
        }
        self.set_status(now, peer, Status::Alive, "its lane is open");
        Ok(met)
    }

    /// The peer answers what it holds and wants no more.
    pub fn lane_stopping(&mut self, now: Time, peer: Peer) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        // It says so again at every heartbeat: so it is heard.
        state.draining |= state.up.take().is_some();
        state.member.heard = Some(now);
        state.unreached.get_or_insert(now);
        self.set_status(now, peer, Status::Stopped, "it was told to stop");
    }

    /// The lane to the peer has ended; without a reason, because we closed it.
    pub fn lane_down(&mut self, now: Time, peer: Peer, reason: Option<&str>) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        let was_up = state.up.take().is_some();
        state.draining = false;
        if state.orders.wanted == Wanted::Off {
            return;
        }
        state.unreached.get_or_insert(now);
        if let Some(reason) = reason
            && was_up
            && state.member.status == Status::Alive
        {
            self.set_status(now, peer, Status::Suspect, reason);
        }
    }

    /// The peer could not be dialled. Returns whether that is news.
    pub fn dial_failed(&mut self, now: Time, peer: Peer, error: &DialError) -> bool {
        let Some(state) = self.peers.get_mut(&peer) else { return false };
        // A node that was never met may still be starting, and has ten heartbeats of time.
        let met = state.member.heard.is_some();
        let judged = match error {
            DialError::Refused | DialError::Unresolvable if met => Status::Dead,
            DialError::Stopping => Status::Stopped,
            _ => Status::Suspect,
        };
        let is_news = state.error.replace(error.clone()).as_ref() != Some(error);
        if matches!(state.member.status, Status::Alive | Status::Suspect) {
            self.set_status(now, peer, judged, &error.to_string());
        }
        is_news
    }

    /// The peer acknowledged a heartbeat.
    pub fn acked(&mut self, now: Time, peer: Peer, figures: Figures) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        state.member.heard = Some(now);
        state.member.figures = figures;
    }

    /// A node spoke to us as a member: it is found, or joins. If it has no open lane, it is dialled at once.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub fn heard(&mut self, now: Time, sender: &Identity) -> Result<Met, Refusal> {
        let met = self.admit(now, sender)?;
        let Some(state) = self.peers.get_mut(&met.peer) else { return Ok(met) };
        state.member.heard = Some(now);
        if state.up.is_none() && !state.draining {
            state.orders.reconnect_hints += 1;
            state.vain_hints = state.vain_hints.saturating_add(1);
        }
        Ok(met)
    }

    /// What this node itself holds and has done.
    pub fn own_figures(&mut self, now: Time, figures: Figures) {
        self.me.heard = Some(now);
        self.me.figures = figures;
    }

    /// Judges those that are silent. To be called every H.
    pub fn tick(&mut self, now: Time) {
        let peers: Vec<Peer> = self.peers.keys().copied().collect();
        for peer in peers {
            self.judge_silence(now, peer);
        }
        let forgotten = |state: &PeerState| {
            let is_gone = matches!(state.member.status, Status::Dead | Status::Stopped);
            let gone_for = now.since(state.member.since);
            state.joined && is_gone && gone_for > JOINED_KEPT && state.orders.wanted != Wanted::Schedule
        };
        self.peers.retain(|_, state| !forgotten(state));
    }

    /// Drops those who are gone and are not among these lives. Configured ones stay.
    pub fn drop_gone(&mut self, registered: &BTreeSet<u64>) {
        self.peers.retain(|_, state| {
            let is_gone = matches!(state.member.status, Status::Dead | Status::Stopped);
            let is_registered = state.member.boot.is_some_and(|boot| registered.contains(&boot));
            !(state.joined && is_gone) || is_registered || state.orders.wanted == Wanted::Schedule
        });
    }

    /// A timer of this node came so much too late. A node that cannot keep time would take its own delay for the
    /// silence of others, so it waits as much longer, at most two heartbeats. Each timer that comes in time takes an
    /// eighth of that away.
    pub fn timer_was_late(&mut self, by: Duration) {
        self.late = by.max(self.late * 7 / 8).min(self.heartbeat * timing::LATENESS_MAX);
    }

    /// How long a peer that sends heartbeats at this interval may be silent.
    pub fn silence_max(&self, heartbeat: Duration) -> Duration {
        timing::silence_max(heartbeat) + self.late
    }

    /// How much of [`silence_max`](Self::silence_max) is for this node's own late timers.
    pub fn lateness(&self) -> Duration {
        self.late
    }

    /// After a late wake-up of this node: the silence of its peers was its own delay.
    pub fn restart_timers(&mut self, now: Time) {
        for state in self.peers.values_mut() {
            if state.up.is_some() || state.draining {
                state.member.heard = Some(now);
            }
            state.unreached = state.unreached.map(|_| now);
        }
    }

    /// What is to be kept towards the peer.
    pub fn want(&mut self, now: Time, peer: Peer, wanted: Wanted) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        if state.orders.wanted != wanted {
            state.orders.wanted = wanted;
            state.unreached = (wanted != Wanted::Off && state.up != Some(wanted)).then_some(now);
        }
    }

    /// Sets the time between two heartbeats to a peer, by which its silence is judged from now on.
    pub fn pace(&mut self, now: Time, interval: Duration) {
        if self.interval != interval {
            (self.interval, self.interval_since) = (interval, now);
        }
    }

    /// The peer leads, and was not heard in time.
    pub fn suspect(&mut self, now: Time, peer: Peer, reason: &str) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        state.up = None;
        self.redial(peer);
        if self.status(peer) == Status::Alive {
            self.set_status(now, peer, Status::Suspect, reason);
        }
    }

    /// Writes a change into the history.
    pub fn record(&mut self, change: Change) {
        self.changes += 1;
        self.fresh.push(change.clone());
        self.recent.push_front(change);
        self.recent.truncate(CHANGES_KEPT);
    }

    // ── What follows from them ─────────────────────────────────────────────────────────────────────────────────

    /// The other nodes.
    pub fn peers(&self) -> impl Iterator<Item = Peer> {
        self.peers.keys().copied()
    }

    /// The configured ones.
    pub fn configured(&self) -> impl Iterator<Item = Peer> {
        self.peers.iter().filter(|(_, state)| !state.joined).map(|(peer, _)| *peer)
    }

    /// A node, as this one knows it.
    pub fn member(&self, peer: Peer) -> Option<&Member> {
        self.peers.get(&peer).map(|state| &state.member)
    }

    /// This node.
    pub fn me(&self) -> &Member {
        &self.me
    }

    /// The peer of this name, the living one if there are several.
    pub fn named(&self, name: &str) -> Option<Peer> {
        let named = self.peers.iter().filter(|(_, state)| *state.member.name == *name);
        named.max_by_key(|(_, state)| state.member.status == Status::Alive).map(|(peer, _)| *peer)
    }

    /// The members as people see them, and the ghosts: whoever has returned at another address is not shown at the one it
    /// has left.
    pub fn shown_and_ghosts(&self) -> (Vec<Member>, Vec<Member>) {
        let members = self.members();
        members.iter().cloned().partition(|member| !member.is_ghost_among(&members))
    }

    /// All members, this node included, by id.
    pub fn members(&self) -> Vec<Member> {
        let peers = self.peers.values().map(|state| &state.member);
        let mut members: Vec<Member> = std::iter::once(&self.me).chain(peers).cloned().collect();
        members.sort_by(|a, b| (a.id.is_none(), a.id, &a.name).cmp(&(b.id.is_none(), b.id, &b.name)));
        members
    }

    /// How the peer is doing.
    pub fn status(&self, peer: Peer) -> Status {
        self.member(peer).map_or(Status::Dead, |member| member.status)
    }

    /// The peer that was last met in this life.
    pub fn of_boot(&self, boot: u64) -> Option<Peer> {
        self.peers.iter().find(|(_, state)| state.member.boot == Some(boot)).map(|(peer, _)| *peer)
    }

    /// The peer's id, if it has one that is known.
    pub fn id(&self, peer: Peer) -> Option<u32> {
        self.member(peer)?.id
    }

    /// What the link to the peer is to do.
    pub fn orders(&self, peer: Peer) -> Orders {
        let orders = self.peers.get(&peer).map(|state| state.orders).unwrap_or_default();
        Orders { interval: self.interval, ..orders }
    }

    /// Whether the lane that is wanted to the peer is open, and it may be given work.
    pub fn is_up(&self, peer: Peer) -> bool {
        self.peers.get(&peer).is_some_and(|state| {
            state.up == Some(state.orders.wanted) && state.member.status == Status::Alive
        })
    }

    /// Whether any lane to the peer is open, also one that ends soon.
    pub fn has_lane(&self, peer: Peer) -> bool {
        self.peers.get(&peer).is_some_and(|state| state.up.is_some() || state.draining)
    }

    /// Since when the peer is wanted and not reached.
    pub fn unreached_since(&self, peer: Peer) -> Option<Time> {
        self.peers.get(&peer)?.unreached
    }

    /// The last changes, the newest first.
    pub fn recent(&self) -> impl Iterator<Item = &Change> {
        self.recent.iter()
    }

    /// Differs when members have come or gone.
    pub fn shape(&self) -> (u32, usize) {
        (self.next_peer, self.peers.len())
    }

    /// Counts the changes.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// The version of the leader's member list that this node holds; 0 for none.
    pub fn adopted_version(&self) -> u64 {
        self.adopted_version
    }

    /// The changes since the last call, the oldest first.
    pub fn drain_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.fresh)
    }

    /// Who is looked for at the peer's address.
    pub fn sought(&self, peer: Peer) -> Option<Sought> {
        let PeerState { member, joined, .. } = self.peers.get(&peer)?;
        Some(Sought {
            address: Arc::clone(&member.grpc_addr),
            is_configured: !joined,
            id: member.id,
            boot: member.boot,
        })
    }

    // ── Inside ─────────────────────────────────────────────────────────────────────────────────────────────────

    fn redial(&mut self, peer: Peer) {
        if let Some(state) = self.peers.get_mut(&peer) {
            state.orders.redials += 1;
        }
    }

    fn judge_silence(&mut self, now: Time, peer: Peer) {
        let silence_max = self.silence_max(self.interval);
        let Some(state) = self.peers.get_mut(&peer) else { return };
        let is_lane_open = state.up.is_some() || state.draining;
        // A peer that had a longer interval until now has the same time as the others from now on.
        let heard = state.member.heard.map(|heard| heard.max(self.interval_since));
        let Some(since) = (if is_lane_open { heard } else { state.unreached }) else { return };
        let silence = now.since(since);
        let is_silent = is_lane_open && silence >= silence_max;
        // Whether the leader is silent is the election's affair.
        if is_silent && state.orders.wanted != Wanted::Schedule {
            (state.up, state.draining) = (None, false);
            state.unreached = Some(now);
            state.orders.redials += 1;
            if state.member.status == Status::Alive {
                self.set_status(now, peer, Status::Suspect, MISSED);
            }
        } else if state.member.status == Status::Suspect && silence >= self.heartbeat * timing::DEAD {
            let why = state.error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
            let reason = format!("it was unreachable for ten heartbeats{why}");
            self.set_status(now, peer, Status::Dead, &reason);
        }
    }

    fn set_status(&mut self, now: Time, peer: Peer, status: Status, reason: &str) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        let member = &mut state.member;
        if member.status == status {
            return;
        }
        let duration = now.since(member.since);
        member.status = status;
        member.since = now;
        let name = Arc::clone(&member.name);
        let reason = reason.to_owned();
        self.record(Change { at: now, name, kind: ChangeKind::Status(status), reason, duration });
    }
}
