//! What must hold at every event and in the end, and how near it came.

use std::time::Duration;

use super::{
    super::{WorldTime, ms, node::Node},
    World,
};
use crate::timing::HEALTHY;

/// From the calm on, within so long all follow one leader: calls of before may still arrive, and leases end.
const AGREE_MAX: Duration = ms(15_000);
/// Then the highest id leads within so long.
const HIGHEST_MAX: Duration = HEALTHY.saturating_add(ms(4_000));

#[derive(Debug, Default)]
pub struct Figures {
    pub leaderships: u64,
    /// The shortest time between one who called itself leader until its lease ended, and the next.
    pub shortest_after_lapse: Option<Duration>,
    /// The same where it gave the lead up, or died.
    pub shortest_after_giving_up: Option<Duration>,
    pub longest_until_agreed: Duration,
    pub calls: u64,
    pub calls_per_second_max: u64,
    pub told: u64,
}

fn shorter(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    [one, other].into_iter().flatten().min()
}

impl Figures {
    pub fn merge(&mut self, other: &Self) {
        self.leaderships += other.leaderships;
        self.shortest_after_lapse = shorter(self.shortest_after_lapse, other.shortest_after_lapse);
        self.shortest_after_giving_up =
            shorter(self.shortest_after_giving_up, other.shortest_after_giving_up);
        self.longest_until_agreed = self.longest_until_agreed.max(other.longest_until_agreed);
        self.calls += other.calls;
        self.calls_per_second_max = self.calls_per_second_max.max(other.calls_per_second_max);
        self.told += other.told;
    }
}

/// Who called itself leader last.
pub(super) struct Term {
    place: usize,
    boot: u64,
    counter: u64,
    /// When that ends, or ended, and whether of itself.
    ends: WorldTime,
    is_over: bool,
    has_lapsed: bool,
}

impl World {
    pub(super) fn living(&self) -> impl Iterator<Item = (usize, &Node)> {
        self.nodes.iter().enumerate().filter_map(|(place, node)| Some((place, node.as_ref()?)))
    }

    pub(super) fn check(&mut self) {
        self.close_term();
        let mut leaders =
            self.living().filter_map(|(place, node)| Some((place, node, node.leads(self.now)?)));
        let Some((place, node, counter)) = leaders.next() else { return };
        let other = leaders.next().map(|(other, ..)| other);
        drop(leaders);
        let (boot, ends, id) = (node.me.boot, node.real(node.view.until), node.me.id);
        if let Some(other) = other {
            return self.violate(format!("{place} and {other} call themselves leader"));
        }
        if id.is_none() {
            return self.violate(format!("{place} has no id, and leads"));
        }
        let holder = self.store.who_leads().holder;
        let now = self.etcd_now();
        let holds = holder.is_some_and(|holder| {
            let is_it = holder.node.boot == boot && holder.revision.unsigned_abs() == counter;
            is_it && self.store.lives(now, holder.lease)
        });
        if !holds {
            return self.violate(format!("{place} calls itself leader, and does not hold the key"));
        }
        self.follow_term(place, boot, counter, ends);
    }

    fn close_term(&mut self) {
        let Some(term) = self.term.as_mut().filter(|term| !term.is_over) else { return };
        let node = self.nodes[term.place].as_ref().filter(|node| node.me.boot == term.boot);
        if node.and_then(|node| node.leads(self.now)) != Some(term.counter) {
            term.is_over = true;
            term.has_lapsed = term.ends <= self.now;
            term.ends = term.ends.min(self.now);
        }
    }

    fn follow_term(&mut self, place: usize, boot: u64, counter: u64, ends: WorldTime) {
        let before =
            self.term.replace(Term { place, boot, counter, ends, is_over: false, has_lapsed: false });
        let Some(before) = before.filter(|before| (before.boot, before.counter) != (boot, counter)) else {
            return;
        };
        self.figures.leaderships += 1;
        if before.counter >= counter {
            return self.violate(format!("{place} leads by {counter}, after {}", before.counter));
        }
        let gap = Some(self.now.saturating_sub(before.ends));
        let shortest = match before.has_lapsed {
            true => &mut self.figures.shortest_after_lapse,
            false => &mut self.figures.shortest_after_giving_up,
        };
        *shortest = shorter(*shortest, gap);
    }

    /// Whom all follow.
    pub fn agreed_on(&self) -> Option<u64> {
        let mut follows = self.living().map(|(_, node)| node.follows(self.now));
        let first = follows.next()??;
        let leads = self.living().any(|(_, node)| node.leads(self.now).is_some());
        (leads && follows.all(|other| other == Some(first))).then_some(first.0)
    }

    /// Where the leader lives.
    pub fn leader(&self) -> Option<usize> {
        self.living().find(|(_, node)| node.leads(self.now).is_some()).map(|(place, _)| place)
    }

    pub(super) fn look(&mut self) {
        let since = self.now.saturating_sub(self.plan.calm);
        if self.agreed || self.plan.calm.is_zero() {
            return;
        }
        if self.agreed_on().is_some() {
            self.agreed = true;
            self.figures.longest_until_agreed = since;
        } else if since > AGREE_MAX {
            self.violate(format!("since {since:?} all is well, and they do not follow one leader"));
        }
    }

    pub(super) fn judge_end(&mut self) {
        assert!(self.plan.end >= self.plan.calm + AGREE_MAX + HIGHEST_MAX);
        let leader = self.agreed_on();
        let transferred = self.store.who_leads().holder.is_some_and(|holder| holder.transferred);
        let highest = self.living().max_by_key(|(_, node)| node.me.id).map(|(_, node)| node.me.boot);
        if leader.is_none() || (leader != highest && !transferred) {
            self.violate(format!("life {leader:?} leads, and the highest is that of {highest:?}"));
        }
    }
}
