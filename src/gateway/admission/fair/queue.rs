//! Whose work comes next: start-time fair queueing (Goyal, Vin and Cheng, 1996) of polls by what they cost. It knows no
//! clock and no runtime.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    task::Waker,
};

use slab::Slab;

use crate::{
    gateway::admission::address::Address,
    limits::{ROUND_COST_MAX, TURN_COST_MAX},
};

/// How far a connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Nothing that it asked was answered yet. It does not wait behind those of its address that were.
    New,
    /// It was answered.
    Client,
    /// It is of a node, or calls what only nodes have reason to.
    Peer,
    /// It was told to end, which makes room for others.
    Leaving,
}

/// Whose connections wait in one line, first come, first served.
pub type Caller = (Address, Stage);

/// Something that waits, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    line: usize,
    number: u64,
}

/// What may be polled now, and what waits.
#[derive(Debug)]
pub struct Queue {
    lines: Slab<Line>,
    of_callers: HashMap<Caller, usize>,
    /// The lines in which something waits, by what each has cost.
    waiting: BTreeSet<(u64, usize)>,
    /// Tasks that were woken and whose poll has not ended, with the cost that is expected of each.
    called: Vec<(Ticket, usize)>,
    /// Their wakers, until they are taken.
    wakers: Vec<Waker>,
    threads: usize,
    /// The cost of all polls since a woken task last entered.
    spent: usize,
    /// The highest cost that a line had when it was served: what a new or idle line starts from.
    floor: u64,
    tickets: u64,
}

#[derive(Debug)]
struct Line {
    caller: Caller,
    members: usize,
    cost: u64,
    /// Its key in [`Queue::waiting`]; none while nothing waits.
    key: Option<(u64, usize)>,
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    number: u64,
    /// As much as its last poll has cost.
    expected: usize,
    waker: Waker,
}

impl Queue {
    /// For so many threads.
    pub fn new(threads: usize) -> Self {
        Self {
            lines: Slab::new(),
            of_callers: HashMap::new(),
            waiting: BTreeSet::new(),
            called: Vec::new(),
            wakers: Vec::new(),
            threads,
            spent: 0,
            floor: 0,
            tickets: 0,
        }
    }

    /// Adds a connection to this caller's line, and returns the line.
    pub fn join(&mut self, caller: Caller) -> usize {
        if let Some(index) = self.of_callers.get(&caller) {
            self.lines[*index].members += 1;
            return *index;
        }
        let line = Line { caller, members: 1, cost: self.floor, key: None, waiting: VecDeque::new() };
        let index = self.lines.insert(line);
        self.of_callers.insert(caller, index);
        index
    }

    /// Takes a connection from its line.
    pub fn leave(&mut self, index: usize) {
        self.lines[index].members -= 1;
        self.forget_if_empty(index);
    }

    /// The wakers of those that are told to come now.
    pub fn wakers(&mut self) -> impl Iterator<Item = Waker> {
        self.wakers.drain(..)
    }

    /// Whether something of this line may be polled; if not, it waits, and its waker is one of [`wakers`](Self::wakers)
    /// when it may.
    ///
    /// While no other address waits, every task may, until polls have cost [`ROUND_COST_MAX`] for each thread. From
    /// then on a few tasks at a time are woken, behind the runtime's tasks that are ready.
    pub fn enter(
        &mut self,
        index: usize,
        ticket: &mut Option<Ticket>,
        expected: usize,
        waker: &Waker,
    ) -> bool {
        match ticket {
            Some(ticket) if self.is_called(*ticket) => {
                self.spent = 0;
                true
            }
            Some(ticket) => {
                self.renew(*ticket, waker);
                false
            }
            None if self.is_free_for(index) => {
                self.floor = self.floor.max(self.lines[index].cost);
                true
            }
            None => {
                *ticket = Some(self.wait(index, expected, waker.clone()));
                self.call();
                false
            }
        }
    }

    /// A task of this line was polled, at this cost.
    pub fn polled(&mut self, index: usize, ticket: &mut Option<Ticket>, cost: usize) {
        self.lines[index].cost += cost as u64;
        self.spent += cost;
        self.place(index);
        if let Some(ticket) = ticket.take() {
            self.end(ticket);
        }
    }

