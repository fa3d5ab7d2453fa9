//! What befalls nodes, etcd and what lies between: all that one seed says.

use std::time::Duration;

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{Broken, WorldTime, ms};

/// By how much a clock may run too fast or too slow. A lease is relied on for 4/5 of its time, so that two clocks may
/// differ by a quarter; 10 % to either side differ by 22 %.
pub const DRIFT_MAX: f64 = 0.10;

#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// No step of it for so long.
    Pause(usize, Duration),
    /// For so long it is not there; then it is another life.
    Kill(usize, Duration),
    /// It is told to stop, exits, and starts again after so long.
    Stop(usize, Duration),
    /// The leader is told to hand over to that one.
    Transfer(usize),
    /// For so long it does not reach etcd: its calls are refused, or are silent.
    Cut(usize, Duration, bool),
    /// Another node with its id, for so long.
    Twin(usize, Duration),
    /// etcd does nothing for so long; another leader of etcd may extend all leases.
    Outage(Duration, bool),
    /// etcd forgets what happened, and all watches break.
    Compact,
    /// One watch breaks.
    Break(usize),
}

#[derive(Debug, Clone)]
pub struct Plan {
    pub seed: u64,
    /// The id of each, and when it starts.
    pub nodes: Vec<(Option<u32>, WorldTime)>,
    pub faults: Vec<(WorldTime, Fault)>,
    /// From then on all is well.
    pub calm: WorldTime,
    pub end: WorldTime,
    /// How much each clock may be off.
    pub drift: f64,
    /// The longest way of a message, mostly.
    pub delay: Duration,
    /// How many calls in a hundred fare badly, before it is calm.
    pub bad_percent: u32,
    /// How long a watch may lag, and a driver.
    pub lag: Duration,
    pub driver_lag: Duration,
    /// How often etcd looks for leases that have ended.
    pub expiry: Duration,
    /// What etcd tells within a few milliseconds comes together: for very many nodes.
    pub gathers: bool,
    pub broken: Option<Broken>,
}

impl Plan {
    pub fn quiet(seed: u64, count: usize, end: WorldTime) -> Self {
        Self {
            seed,
            nodes: (0..count).map(|place| (Some(place as u32 + 1), WorldTime::ZERO)).collect(),
            faults: Vec::new(),
            calm: WorldTime::ZERO,
            end,
            drift: 0.0,
            delay: ms(3),
            bad_percent: 0,
            lag: ms(3),
            driver_lag: ms(1),
            expiry: ms(500),
            gathers: false,
            broken: None,
        }
    }

    pub fn random(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let count = random.random_range(2..=5);
        let mut plan = Self::quiet(seed, count, ms(48_000));
        plan.calm = ms(18_000);
        plan.drift = if random.random_bool(0.8) { DRIFT_MAX } else { 0.0 };
        plan.delay = ms([2, 20, 200][random.random_range(0..3)]);
        plan.bad_percent = [0, 5, 25, 50][random.random_range(0..4)];
        plan.lag = ms([3, 50, 1_000, 5_000][random.random_range(0..4)]);
        plan.driver_lag = ms([1, 1, 30, 300][random.random_range(0..4)]);
        plan.expiry = ms([10, 100, 500][random.random_range(0..3)]);
        if random.random_bool(0.2) {
            plan.nodes[random.random_range(1..count)].0 = None;
        }
        let spread = [1, 300, 4_000][random.random_range(0..3)];
        plan.nodes.iter_mut().for_each(|(_, starts)| *starts = ms(random.random_range(0..spread)));
        let kinds: Vec<u32> = (0..9).filter(|_| random.random_bool(0.6)).collect();
        let mut at = ms(random.random_range(500..4_000));
        while at < plan.calm && !kinds.is_empty() {
            let kind = kinds[random.random_range(0..kinds.len())];
            plan.faults.push((at, draw(kind, count, plan.calm - at, &mut random)));
            let gap = [300, 3_000][random.random_range(0..2)];
            at += ms(random.random_range(0..gap));
        }
        plan
    }
}

fn draw(kind: u32, count: usize, longest: Duration, random: &mut StdRng) -> Fault {
    let who = random.random_range(0..count);
    let most = u64::try_from(longest.as_millis()).unwrap().clamp(2, [400, 6_000][random.random_range(0..2)]);
    let time = ms(random.random_range(1..most));
    match kind {
        0 => Fault::Pause(who, time),
        1 => Fault::Kill(who, time),
        2 => Fault::Stop(who, time),
        3 => Fault::Transfer(who),
        4 => Fault::Cut(who, time, random.random_bool(0.5)),
        5 => Fault::Twin(who, time),
        6 => Fault::Outage(time, random.random_bool(0.7)),
        7 => Fault::Compact,
        _ => Fault::Break(who),
    }
}
