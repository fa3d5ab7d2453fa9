//! Who is there: pure, without clock, socket or runtime.
//!
//! ```text
//!   lane_up · lane_stopping · lane_down · dial_failed · acked · heard · tick      (now comes in as an argument)
//!                                     │
//!                               ┌─────▼─────┐
//!                               │ Membership │
//!                               └─────┬─────┘
//!            wanted(peer) · drain_commands() · drain_changes() · members() · leader()
//! ```
//! The driver feeds events in, performs the commands, and publishes what `members` and `leader` say.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use thiserror::Error;

use super::{Identity, PeerAddress};
use crate::{limits::CHANGES_KEPT, worker::Figures};

/// Time since this node started.
pub type Time = Duration;

/// A configured peer, by its place in the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Peer(pub usize);

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
    /// Where its peers and gRPC clients reach it.
    pub grpc_addr: Arc<str>,
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

/// What the cluster's driver keeps towards a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Nothing: the leader watches it.
    Off,
    /// A lane on which it does work for us, and heartbeats.
    Work,
    /// A lane on which it, the leader, schedules for us.
    Schedule,
}

/// What the driver is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Close the lane and dial anew: its peer is suspected.
    Redial(Peer),
    /// Do not wait for the next dial: the peer was heard of.
    Knock(Peer),
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
    /// Anything else, such as a refusal of this node as a member.
    #[error("{0}")]
    Other(String),
}

/// What a heartbeat of a leader carries.
#[derive(Debug, Clone)]
pub struct Announcement {
    /// The leader's heartbeat interval.
    pub interval: Duration,
    /// Counts the changes of its member list.
    pub version: u64,
    /// The list; empty if the follower has it already. `heard` is the age here.
    pub members: Vec<Member>,
}

/// Missed heartbeats that make a suspect, in halves of H: 3.5 H.
const SUSPECT_HALVES: u32 = 7;
/// Heartbeats without reach that make a dead one.
const DEAD_HEARTBEATS: u32 = 10;

#[derive(Debug)]
struct PeerState {
    member: Member,
    /// The lane that is open to it.
    up: Option<Wanted>,
    /// It said that it stops, and its lane is still open for the answers that it holds.
    draining: bool,
    /// Since when it is wanted and not reached.
    unreached: Option<Time>,
    /// Why the last dial failed, since the last lane.
    error: Option<DialError>,
    /// The entry turned out to be this node itself.
    is_me: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Head {
    Me,
    Peer(usize),
}

/// The table of members, and who leads: the highest id that is configured or learnt.
#[derive(Debug)]
pub struct Membership {
    me: Member,
    heartbeat: Duration,
    /// The leader's own interval is the one that counts for hearing it.
    leader_heartbeat: Duration,
    peers: Vec<PeerState>,
    leader: Option<(Head, Time)>,
    leader_changed: Time,
    recent: VecDeque<Change>,
    fresh: Vec<Change>,
    commands: Vec<Command>,
    version: u64,
    /// The version of the leader's list that was taken over last.
    adopted_version: u64,
    ticked: Time,
}

impl Membership {
    /// A node among its configured peers; an entry with its own id or address is ignored.
    pub fn new(me: &Identity, peers: &[PeerAddress], heartbeat: Duration) -> Self {
        let peers = peers.iter().map(|peer| PeerState::new(peer, me)).collect();
        let mut membership = Self {
            me: Member::known(me, Status::Alive, Time::ZERO),
            heartbeat,
            leader_heartbeat: heartbeat,
            peers,
            leader: None,
            leader_changed: Time::ZERO,
            recent: VecDeque::new(),
            fresh: Vec::new(),
            commands: Vec::new(),
            version: 0,
            adopted_version: 0,
            ticked: Time::ZERO,
        };
        membership.settle(Time::ZERO);
        membership
    }

    // ── Events ─────────────────────────────────────────────────────────────────────────────────────────────────

    /// A lane of this kind to the peer is open, and this is who answers on it.
    pub fn lane_up(&mut self, now: Time, peer: Peer, kind: Wanted, identity: &Identity) {
        let own = Some(identity.boot) == self.me.boot;
        let state = &mut self.peers[peer.0];
        if own {
            state.is_me = true;
        } else {
            let restarted = state.member.boot.is_some_and(|boot| boot != identity.boot);
            let was_alive = state.member.status == Status::Alive;
            state.member.learn(identity);
            state.up = Some(kind);
            state.draining = false;
            state.unreached = None;
            state.error = None;
            state.member.heard = Some(now);
            if restarted && was_alive {
                self.set_status(now, peer.0, Status::Dead, "it was started anew");
            }
            self.set_status(now, peer.0, Status::Alive, "its lane is open");
        }
        self.settle(now);
    }