    /// A task that waited, or was told to come, is gone.
    pub fn give_up(&mut self, ticket: Ticket) {
        if self.is_called(ticket) {
            return self.end(ticket);
        }
        if let Some(place) = self.place_of(ticket) {
            self.lines[ticket.line].waiting.remove(place);
        }
        self.place(ticket.line);
        self.forget_if_empty(ticket.line);
    }

    /// Whether a task of this line need not wait: nothing waits but lines of its own address that are no node's, and
    /// the round is not used up.
    fn is_free_for(&self, index: usize) -> bool {
        let address = self.lines[index].caller.0;
        let is_own = |line: usize| {
            let (of, stage) = self.lines[line].caller;
            line == index || (of == address && stage != Stage::Peer)
        };
        self.spent < ROUND_COST_MAX * self.threads
            && self.waiting.iter().all(|(_, line)| is_own(*line))
            && self.called.iter().all(|(ticket, _)| is_own(ticket.line))
    }

    fn is_called(&self, ticket: Ticket) -> bool {
        self.called.iter().any(|(called, _)| *called == ticket)
    }

    fn wait(&mut self, index: usize, expected: usize, waker: Waker) -> Ticket {
        let number = self.tickets;
        self.tickets += 1;
        let (line, floor) = (&mut self.lines[index], self.floor);
        if line.waiting.is_empty() {
            // An idle line gets no credit for the time in which it was idle.
            line.cost = line.cost.max(floor);
        }
        line.waiting.push_back(Waiting { number, expected, waker });
        self.place(index);
        Ticket { line: index, number }
    }

    fn renew(&mut self, ticket: Ticket, waker: &Waker) {
        if let Some(place) = self.place_of(ticket) {
            self.lines[ticket.line].waiting[place].waker.clone_from(waker);
        }
    }

    /// Where it waits in its line, in which numbers rise.
    fn place_of(&self, ticket: Ticket) -> Option<usize> {
        self.lines[ticket.line].waiting.binary_search_by_key(&ticket.number, |waiting| waiting.number).ok()
    }

    fn end(&mut self, ticket: Ticket) {
        if let Some(place) = self.called.iter().position(|(called, _)| *called == ticket) {
            let (_, expected) = self.called.swap_remove(place);
            self.lines[ticket.line].cost -= expected as u64;
            self.place(ticket.line);
            self.forget_if_empty(ticket.line);
        }
        self.call();
    }

    /// Wakes the next tasks: as many as are expected to cost one turn together, and at least one for each thread.
    fn call(&mut self) {
        let mut expected: usize = self.called.iter().map(|(_, expected)| expected).sum();
        while (self.called.len() < self.threads || expected < TURN_COST_MAX)
            && let Some((cost, index)) = self.waiting.first().copied()
            && let Some(next) = self.lines[index].waiting.pop_front()
        {
            expected += next.expected;
            self.floor = self.floor.max(cost);
            self.called.push((Ticket { line: index, number: next.number }, next.expected));
            // Charged before the poll, so that the line's next task waits until other lines have had as much.
            self.lines[index].cost += next.expected as u64;
            self.place(index);
            self.wakers.push(next.waker);
        }
    }

    /// Moves the line's key in `waiting` to its present cost.
    fn place(&mut self, index: usize) {
        let line = &mut self.lines[index];
        let key = (!line.waiting.is_empty()).then_some((line.cost, index));
        if key == line.key {
            return;
        }
        if let Some(old) = line.key.take() {
            self.waiting.remove(&old);
        }
        line.key = key;
        self.waiting.extend(key);
    }

    fn forget_if_empty(&mut self, index: usize) {
        let is_called = self.called.iter().any(|(ticket, _)| ticket.line == index);
        let line = &self.lines[index];
        if line.members == 0 && line.waiting.is_empty() && !is_called {
            self.of_callers.remove(&line.caller);
            self.lines.remove(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::{IpAddr, Ipv4Addr},
        sync::{Arc, Mutex},
        task::Wake,
    };

    use super::*;

    /// What is ready to run, as a runtime of one thread keeps it.
    type Ready = Arc<Mutex<VecDeque<usize>>>;

    struct Task {
        number: usize,
        ready: Ready,
    }

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.ready.lock().unwrap().push_back(self.number);
        }
    }

    fn caller(last: u8, stage: Stage) -> Caller {
        (IpAddr::from(Ipv4Addr::new(127, 0, 0, last)).into(), stage)
    }

