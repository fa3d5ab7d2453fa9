//! A seed's cluster and what befalls it.

use std::time::Duration;

use rand::{RngExt, SeedableRng, rngs::StdRng, seq::SliceRandom};

use super::{Rules, WorldTime, ms, network::Burst};

/// A node, as it is configured.
#[derive(Debug, Clone)]
pub struct NodePlan {
    pub id: Option<u32>,
    pub heartbeat: Duration,
    /// Whom its configuration lists.
    pub peers: Vec<usize>,
    /// The list says their ids too.
    pub lists_ids: bool,
    pub starts: WorldTime,
}

/// Whom a fault befalls.
#[derive(Debug, Clone, Copy)]
pub enum Who {
    Node(usize),
    /// The leader of that moment, or else this node.
    Leader(usize),
}

#[derive(Debug, Clone)]
pub enum Fault {
    /// These ways are cut for a while.
    Cut(Vec<(usize, usize)>, Duration),
    /// All ways from it, to it, or both.
    Isolate {
        who: Who,
        mute: bool,
        deaf: bool,
        time: Duration,
    },
    /// `SIGSTOP`, then `SIGCONT`.
    Pause(Who, Duration),
    /// `kill -9`; it is started again after a while.
    Crash(Who, Option<Duration>),
    /// All at once.
    CrashAll(Duration),
    /// `SIGTERM`: it hands over, and exits at most so long after; it is started again after a while.
    Stop {
        who: Who,
        exit: Duration,
        down: Option<Duration>,
    },
    /// An operator wants the node to lead.
    Transfer(Who, usize),
    Burst(Burst),
}

#[derive(Debug, Clone)]
pub struct Plan {
    pub seed: u64,
    pub nodes: Vec<NodePlan>,
    pub faults: Vec<(WorldTime, Fault)>,
    /// From then on all is well.
    pub calm: WorldTime,
    pub end: WorldTime,
    pub delay: (Duration, Duration),
    pub rules: Rules,
}

/// I11 wants 12 H + 20 s after the last fault.
const CALM: WorldTime = Duration::from_millis(38_000);
const END: WorldTime = Duration::from_secs(60);

impl Plan {
    /// Nodes that all list each other, start together, and meet no fault.
    pub fn quiet(seed: u64, count: usize, end: WorldTime) -> Self {
        let nodes = (0..count).map(|node| NodePlan {
            id: Some(node as u32 + 1),
            heartbeat: ms(100),
            peers: (0..count).collect(),
            lists_ids: true,
            starts: WorldTime::ZERO,
        });
        let delay = (Duration::from_micros(100), Duration::from_micros(2_500));
        Self {
            seed,
            nodes: nodes.collect(),
            faults: Vec::new(),
            calm: WorldTime::ZERO,
            end,
            delay,
            rules: Rules::ALL,
        }
    }

    /// All that one seed says.
    pub fn random(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let count = match random.random_range(0..100) {
            0..2 => 1,
            2..12 => 2,
            12..42 => 3,
            42..70 => 4,
            70..93 => 5,
            93..98 => random.random_range(6..=9),
            98 => random.random_range(10..=32),
            _ => random.random_range(33..=72),
        };
        let mut plan = Self::quiet(seed, count, END);
        plan.calm = CALM;
        plan.delay.1 = Duration::from_micros(random.random_range(500..5_000));
        plan.vary_nodes(&mut random);
        plan.draw_faults(&mut random);
        plan
    }

    fn vary_nodes(&mut self, random: &mut StdRng) {
        let count = self.nodes.len();
        let (lists_ids, spread) =
            (random.random_bool(0.5), *[0, 200, 3_000].get(random.random_range(0..3)).unwrap());
        let unequal = random.random_bool(0.15);
        for node in &mut self.nodes {
            node.lists_ids = lists_ids;
            node.starts = ms(random.random_range(0..=spread));
            if unequal {
                node.heartbeat = ms([50, 100, 200][random.random_range(0..3)]);
            }
        }
        let places: Vec<usize> = (0..count).collect();
        if random.random_bool(0.15) && count > 1 {
            self.nodes[random.random_range(0..count)].id = None;
        }
        // The last ones are known to nobody, and know one.
        if random.random_bool(0.2) && count > 2 {
            let joiners = random.random_range(1..=(count - 1).min(2));
            let (old, new) = places.split_at(count - joiners);
            for (place, node) in self.nodes.iter_mut().enumerate() {
                let is_new = new.contains(&place);
                node.peers = if is_new { vec![old[random.random_range(0..old.len())]] } else { old.to_vec() };
            }
        }
        // Ids are in no order of their own.
        if random.random_bool(0.5) {
            let mut ids: Vec<Option<u32>> = self.nodes.iter().map(|node| node.id).collect();
            ids.shuffle(random);
            self.nodes.iter_mut().zip(ids).for_each(|(node, id)| node.id = id);
        }
    }

    fn draw_faults(&mut self, random: &mut StdRng) {
        let count = random.random_range(0..=24);
        let kinds: Vec<u32> = (0..9).filter(|_| random.random_bool(0.6)).collect();
        let mut at = ms(random.random_range(0..4_000));
        for _ in 0..count {
            if let Some(kind) = kinds.get(random.random_range(0..kinds.len().max(1))) {
                let fault = draw_fault(*kind, self.nodes.len(), random);
                self.faults.push((at, fault));
            }
            // Often close together, sometimes with time to settle in between.
            let gap = if random.random_bool(0.6) { 700 } else { 5_000 };
            at += ms(random.random_range(0..gap));
        }
        self.faults.retain(|(at, _)| *at < CALM);
    }
}

fn draw_fault(kind: u32, count: usize, random: &mut StdRng) -> Fault {
    let any = random.random_range(0..count);
    let other = (any + random.random_range(1..count.max(2))) % count;
    let who = if random.random_bool(0.5) { Who::Leader(any) } else { Who::Node(any) };
    let longest = match kind {
        3..=5 | 7 => 4_000,
        _ => 6_000,
    };
    let longest = if random.random_bool(0.5) { longest / 8 } else { longest };
    let time = ms(random.random_range(10..longest));
    match kind {
        0 if any != other => Fault::Cut(vec![(any, other)], time),
        1 if any != other => Fault::Cut(vec![(any, other), (other, any)], time),
        2 => {
            let (mute, deaf) = [(true, false), (false, true), (true, true)][random.random_range(0..3)];
            Fault::Isolate { who, mute, deaf, time }
        }
        3 => Fault::Pause(who, time),
        4 if random.random_bool(0.05) => Fault::CrashAll(ms(random.random_range(5..1_000))),
        4 => Fault::Crash(who, Some(time)),
        5 => {
            let down = Some(time);
            Fault::Stop { who, exit: ms(random.random_range(1_000..2_000)), down }
        }
        6 => Fault::Transfer(who, other),
        7 => {
            let until = time;
            let loss = random.random_range(0.0..0.4);
            let duplicates = random.random_range(0.0..0.3);
            Fault::Burst(Burst {
                until,
                loss,
                duplicates,
                delay_max: ms([0, 60, 600][random.random_range(0..3)]),
            })
        }
        // Two sides.
        _ => {
            let side: Vec<bool> = (0..count).map(|_| random.random_bool(0.5)).collect();
            let ways = (0..count).flat_map(|a| (0..count).map(move |b| (a, b)));
            Fault::Cut(ways.filter(|(a, b)| side[*a] != side[*b]).collect(), time)
        }
    }
}
