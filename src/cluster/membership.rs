//! Who is there: pure, without clock, socket or runtime. It knows nothing of leaders; [`super::election`] owns it.
//!
//! ```text
//!   lane_up · lane_stopping · lane_down · dial_failed · acked · heard · admit · adopt · tick     (now is an argument)
//!                                     │
//!                              ┌──────▼─────┐
//!             want(peer) ─────▶│ Membership │──▶ orders(peer) · members() · recent()
//!                              └────────────┘
//! ```

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use thiserror::Error;

use super::{Identity, PeerAddress, timing};
use crate::{
    limits::{CHANGES_KEPT, JOINED_KEPT, MEMBERS_MAX},
    worker::Figures,
};

/// Time since this node started.
pub type Time = Duration;

/// Another node, by a number that is never used again: the configured ones come first, as they are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Peer(pub u32);

/// How a member is doing, as the observer knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Heard of lately.
    Alive,
    /// Not met yet, or its lane closed, or it missed three heartbeats; it gets no work.
    Suspect,
    /// It refuses connections, or was unreachable for ten heartbeats.
    Dead,
    /// It said that it stops.
    Stopped,
}

/// A node of the cluster, as the observer knows it.
#[derive(Debug, Clone)]
pub struct Member {
    /// Its id; `None` for a node without one, and while it is not yet learnt.
    pub id: Option<u32>,
    /// Its name; its address until the name is learnt.
    pub name: Arc<str>,
    /// The life it was last met in.
    pub boot: Option<u64>,
    /// Where its peers and gRPC clients reach it: as configured, else as it says itself.
    pub grpc_addr: Arc<str>,
    /// Where it says that it is reached.
    pub advertised: Arc<str>,
    /// Where HTTP clients reach it; empty until learnt.
    pub http_addr: Arc<str>,
    /// Its version; empty until learnt.
    pub version: Arc<str>,
    /// How it is doing.
    pub status: Status,
    /// Since when.
    pub since: Time,
    /// When it was last heard of.
    pub heard: Option<Time>,
    /// What it holds and has done.
    pub figures: Figures,
}

/// What is kept towards a peer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Wanted {
    /// Nothing: the leader watches it.
    #[default]
    Off,
    /// A lane on which it does work for us, and heartbeats.
    Work,
    /// A lane on which it, the leader, schedules for us.
    Schedule,
}

/// What the link to a peer is to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Orders {
    /// What to keep.
    pub wanted: Wanted,
    /// Counted up to have an open lane closed, and the peer dialled at once.
    pub redials: u64,
    /// Counted up to have the peer dialled at once if no lane is open.
    pub reconnect_hints: u64,
    /// Between two heartbeats.
    pub interval: Duration,
}

impl Orders {
    /// Whether a lane, or its dial, that was begun by these is to end by the others.
    pub fn are_ended_by(&self, other: &Self) -> bool {
        (self.wanted, self.redials) != (other.wanted, other.redials)
    }
}

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

/// A change of a member or of the leader.
#[derive(Debug, Clone)]
pub struct Change {
    /// When it was seen.
    pub at: Time,
    /// Whom it happened to.
    pub name: Arc<str>,
    /// What it became.
    pub kind: ChangeKind,
    /// Why.
    pub reason: String,
    /// How long the state before had lasted.
    pub duration: Duration,
}

/// What a member became.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It has another status.
    Status(Status),
    /// It leads.
    Leads,
    /// It led, and is not reached any more.
    LeaderLost,
}

/// Why a dial failed.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
pub enum DialError {
    /// Nobody listens there.
    #[error("connection refused")]
    Refused,
    /// The name has no address.
    #[error("the name cannot be resolved")]
    Unresolvable,
    /// No lane within the time.
    #[error("no answer in time")]
    TimedOut,
    /// It says that it is stopping.
    #[error("it is stopping")]
    Stopping,
    /// It does not know the cluster's token.
    #[error("who answers there does not prove that it knows this cluster's token")]
    Unproven,
    /// It knows the token, and is not who is known by this address.
    #[error("another node answers there than the one that is known by this address")]
    Misled,
    /// It is this node.
    #[error("it is this node itself")]
    Itself,
    /// It does not know this node's token.
    #[error("it refuses this node as a stranger: PRIMACY_TOKEN is not the same there")]
    Stranger,
    /// Anything else, such as a refusal of this node as a member.
    #[error("{0}")]
    Other(String),
}

/// The member list, as a leader's heartbeats carry it.
#[derive(Debug, Clone)]
pub struct MemberList {
    /// Counts its changes.
    pub version: u64,
    /// Its members; none if the receiver has them already. `heard` is the age here.
    pub members: Vec<Member>,
}