    fn nobody() -> Waker {
        Arc::new(Task { number: 0, ready: Ready::default() }).into()
    }

    /// Tasks of these lines that always have more to do, at such a cost each time: how often each of them was polled when
    /// that happened so many times.
    fn polls(queue: &mut Queue, tasks: &[(usize, usize)], times: usize) -> Vec<usize> {
        let ready: Ready = Arc::new(Mutex::new((0..tasks.len()).collect()));
        let mut tickets = vec![None; tasks.len()];
        let mut counts = vec![0; tasks.len()];
        while counts.iter().sum::<usize>() < times {
            let next = ready.lock().unwrap().pop_front();
            let number = next.expect("something waits, and nobody is told to come");
            let (line, cost) = tasks[number];
            let waker = Arc::new(Task { number, ready: Arc::clone(&ready) }).into();
            if queue.enter(line, &mut tickets[number], cost, &waker) {
                queue.polled(line, &mut tickets[number], cost);
                counts[number] += 1;
                ready.lock().unwrap().push_back(number);
            }
            queue.wakers().for_each(Waker::wake);
        }
        tickets.into_iter().flatten().for_each(|ticket| queue.give_up(ticket));
        counts
    }

    #[test]
    fn whoever_is_alone_is_polled_at_once_until_the_others_must_have_a_turn() {
        let mut queue = Queue::new(1);
        let line = queue.join(caller(1, Stage::Client));
        let mut ticket = None;
        let cost = ROUND_COST_MAX / 8;
        for round in 0..3 {
            for _ in 0..8 {
                assert!(queue.enter(line, &mut ticket, cost, &nobody()), "{round}");
                queue.polled(line, &mut ticket, cost);
            }
            assert!(!queue.enter(line, &mut ticket, cost, &nobody()), "others have theirs first");
            assert!(queue.enter(line, &mut ticket, 0, &nobody()), "it was told to come at once, behind them");
            queue.polled(line, &mut ticket, 0);
        }
    }

    #[test]
    fn of_those_that_wait_so_many_are_called_that_they_cost_a_turn() {
        for (threads, cost, called) in
            [(1, TURN_COST_MAX, 1), (2, TURN_COST_MAX, 2), (1, TURN_COST_MAX / 4, 4)]
        {
            let mut queue = Queue::new(threads);
            let line = queue.join(caller(1, Stage::Client));
            queue.polled(line, &mut None, ROUND_COST_MAX * threads);
            let mut tickets = [None; 9];
            for ticket in &mut tickets {
                assert!(!queue.enter(line, ticket, cost, &nobody()));
            }
            let numbers: Vec<u64> = queue.called.iter().map(|(ticket, _)| ticket.number).collect();
            assert_eq!(numbers, (0..called).collect::<Vec<_>>(), "first come, first served");
        }
    }

    #[test]
    fn callers_have_equal_shares_however_many_connections_each_has() {
        let mut queue = Queue::new(1);
        let [greedy, other] = [1, 2].map(|last| queue.join(caller(last, Stage::Client)));
        let mut tasks = vec![(greedy, TURN_COST_MAX); 50];
        tasks.extend([(other, TURN_COST_MAX / 8); 20]);
        let counts = polls(&mut queue, &tasks, 9000);
        let (of_greedy, of_other) = (counts[..50].iter().sum::<usize>(), counts[50..].iter().sum::<usize>());
        assert!(
            (900..1100).contains(&of_greedy),
            "an eighth as often, at eight times the cost: {of_greedy}, {of_other}"
        );
        let (least, most) = (counts[..50].iter().min().unwrap(), counts[..50].iter().max().unwrap());
        assert!(most - least <= 1, "{counts:?}");
    }

    #[test]
    fn whoever_asks_for_little_is_next() {
        let mut queue = Queue::new(1);
        let [greedy, modest] = [1, 2].map(|last| queue.join(caller(last, Stage::Client)));
        let mut tickets = [None; 20];
        polls(&mut queue, &[(greedy, TURN_COST_MAX); 20], 1000);
        queue.polled(greedy, &mut None, ROUND_COST_MAX);
        for ticket in &mut tickets {
            assert!(!queue.enter(greedy, ticket, TURN_COST_MAX, &nobody()));
        }
        let mut ticket = None;
        assert!(!queue.enter(modest, &mut ticket, 100, &nobody()));
        assert!(queue.enter(greedy, &mut tickets[0], 0, &nobody()), "who was called before it");
        queue.polled(greedy, &mut tickets[0], TURN_COST_MAX);
        assert!(queue.enter(modest, &mut ticket, 0, &nobody()), "before the nineteen that came earlier");
    }