    /// The peer answers what it holds and wants no more.
    pub fn lane_stopping(&mut self, now: Time, peer: Peer) {
        let state = &mut self.peers[peer.0];
        state.draining = state.up.take().is_some();
        self.set_status(now, peer.0, Status::Stopped, "it was told to stop");
        self.settle(now);
    }

    /// The lane to the peer has ended; without a reason, because we closed it.
    pub fn lane_down(&mut self, now: Time, peer: Peer, reason: Option<&str>) {
        let wanted = self.wanted(peer) != Wanted::Off;
        let state = &mut self.peers[peer.0];
        let was_up = state.up.take().is_some();
        state.draining = false;
        if let Some(reason) = reason
            && was_up
            && wanted
            && state.member.status == Status::Alive
        {
            self.set_status(now, peer.0, Status::Suspect, reason);
        }
        self.settle(now);
    }

    /// The peer could not be dialled. Returns whether that is news.
    pub fn dial_failed(&mut self, now: Time, peer: Peer, error: DialError) -> bool {
        let member = &self.peers[peer.0].member;
        // Who was never met may still be starting, and has its ten heartbeats of time.
        let met = member.heard.is_some();
        let judged = match error {
            DialError::Refused | DialError::Unresolvable if met => Status::Dead,
            DialError::Stopping => Status::Stopped,
            _ => Status::Suspect,
        };
        if matches!(member.status, Status::Alive | Status::Suspect) {
            self.set_status(now, peer.0, judged, &error.to_string());
        }
        self.settle(now);
        self.peers[peer.0].error.replace(error.clone()) != Some(error)
    }

    /// The peer acknowledged a heartbeat.
    pub fn acked(&mut self, now: Time, peer: Peer, figures: Figures) {
        let member = &mut self.peers[peer.0].member;
        member.heard = Some(now);
        member.figures = figures;
    }

    /// A configured peer spoke to us: if we hold it for lost, dial it at once; if it leads, take over what it says.
    pub fn heard(&mut self, now: Time, sender: &Identity, announcement: Option<&Announcement>) {
        let Some(index) = self.find(sender.id, &sender.grpc_addr) else { return };
        let state = &mut self.peers[index];
        if state.up.is_some() || state.draining {
            state.member.heard = Some(now);
        } else if self.wanted(Peer(index)) != Wanted::Off {
            self.commands.push(Command::Knock(Peer(index)));
        }
        if let Some(announcement) = announcement
            && self.leading_peer() == Some(Peer(index))
        {
            self.leader_heartbeat = announcement.interval;
            self.adopt(now, announcement);
        }
        self.settle(now);
    }

    /// What this node itself holds and has done.
    pub fn own_figures(&mut self, now: Time, figures: Figures) {
        self.me.heard = Some(now);
        self.me.figures = figures;
    }

    /// To be called every H.
    pub fn tick(&mut self, now: Time) {
        // After a late wake-up of our own the silence was ours: all timers start anew.
        if now.saturating_sub(self.ticked) > 2 * self.heartbeat {
            self.restart_timers(now);
        }
        self.ticked = now;
        for index in 0..self.peers.len() {
            self.judge_silence(now, index);
        }
        self.settle(now);
    }

    // ── What follows from them ─────────────────────────────────────────────────────────────────────────────────

    /// What to keep towards the peer: the leader watches everybody; a follower keeps a lane to the leader, and watches
    /// everybody itself while it has none.
    pub fn wanted(&self, peer: Peer) -> Wanted {
        let state = &self.peers[peer.0];
        match self.head() {
            _ if state.is_me => Wanted::Off,
            Some(Head::Me) | None => Wanted::Work,
            Some(Head::Peer(leader)) if leader == peer.0 => Wanted::Schedule,
            // A peer that was not met, and came without an id, might be the leader.
            Some(Head::Peer(_)) if self.leader.is_some() && state.member.could_not_lead() => Wanted::Off,
            Some(Head::Peer(_)) => Wanted::Work,
        }
    }

