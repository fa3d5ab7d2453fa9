//! What nodes say to each other to agree on a leader.

use std::{cmp::Reverse, collections::BTreeSet, sync::Arc, time::Duration};

use thiserror::Error;

use crate::{
    Identity, Membership, Peer, Status, Time,
    limits::{COUNTER_STEP_MAX, SUCCEEDS_MAX},
    timing,
};

/// The name of a leadership, compared as a pair.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ballot {
    /// One more than the highest that the claimant had seen.
    pub counter: u64,
    /// The leader's id.
    pub id: u32,
}

/// What a leader says of its leadership, once as its Victory and again in every heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Its name.
    pub ballot: Ballot,
    /// The leaderships that were handed over to it: who follows one of them follows it at once.
    pub succeeds: Arc<[Ballot]>,
    /// How many nodes follow it, as far as it heard lately.
    pub followers: u32,
    /// The leader's heartbeat interval, by which it is to be judged.
    pub heartbeat: Duration,
    /// Why it claimed, for people.
    pub reason: Arc<str>,
    /// How long it knew of no leader before.
    pub took: Duration,
}

impl Claim {
    /// The claim as it may be told now: a node that has slept since it was made knows of no follower.
    pub fn told_at(&self, now: Time, made: Time) -> Self {
        let is_old = now.since(made) > timing::CLAIM_AGE_MAX * self.heartbeat;
        Self { followers: if is_old { 0 } else { self.followers }, ..self.clone() }
    }
}

/// A leader asks its successor to lead after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandOver {
    /// The leadership that is handed over.
    pub ballot: Ballot,
    /// Those that it succeeds.
    pub succeeds: Arc<[Ballot]>,
    /// Why, for people.
    pub reason: Arc<str>,
    /// An operator wants it so: the successor keeps the lead even from higher ids.
    pub transferred: bool,
}

/// A request to a peer. A dial that fails is an answer too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerRequest {
    /// Does the peer hear a leader, or take over?
    Question {
        /// The round that it belongs to.
        round: u64,
        /// The asker leads if nobody objects; else it only wants to know.
        is_candidate: bool,
    },
    /// This node leads.
    Victory(Claim),
    /// The peer is to lead.
    HandOver(HandOver),
}

/// The answer to a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QuestionAnswer {
    /// A veto: the peer leads, or hears this leader.
    LeaderAlive(Identity),
    /// It is higher and takes over.
    Ok,
    /// Neither.
    Go,
    /// It is stopping.
    Stopping,
    /// The asker's id belongs to another node that is alive, at this address.
    Taken(Arc<str>),
}

/// What a node makes of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimVerdict {
    /// It follows.
    Follows,
    /// It follows nobody, and has seen this higher ballot.
    Stale(Ballot),
    /// It hears this other leadership, or leads itself.
    Hears(Ballot),
    /// It hears the claimant and cannot reach it.
    Unreached,
}

/// What came of one claim. It is as old as the claim, however late it is read: a process that was suspended finds
/// earlier answers in its sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judged {
    /// When the claim was sent.
    pub asked: Time,
    /// What was claimed.
    pub ballot: Ballot,
    /// The peer's verdict.
    pub verdict: ClaimVerdict,
}

/// Why a leader does not hand over as an operator asked.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
pub enum TransferError {
    /// It does not lead.
    #[error("this node does not lead; ask again in a moment")]
    NotLeading,
    /// No member is called so.
    #[error("no member is called {0}; `primacy status` lists them")]
    Unknown(Arc<str>),
    /// It has no id.
    #[error("{0} has no id, so it only works and never leads; choose another member")]
    NeverLeads(Arc<str>),
    /// It is not there.
    #[error("{0} is {1}; choose a member that is alive")]
    NotAlive(Arc<str>, &'static str),
    /// It is alive, and the leader's lane to it is not open yet.
    #[error("the leader does not reach {0} yet; try again in a moment")]
    NotReached(Arc<str>),
    /// Another hand-over is on its way.
    #[error("the leader is handing over already; try again in a moment")]
    Busy,
    /// It leads already.
    #[error("{0} leads already")]
    Leads(Arc<str>),
    /// The node is stopping, and hands over by itself.
    #[error("the leader is stopping and hands over by itself")]
    Stopping,
}

/// Whether the leadership is one of these, or an older one of the same leader.
pub(crate) fn covers(succeeds: &[Ballot], ballot: Ballot) -> bool {
    succeeds.iter().any(|succeeded| succeeded.id == ballot.id && ballot.counter <= succeeded.counter)
}

/// The newest leadership of each leader, the newest first; but before all of them stands the one that is handed over,
/// however old: its leader waits for a claim that names it.
pub(crate) fn newest_of_each(mut ballots: Vec<Ballot>, latest: u32) -> Arc<[Ballot]> {
    ballots.sort_unstable_by_key(|ballot| (ballot.id != latest, Reverse(*ballot)));
    let mut seen = BTreeSet::new();
    ballots.retain(|ballot| seen.insert(ballot.id));
    ballots.truncate(SUCCEEDS_MAX);
    ballots.into()
}

/// Whether the ballot is so far above the highest that was seen that no election can have led to it.
pub(crate) fn is_absurd(ballot: Ballot, highest: Ballot) -> bool {
    ballot.counter > highest.counter + COUNTER_STEP_MAX
}

/// The member of this name, if it can lead after this node, which leads.
pub(crate) fn successor_named(members: &Membership, to: &str) -> Result<Peer, TransferError> {
    let name: Arc<str> = to.into();
    if *members.me().name == *to {
        return Err(TransferError::Leads(name));
    }
    let Some(peer) = members.named(to) else { return Err(TransferError::Unknown(name)) };
    if members.id(peer).is_none() {
        return Err(TransferError::NeverLeads(name));
    }
    match members.status(peer) {
        Status::Alive if members.is_up(peer) => Ok(peer),
        Status::Alive => Err(TransferError::NotReached(name)),
        status => Err(TransferError::NotAlive(name, status.as_str())),
    }
}
