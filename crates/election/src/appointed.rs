//! Who leads is told by a coordinator, such as etcd, and the rules of Bully are off. Heartbeats still tell who is fit for
//! work, the leader too.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use crate::{
    Ballot, Change, ChangeKind, Claim, ClaimVerdict, DialError, Effect, Figures, Identity, Judged, Member,
    MemberList, Membership, Met, Peer, PeerAddress, QuestionAnswer, Refusal, Rules, Status, Time,
    TransferError, Wanted,
    limits::REACHED_WITHOUT_LEADER_MAX,
    members::change::{ANEW, MISSED},
    message::{is_absurd, successor_named},
    reach::{Reach, Standing},
    timing,
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
    /// The address of a node with this node's id that registered earlier, if there is one.
    pub taken: Option<Arc<str>>,
    /// How often this node began to give up the lead or its lease. The call to etcd waits for a view of this count in
    /// which the node does not lead.
    pub resignations: u64,
}

/// A node that is told who leads, and the membership below it.
#[derive(Debug)]
pub(crate) struct Appointed {
    pub(crate) members: Membership,
    heartbeat: Duration,
    leadership: Option<Leadership>,
    /// Until when `leadership` holds.
    until: Time,
    /// Who led last, and why no more.
    lost: Option<LastLeader>,
    /// The highest ballot that was seen.
    highest: Ballot,
    /// The registered lives that were admitted. They are not admitted again, because what was met since is newer.
    known: BTreeSet<u64>,
    resignations: u64,
    taken: Option<Arc<str>>,
    stopping: bool,
    pub(crate) effects: Vec<Effect>,
    /// The last event, by which a late wake-up is noticed.
    entered: Time,
    ticked: Time,
    reach: Reach,
}

#[derive(Debug)]
struct Leadership {
    ballot: Ballot,
    since: Time,
    side: Side,
}

/// On which side of a leadership this node is.
#[derive(Debug)]
enum Side {
    Follows {
        leader: Peer,
        /// The leader's interval, by which it is judged.
        heartbeat: Duration,
        heard: Time,
    },
    Leads {
        reason: Arc<str>,
        took: Duration,
        /// When each follower last agreed.
        followers: BTreeMap<Peer, Time>,
    },
}

#[derive(Debug)]
struct LastLeader {
    name: Arc<str>,
    reason: String,
    /// When it was last heard, if it was missed before it was lost.
    since: Time,
}

impl Appointed {
    pub(crate) fn new(me: &Identity, peers: &[PeerAddress], heartbeat: Duration) -> Self {
        let mut appointed = Self {
            members: Membership::new(me, peers, heartbeat),
            heartbeat,
            leadership: None,
            until: Time::ZERO,
            lost: None,
            highest: Ballot::default(),
            known: BTreeSet::new(),
            resignations: 0,
            taken: None,
            stopping: false,
            effects: Vec::new(),
            entered: Time::ZERO,
            ticked: Time::ZERO,
            reach: Reach::default(),
        };
        appointed.settle(Time::ZERO);
        appointed
    }

    // ── What the coordinator says ──────────────────────────────────────────────────────────────────────────────

    pub(crate) fn recognise(&mut self, now: Time, recognised: &Recognised) {
        self.enter(now);
        self.until = recognised.until;
        self.resignations = recognised.resignations;
        let listed: BTreeSet<u64> = recognised.members.iter().map(|node| node.boot).collect();
        self.known.retain(|boot| listed.contains(boot));
        for node in recognised.members.iter() {
            if !self.known.contains(&node.boot) {
                self.take_in(now, node);
            }
        }
        self.members.drop_gone(&listed);
        self.taken.clone_from(&recognised.taken);
        let leader = recognised.leader.as_ref().filter(|_| now < recognised.until);
        self.appoint(now, leader);
        self.settle(now);
    }