    /// How many peers are configured, those that turned out to be this node included.
    pub fn peers(&self) -> impl Iterator<Item = Peer> + use<> {
        (0..self.peers.len()).map(Peer)
    }

    /// All members, this node included, by id.
    pub fn members(&self) -> Vec<Member> {
        let peers = self.peers.iter().filter(|state| !state.is_me).map(|state| &state.member);
        let mut members: Vec<Member> = std::iter::once(&self.me).chain(peers).cloned().collect();
        members.sort_by(|a, b| (a.id.is_none(), a.id, &a.name).cmp(&(b.id.is_none(), b.id, &b.name)));
        members
    }

    /// The leader and since when it is followed; `None` while it is not reached.
    pub fn leader(&self) -> Option<(&Member, Time)> {
        self.leader.map(|(head, since)| (self.head_member(head), since))
    }

    /// Whether this node leads.
    pub fn leads(&self) -> bool {
        matches!(self.leader, Some((Head::Me, _)))
    }

    /// The peer that leads and is reached.
    pub fn leading_peer(&self) -> Option<Peer> {
        match self.leader {
            Some((Head::Peer(index), _)) => Some(Peer(index)),
            _ => None,
        }
    }

    /// Whether the lane that is wanted to the peer is open, and it may be given work.
    pub fn is_up(&self, peer: Peer) -> bool {
        let state = &self.peers[peer.0];
        state.up == Some(self.wanted(peer)) && state.member.status == Status::Alive
    }

    /// The last changes, the newest first.
    pub fn recent(&self) -> impl Iterator<Item = &Change> {
        self.recent.iter()
    }

    /// Counts the changes.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The version of the leader's member list that this node holds; 0 for none.
    pub fn adopted_version(&self) -> u64 {
        self.adopted_version
    }