    #[test]
    fn nobody_saves_up_a_share() {
        let mut queue = Queue::new(1);
        let [early, late] = [1, 2].map(|last| queue.join(caller(last, Stage::Client)));
        polls(&mut queue, &[(early, TURN_COST_MAX)], 1000);
        let new = queue.join(caller(3, Stage::New));
        let counts = polls(&mut queue, &[early, late, new].map(|line| (line, TURN_COST_MAX)), 300);
        assert!(counts.iter().all(|count| (95..=105).contains(count)), "{counts:?}");
    }

    #[test]
    fn what_is_given_up_is_waited_for_no_longer() {
        let mut queue = Queue::new(1);
        let line = queue.join(caller(1, Stage::Client));
        queue.polled(line, &mut None, ROUND_COST_MAX);
        let mut tickets = [None; 3];
        for ticket in &mut tickets {
            assert!(!queue.enter(line, ticket, TURN_COST_MAX, &nobody()));
        }
        queue.give_up(tickets[1].unwrap());
        queue.give_up(tickets[0].unwrap());
        assert!(
            queue.enter(line, &mut tickets[2], 0, &nobody()),
            "the one before it was called, and is gone"
        );
        queue.polled(line, &mut tickets[2], 1);
        queue.leave(line);
        assert!(queue.lines.is_empty() && queue.of_callers.is_empty() && queue.waiting.is_empty());
    }

    #[test]
    fn a_flow_is_kept_for_what_still_waits_in_it() {
        let mut queue = Queue::new(1);
        let new = queue.join(caller(1, Stage::New));
        queue.polled(new, &mut None, ROUND_COST_MAX);
        let (mut first, mut second) = (None, None);
        assert!(!queue.enter(new, &mut first, TURN_COST_MAX, &nobody()));
        assert!(!queue.enter(new, &mut second, TURN_COST_MAX, &nobody()));
        // The connection is a client's now, and so is what it does next.
        let client = queue.join(caller(1, Stage::Client));
        queue.leave(new);
        for ticket in [&mut first, &mut second] {
            assert!(queue.enter(client, ticket, 0, &nobody()));
            queue.polled(client, ticket, 1);
        }
        assert_eq!(queue.lines.len(), 1);
    }

    #[test]
    fn the_connections_of_one_address_wait_for_others_only() {
        let mut queue = Queue::new(1);
        let [client, new, other, peer] =
            [(1, Stage::Client), (1, Stage::New), (2, Stage::Client), (1, Stage::Peer)]
                .map(|(last, stage)| queue.join(caller(last, stage)));
        // So much was spent that one of them has to wait, and is told to come.
        let mut first = None;
        assert!(queue.enter(client, &mut None, 0, &nobody()));
        queue.polled(client, &mut None, ROUND_COST_MAX);
        assert!(
            !queue.enter(client, &mut first, 1, &nobody()) && queue.enter(client, &mut first, 1, &nobody())
        );
        let passes = |queue: &mut Queue, line| {
            let mut ticket = None;
            let may = queue.enter(line, &mut ticket, 1, &nobody());
            ticket.into_iter().for_each(|ticket| queue.give_up(ticket));
            may
        };
        assert_eq!(
            [client, new, peer, other].map(|line| passes(&mut queue, line)),
            [true, true, true, false]
        );
        queue.polled(client, &mut first, 1);
        assert!(passes(&mut queue, other), "nobody waits any more");
        // While a node waits, no client passes it.
        queue.polled(peer, &mut None, ROUND_COST_MAX);
        let mut of_peer = None;
        assert!(
            !queue.enter(peer, &mut of_peer, 1, &nobody()) && queue.enter(peer, &mut of_peer, 1, &nobody())
        );
        assert_eq!([client, new, peer].map(|line| passes(&mut queue, line)), [false, false, true]);
        queue.polled(peer, &mut of_peer, 1);
    }
}
