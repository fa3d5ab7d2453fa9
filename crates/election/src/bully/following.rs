//! It follows a leader, until that is lost.

use std::{sync::Arc, time::Duration};

use super::{
    Bully, Role,
    seeking::{Lost, Phase, Seeking},
};
use crate::{
    Ballot, Change, ChangeKind, Claim, DialError, Met, Peer, Rule, Status, Time,
    members::change::{ANEW, MISSED},
    timing,
};

#[derive(Debug)]
pub(super) struct Following {
    pub(super) leader: Peer,
    pub(super) ballot: Ballot,
    pub(super) heartbeat: Duration,
    pub(super) since: Time,
    pub(super) heard: Time,
    /// The lane to it was open once: its loss is then judged after H, and not after 10 H.
    pub(super) reached: bool,
}

/// How a leader is lost.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// Its lane is closed, and does not open again.
    Unreached(String),
    /// Three heartbeats are missed.
    Silent,
    /// Its process was replaced by another one.
    Anew,
}

impl Bully {
    pub(super) fn become_follower(&mut self, now: Time, leader: Peer, claim: &Claim) {
        let same = match &mut self.role {
            Role::Following(following) if following.leader == leader => {
                following.ballot = claim.ballot;
                following.heard = now;
                following.heartbeat = claim.heartbeat;
                return;
            }
            Role::Seeking(Seeking { lost: Some(lost), .. }) => {
                (lost.ballot == claim.ballot).then_some(lost.since)
            }
            _ => None,
        };
        // The same leadership again: it was this node that lost sight of it.
        match same {
            Some(since) => {
                let took = now.since(since);
                self.record_leader(now, Some(leader), "it is heard again", took);
            }
            None => self.record_leader(now, Some(leader), &claim.reason, claim.took),
        }
        let Claim { ballot, heartbeat, .. } = *claim;
        let (since, heard, reached) = (now, now, false);
        self.role = Role::Following(Following { leader, ballot, heartbeat, since, heard, reached });
    }

    pub(super) fn judge_leader(&mut self, now: Time) {
        let Role::Following(Following { leader, heartbeat, heard, reached, .. }) = self.role else { return };
        let patience = if reached { timing::UNREACHED_AGAIN } else { timing::UNREACHED_YET } * heartbeat;
        let unreached = self.members.unreached_since(leader).map(|since| now.since(since));
        let is_stopping = self.members.status(leader) == Status::Stopped;
        // While this node stops, the leader does not call it any more; its open lane carries what is to be finished.
        let is_left = self.stopping && self.members.has_lane(leader);
        let is_silent = now.since(heard) >= self.members.silence_max(heartbeat) && !is_left;
        if is_silent && self.rules.keep(Rule::Suspicion) {
            self.lose_leader(now, Loss::Silent);
        } else if unreached.is_some_and(|unreached| unreached >= patience) && !is_stopping {
            self.lose_leader(now, Loss::Unreached(DialError::TimedOut.to_string()));
        }
    }

    pub(super) fn lose_leader(&mut self, now: Time, loss: Loss) {
        let Role::Following(Following { leader, ballot, heard, since, .. }) = self.role else { return };
        let reason = match &loss {
            Loss::Unreached(reason) => reason.as_str(),
            Loss::Silent => MISSED,
            Loss::Anew => ANEW,
        };
        // A missing lane was the first sign, else the silence.
        let first_sign = self.members.unreached_since(leader).unwrap_or(heard);
        if loss != Loss::Anew {
            self.members.suspect(now, leader, reason);
        }
        let name = Arc::clone(&self.members.member(leader).unwrap_or(self.members.me()).name);
        let duration = now.since(since);
        let (lost, why) = (Arc::clone(&name), reason.to_owned());
        self.members.record(Change {
            at: now,
            name: lost,
            kind: ChangeKind::LeaderLost,
            reason: why,
            duration,
        });
        let reason = reason.to_owned();
        self.role = Role::Seeking(Seeking {
            phase: Phase::Delaying { until: now, gives_way: false },
            unreached: matches!(loss, Loss::Unreached(_)).then_some(leader),
            lost: Some(Lost { leader, ballot, name, reason, since: first_sign, is_anew: loss == Loss::Anew }),
        });
        self.delay(now, self.rank_delay());
    }

    /// A node was met: in another life it is not the leader, or follower, that it was.
    pub(crate) fn meet_node(&mut self, now: Time, Met { peer, is_anew, replaces }: Met) -> Peer {
        self.follow_entry(peer, replaces);
        if is_anew && self.rules.keep(Rule::OneLife) {
            match &mut self.role {
                Role::Following(following) if following.leader == peer => self.lose_leader(now, Loss::Anew),
                Role::Leading(leading) => {
                    leading.followers.remove(&peer);
                }
                Role::Following(_) | Role::Seeking(_) => {}
            }
        }
        peer
    }

    /// The leader's entry may be replaced by another one of the same node.
    pub(super) fn follow_entry(&mut self, peer: Peer, replaces: Option<Peer>) {
        if let Role::Following(following) = &mut self.role
            && Some(following.leader) == replaces
        {
            following.leader = peer;
        }
    }

    pub(super) fn follows(&self, peer: Peer) -> bool {
        self.leading_peer() == Some(peer)
    }
}
