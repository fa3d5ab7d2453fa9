//! It follows nobody: it waits, asks everybody, and claims if nobody objects.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use rand::RngExt;

use super::{Ballot, Election, Request, Role, Rule, Send};
use crate::cluster::{
    Identity,
    membership::{Peer, Status, Time},
};

/// It follows nobody.
#[derive(Debug)]
pub(super) struct Seeking {
    pub(super) phase: Phase,
    /// The leader that it followed.
    pub(super) lost: Option<Lost>,
    /// It hears this leader and cannot reach it: it follows again once a lane is open.
    pub(super) unreached: Option<Peer>,
}

#[derive(Debug)]
pub(super) struct Lost {
    pub(super) leader: Peer,
    pub(super) ballot: Ballot,
    pub(super) name: Arc<str>,
    pub(super) reason: String,
    /// The first sign of it.
    pub(super) since: Time,
    /// Its process was replaced by another one, which is no suspect.
    pub(super) is_anew: bool,
}

#[derive(Debug)]
pub(super) enum Phase {
    /// It has met no leader in this life, and waits for the others to start.
    Booting { until: Time, ask_again: Time, answered: BTreeSet<Peer> },
    /// It asks then. Who gives way to a higher id does so once: others may come, and it would never ask.
    Delaying { until: Time, gives_way: bool },
    /// It has asked, and awaits these until then.
    Asking { until: Time, awaited: BTreeSet<Peer>, ok: bool, veto: bool },
}

impl Election {
    pub(super) fn seek(&mut self, now: Time) {
        let boot_wait = self.keeps(Rule::BootWait);
        let Role::Seeking(Seeking { phase, .. }) = &mut self.role else { return };
        match phase {
            Phase::Booting { until, ask_again, answered } => {
                let is_awaited = |peer: &Peer| !answered.contains(peer);
                let awaited: Vec<Peer> = self.members.configured().filter(is_awaited).collect();
                if now >= *until || awaited.is_empty() || !boot_wait {
                    self.delay(now, self.rank_delay_max());
                } else if now >= *ask_again {
                    *ask_again = now + self.heartbeat;
                    self.ask(awaited, false);
                }
            }
            Phase::Delaying { until, .. } if now >= *until => self.ask_all(now),
            Phase::Asking { until, awaited, .. } if now >= *until || awaited.is_empty() => self.decide(now),
            Phase::Delaying { .. } | Phase::Asking { .. } => {}
        }
    }

    /// Waits before it asks: some random time longer, so that no two candidates stay in lockstep.
    pub(super) fn delay(&mut self, now: Time, wait: Duration) {
        let longer = self.heartbeat.mul_f64(self.random.random_range(0.0..0.1));
        let longer = if self.keeps(Rule::Rank) { longer } else { Duration::ZERO };
        if let Role::Seeking(seeking) = &mut self.role {
            seeking.phase = Phase::Delaying { until: now + wait + longer, gives_way: false };
        }
    }

    /// A higher id takes over: its Victory is awaited.
    pub(super) fn give_way(&mut self, now: Time) {
        self.delay(now, 3 * self.heartbeat);
        if let Role::Seeking(Seeking { phase: Phase::Delaying { gives_way, .. }, .. }) = &mut self.role {
            *gives_way = true;
        }
    }

    /// The more live ids are higher, the later.
    pub(super) fn rank_delay_max(&self) -> Duration {
        let suspect = self.suspect();
        let is_higher = |peer: &Peer| {
            let is_live = matches!(self.members.status(*peer), Status::Alive | Status::Suspect);
            let is_met = self.members.member(*peer).is_some_and(|member| member.heard.is_some());
            self.members.id(*peer) > self.id() && is_live && is_met && Some(*peer) != suspect
        };
        let rank = self.members.peers().filter(is_higher).count();
        let rank = u32::try_from(rank).unwrap_or(u32::MAX).min(5);
        if self.keeps(Rule::Rank) { self.heartbeat * rank / 5 } else { Duration::ZERO }
    }

