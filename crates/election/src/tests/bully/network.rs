//! What lies between the nodes: delays, loss, duplicates, cuts; and when each pair was last disturbed.

use std::time::Duration;

use rand::{RngExt, rngs::StdRng};

use super::WorldTime;

/// For a while messages are lost, doubled and late.
#[derive(Debug, Clone, Copy, Default)]
pub struct Burst {
    pub until: WorldTime,
    pub loss: f64,
    pub duplicates: f64,
    pub delay_max: Duration,
}

pub struct Network {
    size: usize,
    /// How many cuts are on the way from one node to another.
    cuts: Vec<u8>,
    /// Until when the pair was disturbed by anything, by either order.
    disturbed: Vec<WorldTime>,
    /// When a message between the pair was last lost or late.
    lost: Vec<WorldTime>,
    pub burst: Burst,
    delay: (Duration, Duration),
    /// Later than this is late.
    late: Duration,
}

impl Network {
    pub fn new(size: usize, delay: (Duration, Duration), late: Duration) -> Self {
        let pairs = size * size;
        Self {
            size,
            cuts: vec![0; pairs],
            disturbed: vec![WorldTime::ZERO; pairs],
            lost: vec![WorldTime::ZERO; pairs],
            burst: Burst::default(),
            delay,
            late,
        }
    }

    /// When a message that leaves now arrives; `None` if it is lost.
    pub fn send(&mut self, now: WorldTime, from: usize, to: usize, random: &mut StdRng) -> Option<WorldTime> {
        let is_burst = now < self.burst.until;
        if self.is_cut(from, to) || (is_burst && random.random_bool(self.burst.loss)) {
            self.lose(now, from, to);
            return None;
        }
        let mut delay = random.random_range(self.delay.0..=self.delay.1);
        if is_burst && !self.burst.delay_max.is_zero() {
            delay += self.burst.delay_max.mul_f64(random.random::<f64>().powi(2));
        }
        if delay > self.late {
            self.lose(now + delay, from, to);
            self.disturb(now + delay, from, to);
        }
        Some(now + delay)
    }

    pub fn is_doubled(&self, now: WorldTime, random: &mut StdRng) -> bool {
        now < self.burst.until && random.random_bool(self.burst.duplicates)
    }

    pub fn cut(&mut self, now: WorldTime, from: usize, to: usize) {
        self.cuts[from * self.size + to] += 1;
        self.disturb(now, from, to);
    }

    pub fn heal(&mut self, now: WorldTime, from: usize, to: usize) {
        let cuts = &mut self.cuts[from * self.size + to];
        *cuts = cuts.saturating_sub(1);
        self.disturb(now, from, to);
    }

    pub fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cuts[from * self.size + to] > 0
    }

    /// Whether both ways are open.
    pub fn is_open(&self, a: usize, b: usize) -> bool {
        !self.is_cut(a, b) && !self.is_cut(b, a)
    }

    pub fn lose(&mut self, now: WorldTime, a: usize, b: usize) {
        for pair in [a * self.size + b, b * self.size + a] {
            self.lost[pair] = self.lost[pair].max(now);
        }
    }

    pub fn last_lost(&self, a: usize, b: usize) -> WorldTime {
        self.lost[a * self.size + b]
    }

    pub fn disturb(&mut self, until: WorldTime, a: usize, b: usize) {
        for pair in [a * self.size + b, b * self.size + a] {
            self.disturbed[pair] = self.disturbed[pair].max(until);
        }
    }

    /// Something happens to a node: all its pairs are disturbed, and what it would have said is late.
    pub fn disturb_node(&mut self, until: WorldTime, node: usize) {
        for other in 0..self.size {
            self.disturb(until, node, other);
            self.lose(until, node, other);
        }
    }

    pub fn disturb_all(&mut self, until: WorldTime) {
        for node in 0..self.size {
            for other in 0..self.size {
                self.disturb(until, node, other);
            }
        }
    }

    pub fn disturbed(&self, a: usize, b: usize) -> WorldTime {
        self.disturbed[a * self.size + b]
    }

    /// The parts that no way leads out of, and whether all in them reach each other both ways.
    pub fn parts(&self, nodes: &[usize]) -> Vec<(Vec<usize>, bool)> {
        let mut left: Vec<usize> = nodes.to_vec();
        let mut parts = Vec::new();
        while let Some(first) = left.pop() {
            let mut part = vec![first];
            let mut looked = 0;
            while looked < part.len() {
                let from = part[looked];
                let joined = |to: &usize| !self.is_cut(from, *to) || !self.is_cut(*to, from);
                part.extend(left.extract_if(.., |to| joined(to)));
                looked += 1;
            }
            let is_whole = part.iter().all(|a| part.iter().all(|b| a == b || self.is_open(*a, *b)));
            part.sort_unstable();
            parts.push((part, is_whole));
        }
        parts
    }
}
