//! A node's process: the machine, and what the driver, the links and the calls keep beside it.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use super::{
    Ballot, Claim, ClaimVerdict, DialError, Election, HandOver, Identity, Judged, ListedMember, Member,
    MemberList, Orders, Peer, QuestionAnswer, Time, Wanted, WorldTime,
};

/// What a process takes in, from others or from its own timers.
#[derive(Debug, Clone)]
pub enum Input {
    Tick,
    // ── Its links ──
    DialDue { peer: Peer, attempt: u64 },
    Dialled { peer: Peer, attempt: u64, opened: Result<(u32, Arc<Identity>), DialError> },
    LaneStopping { peer: Peer, attempt: u64 },
    LaneEnded { peer: Peer, attempt: u64, reason: Option<&'static str> },
    HeartbeatDue { peer: Peer, attempt: u64 },
    Acked { peer: Peer, attempt: u64, number: u64, ack: Option<Ack> },
    // ── What others want ──
    LaneWanted { from: Caller, peer: Peer, attempt: u64 },
    Heartbeat(Box<Heartbeat>),
    Called { from: Caller, call: u64, content: Call },
    // ── Replies ──
    Replied { call: u64, reply: Option<Reply> },
    // ── Operators ──
    Stop,
    Transfer(Arc<str>),
    LameDuckEnds,
}

/// Who speaks: a node, in one life.
#[derive(Debug, Clone)]
pub struct Caller {
    pub node: usize,
    pub life: u32,
    pub identity: Arc<Identity>,
}

#[derive(Debug, Clone)]
pub struct Heartbeat {
    pub from: Caller,
    pub peer: Peer,
    pub attempt: u64,
    pub number: u64,
    /// By the clock of the world, and by that of the sender.
    pub sent: WorldTime,
    pub asked: Time,
    pub claim: Option<Claim>,
    pub list: Option<MemberList>,
}

/// Their version of the member list, and what they make of the claim; nothing when they refuse.
#[derive(Debug, Clone)]
pub struct Ack {
    pub version: u64,
    pub judged: Option<Judged>,
    pub refused: bool,
}

#[derive(Debug, Clone)]
pub enum Call {
    Question { round: u64, is_candidate: bool },
    Victory(Claim),
    HandOver(HandOver),
}

#[derive(Debug, Clone)]
pub enum Reply {
    QuestionAnswer(QuestionAnswer),
    ClaimVerdict(ClaimVerdict),
    Accepted(bool),
}

/// A call that waits for its reply.
#[derive(Debug, Clone)]
pub struct Pending {
    pub peer: Peer,
    pub to: usize,
    pub kind: PendingKind,
    pub asked: Time,
}

#[derive(Debug, Clone, Copy)]
pub enum PendingKind {
    Question { round: u64, is_candidate: bool },
    Victory(Ballot),
    HandOver(Ballot),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkState {
    Idle,
    Waiting,
    Dialling,
    Open {
        kind: Wanted,
        life: u32,
        since: WorldTime,
        before: Orders,
        is_draining: bool,
    },
    /// The link closes it; the driver does not know yet.
    Closing {
        since: WorldTime,
    },
}

#[derive(Debug)]
pub struct Link {
    pub to: Option<usize>,
    pub orders: Orders,
    pub state: LinkState,
    /// Counts dials: what belongs to an older one is ignored.
    pub attempt: u64,
    pub pause: Duration,
    pub dialled: WorldTime,
    /// From then on the dial is answered, only perhaps late.
    pub connected: Option<WorldTime>,
    pub was_brief: bool,
    pub heartbeat: u64,
    pub sent: WorldTime,
    /// When the next heartbeat is to be sent, unless an answer is awaited.
    pub due: Option<WorldTime>,
    pub their_version: u64,
}

/// What one may see of a node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Snapshot {
    pub leads: bool,
    pub leader: Option<Peer>,
    pub ballot: Ballot,
    pub highest: Ballot,
}

/// When a follower last heard its leader, as the simulator saw it.
#[derive(Debug, Clone, Copy)]
pub struct Heard {
    pub leader: usize,
    pub life: u32,
    pub at: WorldTime,
    pub heartbeat: Duration,
}

pub struct Process {
    pub identity: Arc<Identity>,
    pub life: u32,
    pub started: WorldTime,
    pub election: Election,
    pub links: BTreeMap<Peer, Link>,
    pub calls: BTreeMap<u64, Pending>,
    pub next_call: u64,
    pub list_version: u64,
    pub ticks: u64,
    /// What the published view says: heartbeats read it.
    pub claim: Option<Claim>,
    pub claim_made: Time,
    pub tick_at: Option<WorldTime>,
    pub paused_until: Option<WorldTime>,
    pub backlog: VecDeque<Input>,
    pub stopping: bool,
    pub refuses_lanes: bool,
    pub snapshot: Snapshot,
    pub heard: Option<Heard>,
    /// The round in which it asked as a candidate last, and how many it asked in that round.
    candidacy: (u64, usize),
}

impl Process {
    pub fn new(identity: Identity, life: u32, started: WorldTime, election: Election) -> Self {
        Self {
            list_version: identity.boot | 1,
            identity: Arc::new(identity),
            life,
            started,
            election,
            links: BTreeMap::new(),
            calls: BTreeMap::new(),
            next_call: 0,
            ticks: 0,
            claim: None,
            claim_made: Time::ZERO,
            tick_at: None,
            paused_until: None,
            backlog: VecDeque::new(),
            stopping: false,
            refuses_lanes: false,
            snapshot: Snapshot::default(),
            heard: None,
            candidacy: (0, 0),
        }
    }

