//! It follows nobody: it waits, asks everybody, and claims if nobody objects.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use rand::{RngExt, seq::SliceRandom};

use super::{Bully, Role};
use crate::{
    Ballot, Effect, Identity, Peer, PeerRequest, Rule, Status, Time,
    limits::{LANES_WITHOUT_LEADER, QUESTIONS_AT_FIRST, QUESTIONS_AT_ONCE_MAX},
    reach::share,
    timing,
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
    Booting {
        until: Time,
        ask_again: Time,
        answered: BTreeSet<Peer>,
    },
    /// It asks at `until`. It gives way to a higher id only once in a wait: a series of them could delay it for ever.
    Delaying {
        until: Time,
        gives_way: bool,
    },
    Asking(Asking),
}

/// It asks the others, the highest first.
#[derive(Debug)]
pub(super) struct Asking {
    /// Until when it waits for `awaited`.
    pub(super) until: Time,
    awaited: BTreeSet<Peer>,
    /// The peers still to be asked, from the end.
    unasked: Vec<Peer>,
    /// How many of `unasked` may be asked now.
    room: usize,
    pub(super) ok: bool,
    veto: bool,
}

impl Asking {
    /// The peer has answered, or will not. Each answer allows two more questions, so that their number grows while nobody
    /// objects: most nodes have asked few when somebody does, and the one that leads soon asks many.
    pub(super) fn count(&mut self, peer: Peer) {
        if self.awaited.remove(&peer) {
            self.room += 2;
        }
    }

    /// None of those that are awaited will answer.
    fn count_silent(&mut self) {
        self.room += 2 * std::mem::take(&mut self.awaited).len();
    }

    /// Who is to be asked now.
    fn next(&mut self) -> Vec<Peer> {
        let more = QUESTIONS_AT_ONCE_MAX.saturating_sub(self.awaited.len());
        let count = self.room.min(more).max(usize::from(self.awaited.is_empty()));
        self.room = self.room.saturating_sub(count);
        self.unasked.split_off(self.unasked.len().saturating_sub(count))
    }
}

impl Bully {
    pub(super) fn seek(&mut self, now: Time) {
        let (boot_wait, turns) = (self.rules.keep(Rule::BootWait), self.turns());
        let Role::Seeking(Seeking { phase, .. }) = &mut self.role else { return };
        match phase {
            Phase::Booting { until, ask_again, answered } => {
                let is_awaited = |peer: &Peer| !answered.contains(peer);
                let awaited: Vec<Peer> = self.members.configured().filter(is_awaited).collect();
                if now >= *until || awaited.is_empty() || !boot_wait {
                    self.delay(now, self.rank_delay());
                } else if now >= *ask_again {
                    *ask_again = now + self.heartbeat * turns;
                    let some = self.some_of(awaited);
                    self.ask(some, false);
                }
            }
            Phase::Delaying { until, .. } if now >= *until => self.ask_all(now),
            Phase::Delaying { .. } => {}
            Phase::Asking(asking) => {
                if now >= asking.until {
                    asking.count_silent();
                }
                if asking.ok || asking.veto {
                    asking.unasked.clear();
                }
                match asking.unasked.is_empty() {
                    false => self.ask_next(now),
                    true if asking.awaited.is_empty() => self.decide(now),
                    true => {}
                }
            }
        }
    }

    /// How many times a node must ask a few peers until it has asked all.
    fn turns(&self) -> u32 {
        let count = self.members.peers().count();
        u32::try_from(count.div_ceil(share(LANES_WITHOUT_LEADER, count))).unwrap_or(u32::MAX)
    }

    /// These peers, or in a large cluster a few of them at random.
    pub(super) fn some_of(&mut self, mut peers: Vec<Peer>) -> Vec<Peer> {
        let count = share(LANES_WITHOUT_LEADER, self.members.peers().count());
        if peers.len() > count {
            let (some, _) = peers.partial_shuffle(&mut self.random, count);
            return some.to_vec();
        }
        peers
    }

    /// Waits before it asks: some random time longer, so that no two candidates stay in lockstep.
    pub(super) fn delay(&mut self, now: Time, wait: Duration) {
        let longer = self.heartbeat.mul_f64(self.random.random_range(0.0..timing::RANDOM_DELAY_MAX));
        let longer = if self.rules.keep(Rule::Rank) { longer } else { Duration::ZERO };
        if let Role::Seeking(seeking) = &mut self.role {
            seeking.phase = Phase::Delaying { until: now + wait + longer, gives_way: false };
        }
    }

    /// A higher id takes over: its Victory is awaited.
    pub(super) fn give_way(&mut self, now: Time) {
        self.delay(now, timing::VICTORY * self.heartbeat);
        if let Role::Seeking(Seeking { phase: Phase::Delaying { gives_way, .. }, .. }) = &mut self.role {
            *gives_way = true;
        }
    }

    /// The more live ids are higher, the later.
    pub(super) fn rank_delay(&self) -> Duration {
        let suspect = self.suspect();
        let is_higher = |peer: &Peer| {
            let is_met = self.members.member(*peer).is_some_and(|member| member.heard.is_some());
            self.members.id(*peer) > self.id() && self.is_live(*peer) && is_met && Some(*peer) != suspect
        };
        let rank = self.members.peers().filter(is_higher).count();
        let rank = u32::try_from(rank).unwrap_or(u32::MAX).min(timing::RANKS_PER_HEARTBEAT);
        if self.rules.keep(Rule::Rank) {
            self.heartbeat * rank / timing::RANKS_PER_HEARTBEAT
        } else {
            Duration::ZERO
        }
    }