/// A dead peer that has spoken to us so often is elsewhere: each time its configured address was dialled at once.
const VAIN_HINTS_MAX: u32 = 3;

/// Who is looked for at an address.
#[derive(Debug, Clone)]
pub struct Sought {
    /// `host:port`.
    pub address: Arc<str>,
    /// The address is of our own configuration, and not told of by others.
    pub is_configured: bool,
    /// The id that was configured or learnt, when it was last looked.
    pub id: Option<u32>,
    /// The life that was met last.
    pub boot: Option<u64>,
}

impl Sought {
    /// Whether it may be this node that answers, which has proven who it is. Who passes our calls on to another node is
    /// told by that: the other one is known by an address of its own.
    ///
    /// An address that others told of is that of the node itself: it says so, or is in the life that they met. One of our own
    /// configuration may be another name for the node, and a node may have come to it that we did not know.
    pub fn may_be<'a>(&self, node: &Identity, members: impl Iterator<Item = &'a Member> + Clone) -> bool {
        let entry = members.clone().find(|member| member.grpc_addr == self.address);
        let boot = entry.and_then(|member| member.boot).or(self.boot);
        if boot == Some(node.boot) || node.grpc_addr == self.address {
            return true;
        }
        let mut others = members.filter(|member| member.grpc_addr != self.address);
        let is_known_elsewhere = others.any(|member| member.boot == Some(node.boot));
        let may_be_same = match entry.and_then(|member| member.id).or(self.id) {
            Some(id) => node.id == Some(id),
            None => boot.is_none() || entry.is_some_and(|member| member.name == node.name),
        };
        self.is_configured && (may_be_same || !is_known_elsewhere)
    }
}

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

    /// A node spoke to us as a member: it is found, or joins. If it is held for lost it is dialled at once.
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

    /// A peer answered a question, and said who it is.
    pub fn met(&mut self, peer: Peer, identity: &Identity) -> Option<Met> {
        let is_unmet = self.peers.get(&peer).is_some_and(|state| state.member.boot.is_none());
        if !is_unmet {
            return None;
        }
        let replaces = self.drop_double(peer, identity).ok()?;
        self.peers.get_mut(&peer)?.member.learn(identity);
        Some(Met { peer, is_anew: false, replaces })
    }

    /// Finds the node among the members, or lets it join.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub fn admit(&mut self, now: Time, node: &Identity) -> Result<Met, Refusal> {
        if Some(node.boot) == self.me.boot {
            return Err(Refusal::Listed);
        }
        if node.id.is_some() && node.id == self.me.id {
            return Err(Refusal::Taken(Arc::clone(&self.me.grpc_addr)));
        }
        let Some(peer) = self.find(node.id, Some(node.boot), &node.grpc_addr) else {
            return self.join(now, node);
        };
        if let Some(twin) = self.twin(peer, node) {
            return Err(Refusal::Taken(twin));
        }
        let Some(state) = self.peers.get_mut(&peer) else { return self.join(now, node) };
        let is_anew = state.member.is_another_life(node);
        let is_elsewhere = state.member.grpc_addr != node.grpc_addr;
        if is_elsewhere && state.joined {
            self.peers.remove(&peer);
            let joined = self.join(now, node)?;
            return Ok(Met { is_anew, replaces: Some(peer), ..joined });
        }
        // What was configured stays, and is dialled too: the node may return there.
        if is_elsewhere && state.has_left() {
            return self.join(now, node);
        }
        if state.member.boot != Some(node.boot) {
            state.member.learn(node);
        }
        if is_anew {
            (state.up, state.draining) = (None, false);
            state.orders.redials += 1;
            self.set_status(now, peer, Status::Dead, ANEW);
        }
        Ok(Met { peer, is_anew, replaces: None })
    }

    /// Takes over what the leader says: of those that we do not watch ourselves, and who joined or was forgotten.
    /// Returns those of our own configuration that it does not know.
    pub fn adopt(&mut self, now: Time, leader: Peer, list: MemberList) -> Vec<Peer> {
        if list.members.is_empty() {
            return Vec::new();
        }
        self.adopted_version = list.version;
        let mut told = Vec::with_capacity(list.members.len());
        for member in list.members {
            if member.id.is_some() && member.id == self.me.id || member.grpc_addr == self.me.grpc_addr {
                continue;
            }
            // A node that has moved is told of twice: where it was, and then where it is.
            let known = self.find_but(&told, member.id, member.boot, &member.grpc_addr);
            let known = known.filter(|peer| !self.has_moved(*peer, &member));
            if known.is_none() && self.peers.len() + 1 >= MEMBERS_MAX {
                continue;
            }
            let peer = known.unwrap_or_else(|| self.add(member.clone(), true));
            self.believe(now, peer, member);
            told.push(peer);
        }
        self.peers.retain(|peer, state| !state.joined || *peer == leader || told.contains(peer));
        self.configured().filter(|peer| *peer != leader && !told.contains(peer)).collect()
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
            let gone_for = now.saturating_sub(state.member.since);
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

    /// A timer of this node came so much too late. A node that cannot keep time would take its own delay for the silence of
    /// others, so it waits as much longer, at most two heartbeats. Each timer that comes in time takes an eighth of that away.
    pub fn timer_was_late(&mut self, by: Duration) {
        self.late = by.max(self.late * 7 / 8).min(self.heartbeat * timing::LATENESS_MAX);
    }

    /// How long a peer that sends heartbeats at this interval may be silent.
    pub fn silence_max(&self, heartbeat: Duration) -> Duration {
        timing::silence_max(heartbeat) + self.late
    }

    /// How much of that is for this node's own late timers.
    pub fn lateness(&self) -> Duration {
        self.late
    }

    /// After a late wake-up of one's own the silence was one's own too.
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

    /// Heartbeats to the same peer are so far apart, and its silence is judged by that from now on.
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

    fn join(&mut self, now: Time, node: &Identity) -> Result<Met, Refusal> {
        if self.peers.len() + 1 >= MEMBERS_MAX {
            return Err(Refusal::Full);
        }
        let peer = self.add(Member::known(node, Status::Suspect, now), true);
        Ok(Met { peer, is_anew: false, replaces: None })
    }

    fn add(&mut self, member: Member, joined: bool) -> Peer {
        // One life is at one address: where it was looked for before, it is not.
        for state in self.peers.values_mut().filter(|state| state.member.boot == member.boot) {
            state.member.boot = None;
        }
        let peer = Peer(self.next_peer);
        self.next_peer += 1;
        let (orders, up, unreached) = (Orders::default(), None, None);
        let state =
            PeerState { member, joined, orders, up, draining: false, unreached, error: None, vain_hints: 0 };
        self.peers.insert(peer, state);
        self.changes += 1;
        peer
    }

    /// A node that is listed by two addresses keeps one entry: the configured address is the one to reach it at.
    fn drop_double(&mut self, peer: Peer, identity: &Identity) -> Result<Option<Peer>, Refusal> {
        let is_it = |member: &Member| member.boot == Some(identity.boot);
        let other = self.peers.iter().find(|(other, state)| **other != peer && is_it(&state.member));
        let other = other.map(|(other, state)| (*other, state.joined));
        let joined = self.peers.get(&peer).is_some_and(|state| state.joined);
        match other {
            Some((other, true)) if !joined => {
                self.peers.remove(&other);
                Ok(Some(other))
            }
            None if !is_it(&self.me) => Ok(None),
            Some(_) | None => {
                self.peers.remove(&peer);
                Err(Refusal::Listed)
            }
        }
    }

    fn find(&self, id: Option<u32>, boot: Option<u64>, grpc_addr: &str) -> Option<Peer> {
        self.find_but(&[], id, boot, grpc_addr)
    }

    fn find_but(&self, but: &[Peer], id: Option<u32>, boot: Option<u64>, grpc_addr: &str) -> Option<Peer> {
        let same_life = |member: &Member| boot.is_some() && member.boot == boot;
        let same_id = |member: &Member| id.is_some() && member.id == id;
        let same_place =
            |member: &Member| &*member.grpc_addr == grpc_addr && (id.is_none() || member.id.is_none());
        let by = |is_it: &dyn Fn(&Member) -> bool| {
            let mut peers = self.peers.iter().filter(|(peer, _)| !but.contains(peer));
            peers.find(|(_, state)| is_it(&state.member)).map(|(peer, _)| *peer)
        };
        by(&same_life).or_else(|| by(&same_id)).or_else(|| by(&same_place))
    }

    /// Where another node is that has the id of this one and is alive. Two cannot listen at one address: there it is
    /// the same node in another life.
    fn twin(&self, peer: Peer, node: &Identity) -> Option<Arc<str>> {
        let others = self.peers.iter().filter(|(_, state)| state.member.status == Status::Alive);
        let mut twins = others.filter(|(other, state)| {
            let same_id = node.id.is_some() && state.member.id == node.id;
            let elsewhere = state.member.advertised != node.grpc_addr || **other != peer;
            same_id && elsewhere && state.member.is_another_life(node)
        });
        twins.next().map(|(_, state)| Arc::clone(&state.member.advertised))
    }

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
        let silence = now.saturating_sub(since);
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

    /// Whether a node that joined, and is not watched here, is told of in another life at another address.
    fn has_moved(&self, peer: Peer, told: &Member) -> bool {
        self.peers.get(&peer).is_some_and(|PeerState { joined, orders, member, .. }| {
            let is_another = told.boot.is_some() && member.boot != told.boot;
            *joined && orders.wanted == Wanted::Off && is_another && member.grpc_addr != told.grpc_addr
        })
    }

    /// What the leader says of a member.
    fn believe(&mut self, now: Time, peer: Peer, told: Member) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        state.member.figures = told.figures;
        if state.orders.wanted != Wanted::Off {
            return;
        }
        state.member.id = told.id.or(state.member.id);
        state.member.boot = told.boot.or(state.member.boot);
        state.member.name = told.name;
        state.member.http_addr = told.http_addr;
        state.member.version = told.version;
        state.member.heard = told.heard.map(|age| now.saturating_sub(age));
        self.set_status(now, peer, told.status, "the leader says so");
    }

    fn set_status(&mut self, now: Time, peer: Peer, status: Status, reason: &str) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        let member = &mut state.member;
        if member.status == status {
            return;
        }
        let duration = now.saturating_sub(member.since);
        member.status = status;
        member.since = now;
        let name = Arc::clone(&member.name);
        let reason = reason.to_owned();
        self.record(Change { at: now, name, kind: ChangeKind::Status(status), reason, duration });
    }
}