    fn ask_all(&mut self, now: Time) {
        let suspect = self.suspect();
        let everybody: Vec<Peer> = self.members.peers().collect();
        // The suspect is asked, and not waited for.
        let awaited: BTreeSet<Peer> =
            everybody.iter().copied().filter(|peer| Some(*peer) != suspect).collect();
        let wait = if self.keeps(Rule::SilenceIsAwaited) { 2 * self.heartbeat } else { self.heartbeat / 20 };
        self.round += 1;
        self.ask(everybody, true);
        let Role::Seeking(seeking) = &mut self.role else { return };
        seeking.phase = Phase::Asking { until: now + wait, awaited, ok: false, veto: false };
        self.seek(now);
    }

    /// Who is told the leader asks nobody. Nor does who stops: it would only hold up those that could lead, and hears of
    /// them by itself.
    pub(super) fn ask(&mut self, peers: Vec<Peer>, is_candidate: bool) {
        if self.stopping || self.is_appointed() {
            return;
        }
        let request = Request::Question { round: self.round, is_candidate };
        self.sends.extend(peers.into_iter().map(|to| Send { to, request: request.clone() }));
    }

    /// All answers are in, or were waited for long enough.
    fn decide(&mut self, now: Time) {
        let Role::Seeking(Seeking { phase: Phase::Asking { ok, veto, .. }, .. }) = &self.role else { return };
        match (*veto, *ok) {
            (true, _) => self.delay(now, self.heartbeat),
            (false, true) => self.give_way(now),
            (false, false) if self.may_lead() => {
                let (reason, took) = match self.lost() {
                    Some(lost) => (
                        format!("took over from {}: {}", lost.name, lost.reason),
                        now.saturating_sub(lost.since),
                    ),
                    None => ("the first election".to_owned(), now),
                };
                self.claim_anew(now, Vec::new(), reason.into(), took);
            }
            (false, false) => self.delay(now, 3 * self.heartbeat),
        }
    }

    /// The answers that are awaited in this round, and whether there was an `ok` or a veto.
    pub(super) fn asking(&mut self, round: u64) -> Option<(&mut BTreeSet<Peer>, &mut bool, &mut bool)> {
        match &mut self.role {
            Role::Seeking(Seeking { phase: Phase::Asking { awaited, ok, veto, .. }, .. })
                if round == self.round =>
            {
                Some((awaited, ok, veto))
            }
            _ => None,
        }
    }

    fn lost(&self) -> Option<&Lost> {
        match &self.role {
            Role::Seeking(seeking) => seeking.lost.as_ref(),
            Role::Following(_) | Role::Leading(_) => None,
        }
    }

    pub(super) fn suspect(&self) -> Option<Peer> {
        self.lost().filter(|lost| !lost.is_anew).map(|lost| lost.leader)
    }

    /// A peer answered, really: at boot that is what is waited for.
    pub(super) fn count_at_boot(&mut self, peer: Peer) {
        if let Role::Seeking(Seeking { phase: Phase::Booting { answered, .. }, .. }) = &mut self.role {
            answered.insert(peer);
        }
    }

    pub(super) fn hear_of_leader(&mut self, now: Time, round: u64, leader: &Identity) {
        let before = self.members.shape();
        let known = self.members.admit(now, leader);
        let is_new = self.members.shape() != before;
        if let Some((.., veto)) = self.asking(round)
            && known.is_ok()
        {
            *veto = true;
        }
        // Who joins by another node's word asks the leader itself at once: so it is heard of.
        if is_new && let Ok(met) = known {
            self.ask(vec![met.peer], false);
        }
    }

    /// Who came later goes; a node that has led or followed in this life stays.
    pub(super) fn meet_twin(&mut self, by: Arc<str>) {
        let came_later = matches!(&self.role, Role::Seeking(seeking) if seeking.lost.is_none());
        if came_later {
            self.taken = Some(by);
        } else {
            tracing::error!("another node with this one's id is alive at {by}; one of them must go");
        }
    }
}
