//! It leads, until another does.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::{
    Bully, Role,
    seeking::{Phase, Seeking},
};
use crate::{
    Ballot, Claim, ClaimVerdict, Effect, HandOver, Judged, Peer, PeerRequest, Rule, Time, TransferError,
    message::{covers, is_absurd, newest_of_each, successor_named},
    timing::{self, HEALTHY, silence_max},
};

#[derive(Debug)]
pub(super) struct Leading {
    pub(super) ballot: Ballot,
    pub(super) succeeds: Arc<[Ballot]>,
    pub(super) reason: Arc<str>,
    pub(super) took: Duration,
    pub(super) since: Time,
    /// When each follower last agreed.
    pub(super) followers: BTreeMap<Peer, Time>,
    pub(super) handing_over: Option<HandingOver>,
    /// An operator wants it to lead, whoever is higher.
    pub(super) transferred: bool,
    /// Not before then it hands over to a higher id.
    pub(super) return_after: Time,
}

#[derive(Debug)]
pub(super) struct HandingOver {
    pub(super) cause: Cause,
    /// The node that is asked; none between two rounds.
    pub(super) to: Option<Peer>,
    pub(super) until: Time,
    /// Those that could not take over, in this round.
    pub(super) tried: BTreeSet<Peer>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    Stopping,
    Transfer(Peer),
    /// A higher id is healthy.
    Higher(Peer),
    /// Another leader was met.
    Met(Peer),
}

impl Bully {
    /// Claims above all that was seen. `handed_over` are the leaderships of others that it succeeds.
    pub(super) fn claim_anew(
        &mut self,
        now: Time,
        handed_over: Vec<Ballot>,
        reason: Arc<str>,
        took: Duration,
    ) {
        if !self.may_lead() {
            return;
        }
        let id = self.id().unwrap_or_default();
        let counter = self.highest.counter + u64::from(self.rules.keep(Rule::ClaimsRise));
        let ballot = Ballot { counter, id };
        let latest = handed_over.last().map_or(id, |ballot| ballot.id);
        let mut succeeds = handed_over;
        let (mut since, mut followers, mut transferred) = (now, BTreeMap::new(), false);
        match &mut self.role {
            Role::Leading(before) => {
                succeeds.extend(before.succeeds.iter());
                succeeds.push(before.ballot);
                since = before.since;
                followers = std::mem::take(&mut before.followers);
                transferred = before.transferred;
            }
            Role::Seeking(_) | Role::Following(_) => self.record_leader(now, None, &reason, took),
        }
        self.highest = self.highest.max(ballot);
        self.role = Role::Leading(Leading {
            ballot,
            succeeds: newest_of_each(succeeds, latest),
            reason,
            took,
            since,
            followers,
            handing_over: None,
            transferred,
            return_after: now,
        });
        self.announce(now);
    }

    fn announce(&mut self, now: Time) {
        let Some(claim) = self.claim(now) else { return };
        let victory = |to| Effect::Send { to, request: PeerRequest::Victory(claim.clone()) };
        self.effects.extend(self.members.peers().map(victory));
    }

    pub(super) fn succeed(&mut self, now: Time, offer: &HandOver) {
        let mut handed_over = offer.succeeds.to_vec();
        handed_over.push(offer.ballot);
        self.claim_anew(now, handed_over, Arc::clone(&offer.reason), Duration::ZERO);
        if let Role::Leading(leading) = &mut self.role {
            leading.transferred |= offer.transferred;
        }
    }

    pub(super) fn has_succeeded(&self, ballot: Ballot) -> bool {
        matches!(&self.role, Role::Leading(leading) if covers(&leading.succeeds, ballot))
    }

    pub(super) fn take_verdict(&mut self, now: Time, peer: Peer, judged: Judged) {
        let Judged { asked, ballot, verdict } = judged;
        let Role::Leading(leading) = &mut self.role else { return };
        let told = match verdict {
            ClaimVerdict::Stale(told) | ClaimVerdict::Hears(told) => told,
            ClaimVerdict::Follows | ClaimVerdict::Unreached => ballot,
        };
        if leading.ballot != ballot || is_absurd(told, self.highest) {
            return;
        }
        match verdict {
            ClaimVerdict::Follows => {
                // Verdicts overtake one another: that on a victory may come after those on later heartbeats.
                let last_asked = leading.followers.entry(peer).or_insert(asked);
                *last_asked = asked.max(*last_asked);
            }
            ClaimVerdict::Hears(other) => {
                leading.followers.remove(&peer);
                self.highest = self.highest.max(other);
                // This leader does not know the other one: the peer is asked, and its answer names that leader.
                if self.members.peers().all(|peer| self.members.id(peer) != Some(other.id)) {
                    self.ask(vec![peer], false);
                }
            }
            ClaimVerdict::Stale(seen) => {
                let hands_over = leading.handing_over.is_some();
                let (reason, took) = (Arc::clone(&leading.reason), leading.took);
                self.highest = self.highest.max(seen);
                if seen > ballot && !hands_over && self.rules.keep(Rule::StaleClaimsAnew) {
                    self.claim_anew(now, Vec::new(), reason, took);
                }
            }
            ClaimVerdict::Unreached => {}
        }
    }

    pub(super) fn live_followers(&self, now: Time) -> u32 {
        let Role::Leading(leading) = &self.role else { return 0 };
        let live = leading.followers.keys().filter(|peer| self.agrees(now, **peer));
        u32::try_from(live.count()).unwrap_or(u32::MAX)
    }