/// What is said of a leader or worker that was not heard in time.
pub(super) const MISSED: &str = "it missed three heartbeats";
/// What is said of a process that another one has replaced.
pub(super) const ANEW: &str = "it was started anew";

impl Member {
    fn unmet(peer: &PeerAddress, now: Time) -> Self {
        Self {
            id: peer.id,
            name: Arc::clone(&peer.grpc_addr),
            boot: None,
            grpc_addr: Arc::clone(&peer.grpc_addr),
            advertised: Arc::clone(&peer.grpc_addr),
            http_addr: "".into(),
            version: "".into(),
            status: Status::Suspect,
            since: now,
            heard: None,
            figures: Figures::default(),
        }
    }

    fn known(identity: &Identity, status: Status, now: Time) -> Self {
        Self {
            id: identity.id,
            name: Arc::clone(&identity.name),
            boot: Some(identity.boot),
            grpc_addr: Arc::clone(&identity.grpc_addr),
            advertised: Arc::clone(&identity.grpc_addr),
            http_addr: Arc::clone(&identity.http_addr),
            version: Arc::clone(&identity.version),
            status,
            since: now,
            heard: Some(now),
            figures: Figures::default(),
        }
    }

    /// The address that was configured stays: it is the one that we reach it at.
    fn learn(&mut self, identity: &Identity) {
        self.id = identity.id.or(self.id);
        self.name = Arc::clone(&identity.name);
        self.boot = Some(identity.boot);
        self.advertised = Arc::clone(&identity.grpc_addr);
        self.http_addr = Arc::clone(&identity.http_addr);
        self.version = Arc::clone(&identity.version);
    }

