//! Who leads, agreed among the nodes themselves: the Bully algorithm, hardened. `docs/election.md` tells its rules.

mod answering;
mod following;
mod leading;
mod seeking;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use rand::{SeedableRng, rngs::StdRng};

use crate::{
    Ballot, Change, ChangeKind, Claim, ClaimVerdict, DialError, Effect, Figures, HandOver, Identity, Judged,
    Member, MemberList, Membership, Met, Peer, PeerAddress, QuestionAnswer, Refusal, Rule, Rules, Time,
    TransferError, Wanted,
    limits::LANES_WITHOUT_LEADER,
    message::is_absurd,
    reach::{Reach, Standing, share},
    timing,
};
use following::{Following, Loss};
use leading::{Cause, Leading};
use seeking::{Asking, Phase, Seeking};

#[derive(Debug)]
enum Role {
    Seeking(Seeking),
    Following(Following),
    Leading(Leading),
}

/// A node of the election, and the membership below it.
#[derive(Debug)]
pub(crate) struct Bully {
    pub(crate) members: Membership,
    heartbeat: Duration,
    role: Role,
    /// The highest ballot that was seen.
    highest: Ballot,
    round: u64,
    /// Who was asked in this round.
    asked: BTreeSet<Peer>,
    stopping: bool,
    /// Another node is said to have this one's id; until that is known, this one does not lead.
    taken: Option<Arc<str>>,
    /// Such a report was wrong before: another one does not keep this node from leading.
    was_wrong: bool,
    pub(crate) effects: Vec<Effect>,
    /// The last event, by which a late wake-up is noticed.
    entered: Time,
    ticked: Time,
    reach: Reach,
    random: StdRng,
    rules: Rules,
}

impl Bully {
    /// A node that has just started. `me.boot` seeds its random delays.
    pub(crate) fn new(me: &Identity, peers: &[PeerAddress], heartbeat: Duration, rules: Rules) -> Self {
        let phase = Phase::Booting {
            until: Time::ZERO + timing::BOOT * heartbeat,
            ask_again: Time::ZERO,
            answered: BTreeSet::new(),
        };
        let mut bully = Self {
            members: Membership::new(me, peers, heartbeat),
            heartbeat,
            role: Role::Seeking(Seeking { phase, lost: None, unreached: None }),
            highest: Ballot::default(),
            round: 0,
            asked: BTreeSet::new(),
            stopping: false,
            taken: None,
            was_wrong: false,
            effects: Vec::new(),
            entered: Time::ZERO,
            ticked: Time::ZERO,
            reach: Reach::default(),
            random: StdRng::seed_from_u64(me.boot),
            rules,
        };
        bully.settle(Time::ZERO);
        bully
    }

    // ── Lanes and time ─────────────────────────────────────────────────────────────────────────────────────────

    /// A lane of this kind to the peer is open, and this is who answers on it.
    pub(crate) fn lane_up(&mut self, now: Time, peer: Peer, kind: Wanted, identity: &Identity) {
        self.enter(now);
        match self.members.lane_up(now, peer, kind, identity) {
            Ok(met) => {
                self.meet_node(now, met);
            }
            Err(refusal) => self.effects.push(Effect::Refused { node: identity.clone(), refusal }),
        }
        match &mut self.role {
            Role::Following(following) if following.leader == peer => {
                following.reached |= kind == Wanted::Schedule;
            }
            Role::Seeking(seeking) if seeking.unreached == Some(peer) => seeking.unreached = None,
            _ => {}
        }
        self.settle(now);
    }

    /// The peer could not be dialled. Returns whether that is news.
    pub(crate) fn dial_failed(&mut self, now: Time, peer: Peer, error: &DialError) -> bool {
        self.enter(now);
        let is_news = self.members.dial_failed(now, peer, error);
        // A node that stops is still there.
        if self.follows(peer) && *error != DialError::Stopping {
            self.lose_leader(now, Loss::Unreached(error.to_string()));
        }
        self.settle(now);
        is_news
    }