    pub(super) fn lead(&mut self, now: Time) {
        let Role::Leading(leading) = &mut self.role else { return };
        match &mut leading.handing_over {
            Some(handing_over) if now >= handing_over.until => {
                handing_over.tried.extend(handing_over.to.take());
                self.offer_next(now);
            }
            Some(_) => {}
            None if self.stopping => {}
            None if leading.transferred || now < leading.return_after => {}
            None => {
                if let Some(higher) = self.healthy_higher(now)
                    && self.rules.keep(Rule::HighestReturns)
                {
                    self.begin_hand_over(now, Cause::Higher(higher));
                }
            }
        }
    }

    /// The highest id that is up, if it is above this node's, has been alive for ten seconds and follows. No lower id is
    /// chosen meanwhile: each in turn would lead for a moment.
    fn healthy_higher(&self, now: Time) -> Option<Peer> {
        let is_higher = |peer: &Peer| self.members.is_up(*peer) && self.members.id(*peer) > self.id();
        let is_healthy = |peer: &Peer| {
            let since = self.members.member(*peer).map_or(now, |member| member.since);
            now.since(since) >= HEALTHY && self.agrees(now, *peer)
        };
        let highest = self.members.peers().filter(is_higher).max_by_key(|peer| self.members.id(*peer));
        highest.filter(is_healthy)
    }

    fn agrees(&self, now: Time, peer: Peer) -> bool {
        let Role::Leading(leading) = &self.role else { return false };
        leading.followers.get(&peer).is_some_and(|agreed| now.since(*agreed) < silence_max(self.heartbeat))
    }

    /// Another leader is heard: the one with fewer followers, then the lower ballot, hands over.
    pub(super) fn meet_leader(&mut self, now: Time, other: Peer, claim: &Claim) {
        let Role::Leading(leading) = &self.role else { return };
        let is_past = covers(&leading.succeeds, claim.ballot) && self.rules.keep(Rule::SucceededIsNotMet);
        let mine = (self.live_followers(now), leading.ballot);
        let free = leading.handing_over.is_none();
        if free
            && !is_past
            && mine < (claim.followers, claim.ballot)
            && self.rules.keep(Rule::MeetingHandsOver)
        {
            self.begin_hand_over(now, Cause::Met(other));
        }
    }

    /// Replaces a running hand-over. Only a stop may do that: all other callers check that none is running.
    pub(super) fn begin_hand_over(&mut self, now: Time, cause: Cause) {
        let Role::Leading(leading) = &mut self.role else { return };
        leading.handing_over = Some(HandingOver { cause, to: None, until: now, tried: BTreeSet::new() });
        self.offer_next(now);
    }

    /// Asks the next successor; when none is left, a stopping leader tries again after H, and others give up.
    pub(super) fn offer_next(&mut self, now: Time) {
        let next = self.successor(now);
        let me = Arc::clone(&self.members.me().name);
        let retries = self.rules.keep(Rule::HandOverIsRetried);
        let Role::Leading(leading) = &mut self.role else { return };
        let Some(handing_over) = &mut leading.handing_over else { return };
        handing_over.to = next;
        let Some(to) = next else {
            handing_over.tried.clear();
            handing_over.until = now + timing::HAND_OVER_AGAIN * self.heartbeat;
            if handing_over.cause != Cause::Stopping || !retries {
                leading.handing_over = None;
                leading.return_after = now + HEALTHY;
            }
            return;
        };
        handing_over.until = now + timing::VICTORY * self.heartbeat;
        let reason = match handing_over.cause {
            Cause::Stopping => format!("took over from {me}, which stops"),
            Cause::Transfer(_) => format!("took over from {me}, as an operator asked"),
            Cause::Higher(_) => format!("took over from {me}: the highest id leads"),
            Cause::Met(_) => format!("took over from {me}: two leaders met"),
        };
        let offer = HandOver {
            ballot: leading.ballot,
            succeeds: Arc::clone(&leading.succeeds),
            reason: reason.into(),
            transferred: matches!(handing_over.cause, Cause::Transfer(_)),
        };
        self.effects.push(Effect::Send { to, request: PeerRequest::HandOver(offer) });
        if !self.rules.keep(Rule::LeadsUntilVictory) {
            let phase = Phase::Delaying { until: now + timing::VICTORY * self.heartbeat, gives_way: false };
            self.role = Role::Seeking(Seeking { phase, lost: None, unreached: None });
        }
    }

    fn successor(&self, now: Time) -> Option<Peer> {
        let Role::Leading(Leading { handing_over: Some(handing_over), .. }) = &self.role else { return None };
        let untried = |peer: &Peer| !handing_over.tried.contains(peer);
        match handing_over.cause {
            Cause::Transfer(peer) | Cause::Higher(peer) | Cause::Met(peer) => Some(peer).filter(untried),
            Cause::Stopping => {
                let is_able = |peer: &Peer| self.members.is_up(*peer) && self.members.id(*peer).is_some();
                let able = self.members.peers().filter(|peer| is_able(peer) && untried(peer));
                able.max_by_key(|peer| (self.agrees(now, *peer), self.members.id(*peer)))
            }
        }
    }

    /// The member of this name, if it can lead after this node.
    pub(super) fn transfer_target(&self, to: &str) -> Result<Peer, TransferError> {
        let is_handing_over = matches!(&self.role, Role::Leading(Leading { handing_over: Some(_), .. }));
        if !self.leads() {
            return Err(TransferError::NotLeading);
        }
        if self.stopping {
            return Err(TransferError::Stopping);
        }
        if is_handing_over {
            return Err(TransferError::Busy);
        }
        successor_named(&self.members, to)
    }
}