    /// Whether it is gone, and the same node is alive, or was heard later, at another address. Nobody alive is a ghost, so
    /// that two nodes of one name cannot push each other out.
    fn is_ghost_among(&self, members: &[Self]) -> bool {
        let rank = |member: &Self| (member.status == Status::Alive, member.heard);
        let is_gone = matches!(self.status, Status::Dead | Status::Stopped);
        is_gone && members.iter().any(|other| other.is_same_node(self) && rank(other) > rank(self))
    }

    /// By the id; for want of one, by the name.
    fn is_same_node(&self, other: &Self) -> bool {
        match (self.id, other.id) {
            (Some(id), Some(other)) => id == other,
            _ => self.name == other.name,
        }
    }

    fn is_another_life(&self, node: &Identity) -> bool {
        self.boot.is_some_and(|boot| boot != node.boot)
    }

    /// Who it is, as one node tells another.
    pub fn identity(&self) -> Identity {
        Identity {
            id: self.id,
            name: Arc::clone(&self.name),
            boot: self.boot.unwrap_or_default(),
            grpc_addr: Arc::clone(&self.grpc_addr),
            http_addr: Arc::clone(&self.http_addr),
            version: Arc::clone(&self.version),
        }
    }
}

impl Status {
    /// As people read it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Suspect => "suspect",
            Self::Dead => "dead",
            Self::Stopped => "stopped",
        }
    }
}

impl ChangeKind {
    /// As people read it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Status(status) => status.as_str(),
            Self::Leads => "leader",
            Self::LeaderLost => "leader lost",
        }
    }
}