    pub fn look(&self) -> Snapshot {
        let ballot = self.election.leader().map(|(_, ballot, _)| ballot);
        Snapshot {
            leads: self.election.leads(),
            leader: self.election.leading_peer(),
            ballot: ballot.unwrap_or_default(),
            highest: self.election.highest(),
        }
    }

    pub fn count_candidacy(&mut self, call: &Call) {
        let Call::Question { round, is_candidate: true } = call else { return };
        let before = if self.candidacy.0 == *round { self.candidacy.1 } else { 0 };
        self.candidacy = (*round, before + 1);
    }

    /// Whom it asked in its last round as a candidate: how many it still waits for, and how many not any more.
    pub fn candidacy(&self, now: Time, heartbeat: Duration) -> (usize, usize) {
        let (round, asked) = self.candidacy;
        let is_awaited = |pending: &&Pending| {
            let is_young = now.since(pending.asked) < 2 * heartbeat;
            is_young
                && matches!(pending.kind, PendingKind::Question { round: of, is_candidate: true } if of == round)
        };
        let awaited = self.calls.values().filter(is_awaited).count();
        (awaited, asked - awaited)
    }

    /// The member list as the wire carries it: boots and moments stay at home.
    pub fn list(&self, now: Time) -> MemberList {
        let strip = |member: Member| ListedMember {
            heard_ago: member.heard.map(|heard| now.since(heard)),
            member: Member {
                boot: None,
                advertised: Arc::clone(&member.grpc_addr),
                since: Time::ZERO,
                heard: None,
                ..member
            },
        };
        let members = self.election.members().members().into_iter().map(strip).collect();
        MemberList { version: self.list_version, members }
    }

    pub fn claim_at(&self, now: Time) -> Option<Claim> {
        self.claim.as_ref().map(|claim| claim.told_at(now, self.claim_made))
    }

    /// Whether the lane to the peer is open, and to which life of it.
    pub fn open_life(&self, peer: Peer) -> Option<u32> {
        match self.links.get(&peer)?.state {
            LinkState::Open { life, is_draining: false, .. } => Some(life),
            _ => None,
        }
    }

    pub fn is_paused(&self, now: WorldTime) -> bool {
        self.paused_until.is_some_and(|until| until > now)
    }
}

impl Pending {
    pub fn of(asked: Time, peer: Peer, to: usize, call: &Call) -> Self {
        let kind = match call {
            Call::Question { round, is_candidate } => {
                PendingKind::Question { round: *round, is_candidate: *is_candidate }
            }
            Call::Victory(claim) => PendingKind::Victory(claim.ballot),
            Call::HandOver(offer) => PendingKind::HandOver(offer.ballot),
        };
        Self { peer, to, kind, asked }
    }
}