    /// The changes since the last call, the oldest first.
    pub fn drain_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.fresh)
    }

    /// What is to be done.
    pub fn drain_commands(&mut self) -> Vec<Command> {
        std::mem::take(&mut self.commands)
    }

    // ── Inside ─────────────────────────────────────────────────────────────────────────────────────────────────

    /// The highest id leads.
    fn head(&self) -> Option<Head> {
        let own = self.me.id.map(|id| (id, Head::Me));
        let peers = self.peers.iter().enumerate().filter(|(_, state)| !state.is_me);
        let others = peers.filter_map(|(index, state)| Some((state.member.id?, Head::Peer(index))));
        own.into_iter().chain(others).max_by_key(|(id, _)| *id).map(|(_, head)| head)
    }

    fn head_member(&self, head: Head) -> &Member {
        match head {
            Head::Me => &self.me,
            Head::Peer(index) => &self.peers[index].member,
        }
    }

    fn find(&self, id: Option<u32>, grpc_addr: &str) -> Option<usize> {
        let is_it = |member: &Member| match (member.id, id) {
            (Some(known), Some(given)) => known == given,
            _ => &*member.grpc_addr == grpc_addr,
        };
        self.peers.iter().position(|state| !state.is_me && is_it(&state.member))
    }

    /// Settles who leads and which peers are out of reach, after every event.
    fn settle(&mut self, now: Time) {
        self.settle_leader(now);
        for index in 0..self.peers.len() {
            let wanted = self.wanted(Peer(index)) != Wanted::Off;
            let state = &mut self.peers[index];
            state.unreached = (wanted && state.up.is_none()).then(|| state.unreached.unwrap_or(now));
        }
    }

    fn settle_leader(&mut self, now: Time) {
        let head = self.head().filter(|head| match head {
            Head::Me => true,
            Head::Peer(index) => self.is_up(Peer(*index)),
        });
        if head == self.leader.map(|(head, _)| head) {
            return;
        }
        let duration = now.saturating_sub(self.leader_changed);
        self.leader_changed = now;
        if let (Some((lost, _)), None) = (self.leader, head) {
            let lost = self.head_member(lost);
            let reason = format!("it is {}", lost.status.as_str());
            let name = Arc::clone(&lost.name);
            self.record(Change { at: now, name, kind: ChangeKind::LeaderLost, reason, duration });
        }
        if let Some(head) = head {
            let name = Arc::clone(&self.head_member(head).name);
            let reason = "the highest id leads".to_owned();
            self.record(Change { at: now, name, kind: ChangeKind::Leads, reason, duration });
        }
        self.leader = head.map(|head| (head, now));
    }

    fn judge_silence(&mut self, now: Time, index: usize) {
        let leads = self.leading_peer() == Some(Peer(index));
        let interval = if leads { self.leader_heartbeat } else { self.heartbeat };
        let state = &self.peers[index];
        let status = state.member.status;
        let is_lane_open = state.up.is_some() || state.draining;
        let since = if is_lane_open { state.member.heard } else { state.unreached };
        let Some(since) = since else { return };
        let silence = now.saturating_sub(since);
        if state.draining && silence > interval * SUSPECT_HALVES / 2 {
            self.peers[index].draining = false;
            self.commands.push(Command::Redial(Peer(index)));
        } else if status == Status::Alive && silence > interval * SUSPECT_HALVES / 2 {
            self.set_status(now, index, Status::Suspect, "it missed three heartbeats");
            self.peers[index].up = None;
            self.commands.push(Command::Redial(Peer(index)));
        } else if status == Status::Suspect && silence >= interval * DEAD_HEARTBEATS {
            let why = state.error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
            let reason = format!("it was unreachable for ten heartbeats{why}");
            self.set_status(now, index, Status::Dead, &reason);
        }
    }

    fn restart_timers(&mut self, now: Time) {
        for state in &mut self.peers {
            if state.up.is_some() || state.draining {
                state.member.heard = Some(now);
            }
            state.unreached = state.unreached.map(|_| now);
        }
    }

    /// Takes over what the leader says of those that we do not watch ourselves.
    fn adopt(&mut self, now: Time, announcement: &Announcement) {
        if announcement.members.is_empty() {
            return;
        }
        self.adopted_version = announcement.version;
        for told in &announcement.members {
            let Some(index) = self.find(told.id, &told.grpc_addr) else { continue };
            let member = &mut self.peers[index].member;
            member.figures = told.figures;
            if self.wanted(Peer(index)) != Wanted::Off {
                continue;
            }
            let member = &mut self.peers[index].member;
            member.name = Arc::clone(&told.name);
            member.boot = told.boot.or(member.boot);
            member.http_addr = Arc::clone(&told.http_addr);
            member.version = Arc::clone(&told.version);
            member.heard = told.heard.map(|age| now.saturating_sub(age));
            self.set_status(now, index, told.status, "the leader says so");
        }
    }

    fn set_status(&mut self, now: Time, index: usize, status: Status, reason: &str) {
        let member = &mut self.peers[index].member;
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

    fn record(&mut self, change: Change) {
        self.version += 1;
        self.fresh.push(change.clone());
        self.recent.push_front(change);
        self.recent.truncate(CHANGES_KEPT);
    }
}

impl PeerState {
    fn new(peer: &PeerAddress, me: &Identity) -> Self {
        let is_me = peer.grpc_addr == me.grpc_addr || (peer.id.is_some() && peer.id == me.id);
        let member = Member {
            id: peer.id,
            name: Arc::clone(&peer.grpc_addr),
            boot: None,
            grpc_addr: Arc::clone(&peer.grpc_addr),
            http_addr: "".into(),
            version: "".into(),
            status: Status::Suspect,
            since: Time::ZERO,
            heard: None,
            figures: Figures::default(),
        };
        Self { member, up: None, draining: false, unreached: None, error: None, is_me }
    }
}

impl Member {
    fn known(identity: &Identity, status: Status, now: Time) -> Self {
        Self {
            id: identity.id,
            name: Arc::clone(&identity.name),
            boot: Some(identity.boot),
            grpc_addr: Arc::clone(&identity.grpc_addr),
            http_addr: Arc::clone(&identity.http_addr),
            version: Arc::clone(&identity.version),
            status,
            since: now,
            heard: Some(now),
            figures: Figures::default(),
        }
    }

    /// Its id is known, or it is known to have none.
    fn could_not_lead(&self) -> bool {
        self.id.is_some() || self.boot.is_some()
    }

    /// The address that was configured stays: it is the one that we reach it at.
    fn learn(&mut self, identity: &Identity) {
        self.id = identity.id.or(self.id);
        self.name = Arc::clone(&identity.name);
        self.boot = Some(identity.boot);
        self.http_addr = Arc::clone(&identity.http_addr);
        self.version = Arc::clone(&identity.version);
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