    /// The peer acknowledged a heartbeat that carried the ballot.
    pub(crate) fn acked(&mut self, now: Time, peer: Peer, figures: Figures, judged: Option<Judged>) {
        self.enter(now);
        self.members.acked(now, peer, figures);
        if let Some(judged) = judged {
            self.take_verdict(now, peer, judged);
        }
        self.settle(now);
    }

    /// To be called at each [`next_deadline`](Self::next_deadline), or a little later.
    pub(crate) fn tick(&mut self, now: Time) {
        let due = self.next_deadline();
        self.enter(now);
        self.members.timer_was_late(now.since(due));
        self.ticked = now;
        self.members.tick(now);
        match &self.role {
            Role::Following(_) => self.judge_leader(now),
            Role::Seeking(_) => self.seek(now),
            Role::Leading(_) => self.lead(now),
        }
        self.settle(now);
    }

    /// When `tick` is due: within a heartbeat.
    pub(crate) fn next_deadline(&self) -> Time {
        let heartbeat = self.ticked + self.heartbeat;
        let own = match &self.role {
            Role::Seeking(Seeking { phase, .. }) => match phase {
                Phase::Booting { until, ask_again, .. } => *until.min(ask_again),
                Phase::Delaying { until, .. } | Phase::Asking(Asking { until, .. }) => *until,
            },
            Role::Following(_) if self.stopping => heartbeat,
            Role::Following(following) => following.heard + self.members.silence_max(following.heartbeat),
            Role::Leading(Leading { handing_over: Some(handing_over), .. }) => handing_over.until,
            Role::Leading(_) => heartbeat,
        };
        own.min(heartbeat)
    }

    // ── Requests of others ─────────────────────────────────────────────────────────────────────────────────────

    /// A node asks, perhaps as a candidate. It changes nobody's leadership.
    pub(crate) fn question(&mut self, now: Time, sender: &Identity, is_candidate: bool) -> QuestionAnswer {
        self.enter(now);
        let peer = match self.members.heard(now, sender) {
            Ok(met) => self.meet_node(now, met),
            Err(Refusal::Taken(by)) => return QuestionAnswer::Taken(by),
            Err(Refusal::Listed | Refusal::Full | Refusal::Absurd) => return QuestionAnswer::Go,
        };
        let answer = self.answer(now, sender.id);
        if !self.rules.keep(Rule::AskingMovesNobody) {
            self.lose_leader(now, Loss::Silent);
        }
        self.count_question(now, peer, sender.id.filter(|_| is_candidate));
        self.settle(now);
        answer
    }

    /// A node says that it leads, in its Victory or in a heartbeat.
    ///
    /// # Errors
    /// When it cannot be a member.
    pub(crate) fn claimed(
        &mut self,
        now: Time,
        sender: &Identity,
        claim: &Claim,
        list: Option<MemberList>,
    ) -> Result<ClaimVerdict, Refusal> {
        self.enter(now);
        self.refuse_absurd(claim.ballot)?;
        let met = self.members.heard(now, sender)?;
        let peer = self.meet_node(now, met);
        let verdict = self.judge(now, peer, claim);
        self.highest = self.highest.max(claim.ballot);
        if verdict == ClaimVerdict::Follows {
            self.become_follower(now, peer, claim);
            if let Some(list) = list {
                // Peers that are not in the leader's list may follow another leader, which this one does not know.
                let untold = self.members.adopt(now, peer, list);
                let some = self.some_of(untold);
                self.ask(some, false);
            }
        } else {
            self.meet_leader(now, peer, claim);
        }
        self.settle(now);
        Ok(verdict)
    }

    /// A leader asks this node to lead after it; returns whether it does.
    ///
    /// # Errors
    /// When the leader cannot be a member.
    pub(crate) fn hand_over(
        &mut self,
        now: Time,
        sender: &Identity,
        offer: &HandOver,
    ) -> Result<bool, Refusal> {
        self.enter(now);
        self.refuse_absurd(offer.ballot)?;
        let met = self.members.heard(now, sender)?;
        let peer = self.meet_node(now, met);
        self.highest = self.highest.max(offer.ballot);
        let accepted = self.accepts(now, peer, offer);
        if accepted && !self.has_succeeded(offer.ballot) {
            self.succeed(now, offer);
        }
        self.settle(now);
        Ok(accepted)
    }