    /// A refused one is tried again later: the node that had its id may be gone by then.
    fn take_in(&mut self, now: Time, node: &Identity) {
        if let Ok(met) = self.members.admit(now, node) {
            self.meet_node(now, met);
            self.known.insert(node.boot);
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
        let member = peer.and_then(|leader| self.members.member(leader)).unwrap_or(self.members.me());
        let (name, kind) = (Arc::clone(&member.name), ChangeKind::Leads);
        self.members.record(Change { at: now, name, kind, reason: reason.to_string(), duration: took });
        self.highest = self.highest.max(ballot);
        let side = match peer {
            Some(leader) => Side::Follows { leader, heartbeat: self.heartbeat, heard: now },
            None => Side::Leads { reason, took, followers: BTreeMap::new() },
        };
        self.leadership = Some(Leadership { ballot, since: now, side });
    }

    /// What is said of a new leader, and for how long there was none that was heard.
    fn succeeds(&mut self, now: Time, peer: Option<Peer>) -> (Arc<str>, Duration) {
        let holds = "it holds the leader's key in etcd";
        let lost = self.last_leader(now, holds).or_else(|| self.lost.take());
        let Some(LastLeader { name, reason, since }) = lost else { return (holds.into(), now.elapsed()) };
        let leader = peer.and_then(|peer| self.members.member(peer)).unwrap_or(self.members.me());
        let reason =
            if leader.name == name { holds.into() } else { format!("took over from {name}: {reason}") };
        (reason.into(), now.since(since))
    }

    fn last_leader(&self, now: Time, reason: &str) -> Option<LastLeader> {
        let (leader, ..) = self.leader()?;
        let is_missed = leader.status != Status::Alive;
        let since = leader.heard.filter(|_| is_missed).unwrap_or(now);
        Some(LastLeader { name: Arc::clone(&leader.name), reason: reason.to_owned(), since })
    }

    /// From now on this node knows of no leader.
    fn leave_leader(&mut self, now: Time, reason: &str) {
        let Some((leader, _, since)) = self.leader() else { return };
        let (name, duration) = (Arc::clone(&leader.name), now.since(since));
        self.lost = self.last_leader(now, reason);
        let (kind, reason) = (ChangeKind::LeaderLost, reason.to_owned());
        self.members.record(Change { at: now, name, kind, reason, duration });
        self.leadership = None;
    }

    // ── Lanes and time ─────────────────────────────────────────────────────────────────────────────────────────

    pub(crate) fn lane_up(&mut self, now: Time, peer: Peer, kind: Wanted, identity: &Identity) {
        self.enter(now);
        match self.members.lane_up(now, peer, kind, identity) {
            Ok(met) => self.meet_node(now, met),
            Err(refusal) => self.effects.push(Effect::Refused { node: identity.clone(), refusal }),
        }
        self.settle(now);
    }

    /// That the leader is not reached is no reason to leave it.
    pub(crate) fn dial_failed(&mut self, now: Time, peer: Peer, error: &DialError) -> bool {
        self.enter(now);
        let is_news = self.members.dial_failed(now, peer, error);
        self.settle(now);
        is_news
    }

    pub(crate) fn acked(&mut self, now: Time, peer: Peer, figures: Figures, judged: Option<Judged>) {
        self.enter(now);
        self.members.acked(now, peer, figures);
        if let Some(judged) = judged {
            self.take_verdict(peer, judged);
        }
        self.settle(now);
    }

    pub(crate) fn tick(&mut self, now: Time) {
        let due = self.next_deadline();
        self.enter(now);
        self.members.timer_was_late(now.since(due));
        self.ticked = now;
        self.members.tick(now);
        self.judge_leader(now);
        self.settle(now);
    }

    pub(crate) fn next_deadline(&self) -> Time {
        let heartbeat = self.ticked + self.heartbeat;
        if self.leader().is_some() { self.until.min(heartbeat) } else { heartbeat }
    }

    /// A leader that is not heard gets no work, and stays what it is.
    fn judge_leader(&mut self, now: Time) {
        let Some(Leadership { side: Side::Follows { leader, heartbeat, .. }, .. }) = self.leadership else {
            return;
        };
        let heard = self.members.member(leader).and_then(|member| member.heard).unwrap_or_default();
        let is_silent = now.since(heard) >= self.members.silence_max(heartbeat);
        if is_silent && self.members.is_up(leader) {
            self.members.suspect(now, leader, MISSED);
        }
    }

    fn take_verdict(&mut self, peer: Peer, Judged { asked, ballot, verdict }: Judged) {
        let Some(Leadership { ballot: mine, side: Side::Leads { followers, .. }, .. }) = &mut self.leadership
        else {
            return;
        };
        let told = match verdict {
            ClaimVerdict::Stale(told) | ClaimVerdict::Hears(told) => told,
            ClaimVerdict::Follows | ClaimVerdict::Unreached => ballot,
        };
        if *mine != ballot || is_absurd(told, self.highest) {
            return;
        }
        match verdict {
            ClaimVerdict::Follows => {
                // Verdicts overtake one another.
                let last_asked = followers.entry(peer).or_insert(asked);
                *last_asked = asked.max(*last_asked);
            }
            ClaimVerdict::Hears(_) => drop(followers.remove(&peer)),
            ClaimVerdict::Stale(_) | ClaimVerdict::Unreached => {}
        }
        self.highest = self.highest.max(told);
    }

    // ── Requests of others, and of operators ───────────────────────────────────────────────────────────────────

    /// Only nodes that run Bully ask. They are told the leader if it is heard, and never that this node takes over.
    pub(crate) fn question(&mut self, now: Time, sender: &Identity, _: bool) -> QuestionAnswer {
        self.enter(now);
        match self.members.heard(now, sender) {
            Ok(met) => self.meet_node(now, met),
            Err(Refusal::Taken(by)) => return QuestionAnswer::Taken(by),
            Err(Refusal::Listed | Refusal::Full | Refusal::Absurd) => return QuestionAnswer::Go,
        }
        let answer = match self.leader() {
            Some((leader, ..)) if self.hears_leader(now) => QuestionAnswer::LeaderAlive(leader.identity()),
            _ if self.stopping => QuestionAnswer::Stopping,
            _ => QuestionAnswer::Go,
        };
        self.settle(now);
        answer
    }

    pub(crate) fn claimed(
        &mut self,
        now: Time,
        sender: &Identity,
        claim: &Claim,
        list: Option<MemberList>,
    ) -> Result<ClaimVerdict, Refusal> {
        self.enter(now);
        let met = self.members.heard(now, sender)?;
        self.meet_node(now, met);
        self.highest = self.highest.max(claim.ballot);
        let verdict = match &mut self.leadership {
            None => ClaimVerdict::Unreached,
            Some(Leadership { ballot, side: Side::Follows { leader, heartbeat, heard }, .. })
                if *leader == met.peer && *ballot == claim.ballot =>
            {
                (*heartbeat, *heard) = (claim.heartbeat, now);
                ClaimVerdict::Follows
            }
            Some(leadership) => ClaimVerdict::Hears(leadership.ballot),
        };
        if let (ClaimVerdict::Follows, Some(list)) = (verdict, list) {
            self.members.adopt(now, met.peer, list);
        }
        self.settle(now);
        Ok(verdict)
    }

    /// The driver tells the coordinator, which appoints another leader.
    pub(crate) fn stop(&mut self, now: Time) {
        self.enter(now);
        self.stopping = true;
        self.settle(now);
    }

    pub(crate) fn transfer(&mut self, now: Time, to: &str) -> Result<Peer, TransferError> {
        self.enter(now);
        if !self.leads() {
            return Err(TransferError::NotLeading);
        }
        if self.stopping {
            return Err(TransferError::Stopping);
        }
        successor_named(&self.members, to)
    }

    // ── What follows from them ─────────────────────────────────────────────────────────────────────────────────

    pub(crate) fn claim(&self, now: Time) -> Option<Claim> {
        let Some(Leadership { ballot, side: Side::Leads { reason, took, followers }, .. }) = &self.leadership
        else {
            return None;
        };
        let agrees = |agreed: &&Time| now.since(**agreed) < timing::silence_max(self.heartbeat);
        let live = followers.values().filter(agrees).count();
        Some(Claim {
            ballot: *ballot,
            succeeds: Arc::default(),
            followers: u32::try_from(live).unwrap_or(u32::MAX),
            heartbeat: self.heartbeat,
            reason: Arc::clone(reason),
            took: *took,
        })
    }

    pub(crate) fn leader(&self) -> Option<(&Member, Ballot, Time)> {
        let Leadership { ballot, since, side } = self.leadership.as_ref()?;
        let member = match side {
            Side::Leads { .. } => self.members.me(),
            Side::Follows { leader, .. } => self.members.member(*leader)?,
        };
        Some((member, *ballot, *since))
    }

    pub(crate) fn leads(&self) -> bool {
        matches!(self.leadership, Some(Leadership { side: Side::Leads { .. }, .. }))
    }

    pub(crate) fn leading_peer(&self) -> Option<Peer> {
        match self.leadership {
            Some(Leadership { side: Side::Follows { leader, .. }, .. }) => Some(leader),
            _ => None,
        }
    }

    pub(crate) fn hears_leader(&self, now: Time) -> bool {
        match self.leadership.as_ref().map(|leadership| &leadership.side) {
            None => false,
            Some(Side::Leads { .. }) => true,
            Some(Side::Follows { leader, heartbeat, heard }) => {
                now.since(*heard) <= 2 * *heartbeat && self.members.is_up(*leader)
            }
        }
    }

    pub(crate) fn taken_by(&self) -> Option<&Arc<str>> {
        self.taken.as_ref()
    }

    pub(crate) fn keep_id(&mut self) {
        self.taken = None;
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping
    }

    pub(crate) fn highest(&self) -> Ballot {
        self.highest
    }

    pub(crate) fn recognised_until(&self) -> Time {
        self.until
    }

    pub(crate) fn resignations(&self) -> u64 {
        self.resignations
    }

    // ── Inside ─────────────────────────────────────────────────────────────────────────────────────────────────

    /// Every handler begins here. What the coordinator said of the leader ends at `until`. After a late wake-up all
    /// timers start anew, because the silence was this node's own delay.
    pub(crate) fn enter(&mut self, now: Time) {
        if now >= self.until {
            self.leave_leader(now, "etcd is not reached");
        }
        let is_late = now.since(self.entered) > timing::LATE_WAKE_UP * self.heartbeat;
        self.entered = now;
        if !is_late {
            return;
        }
        self.members.restart_timers(now);
        match self.leadership.as_mut().map(|leadership| &mut leadership.side) {
            Some(Side::Follows { heard, .. }) => *heard = now,
            Some(Side::Leads { followers, .. }) => followers.clear(),
            None => {}
        }
    }

    /// A node was met: in another life it is not the leader, or follower, that it was.
    pub(crate) fn meet_node(&mut self, now: Time, Met { peer, is_anew, replaces }: Met) {
        let Some(leadership) = &mut self.leadership else { return };
        match &mut leadership.side {
            Side::Follows { leader, .. } => {
                // The leader's entry may be replaced by another one of the same node.
                if Some(*leader) == replaces {
                    *leader = peer;
                }
                // etcd has not said that this new life leads.
                if is_anew && *leader == peer {
                    self.leave_leader(now, ANEW);
                }
            }
            Side::Leads { followers, .. } if is_anew => drop(followers.remove(&peer)),
            Side::Leads { .. } => {}
        }
    }

    /// Every handler ends here.
    pub(crate) fn settle(&mut self, now: Time) {
        let (is_leading, leader) = (self.leads(), self.leading_peer());
        let reached_max = REACHED_WITHOUT_LEADER_MAX;
        let standing = Standing { is_leading, leader, unreached: None, reached_max };
        self.reach.settle(now, self.heartbeat, &mut self.members, standing, Rules::ALL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Election;

    fn at(seconds: u64) -> Time {
        Time::at(Duration::from_secs(seconds))
    }

    fn node(id: u32) -> Identity {
        let name: Arc<str> = format!("n{id}").into();
        Identity { id: Some(id), boot: id.into(), grpc_addr: Arc::clone(&name), name, ..Identity::default() }
    }

    fn recognised(leader: Option<(u32, u64)>) -> Recognised {
        let leader = leader.map(|(id, counter)| (node(id), counter));
        let members = [1, 2, 3].map(node).into();
        Recognised { members, leader, until: at(60), ..Recognised::default() }
    }

    /// Node 1, which follows node 3 until its lane closes at 1 s.
    fn missing_its_leader() -> Election {
        let mut election = Election::appointed(&node(1), &[], Duration::from_secs(1));
        election.recognise(Time::ZERO, &recognised(Some((3, 5))));
        let leader = election.leading_peer().unwrap();
        election.lane_up(at(1), leader, Wanted::Schedule, &node(3));
        election.lane_down(at(1), leader, Some("connection closed"));
        election
    }

    fn last_change(election: &Election) -> (&str, &str, Duration) {
        let change = election.members().recent().next().unwrap();
        (&change.name, &change.reason, change.duration)
    }

    #[test]
    fn the_next_leader_took_over_from_the_one_that_was_missed() {
        let (mut election, third) = (missing_its_leader(), at(3));
        election.recognise(third, &recognised(None));
        election.recognise(third, &recognised(Some((2, 7))));
        let reason = "took over from n3: it gave up its key in etcd, or lost it";
        assert_eq!(last_change(&election), ("n2", reason, Duration::from_secs(2)));
    }

    #[test]
    fn a_change_without_a_moment_between_is_a_succession_too() {
        let mut election = missing_its_leader();
        election.recognise(at(3), &recognised(Some((2, 7))));
        let reason = "took over from n3: it holds the leader's key in etcd";
        assert_eq!(last_change(&election), ("n2", reason, Duration::from_secs(2)));
    }

    #[test]
    fn the_first_leader_took_over_from_nobody() {
        let mut election = Election::appointed(&node(1), &[], Duration::from_secs(1));
        election.recognise(at(2), &recognised(Some((3, 5))));
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
