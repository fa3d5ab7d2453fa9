//! What etcd tells, and how that breaks.

use rand::RngExt;

use super::{
    super::{
        Broken,
        lease::{News, Registration, Told},
        ms,
    },
    Event, World,
};
use crate::limits::ETCD_PAUSE;

impl World {
    /// What is new in the store is on its way to all that watch.
    pub(super) fn pump_all(&mut self) {
        if self.pumped == self.store.revision {
            return;
        }
        self.pumped = self.store.revision;
        for place in 0..self.nodes.len() {
            self.begin_pump(place);
        }
    }

    fn begin_pump(&mut self, place: usize) {
        let lag = if self.plan.gathers { ms(10) } else { self.lag(self.plan.lag, 0.8) };
        let Some(node) = &mut self.nodes[place] else { return };
        let is_reached = node.watch.is_open && self.now >= self.places[place].cut_until;
        if !is_reached || (self.plan.gathers && std::mem::replace(&mut node.watch.is_told, true)) {
            return;
        }
        let pump = Event::Pump(place, node.me.boot, node.watch.epoch, self.store.revision);
        self.push(self.now + lag, pump);
    }

    pub(super) fn pump(&mut self, place: usize, epoch: u32, upto: i64) {
        let (now, broken) = (self.now, self.plan.broken);
        let skips = broken == Some(Broken::WatchSkips) && self.random.random_bool(0.25);
        let Some(node) = &mut self.nodes[place] else { return };
        node.watch.is_told = false;
        let upto = if self.plan.gathers { self.store.revision } else { upto };
        let Some(next) = node.watch.next.filter(|next| node.watch.epoch == epoch && *next <= upto) else {
            return;
        };
        node.watch.next = Some(upto + 1);
        for news in self.store.between(next, upto).filter(|_| !skips).cloned() {
            self.figures.told += 1;
            node.hear(now, news, &mut self.newest, broken);
        }
        self.turn(place);
    }

    pub(super) fn break_watch(&mut self, place: usize) {
        let Some(node) = &mut self.nodes[place] else { return };
        node.watch.epoch += 1;
        node.watch.is_open = false;
        let again = Event::Rewatch(place, node.me.boot, node.watch.epoch);
        self.push(self.now + ETCD_PAUSE, again);
    }

    pub(super) fn rewatch(&mut self, place: usize, epoch: u32) {
        let way = self.way();
        let is_reached = self.now >= self.places[place].cut_until.max(self.down_until);
        let Some(node) = &mut self.nodes[place] else { return };
        let boot = node.me.boot;
        if node.watch.epoch != epoch {
            return;
        }
        if !is_reached {
            return self.push(self.now + ETCD_PAUSE, Event::Rewatch(place, boot, epoch));
        }
        node.watch.next = node.watch.next.filter(|next| *next > self.store.compacted);
        if node.watch.next.is_some() {
            node.watch.is_open = true;
            self.begin_pump(place);
        } else {
            let (members, told) = self.store.all();
            self.push(self.now + way, Event::Listed(place, boot, epoch, members, told));
        }
    }

    pub(super) fn listed(&mut self, place: usize, epoch: u32, members: Vec<Registration>, told: Told) {
        let (now, broken) = (self.now, self.plan.broken);
        let Some(node) = &mut self.nodes[place] else { return };
        if node.watch.epoch != epoch {
            return;
        }
        let revision = told.revision;
        node.hear(now, News::Listed(members, told), &mut self.newest, broken);
        node.watch.next = Some(revision + 1);
        let boot = node.me.boot;
        self.turn(place);
        self.push(now, Event::Rewatch(place, boot, epoch));
    }
}