    // ── Replies to this node ───────────────────────────────────────────────────────────────────────────────────

    /// A peer that answers a question says who it is.
    pub(crate) fn met(&mut self, peer: Peer, identity: &Identity) {
        if let Some(Met { peer, replaces, .. }) = self.members.met(peer, identity) {
            self.follow_entry(peer, replaces);
        }
    }

    /// The answer to a question of this round; none when the peer could not be asked.
    pub(crate) fn answered(&mut self, now: Time, peer: Peer, round: u64, answer: Option<QuestionAnswer>) {
        self.enter(now);
        if answer.is_some() {
            self.count_at_boot(peer);
        }
        match answer {
            Some(QuestionAnswer::Taken(by)) => self.meet_twin(by),
            Some(QuestionAnswer::LeaderAlive(leader)) => self.hear_of_leader(now, round, &leader),
            Some(QuestionAnswer::Ok) if self.rules.keep(Rule::OkIsAwaited) => {
                if let Some(asking) = self.asking(round) {
                    asking.ok = true;
                }
            }
            Some(QuestionAnswer::Ok | QuestionAnswer::Go | QuestionAnswer::Stopping) | None => {}
        }
        if let Some(asking) = self.asking(round) {
            asking.count(peer);
        }
        self.seek(now);
        self.settle(now);
    }

    /// What a peer makes of a Victory; none when it could not be told.
    pub(crate) fn judged(&mut self, now: Time, peer: Peer, judged: Option<Judged>) {
        self.enter(now);
        if let Some(judged) = judged {
            self.take_verdict(now, peer, judged);
        }
        self.settle(now);
    }

    /// Whether the peer leads after this node; none when it could not be asked.
    pub(crate) fn hand_over_answered(
        &mut self,
        now: Time,
        peer: Peer,
        ballot: Ballot,
        accepted: Option<bool>,
    ) {
        self.enter(now);
        let Role::Leading(leading) = &mut self.role else { return };
        let asked = leading.handing_over.as_mut().filter(|handing_over| handing_over.to == Some(peer));
        if let Some(handing_over) = asked
            && leading.ballot == ballot
            && accepted != Some(true)
        {
            handing_over.tried.insert(peer);
            self.offer_next(now);
        }
        self.settle(now);
    }

    // ── Operators ──────────────────────────────────────────────────────────────────────────────────────────────

    /// This node is stopping: it hands over if it leads, and never leads again.
    pub(crate) fn stop(&mut self, now: Time) {
        self.enter(now);
        self.stopping = true;
        if self.rules.keep(Rule::HandOverAtStop) {
            self.begin_hand_over(now, Cause::Stopping);
        }
        self.settle(now);
    }

    /// An operator wants the member of this name to lead. With a coordinator, the driver then tells the coordinator.
    ///
    /// # Errors
    /// See [`TransferError`].
    pub(crate) fn transfer(&mut self, now: Time, to: &str) -> Result<Peer, TransferError> {
        self.enter(now);
        let peer = self.transfer_target(to)?;
        self.begin_hand_over(now, Cause::Transfer(peer));
        self.settle(now);
        Ok(peer)
    }

    // ── What follows from them ─────────────────────────────────────────────────────────────────────────────────

    /// The claim that this node's heartbeats carry, if it leads.
    pub(crate) fn claim(&self, now: Time) -> Option<Claim> {
        let Role::Leading(leading) = &self.role else { return None };
        Some(Claim {
            ballot: leading.ballot,
            succeeds: Arc::clone(&leading.succeeds),
            followers: self.live_followers(now),
            heartbeat: self.heartbeat,
            reason: Arc::clone(&leading.reason),
            took: leading.took,
        })
    }