    fn is_live(&self, peer: Peer) -> bool {
        matches!(self.members.status(peer), Status::Alive | Status::Suspect)
    }

    /// A node that may lead asks everybody, the highest id first, until somebody objects. One that only looks for the
    /// leader asks a few.
    fn ask_all(&mut self, now: Time) {
        let everybody: Vec<Peer> = self.members.peers().collect();
        let room = match self.rules.keep(Rule::FewAreAskedAtFirst) {
            true => share(QUESTIONS_AT_FIRST, everybody.len()),
            false => usize::MAX,
        };
        let mut unasked = if self.may_lead() { everybody } else { self.some_of(everybody) };
        if unasked.len() > room {
            unasked.sort_by_key(|peer| (self.is_live(*peer), self.members.id(*peer)));
        }
        self.round += 1;
        self.asked.clear();
        let Role::Seeking(seeking) = &mut self.role else { return };
        let (awaited, ok, veto) = (BTreeSet::new(), false, false);
        seeking.phase = Phase::Asking(Asking { until: Time::MAX, awaited, unasked, room, ok, veto });
        self.seek(now);
    }

    fn ask_next(&mut self, now: Time) {
        let wait = if self.rules.keep(Rule::SilenceIsAwaited) {
            timing::ANSWER * self.heartbeat
        } else {
            self.heartbeat / 20
        };
        let suspect = self.suspect();
        let asks_all = self.rules.keep(Rule::AllAreAsked);
        let Role::Seeking(Seeking { phase: Phase::Asking(asking), .. }) = &mut self.role else { return };
        let next = asking.next();
        if next.is_empty() {
            return;
        }
        asking.until = now + wait;
        // The suspect is asked, and not waited for.
        asking.awaited.extend(next.iter().filter(|peer| Some(**peer) != suspect));
        if !asks_all {
            asking.unasked.clear();
        }
        self.ask(next, true);
        self.seek(now);
    }

    /// Sends the question, except from a node that stops: its question would only hold up those that could lead, and it
    /// hears of the next leader anyway.
    pub(super) fn ask(&mut self, peers: Vec<Peer>, is_candidate: bool) {
        if self.stopping {
            return;
        }
        let request = PeerRequest::Question { round: self.round, is_candidate };
        self.asked.extend(&peers);
        self.effects.extend(peers.into_iter().map(|to| Effect::Send { to, request: request.clone() }));
    }

    /// All answers are in, or were waited for long enough.
    fn decide(&mut self, now: Time) {
        let Role::Seeking(Seeking { phase: Phase::Asking(asking), .. }) = &self.role else { return };
        match (asking.veto, asking.ok) {
            (true, _) => self.delay(now, timing::AFTER_VETO * self.heartbeat),
            (false, true) => self.give_way(now),
            (false, false) if self.may_lead() => {
                let (reason, took) = match self.lost() {
                    Some(lost) => {
                        (format!("took over from {}: {}", lost.name, lost.reason), now.since(lost.since))
                    }
                    None => ("the first election".to_owned(), now.elapsed()),
                };
                self.claim_anew(now, Vec::new(), reason.into(), took);
            }
            (false, false) => self.delay(now, timing::VICTORY * self.heartbeat),
        }
    }

    /// Its questions of this round, if it still asks in that round.
    pub(super) fn asking(&mut self, round: u64) -> Option<&mut Asking> {
        match &mut self.role {
            Role::Seeking(Seeking { phase: Phase::Asking(asking), .. }) if round == self.round => {
                Some(asking)
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

    /// It hears this leader and cannot reach it.
    pub(super) fn unreached(&self) -> Option<Peer> {
        match &self.role {
            Role::Seeking(seeking) => seeking.unreached,
            Role::Following(_) | Role::Leading(_) => None,
        }
    }

    /// A peer answered: a node that boots waits for that.
    pub(super) fn count_at_boot(&mut self, peer: Peer) {
        if let Role::Seeking(Seeking { phase: Phase::Booting { answered, .. }, .. }) = &mut self.role {
            answered.insert(peer);
        }
    }

    pub(super) fn hear_of_leader(&mut self, now: Time, round: u64, leader: &Identity) {
        let Ok(met) = self.members.admit(now, leader) else { return };
        if let Some(asking) = self.asking(round) {
            asking.veto = true;
        }
        // A node that hears of the leader from another one asks that leader at once, and so becomes known to it.
        if !self.asked.contains(&met.peer) && !self.follows(met.peer) && self.rules.keep(Rule::LeaderIsAsked)
        {
            self.ask(vec![met.peer], false);
        }
    }

    /// Of two nodes with one id the one that came later ends; a node that has led or followed in this life stays.
    pub(super) fn meet_twin(&mut self, by: Arc<str>) {
        let came_later = matches!(&self.role, Role::Seeking(seeking) if seeking.lost.is_none());
        if came_later {
            self.taken = Some(by);
        } else {
            self.effects.push(Effect::MetTwin(by));
        }
    }
}
