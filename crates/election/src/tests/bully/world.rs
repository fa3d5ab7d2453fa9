//! Virtual time: nodes, the network between them, and one queue of events. It imitates the driver, the links and the
//! calls event by event; one seed says all.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    fmt::Write as _,
    mem,
    sync::Arc,
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::StdRng, seq::SliceRandom};

use super::{
    ChangeKind, Claim, DialError, Effect, Election, Figures, Identity, Judged, Orders, Peer, PeerAddress,
    PeerRequest, Time, Wanted, WorldTime,
    faults::{Fault, NodePlan, Plan, Who},
    invariants::{Cause, Observer, Violation},
    ms,
    network::{Burst, Network},
    process::{
        Ack, Call, Caller, Heard, Heartbeat, Input, Link, LinkState, Pending, PendingKind, Process, Reply,
        Snapshot,
    },
};
use crate::timing;

pub struct Node {
    pub plan: NodePlan,
    pub name: Arc<str>,
    pub address: Arc<str>,
    pub lives: u32,
    pub process: Option<Process>,
}

#[derive(Debug, Clone)]
enum Event {
    To { node: usize, life: u32, input: Input },
    Start(usize),
    Exit { node: usize, life: u32, down: Option<Duration> },
    Wake { node: usize, life: u32 },
    Fault(usize),
    Heal(Vec<(usize, usize)>),
    Calm,
    Poll,
}

pub struct World {
    pub now: WorldTime,
    pub plan: Plan,
    pub nodes: Vec<Node>,
    pub network: Network,
    pub violation: Option<Violation>,
    /// Requests and replies of the election, heartbeats aside.
    pub messages: u64,
    /// Connections that were tried.
    pub dials: u64,
    pub trace: Option<String>,
    pub steps: u64,
    observer: Observer,
    addresses: BTreeMap<Arc<str>, usize>,
    queue: BinaryHeap<Reverse<(WorldTime, u64, usize)>>,
    events: Vec<Option<Event>>,
    free: Vec<usize>,
    sequence: u64,
    random: StdRng,
}

/// Ten times what the largest cluster needs.
const STEPS_MAX: u64 = 10_000_000;
const POLL: Duration = Duration::from_millis(100);
const LAME_DUCK: Duration = Duration::from_secs(1);
/// Closing one's own lane, from order to event.
const AT_ONCE: Duration = Duration::from_micros(20);

impl World {
    pub fn new(plan: Plan, traced: bool) -> Self {
        let count = plan.nodes.len();
        let name = |node: usize| match plan.nodes[node].id {
            Some(id) => format!("n{id}"),
            None => format!("w{node}"),
        };
        let nodes: Vec<Node> = (0..count)
            .map(|node| Node {
                plan: plan.nodes[node].clone(),
                name: name(node).into(),
                address: format!("{}:1", name(node)).into(),
                lives: 0,
                process: None,
            })
            .collect();
        let late = ms(20);
        let mut world = Self {
            now: WorldTime::ZERO,
            addresses: nodes
                .iter()
                .enumerate()
                .map(|(place, node)| (Arc::clone(&node.address), place))
                .collect(),
            nodes,
            network: Network::new(count, plan.delay, late),
            violation: None,
            messages: 0,
            dials: 0,
            steps: 0,
            trace: traced.then(String::new),
            observer: Observer::new(count),
            queue: BinaryHeap::new(),
            events: Vec::new(),
            free: Vec::new(),
            sequence: 0,
            random: StdRng::seed_from_u64(plan.seed ^ 0x5EED),
            plan,
        };
        for node in 0..count {
            world.schedule(world.plan.nodes[node].starts, Event::Start(node));
        }
        for (fault, at) in world.plan.faults.iter().map(|(at, _)| *at).enumerate().collect::<Vec<_>>() {
            world.schedule(at, Event::Fault(fault));
        }
        if !world.plan.calm.is_zero() {
            world.schedule(world.plan.calm, Event::Calm);
        }
        world.schedule(POLL, Event::Poll);
        world
    }

    /// Runs to the end of the plan, or to the first violation.
    pub fn run(&mut self) {
        let end = self.plan.end;
        self.run_until(end);
        if self.violation.is_none() {
            self.with_observer(|observer, world| observer.end(world));
        }
    }

    pub fn run_until(&mut self, end: WorldTime) {
        while self.violation.is_none() && self.queue.peek().is_some_and(|Reverse((at, ..))| *at <= end) {
            self.step();
        }
        self.now = self.now.max(end);
    }

    /// Runs until the condition holds, or no longer than to the end.
    pub fn run_while(&mut self, end: WorldTime, mut goes_on: impl FnMut(&Self) -> bool) {
        while goes_on(self)
            && self.violation.is_none()
            && self.queue.peek().is_some_and(|Reverse((at, ..))| *at <= end)
        {
            self.step();
        }
    }

    fn step(&mut self) {
        let Some(Reverse((at, _, slot))) = self.queue.pop() else { return };
        self.now = at;
        self.free.push(slot);
        self.steps += 1;
        if self.steps > STEPS_MAX {
            let violation = Violation::new("I8", at, format!("{STEPS_MAX} events: it storms"));
            self.violation.get_or_insert(violation);
        }
        match self.events[slot].take() {
            Some(Event::To { node, life, input }) => self.deliver(node, life, input),
            Some(Event::Start(node)) => self.start(node),
            Some(Event::Exit { node, life, down }) if self.life(node) == Some(life) => {
                self.crash(node, down, "exits")
            }
            Some(Event::Wake { node, life }) if self.life(node) == Some(life) => self.wake(node),
            Some(Event::Fault(fault)) => {
                let (_, fault) = self.plan.faults[fault].clone();
                self.befall(fault);
            }
            Some(Event::Heal(ways)) => self.heal(&ways),
            Some(Event::Calm) => self.calm(),
            Some(Event::Poll) => {
                self.with_observer(|observer, world| observer.poll(world));
                self.schedule(self.now + POLL, Event::Poll);
            }
            Some(Event::Exit { .. } | Event::Wake { .. }) | None => {}
        }
    }