    /// Who leads, as far as this node follows anybody: the leader, its ballot, and since when.
    pub(crate) fn leader(&self) -> Option<(&Member, Ballot, Time)> {
        match &self.role {
            Role::Seeking(_) => None,
            Role::Leading(leading) => Some((self.members.me(), leading.ballot, leading.since)),
            Role::Following(following) => {
                let member = self.members.member(following.leader)?;
                Some((member, following.ballot, following.since))
            }
        }
    }

    /// Whether this node leads.
    pub(crate) fn leads(&self) -> bool {
        matches!(self.role, Role::Leading(_))
    }

    /// The peer that leads.
    pub(crate) fn leading_peer(&self) -> Option<Peer> {
        match &self.role {
            Role::Following(following) => Some(following.leader),
            Role::Seeking(_) | Role::Leading(_) => None,
        }
    }

    /// The address at which another node is said to have this node's id. If it is there, this node came later and must
    /// end.
    pub(crate) fn taken_by(&self) -> Option<&Arc<str>> {
        self.taken.as_ref()
    }

    /// The other node with this one's id is not where it was said to be.
    pub(crate) fn keep_id(&mut self) {
        (self.taken, self.was_wrong) = (None, true);
    }

    /// Whether this node was told to stop.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// The highest ballot that was seen.
    pub(crate) fn highest(&self) -> Ballot {
        self.highest
    }

    /// Whether this node hears its leader: its lane is open, and it was heard within two of its heartbeats.
    pub(crate) fn hears_leader(&self, now: Time) -> bool {
        match &self.role {
            Role::Leading(_) => true,
            Role::Seeking(_) => false,
            Role::Following(following) => {
                let is_fresh = now.since(following.heard) <= 2 * following.heartbeat;
                is_fresh && self.members.is_up(following.leader)
            }
        }
    }

    // ── Inside ─────────────────────────────────────────────────────────────────────────────────────────────────

    fn id(&self) -> Option<u32> {
        self.members.me().id
    }

    fn may_lead(&self) -> bool {
        self.id().is_some()
            && (self.taken.is_none() || self.was_wrong)
            && !(self.stopping && self.rules.keep(Rule::StoppingNeverClaims))
    }

    /// A ballot that no election can have led to would end all elections: nobody could claim above it.
    fn refuse_absurd(&self, ballot: Ballot) -> Result<(), Refusal> {
        if is_absurd(ballot, self.highest) { Err(Refusal::Absurd) } else { Ok(()) }
    }

    /// Every handler begins here. After a late wake-up the silence was one's own: all timers start anew.
    pub(crate) fn enter(&mut self, now: Time) {
        let late = now.since(self.entered) > timing::LATE_WAKE_UP * self.heartbeat;
        self.entered = now;
        if !late || !self.rules.keep(Rule::LateWakeUp) {
            return;
        }
        self.members.restart_timers(now);
        match &mut self.role {
            Role::Following(following) => following.heard = now,
            Role::Leading(leading) => leading.followers.clear(),
            Role::Seeking(Seeking { phase: Phase::Booting { until, .. }, .. }) => {
                *until = now + timing::BOOT * self.heartbeat;
            }
            Role::Seeking(_) => self.delay(now, self.rank_delay()),
        }
    }

    /// Every handler ends here.
    pub(crate) fn settle(&mut self, now: Time) {
        let others = self.members.shape().1;
        let is_share = self.rules.keep(Rule::FewAreReached);
        let reached_max = if is_share { share(LANES_WITHOUT_LEADER, others) } else { others };
        let (is_leading, leader) = (self.leads(), self.leading_peer());
        let standing = Standing { is_leading, leader, unreached: self.unreached(), reached_max };
        self.reach.settle(now, self.heartbeat, &mut self.members, standing, self.rules);
    }

    fn record_leader(&mut self, now: Time, leader: Option<Peer>, reason: &str, took: Duration) {
        let member = leader.and_then(|leader| self.members.member(leader)).unwrap_or(self.members.me());
        let name = Arc::clone(&member.name);
        let reason = reason.to_owned();
        self.members.record(Change { at: now, name, kind: ChangeKind::Leads, reason, duration: took });
    }
}
