//! How a node answers a question, a claim and a hand-over.

use super::{
    Bully, Role,
    seeking::{Phase, Seeking},
};
use crate::{Ballot, Claim, ClaimVerdict, HandOver, Peer, QuestionAnswer, Rule, Time, message::covers};

impl Bully {
    pub(super) fn answer(&self, now: Time, asker: Option<u32>) -> QuestionAnswer {
        if let Some((leader, ..)) = self.leader()
            && self.hears_leader(now)
            && self.rules.keep(Rule::Veto)
        {
            return QuestionAnswer::LeaderAlive(leader.identity());
        }
        if self.stopping {
            return QuestionAnswer::Stopping;
        }
        let boots = matches!(&self.role, Role::Seeking(Seeking { phase: Phase::Booting { .. }, .. }));
        let takes_over = asker.is_some() && self.id() > asker && self.may_lead();
        match takes_over && !(boots && self.rules.keep(Rule::NoOkAtBoot)) {
            true => QuestionAnswer::Ok,
            false => QuestionAnswer::Go,
        }
    }

    /// A question tells that its sender lives; that of a higher candidate counts as its `ok`.
    pub(super) fn count_question(&mut self, now: Time, peer: Peer, candidate: Option<u32>) {
        self.count_at_boot(peer);
        let is_ok = candidate > self.id() && self.rules.keep(Rule::QuestionIsOk);
        let Role::Seeking(Seeking { phase, .. }) = &mut self.role else { return };
        match phase {
            Phase::Delaying { gives_way: false, .. } if is_ok => self.give_way(now),
            Phase::Asking(asking) if is_ok => asking.ok = true,
            Phase::Booting { .. } => self.seek(now),
            Phase::Delaying { .. } | Phase::Asking(_) => {}
        }
    }

    /// What to make of a claim: the ballot first, then the role.
    pub(super) fn judge(&self, now: Time, peer: Peer, claim: &Claim) -> ClaimVerdict {
        let is_handed_over = |ballot: Ballot| {
            claim.ballot > ballot && covers(&claim.succeeds, ballot) && self.rules.keep(Rule::HandOverIsNamed)
        };
        match &self.role {
            Role::Seeking(seeking) if seeking.unreached == Some(peer) => ClaimVerdict::Unreached,
            Role::Seeking(_) if claim.ballot < self.highest => ClaimVerdict::Stale(self.highest),
            Role::Seeking(_) => ClaimVerdict::Follows,
            Role::Following(following) if following.leader == peer => {
                // An older claim of the same leader that comes late must not lower the ballot.
                match claim.ballot >= following.ballot {
                    true => ClaimVerdict::Follows,
                    false => ClaimVerdict::Hears(following.ballot),
                }
            }
            Role::Following(following) => {
                let vetoed = self.hears_leader(now) && self.rules.keep(Rule::VetoOnReceipt);
                let is_newer = claim.ballot >= self.highest && !vetoed;
                match is_handed_over(following.ballot) || is_newer {
                    true => ClaimVerdict::Follows,
                    false => ClaimVerdict::Hears(following.ballot),
                }
            }
            Role::Leading(leading) => match is_handed_over(leading.ballot) {
                true => ClaimVerdict::Follows,
                false => ClaimVerdict::Hears(leading.ballot),
            },
        }
    }

    pub(super) fn accepts(&self, now: Time, peer: Peer, offer: &HandOver) -> bool {
        if !self.may_lead() {
            return false;
        }
        match &self.role {
            Role::Seeking(_) => true,
            Role::Following(following) => {
                let other = following.leader != peer || offer.ballot < following.ballot;
                !(other && self.hears_leader(now) && self.rules.keep(Rule::HearingRefusesHandOver))
            }
            Role::Leading(leading) => {
                let to = leading.handing_over.as_ref().and_then(|handing_over| handing_over.to);
                to != Some(peer) || leading.ballot > offer.ballot
            }
        }
    }
}