    fn schedule(&mut self, at: WorldTime, event: Event) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.events.push(None);
            self.events.len() - 1
        });
        self.events[slot] = Some(event);
        self.sequence += 1;
        self.queue.push(Reverse((at, self.sequence, slot)));
    }

    /// To a process of this node, while it lives.
    fn post(&mut self, at: WorldTime, node: usize, life: u32, input: Input) {
        self.schedule(at, Event::To { node, life, input });
    }

    /// To the process that the node runs now.
    pub fn post_now(&mut self, node: usize, input: Input) {
        if let Some(life) = self.life(node) {
            self.post(self.now, node, life, input);
        }
    }

    fn send(&mut self, from: usize, to: usize) -> Option<WorldTime> {
        self.network.send(self.now, from, to, &mut self.random)
    }

    pub fn life(&self, node: usize) -> Option<u32> {
        self.nodes[node].process.as_ref().map(|process| process.life)
    }

    pub fn process(&self, node: usize) -> Option<&Process> {
        self.nodes[node].process.as_ref()
    }

    fn is_paused(&self, node: usize) -> bool {
        self.process(node).is_some_and(|process| process.is_paused(self.now))
    }

    fn process_mut(&mut self, node: usize) -> &mut Process {
        self.nodes[node].process.as_mut().expect("who takes something in lives")
    }

    pub fn note(&mut self, text: impl FnOnce(&Self) -> String) {
        if self.trace.is_none() {
            return;
        }
        let line = text(self);
        let at = self.now.as_secs_f64() * 1_000.0;
        if let Some(trace) = &mut self.trace {
            let _ = writeln!(trace, "{at:>9.1}  {line}");
        }
    }

    fn with_observer(&mut self, look: impl FnOnce(&mut Observer, &Self) -> Result<(), Violation>) {
        let mut observer = mem::take(&mut self.observer);
        if let Err(violation) = look(&mut observer, self) {
            self.note(|_| format!("VIOLATION of {}: {}", violation.invariant, violation.text));
            self.violation.get_or_insert(violation);
        }
        self.observer = observer;
    }

    /// The node that a peer number of this node means.
    pub fn node_of(&self, node: usize, peer: Peer) -> Option<usize> {
        let member = self.process(node)?.election.members().member(peer)?;
        self.addresses.get(&member.grpc_addr).copied()
    }

    /// Whom this node follows, itself included: the node, and the leadership.
    pub fn leader_of(&self, node: usize) -> Option<usize> {
        let snapshot = self.process(node)?.snapshot;
        match snapshot.leader {
            _ if snapshot.leads => Some(node),
            Some(peer) => self.node_of(node, peer),
            None => None,
        }
    }

    /// The one that all these nodes follow, if they agree, and it does lead in that life.
    pub fn agreed(&self, nodes: &[usize]) -> Option<usize> {
        let leader = self.leader_of(*nodes.first()?)?;
        let ballot = self.process(leader)?.snapshot.ballot;
        let agrees = |node: &usize| {
            let is_leading = self.process(*node).is_some_and(|process| process.snapshot.leads);
            let follows = self.process(*node).is_some_and(|process| process.snapshot.ballot == ballot);
            self.leader_of(*node) == Some(leader) && follows && is_leading == (*node == leader)
        };
        (nodes.contains(&leader) && nodes.iter().all(agrees)).then_some(leader)
    }

    /// How often the process lost its leader.
    pub fn times_lost(&self, node: usize) -> usize {
        let recent = self.process(node).into_iter().flat_map(|process| process.election.members().recent());
        recent.filter(|change| change.kind == ChangeKind::LeaderLost).count()
    }

    pub fn leaders(&self) -> Vec<usize> {
        let leads = |node: &usize| self.process(*node).is_some_and(|process| process.snapshot.leads);
        self.living().into_iter().filter(leads).collect()
    }

    pub fn claims_after(&self, at: WorldTime) -> usize {
        self.observer.claims_after(at)
    }

    pub fn living(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|node| self.nodes[*node].process.is_some()).collect()
    }

    /// Whether a follower hears its leader, as the simulator sees it: a lane to that very life is open, and it was
    /// heard within two of its heartbeats.
    pub fn hears(&self, node: usize) -> Option<Heard> {
        let process = self.process(node)?;
        let heard = process.heard?;
        let peer = process.snapshot.leader?;
        let is_fresh = self.now.saturating_sub(heard.at) <= 2 * heard.heartbeat;
        let is_open = process.open_life(peer) == Some(heard.life);
        let is_alive = self.life(heard.leader) == Some(heard.life);
        (is_fresh && is_open && is_alive).then_some(heard)
    }

    // ── Faults ─────────────────────────────────────────────────────────────────────────────────────────────────

    fn pick(&self, who: Who) -> usize {
        match who {
            Who::Node(node) => node,
            Who::Leader(other) => {
                let leads = |node: &usize| self.process(*node).is_some_and(|process| process.snapshot.leads);
                (0..self.nodes.len()).find(leads).unwrap_or(other)
            }
        }
    }

    pub fn befall(&mut self, fault: Fault) {
        match fault {
            Fault::Cut(ways, time) => self.cut(ways, time),
            Fault::Isolate { who, mute, deaf, time } => {
                let node = self.pick(who);
                let others = (0..self.nodes.len()).filter(|other| *other != node);
                let ways = others.flat_map(|other| [(node, other, mute), (other, node, deaf)]);
                self.cut(ways.filter(|(.., is_cut)| *is_cut).map(|(from, to, _)| (from, to)).collect(), time);
            }
            Fault::Pause(who, time) => self.pause(self.pick(who), time),
            Fault::Crash(who, down) => self.crash(self.pick(who), down, "is killed"),
            Fault::CrashAll(down) => {
                (0..self.nodes.len()).for_each(|node| self.crash(node, Some(down), "is killed"));
            }
            Fault::Stop { who, exit, down } => {
                let node = self.pick(who);
                if let Some(life) = self.life(node).filter(|_| !self.process_mut(node).stopping) {
                    self.note(|world| format!("{} is told to stop", world.nodes[node].name));
                    self.network.disturb_node(self.now + exit, node);
                    self.post(self.now, node, life, Input::Stop);
                    self.post(self.now + LAME_DUCK, node, life, Input::LameDuckEnds);
                    self.schedule(self.now + exit, Event::Exit { node, life, down });
                }
            }
            Fault::Transfer(who, to) => {
                let node = self.pick(who);
                let to = Arc::clone(&self.nodes[to].name);
                self.note(|world| format!("an operator asks {} to transfer to {to}", world.nodes[node].name));
                self.post_now(node, Input::Transfer(to));
            }
            Fault::Burst(burst) => {
                let until = self.now + burst.until;
                self.network.burst = Burst { until, ..burst };
                self.network.disturb_all(until);
                self.note(|_| {
                    format!(
                        "until {:.1}: {:.0} % lost, {:.0} % doubled, up to {:?} late",
                        until.as_secs_f64() * 1_000.0,
                        burst.loss * 100.0,
                        burst.duplicates * 100.0,
                        burst.delay_max
                    )
                });
            }
        }
    }

    fn cut(&mut self, ways: Vec<(usize, usize)>, time: Duration) {
        self.note(|world| format!("cut for {time:?}: {}", world.name_ways(&ways)));
        for (from, to) in &ways {
            self.network.cut(self.now, *from, *to);
        }
        self.schedule(self.now + time, Event::Heal(ways));
    }

    fn heal(&mut self, ways: &[(usize, usize)]) {
        self.note(|world| format!("healed: {}", world.name_ways(ways)));
        for (from, to) in ways {
            self.network.heal(self.now, *from, *to);
        }
    }

    fn name_ways(&self, ways: &[(usize, usize)]) -> String {
        let name =
            |(from, to): &(usize, usize)| format!("{} → {}", self.nodes[*from].name, self.nodes[*to].name);
        ways.iter().map(name).collect::<Vec<_>>().join(", ")
    }

    fn start(&mut self, node: usize) {
        if self.nodes[node].process.is_some() {
            return;
        }
        let plan = self.nodes[node].plan.clone();
        let boot = self.random.random();
        let (name, address) = (Arc::clone(&self.nodes[node].name), Arc::clone(&self.nodes[node].address));
        let identity = Identity {
            id: plan.id,
            name,
            boot,
            grpc_addr: Arc::clone(&address),
            http_addr: address,
            version: "1".into(),
            ..Identity::default()
        };
        let address = |peer: &usize| PeerAddress {
            id: self.nodes[*peer].plan.id.filter(|_| plan.lists_ids),
            grpc_addr: Arc::clone(&self.nodes[*peer].address),
        };
        let peers: Vec<PeerAddress> = plan.peers.iter().map(address).collect();
        let election = Election::bully(&identity, &peers, plan.heartbeat, self.plan.rules);
        self.nodes[node].lives += 1;
        let life = self.nodes[node].lives;
        self.nodes[node].process = Some(Process::new(identity, life, self.now, election));
        self.network.disturb_node(self.now, node);
        self.note(|world| format!("{} starts", world.nodes[node].name));
        self.perform(node);
    }

    /// The process ends: who has a lane to it, or waits for its reply, is told by the kernel, where a way leads.
    fn crash(&mut self, node: usize, down: Option<Duration>, how: &str) {
        let Some(process) = self.nodes[node].process.take() else { return };
        self.note(|world| format!("{} {how}", world.nodes[node].name));
        self.network.disturb_node(self.now, node);
        for other in self.living() {
            self.reset_lanes(node, process.life, other);
            self.fail_calls(node, other);
        }
        if let Some(down) = down {
            self.schedule(self.now + down.max(ms(1)), Event::Start(node));
        }
    }

    fn reset_lanes(&mut self, node: usize, dead: u32, other: usize) {
        let process = self.process_mut(other);
        let life = process.life;
        let is_to = |link: &Link| matches!(link.state, LinkState::Open { life, .. } if link.to == Some(node) && life == dead);
        let open = process.links.iter().filter(|(_, link)| is_to(link));
        let open: Vec<_> = open.map(|(peer, link)| (*peer, link.attempt)).collect();
        for (peer, attempt) in open {
            if let Some(at) = self.send(node, other) {
                self.post(
                    at,
                    other,
                    life,
                    Input::LaneEnded { peer, attempt, reason: Some("its lane broke") },
                );
            }
        }
    }

    fn fail_calls(&mut self, node: usize, other: usize) {
        let process = self.process_mut(other);
        let life = process.life;
        let waiting = process.calls.iter().filter(|(_, pending)| pending.to == node);
        for call in waiting.map(|(call, _)| *call).collect::<Vec<_>>() {
            if let Some(at) = self.send(node, other) {
                self.post(at, other, life, Input::Replied { call, reply: None });
            }
        }
    }

    fn pause(&mut self, node: usize, time: Duration) {
        let Some(life) = self.life(node) else { return };
        let until = self.now + time;
        let process = self.process_mut(node);
        process.paused_until = process.paused_until.max(Some(until));
        self.network.disturb_node(until, node);
        self.note(|world| format!("{} hangs for {time:?}", world.nodes[node].name));
        self.schedule(until, Event::Wake { node, life });
    }

    /// What came meanwhile is taken in now, mostly in order; the tick, which is late, at any place between.
    fn wake(&mut self, node: usize) {
        if self.is_paused(node) {
            return;
        }
        self.note(|world| format!("{} goes on", world.nodes[node].name));
        self.network.disturb_node(self.now, node);
        let life = self.life(node);
        self.process_mut(node).paused_until = None;
        let mut backlog: Vec<Input> = mem::take(&mut self.process_mut(node).backlog).into();
        if self.random.random_bool(0.3) {
            backlog.shuffle(&mut self.random);
        }
        let ticks = |input: &Input| matches!(input, Input::Tick);
        if let Some(tick) = backlog.iter().position(ticks) {
            let tick = backlog.remove(tick);
            let place = [0, backlog.len(), self.random.random_range(0..=backlog.len())];
            backlog.insert(place[self.random.random_range(0..3)], tick);
        }
        for input in backlog {
            if self.life(node) == life && self.violation.is_none() {
                self.take_in(node, input);
            }
        }
    }

    /// All faults end: what is cut heals, who hangs goes on, who is down or stopping starts anew.
    fn calm(&mut self) {
        self.note(|_| "all faults end".to_owned());
        self.network.burst.until = self.now;
        for node in 0..self.nodes.len() {
            for other in 0..self.nodes.len() {
                while self.network.is_cut(node, other) {
                    self.network.heal(self.now, node, other);
                }
            }
            if let Some(process) = &mut self.nodes[node].process {
                let (was_paused, stopping) = (process.paused_until.take().is_some(), process.stopping);
                if was_paused {
                    self.wake(node);
                }
                if stopping {
                    self.crash(node, Some(ms(1)), "exits");
                }
            } else {
                self.start(node);
            }
        }
        self.network.disturb_all(self.now);
    }

    // ── A process takes something in ───────────────────────────────────────────────────────────────────────────

    fn deliver(&mut self, node: usize, life: u32, input: Input) {
        if self.life(node) != Some(life) {
            return self.bounce(node, input);
        }
        if self.is_paused(node) {
            if let Input::Heartbeat(heartbeat) = &input {
                self.time_out_heartbeat(heartbeat);
            }
            return self.process_mut(node).backlog.push_back(input);
        }
        self.take_in(node, input);
    }

    /// What reaches a dead process is refused by its kernel, if a way leads back.
    fn bounce(&mut self, node: usize, input: Input) {
        let (from, refusal) = match input {
            Input::LaneWanted { from, peer, attempt } => {
                (from, Input::Dialled { peer, attempt, opened: Err(DialError::Refused) })
            }
            Input::Heartbeat(heartbeat) => {
                self.time_out_heartbeat(&heartbeat);
                let Heartbeat { from, peer, attempt, .. } = *heartbeat;
                (from, Input::LaneEnded { peer, attempt, reason: Some("its lane broke") })
            }
            Input::Called { from, call, .. } => (from, Input::Replied { call, reply: None }),
            _ => return,
        };
        if let Some(at) = self.send(node, from.node) {
            self.post(at, from.node, from.life, refusal);
        }
    }

    fn take_in(&mut self, node: usize, input: Input) {
        // A word from another life of the leader says that the one that was heard has died.
        let speaker = self.speaker(node, &input);
        let is_another_life =
            |heard: &Heard| speaker.is_some_and(|(by, life)| by == heard.leader && life != heard.life);
        let hears = self.hears(node).filter(|heard| !is_another_life(heard));
        let before = self.process_mut(node).snapshot;
        let cause = self.handle(node, input);
        let Some(process) = &mut self.nodes[node].process else { return };
        let after = process.look();
        if after.leader != before.leader || after.leads {
            process.heard = process.heard.filter(|heard| heard.at == self.now && !after.leads);
        }
        process.snapshot = after;
        self.perform(node);
        if after != before {
            self.note_change(node, before, after);
            self.with_observer(|observer, world| observer.changed(world, node, before, after, hears, cause));
        }
    }

    fn speaker(&self, node: usize, input: &Input) -> Option<(usize, u32)> {
        match input {
            Input::LaneWanted { from, .. } | Input::Called { from, .. } => Some((from.node, from.life)),
            Input::Heartbeat(heartbeat) => Some((heartbeat.from.node, heartbeat.from.life)),
            Input::Dialled { peer, opened: Ok((life, _)), .. } => Some((self.node_of(node, *peer)?, *life)),
            _ => None,
        }
    }

    fn handle(&mut self, node: usize, input: Input) -> Cause {
        let now = Time::at(self.now.saturating_sub(self.process_mut(node).started));
        match input {
            Input::Tick => self.tick(node, now),
            Input::DialDue { peer, attempt } => self.dial(node, peer, attempt),
            Input::Dialled { peer, attempt, opened } => self.dialled(node, now, peer, attempt, opened),
            Input::LaneStopping { peer, attempt } => self.lane_stopping(node, now, peer, attempt),
            Input::LaneEnded { peer, attempt, reason } => self.lane_ended(node, now, peer, attempt, reason),
            Input::HeartbeatDue { peer, attempt } => self.send_heartbeat(node, now, peer, attempt),
            Input::Acked { peer, attempt, number, ack } => self.acked(node, now, peer, attempt, number, ack),
            Input::LaneWanted { from, peer, attempt } => self.lane_wanted(node, now, &from, peer, attempt),
            Input::Heartbeat(heartbeat) => return self.heartbeat(node, now, *heartbeat),
            Input::Called { from, call, content } => return self.called(node, now, &from, call, content),
            Input::Replied { call, reply } => self.replied(node, now, call, reply),
            Input::Stop => {
                let process = self.process_mut(node);
                process.stopping = true;
                process.election.stop(now);
            }
            Input::Transfer(to) => {
                let asked = self.process_mut(node).election.transfer(now, &to);
                if let Err(error) = asked {
                    self.note(|_| format!("no transfer: {error}"));
                }
            }
            Input::LameDuckEnds => self.refuse_lanes(node),
        }
        Cause::Other
    }

    fn tick(&mut self, node: usize, now: Time) {
        let process = self.process_mut(node);
        process.tick_at = None;
        if process.election.next_deadline() > now {
            return;
        }
        process.election.own_figures(now, Figures::default());
        process.election.tick(now);
        process.ticks += 1;
        if process.ticks.is_multiple_of(timing::FIGURES) {
            process.list_version += 1;
        }
    }

    // ── Links ──────────────────────────────────────────────────────────────────────────────────────────────────

    /// Begins a life of the road, as the orders are now.
    fn start_link(&mut self, node: usize, peer: Peer) {
        let at_once = self.now;
        let process = self.process_mut(node);
        let life = process.life;
        let Some(link) = process.links.get_mut(&peer) else { return };
        link.attempt += 1;
        let (attempt, pause) = (link.attempt, link.pause);
        if link.orders.wanted == Wanted::Off {
            link.state = LinkState::Idle;
            return;
        }
        link.state = LinkState::Waiting;
        if pause.is_zero() {
            self.dial(node, peer, attempt);
        } else {
            self.post(at_once + pause, node, life, Input::DialDue { peer, attempt });
        }
    }

    fn orders_changed(&mut self, node: usize, peer: Peer, orders: Orders) {
        let now = self.now;
        let heartbeat = self.nodes[node].plan.heartbeat;
        let process = self.process_mut(node);
        let life = process.life;
        let Some(link) = process.links.get_mut(&peer) else { return };
        let before = std::mem::replace(&mut link.orders, orders);
        let is_ended = before.are_ended_by(&orders);
        let is_dialled_anew = is_ended || before.reconnect_hints != orders.reconnect_hints;
        let is_connected = link.connected.is_some_and(|connected| connected <= now);
        match link.state {
            _ if !is_dialled_anew && before.interval == orders.interval => {}
            LinkState::Open { .. } if !is_ended => {
                if link.due.is_some() {
                    let due = now.max(link.sent + orders.interval);
                    let attempt = link.attempt;
                    link.due = Some(due);
                    self.post(due, node, life, Input::HeartbeatDue { peer, attempt });
                }
            }
            LinkState::Dialling if !is_ended && (is_connected || now - link.dialled < heartbeat) => {}
            LinkState::Idle | LinkState::Waiting | LinkState::Dialling if !is_dialled_anew => {}
            LinkState::Idle | LinkState::Waiting | LinkState::Dialling => {
                link.pause = Duration::ZERO;
                self.start_link(node, peer);
            }
            LinkState::Open { before, since, .. } if before.are_ended_by(&orders) => {
                link.state = LinkState::Closing { since };
                let attempt = link.attempt;
                self.post(now + AT_ONCE, node, life, Input::LaneEnded { peer, attempt, reason: None });
            }
            LinkState::Open { .. } | LinkState::Closing { .. } => {}
        }
    }

    fn dial(&mut self, node: usize, peer: Peer, attempt: u64) {
        let heartbeat = self.nodes[node].plan.heartbeat;
        let now = self.now;
        let process = self.process_mut(node);
        let (life, identity) = (process.life, Arc::clone(&process.identity));
        let Some(link) = process.links.get_mut(&peer).filter(|link| link.attempt == attempt) else { return };
        link.state = LinkState::Dialling;
        link.dialled = now;
        link.connected = None;
        let Some(to) = link.to else {
            let opened = Err(DialError::Unresolvable);
            return self.post(self.now + AT_ONCE, node, life, Input::Dialled { peer, attempt, opened });
        };
        self.dials += 1;
        let times_out = self.now + heartbeat * timing::DIAL_MAX;
        self.post(times_out, node, life, Input::Dialled { peer, attempt, opened: Err(DialError::TimedOut) });
        let Some(there) = self.send(node, to) else { return };
        let Some(back) = self.send(to, node) else { return };
        let round_trip = (there - self.now) + (back - self.now);
        let connected = now + round_trip;
        if let Some(link) = self.process_mut(node).links.get_mut(&peer) {
            link.connected = Some(connected);
        }
        let from = Caller { node, life, identity };
        match self.life(to) {
            Some(their) => {
                let at = there + round_trip;
                self.post(at, to, their, Input::LaneWanted { from, peer, attempt });
            }
            None => {
                let opened = Err(DialError::Refused);
                self.post(self.now + round_trip, node, life, Input::Dialled { peer, attempt, opened });
            }
        }
    }

    fn lane_wanted(&mut self, node: usize, now: Time, from: &Caller, peer: Peer, attempt: u64) {
        let process = self.process_mut(node);
        let opened = match process.refuses_lanes {
            true => Err(DialError::Stopping),
            false => match process.election.heard(now, &from.identity) {
                Ok(()) => Ok((process.life, Arc::clone(&process.identity))),
                Err(refusal) => Err(DialError::Other(refusal.to_string())),
            },
        };
        if let Some(at) = self.send(node, from.node) {
            self.post(at, from.node, from.life, Input::Dialled { peer, attempt, opened });
        }
    }

    fn dialled(
        &mut self,
        node: usize,
        now: Time,
        peer: Peer,
        attempt: u64,
        opened: Result<(u32, Arc<Identity>), DialError>,
    ) {
        let heartbeat = self.nodes[node].plan.heartbeat;
        let at = self.now;
        let process = self.process_mut(node);
        let life = process.life;
        let Some(link) = process.links.get_mut(&peer) else { return };
        if link.attempt != attempt || link.state != LinkState::Dialling {
            return;
        }
        match opened {
            Err(error) => {
                let longer = (link.pause * 2).clamp(heartbeat, heartbeat * timing::DIAL_MAX);
                link.pause = longer.saturating_sub(at - link.dialled);
                link.was_brief = false;
                process.election.dial_failed(now, peer, &error);
                self.start_link(node, peer);
            }
            Ok((their, identity)) => {
                let kind = link.orders.wanted;
                let before = link.orders;
                link.state = LinkState::Open { kind, life: their, since: at, before, is_draining: false };
                link.their_version = 0;
                let to = link.to;
                process.election.lane_up(now, peer, kind, &identity);
                if kind == Wanted::Work {
                    link.due = Some(at);
                    self.post(at, node, life, Input::HeartbeatDue { peer, attempt });
                }
                if to.is_none_or(|to| self.life(to) != Some(their)) {
                    let reason = Some("its lane broke");
                    self.post(at, node, life, Input::LaneEnded { peer, attempt, reason });
                } else if let Some(to) = to
                    && self.process_mut(to).refuses_lanes
                {
                    self.tell_stopping(to, node, peer, attempt);
                }
            }
        }
    }

    fn lane_stopping(&mut self, node: usize, now: Time, peer: Peer, attempt: u64) {
        let process = self.process_mut(node);
        let Some(link) = process.links.get_mut(&peer).filter(|link| link.attempt == attempt) else { return };
        if let LinkState::Open { is_draining, .. } = &mut link.state {
            *is_draining = true;
            process.election.lane_stopping(now, peer);
        }
    }

    fn lane_ended(&mut self, node: usize, now: Time, peer: Peer, attempt: u64, reason: Option<&'static str>) {
        let heartbeat = self.nodes[node].plan.heartbeat;
        let at = self.now;
        let process = self.process_mut(node);
        let Some(link) = process.links.get_mut(&peer).filter(|link| link.attempt == attempt) else { return };
        let since = match link.state {
            LinkState::Open { since, .. } if reason.is_some() => since,
            LinkState::Closing { since } if reason.is_none() => since,
            _ => return,
        };
        let longer = (link.pause * 2).clamp(heartbeat, heartbeat * timing::DIAL_MAX);
        let is_brief = at.saturating_sub(since) < heartbeat * timing::DIAL_MAX;
        link.pause = if is_brief && link.was_brief { longer } else { Duration::ZERO };
        link.was_brief = is_brief;
        process.election.lane_down(now, peer, reason);
        self.start_link(node, peer);
    }

    // ── Heartbeats ─────────────────────────────────────────────────────────────────────────────────────────────

    fn send_heartbeat(&mut self, node: usize, now: Time, peer: Peer, attempt: u64) {
        let sent = self.now;
        let process = self.process_mut(node);
        let identity = Arc::clone(&process.identity);
        let (life, list_version, claim) = (process.life, process.list_version, process.claim_at(now));
        let Some(link) = process.links.get_mut(&peer).filter(|link| link.attempt == attempt) else { return };
        let LinkState::Open { life: their, .. } = link.state else { return };
        let Some(to) = link.to else { return };
        if link.due.is_none_or(|due| due > sent) {
            return;
        }
        (link.sent, link.due) = (sent, None);
        link.heartbeat += 1;
        let number = link.heartbeat;
        let is_changed = claim.is_some() && link.their_version != list_version;
        // A version without members says that they are the same; to adopt it changes nothing.
        let list = is_changed.then(|| process.list(now));
        let from = Caller { node, life, identity };
        let heartbeat = Heartbeat { from, peer, attempt, number, sent, asked: now, claim, list };
        match self.send(node, to) {
            Some(at) => {
                if self.network.is_doubled(sent, &mut self.random)
                    && let Some(again) = self.send(node, to)
                {
                    self.post(again, to, their, Input::Heartbeat(Box::new(heartbeat.clone())));
                }
                self.post(at, to, their, Input::Heartbeat(Box::new(heartbeat)));
            }
            None => self.time_out_heartbeat(&heartbeat),
        }
    }

    fn time_out_heartbeat(&mut self, heartbeat: &Heartbeat) {
        let Heartbeat { from, peer, attempt, number, sent, .. } = heartbeat;
        let at = *sent + self.nodes[from.node].plan.heartbeat * timing::DIAL_MAX;
        let (peer, attempt, number) = (*peer, *attempt, *number);
        self.post(at.max(self.now), from.node, from.life, Input::Acked { peer, attempt, number, ack: None });
    }

    fn heartbeat(&mut self, node: usize, now: Time, heartbeat: Heartbeat) -> Cause {
        let sender = Arc::clone(&heartbeat.from.identity);
        let process = self.process_mut(node);
        let judged = match &heartbeat.claim {
            None => process.election.heard(now, &sender).map(|()| None),
            Some(claim) => {
                let verdict = process.election.claimed(now, &sender, claim, heartbeat.list.clone());
                let (asked, ballot) = (heartbeat.asked, claim.ballot);
                verdict.map(|verdict| Some(Judged { asked, ballot, verdict }))
            }
        };
        if let (Some(claim), Ok(Some(Judged { verdict: super::ClaimVerdict::Follows, .. }))) =
            (&heartbeat.claim, &judged)
        {
            self.hear(node, &heartbeat.from, claim);
        }
        let version = self.process_mut(node).election.members().adopted_version();
        let refused = judged.is_err();
        let ack = Some(Ack { version, judged: judged.ok().flatten(), refused });
        match self.send(node, heartbeat.from.node) {
            Some(at) => {
                let Heartbeat { from, peer, attempt, number, .. } = heartbeat;
                self.post(at, from.node, from.life, Input::Acked { peer, attempt, number, ack });
            }
            None => self.time_out_heartbeat(&heartbeat),
        }
        Cause::Other
    }

    fn hear(&mut self, node: usize, from: &Caller, claim: &Claim) {
        let at = self.now;
        let (leader, life, heartbeat) = (from.node, from.life, claim.heartbeat);
        self.process_mut(node).heard = Some(Heard { leader, life, at, heartbeat });
    }

    fn acked(&mut self, node: usize, now: Time, peer: Peer, attempt: u64, number: u64, ack: Option<Ack>) {
        let at = self.now;
        let process = self.process_mut(node);
        let life = process.life;
        let Some(link) = process.links.get_mut(&peer).filter(|link| link.attempt == attempt) else { return };
        if link.heartbeat != number || !matches!(link.state, LinkState::Open { .. }) {
            return;
        }
        link.heartbeat += 1;
        let due = at.max(link.sent + link.orders.interval);
        link.due = Some(due);
        if let Some(ack) = ack.filter(|ack| !ack.refused) {
            link.their_version = ack.version;
            process.election.acked(now, peer, Figures::default(), ack.judged);
        }
        self.post(due, node, life, Input::HeartbeatDue { peer, attempt });
    }

    // ── Calls ──────────────────────────────────────────────────────────────────────────────────────────────────

    fn call(&mut self, node: usize, peer: Peer, request: PeerRequest) {
        let heartbeat = self.nodes[node].plan.heartbeat;
        let Some(to) = self.node_of(node, peer) else { return };
        let (content, time) = match request {
            PeerRequest::Question { round, is_candidate } => {
                (Call::Question { round, is_candidate }, 2 * heartbeat)
            }
            PeerRequest::Victory(claim) => (Call::Victory(claim), 3 * heartbeat),
            PeerRequest::HandOver(offer) => (Call::HandOver(offer), 3 * heartbeat),
        };
        self.messages += 1;
        self.note(|world| world.describe_call(node, to, &content));
        let at = self.now;
        let process = self.process_mut(node);
        let asked = Time::at(at.saturating_sub(process.started));
        let (life, call) = (process.life, process.next_call);
        process.next_call += 1;
        process.calls.insert(call, Pending::of(asked, peer, to, &content));
        process.count_candidacy(&content);
        let road = process.open_life(peer).filter(|_| process.election.members().is_up(peer));
        let from = Caller { node, life, identity: Arc::clone(&process.identity) };
        self.post(self.now + time, node, life, Input::Replied { call, reply: None });
        if let Call::Question { round, .. } = content {
            self.with_observer(|observer, world| observer.asked(world, node, round));
        }
        match road {
            Some(their) => self.send_call(to, their, from, call, content, self.now),
            None => {
                self.dials += 1;
                let Some(there) = self.send(node, to) else { return };
                let Some(back) = self.send(to, node) else { return };
                let connected = there + (back - self.now);
                match self.life(to) {
                    Some(their) => self.send_call(to, their, from, call, content, connected),
                    None => self.post(connected, node, life, Input::Replied { call, reply: None }),
                }
            }
        }
    }

    fn send_call(
        &mut self,
        to: usize,
        their: u32,
        from: Caller,
        call: u64,
        content: Call,
        leaves: WorldTime,
    ) {
        let wait = leaves - self.now;
        let is_doubled = self.network.is_doubled(self.now, &mut self.random);
        for _ in 0..=usize::from(is_doubled) {
            if let Some(at) = self.send(from.node, to) {
                let input = Input::Called { from: from.clone(), call, content: content.clone() };
                self.post(at + wait, to, their, input);
            }
        }
    }

    fn called(&mut self, node: usize, now: Time, from: &Caller, call: u64, content: Call) -> Cause {
        let sender = Arc::clone(&from.identity);
        let mut cause = Cause::Other;
        let reply = match content {
            Call::Question { is_candidate, .. } => {
                cause = Cause::Question { by: from.node };
                self.with_observer(|observer, world| observer.question(world, from.node, from.life, node));
                Some(Reply::QuestionAnswer(self.process_mut(node).election.question(
                    now,
                    &sender,
                    is_candidate,
                )))
            }
            Call::Victory(claim) => {
                let verdict = self.process_mut(node).election.claimed(now, &sender, &claim, None).ok();
                if verdict == Some(super::ClaimVerdict::Follows) {
                    self.hear(node, from, &claim);
                }
                verdict.map(Reply::ClaimVerdict)
            }
            Call::HandOver(offer) => {
                cause = Cause::HandOver;
                self.process_mut(node).election.hand_over(now, &sender, &offer).ok().map(Reply::Accepted)
            }
        };
        self.messages += 1;
        if let Some(at) = self.send(node, from.node) {
            self.post(at, from.node, from.life, Input::Replied { call, reply });
        }
        cause
    }

    fn replied(&mut self, node: usize, now: Time, call: u64, reply: Option<Reply>) {
        let Some(pending) = self.process_mut(node).calls.remove(&call) else { return };
        self.note(|world| world.describe_reply(node, &pending, reply.as_ref()));
        let election = &mut self.process_mut(node).election;
        let Pending { peer, kind, asked, .. } = pending;
        match (kind, reply) {
            (PendingKind::Question { round, .. }, Some(Reply::QuestionAnswer(answer))) => {
                election.answered(now, peer, round, Some(answer));
            }
            (PendingKind::Question { round, .. }, _) => election.answered(now, peer, round, None),
            (PendingKind::Victory(ballot), Some(Reply::ClaimVerdict(verdict))) => {
                election.judged(now, peer, Some(Judged { asked, ballot, verdict }));
            }
            (PendingKind::Victory(_), _) => election.judged(now, peer, None),
            (PendingKind::HandOver(ballot), reply) => {
                let accepted = match reply {
                    Some(Reply::Accepted(accepted)) => Some(accepted),
                    _ => None,
                };
                election.hand_over_answered(now, peer, ballot, accepted);
            }
        }
    }

    // ── The driver ─────────────────────────────────────────────────────────────────────────────────────────────

    /// Brings the links in line with what the election wants, sends what it sends, publishes the view.
    fn perform(&mut self, node: usize) {
        let now_here = Time::at(self.now.saturating_sub(self.process_mut(node).started));
        for (peer, orders) in self.changed_orders(node) {
            if self.process_mut(node).links.contains_key(&peer) {
                self.orders_changed(node, peer, orders);
            } else {
                let to = self.node_of(node, peer);
                let link = Link {
                    to,
                    orders,
                    state: LinkState::Idle,
                    attempt: 0,
                    pause: Duration::ZERO,
                    dialled: WorldTime::ZERO,
                    connected: None,
                    sent: WorldTime::ZERO,
                    due: None,
                    was_brief: false,
                    heartbeat: 0,
                    their_version: 0,
                };
                self.process_mut(node).links.insert(peer, link);
                self.start_link(node, peer);
            }
        }
        let mut has_changed = false;
        for effect in self.process_mut(node).election.drain_effects() {
            match effect {
                Effect::Send { to, request } => self.call(node, to, request),
                Effect::Changed(_) => has_changed = true,
                Effect::Refused { .. } | Effect::MetTwin(_) => {}
            }
        }
        let process = self.process_mut(node);
        process.list_version += u64::from(has_changed);
        process.claim = process.election.claim(now_here);
        process.claim_made = now_here;
        self.schedule_tick(node);
        self.refuse_lanes_if_done(node);
        if let Some(by) = self.process(node).and_then(|process| process.election.taken_by()) {
            let text = format!("{} goes, for its id is taken at {by}", self.nodes[node].name);
            self.with_observer(|_, world| Err(Violation::new("R7", world.now, text)));
        }
    }

    fn changed_orders(&mut self, node: usize) -> Vec<(Peer, Orders)> {
        let process = self.process_mut(node);
        let members = process.election.members();
        process.links.retain(|peer, _| members.member(*peer).is_some());
        let links = &process.links;
        let is_other =
            |(peer, orders): &(Peer, Orders)| links.get(peer).is_none_or(|link| link.orders != *orders);
        members.peers().map(|peer| (peer, members.orders(peer))).filter(is_other).collect()
    }

    fn schedule_tick(&mut self, node: usize) {
        let process = self.process_mut(node);
        let due = process.started + process.election.next_deadline().elapsed();
        if process.tick_at.is_none_or(|at| at > due) {
            process.tick_at = Some(due);
            let life = process.life;
            // The runtime's timers have a grain of a millisecond.
            let at = if due > self.now { due } else { self.now + ms(1) };
            self.post(at, node, life, Input::Tick);
        }
    }

    /// Who stops and does not lead, or leads nobody, wants no more work.
    fn refuse_lanes_if_done(&mut self, node: usize) {
        let process = self.process_mut(node);
        if !process.stopping || process.refuses_lanes {
            return;
        }
        let members = process.election.members();
        let works = |peer: &Peer| members.orders(*peer).wanted == Wanted::Work && members.is_up(*peer);
        if !process.election.leads() || !members.peers().any(|peer| works(&peer)) {
            self.refuse_lanes(node);
        }
    }

    fn refuse_lanes(&mut self, node: usize) {
        let process = self.process_mut(node);
        if mem::replace(&mut process.refuses_lanes, true) {
            return;
        }
        let life = process.life;
        self.note(|world| format!("{} wants no more work", world.nodes[node].name));
        for other in self.living() {
            let is_to = |link: &&Link| matches!(link.state, LinkState::Open { life: their, .. } if link.to == Some(node) && their == life);
            let lanes = self.process_mut(other).links.iter().filter(|(_, link)| is_to(link));
            for (peer, attempt) in lanes.map(|(peer, link)| (*peer, link.attempt)).collect::<Vec<_>>() {
                self.tell_stopping(node, other, peer, attempt);
            }
        }
    }

    /// The lane retires, and ends when all is answered.
    fn tell_stopping(&mut self, node: usize, other: usize, peer: Peer, attempt: u64) {
        let Some(life) = self.life(other) else { return };
        if let Some(at) = self.send(node, other) {
            self.post(at, other, life, Input::LaneStopping { peer, attempt });
            let answered = at + AT_ONCE + ms([0, 0, 30, 500][self.random.random_range(0..4)]);
            self.post(
                answered,
                other,
                life,
                Input::LaneEnded { peer, attempt, reason: Some("its lane closed") },
            );
        }
    }

    // ── The trace ──────────────────────────────────────────────────────────────────────────────────────────────

    fn note_change(&mut self, node: usize, before: Snapshot, after: Snapshot) {
        if (before.leads, before.leader, before.ballot) == (after.leads, after.leader, after.ballot) {
            return;
        }
        self.note(|world| {
            let name = &world.nodes[node].name;
            let counter = after.ballot.counter;
            match world.leader_of(node) {
                Some(leader) if leader == node => {
                    let claim = world.process(node).and_then(|process| process.claim.clone());
                    let reason = claim.map(|claim| claim.reason).unwrap_or_default();
                    format!("{name} LEADS, {counter}: {reason}")
                }
                Some(leader) => format!("{name} follows {}, {counter}", world.nodes[leader].name),
                None => format!("{name} has lost its leader: {}", world.why_lost(node)),
            }
        });
    }

    fn why_lost(&self, node: usize) -> &str {
        let mut recent =
            self.process(node).into_iter().flat_map(|process| process.election.members().recent());
        recent
            .find(|change| change.kind == ChangeKind::LeaderLost)
            .map_or("", |change| change.reason.as_str())
    }

    fn describe_call(&self, node: usize, to: usize, call: &Call) -> String {
        let (from, to) = (&self.nodes[node].name, &self.nodes[to].name);
        match call {
            Call::Question { is_candidate: false, .. } => format!("{from} → {to}: who leads?"),
            Call::Question { is_candidate: true, .. } => format!("{from} → {to}: who leads? or else I do"),
            Call::Victory(claim) => {
                let succeeds =
                    claim.succeeds.iter().map(|ballot| format!("n{}, {}", ballot.id, ballot.counter));
                let succeeds = succeeds.collect::<Vec<_>>().join("; ");
                let succeeds = if succeeds.is_empty() { succeeds } else { format!(" after {succeeds}") };
                format!("{from} → {to}: I lead, {}{succeeds}", claim.ballot.counter)
            }
            Call::HandOver(offer) => format!("{from} → {to}: lead after me, {}", offer.ballot.counter),
        }
    }

    fn describe_reply(&self, node: usize, pending: &Pending, reply: Option<&Reply>) -> String {
        let (to, from) = (&self.nodes[node].name, &self.nodes[pending.to].name);
        let said = match reply {
            None => "(no answer)".to_owned(),
            Some(Reply::QuestionAnswer(super::QuestionAnswer::LeaderAlive(leader))) => {
                format!("{} leads", leader.name)
            }
            Some(Reply::QuestionAnswer(answer)) => format!("{answer:?}").to_lowercase(),
            Some(Reply::ClaimVerdict(super::ClaimVerdict::Follows)) => "I follow".to_owned(),
            Some(Reply::ClaimVerdict(super::ClaimVerdict::Stale(ballot))) => {
                format!("I have seen {}", ballot.counter)
            }
            Some(Reply::ClaimVerdict(super::ClaimVerdict::Hears(ballot))) => {
                format!("I hear n{}, {}", ballot.id, ballot.counter)
            }
            Some(Reply::ClaimVerdict(super::ClaimVerdict::Unreached)) => "I do not reach you".to_owned(),
            Some(Reply::Accepted(accepted)) => if *accepted { "I do" } else { "I do not" }.to_owned(),
        };
        format!("{to} ← {from}: {said}")
    }
}
