//! Who leads is told by a coordinator, such as etcd, and the rules of Bully are off. Heartbeats still tell who is fit for
//! work, the leader too.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use super::{
    Ballot, Election, Role,
    following::Following,
    leading::Leading,
    seeking::{Phase, Seeking},
};
use crate::cluster::{
    Identity, PeerAddress,
    membership::{Change, ChangeKind, MISSED, Peer, Time, silence_max},
};

/// What a coordinator recognises.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recognised {
    /// Who is registered, this node included.
    pub members: Arc<[Identity]>,
    /// Who leads, and the counter of its ballot.
    pub leader: Option<(Identity, u64)>,
    /// Until when this node may rely on what is said of the leader.
    pub until: Time,
    /// Where another node is that has this one's id and was there before.
    pub taken: Option<Arc<str>>,
    /// How often this node began to give up the lead, or its lease: it does so when it is seen not to lead.
    pub resignations: u64,
}

#[derive(Debug, Default)]
pub(super) struct Appointed {
    until: Time,
    /// The registered lives that were taken in; what is met of them later is newer.
    known: HashSet<u64>,
    resignations: u64,
    leaderless_since: Time,
}

impl Election {
    /// A node that is told by a coordinator who leads.
    pub fn appointed(me: &Identity, peers: &[PeerAddress], heartbeat: Duration) -> Self {
        Self { appointed: Some(Appointed::default()), ..Self::new(me, peers, heartbeat) }
    }

    /// The coordinator says something new.
    pub fn recognise(&mut self, now: Time, recognised: &Recognised) {
        self.enter(now);
        let Some(appointed) = &mut self.appointed else { return };
        appointed.until = recognised.until;
        appointed.resignations = recognised.resignations;
        let listed: HashSet<u64> = recognised.members.iter().map(|node| node.boot).collect();
        appointed.known.retain(|boot| listed.contains(boot));
        let is_new = |node: &&Identity| !appointed.known.contains(&node.boot);
        for node in recognised.members.iter().filter(is_new).collect::<Vec<_>>() {
            self.take_in(now, node);
        }
        self.taken.clone_from(&recognised.taken);
        let leader = recognised.leader.as_ref().filter(|_| now < recognised.until);
        self.appoint(now, leader);
        self.settle(now);
    }

    /// Until when the leader is what it is said to be; nothing with Bully, where that ends by events alone.
    pub fn recognised_until(&self) -> Option<Time> {
        self.appointed.as_ref().map(|appointed| appointed.until)
    }

    /// The resignation that the leader is known as of.
    pub fn resignations(&self) -> u64 {
        self.appointed.as_ref().map_or(0, |appointed| appointed.resignations)
    }

    /// One that is refused is tried again: who had its id may be gone by then.
    fn take_in(&mut self, now: Time, node: &Identity) {
        if let Ok(met) = self.members.admit(now, node) {
            self.meet_node(now, met);
            self.appointed.iter_mut().for_each(|appointed| appointed.known.extend([node.boot]));
        }
    }

    fn appoint(&mut self, now: Time, leader: Option<&(Identity, u64)>) {
        let told = leader.and_then(|(node, counter)| {
            let ballot = Ballot { counter: *counter, id: node.id? };
            let is_me = Some(node.boot) == self.members.me().boot;
            let peer = if is_me { None } else { Some(self.members.of_boot(node.boot)?) };
            Some((peer, ballot))
        });
        if self.leader().map(|(_, ballot, _)| ballot) == told.map(|(_, ballot)| ballot) {
            return;
        }
        match told {
            Some((peer, ballot)) => self.follow_or_lead(now, peer, ballot),
            None => self.leave_leader(now, "it gave up its key in etcd, or lost it"),
        }
    }

    fn follow_or_lead(&mut self, now: Time, peer: Option<Peer>, ballot: Ballot) {
        let led = self.leader().is_some();
        let since = self.appointed.as_ref().map_or(now, |appointed| appointed.leaderless_since);
        let took = if led { Duration::ZERO } else { now.saturating_sub(since) };
        let reason: Arc<str> = "it holds the leader's key in etcd".into();
        self.record_leader(now, peer, &reason, took);
        self.highest = self.highest.max(ballot);
        self.role = match peer {
            Some(leader) => {
                let (heartbeat, since, heard, reached) = (self.heartbeat, now, now, false);
                Role::Following(Following { leader, ballot, heartbeat, since, heard, reached })
            }
            None => Role::Leading(Leading {
                ballot,
                succeeds: Arc::default(),
                reason,
                took,
                since: now,
                followers: BTreeMap::new(),
                handing_over: None,
                transferred: false,
                return_after: now,
            }),
        };
    }

    /// From now on this node knows of no leader.
    pub(super) fn leave_leader(&mut self, now: Time, reason: &str) {
        let Some((leader, _, since)) = self.leader() else { return };
        let (name, duration) = (Arc::clone(&leader.name), now.saturating_sub(since));
        let kind = ChangeKind::LeaderLost;
        self.members.record(Change { at: now, name, kind, reason: reason.to_owned(), duration });
        if let Some(appointed) = &mut self.appointed {
            appointed.leaderless_since = now;
        }
        let phase = Phase::Delaying { until: now, gives_way: false };
        self.role = Role::Seeking(Seeking { phase, lost: None, unreached: None });
    }

    /// What was said of the leader holds for so long, and no longer.
    pub(super) fn lapse(&mut self, now: Time) {
        if self.appointed.as_ref().is_some_and(|appointed| now >= appointed.until) {
            self.leave_leader(now, "etcd is not reached");
        }
    }

    /// A leader that is not heard gets no work, and stays what it is.
    pub(super) fn judge_appointed(&mut self, now: Time) {
        let Role::Following(Following { leader, heartbeat, .. }) = self.role else { return };
        let heard = self.members.member(leader).and_then(|member| member.heard).unwrap_or_default();
        let is_silent = now.saturating_sub(heard) >= silence_max(heartbeat);
        if is_silent && self.members.is_up(leader) {
            self.members.suspect(now, leader, MISSED);
        }
    }

    /// With Bully there is none.
    pub(super) fn is_appointed(&self) -> bool {
        self.appointed.is_some()
    }
}
