//! Who leads is told by a coordinator, such as etcd, and the rules of Bully are off. Heartbeats still tell who is fit for
//! work, the leader too.

use std::{
    collections::{BTreeMap, BTreeSet},
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
    membership::{Change, ChangeKind, MISSED, Peer, Status, Time},
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
    known: BTreeSet<u64>,
    resignations: u64,
    /// Who led last, and why no more.
    lost: Option<LastLeader>,
}

#[derive(Debug)]
struct LastLeader {
    name: Arc<str>,
    reason: String,
    /// When it was last heard, if it was missed before it was lost.
    since: Time,
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
        let listed: BTreeSet<u64> = recognised.members.iter().map(|node| node.boot).collect();
        appointed.known.retain(|boot| listed.contains(boot));
        let is_new = |node: &&Identity| !appointed.known.contains(&node.boot);
        for node in recognised.members.iter().filter(is_new).collect::<Vec<_>>() {
            self.take_in(now, node);
        }
        self.members.drop_gone(&listed);
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
        let (reason, took) = self.succeeds(now, peer);
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

    /// What is said of a new leader, and for how long there was none that was heard.
    fn succeeds(&mut self, now: Time, peer: Option<Peer>) -> (Arc<str>, Duration) {
        let holds = "it holds the leader's key in etcd";
        let before = self.lose(now, holds);
        let lost = self.appointed.as_mut().and_then(|appointed| before.or(appointed.lost.take()));
        let Some(LastLeader { name, reason, since }) = lost else { return (holds.into(), now) };
        let leader = peer.and_then(|peer| self.members.member(peer)).unwrap_or(self.members.me());
        let reason =
            if leader.name == name { holds.into() } else { format!("took over from {name}: {reason}") };
        (reason.into(), now.saturating_sub(since))
    }

    fn lose(&self, now: Time, reason: &str) -> Option<LastLeader> {
        let (leader, ..) = self.leader()?;
        let is_missed = leader.status != Status::Alive;
        let since = leader.heard.filter(|_| is_missed).unwrap_or(now);
        Some(LastLeader { name: Arc::clone(&leader.name), reason: reason.to_owned(), since })
    }

    /// From now on this node knows of no leader.
    pub(super) fn leave_leader(&mut self, now: Time, reason: &str) {
        let Some((leader, _, since)) = self.leader() else { return };
        let (name, duration) = (Arc::clone(&leader.name), now.saturating_sub(since));
        let (kind, lost) = (ChangeKind::LeaderLost, self.lose(now, reason));
        self.members.record(Change { at: now, name, kind, reason: reason.to_owned(), duration });
        if let Some(appointed) = &mut self.appointed {
            appointed.lost = lost;
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
        let is_silent = now.saturating_sub(heard) >= self.members.silence_max(heartbeat);
        if is_silent && self.members.is_up(leader) {
            self.members.suspect(now, leader, MISSED);
        }
    }

    /// With Bully there is none.
    pub(super) fn is_appointed(&self) -> bool {
        self.appointed.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cluster::membership::Wanted, limits::REACHED_WITHOUT_LEADER_MAX};

    fn node(id: u32) -> Identity {
        let name: Arc<str> = format!("n{id}").into();
        Identity { id: Some(id), boot: id.into(), grpc_addr: Arc::clone(&name), name, ..Identity::default() }
    }

    fn recognised(leader: Option<(u32, u64)>) -> Recognised {
        let leader = leader.map(|(id, counter)| (node(id), counter));
        let members = [1, 2, 3].map(node).into();
        Recognised { members, leader, until: Duration::from_secs(60), ..Recognised::default() }
    }

    /// Node 1, which follows node 3 until its lane closes at 1 s.
    fn missing_its_leader() -> Election {
        let second = Duration::from_secs(1);
        let mut election = Election::appointed(&node(1), &[], second);
        election.recognise(Time::ZERO, &recognised(Some((3, 5))));
        let leader = election.leading_peer().unwrap();
        election.lane_up(second, leader, Wanted::Schedule, &node(3));
        election.lane_down(second, leader, Some("connection closed"));
        election
    }

    fn last_change(election: &Election) -> (&str, &str, Duration) {
        let change = election.members().recent().next().unwrap();
        (&change.name, &change.reason, change.duration)
    }

    #[test]
    fn the_next_leader_took_over_from_the_one_that_was_missed() {
        let (mut election, third) = (missing_its_leader(), Duration::from_secs(3));
        election.recognise(third, &recognised(None));
        election.recognise(third, &recognised(Some((2, 7))));
        let reason = "took over from n3: it gave up its key in etcd, or lost it";
        assert_eq!(last_change(&election), ("n2", reason, Duration::from_secs(2)));
    }

    #[test]
    fn a_change_without_a_moment_between_is_a_succession_too() {
        let mut election = missing_its_leader();
        election.recognise(Duration::from_secs(3), &recognised(Some((2, 7))));
        let reason = "took over from n3: it holds the leader's key in etcd";
        assert_eq!(last_change(&election), ("n2", reason, Duration::from_secs(2)));
    }

    #[test]
    fn the_first_leader_took_over_from_nobody() {
        let mut election = Election::appointed(&node(1), &[], Duration::from_secs(1));
        election.recognise(Duration::from_secs(2), &recognised(Some((3, 5))));
        assert_eq!(
            last_change(&election),
            ("n3", "it holds the leader's key in etcd", Duration::from_secs(2))
        );
    }

    /// To how many peers it wants a lane that they work on.
    fn worked_for(election: &Election) -> usize {
        let members = election.members();
        members.peers().filter(|peer| members.orders(*peer).wanted == Wanted::Work).count()
    }

    #[test]
    fn without_a_leader_some_others_are_reached_and_a_leader_reaches_all() {
        let mut election = Election::appointed(&node(1), &[], Duration::from_secs(1));
        let crowd = |leader| Recognised { members: (1..=100).map(node).collect(), ..recognised(leader) };
        let interval = |election: &Election| {
            election.members().orders(election.members().peers().next().unwrap()).interval
        };
        election.recognise(Time::ZERO, &crowd(None));
        assert_eq!(worked_for(&election), REACHED_WITHOUT_LEADER_MAX);
        assert_eq!(interval(&election), Duration::from_secs(4), "8 of 32 within H");
        election.recognise(Time::ZERO, &crowd(Some((1, 5))));
        assert_eq!(worked_for(&election), 99);
        assert_eq!(interval(&election), Duration::from_secs(1));
        election.recognise(Time::ZERO, &crowd(None));
        assert_eq!(worked_for(&election), REACHED_WITHOUT_LEADER_MAX);
    }
}
