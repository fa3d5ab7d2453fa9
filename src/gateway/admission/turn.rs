//! A connection's turn: how much it may make the node read and write before the others have theirs. A connection is served
//! for as long as bytes come, and whoever sends without a pause would keep a thread of the runtime for itself.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::PollSemaphore;

use super::places::Usage;
use crate::limits::{FRAME_COST, TURN_COST_MAX};

/// What is left of a turn. Only the task of the connection counts in it.
#[derive(Debug)]
pub struct Turn {
    left: AtomicUsize,
}

impl Turn {
    /// A whole turn.
    pub fn new() -> Self {
        Self { left: AtomicUsize::new(TURN_COST_MAX) }
    }

    /// Begins the next one.
    pub fn begin(&self) {
        self.left.store(TURN_COST_MAX, Relaxed);
    }

    /// Takes so much of it; the last thing that is done in a turn may cost more than is left.
    pub fn charge(&self, cost: usize) {
        self.left.store(self.left.load(Relaxed).saturating_sub(cost), Relaxed);
    }

    /// Whether it is used up.
    pub fn is_over(&self) -> bool {
        self.left.load(Relaxed) == 0
    }
}

/// The turns of a connection, one for each poll. Whoever used one up waits in line with the others of its address for the
/// next: of an address no more of them are ready to run than there are threads, however many connections it has.
pub struct Turns {
    usage: Arc<Usage>,
    line: PollSemaphore,
    /// The next turn comes by the line, and may have come.
    next: Option<Option<OwnedSemaphorePermit>>,
}

impl Turns {
    /// The turns of a connection that is used like this, in the line of its address.
    pub(in crate::gateway) fn new(usage: Arc<Usage>, line: Arc<Semaphore>) -> Self {
        Self { usage, line: PollSemaphore::new(line), next: None }
    }

    /// Runs the connection, or goes on with it, turn by turn.
    pub fn run<C: Future>(&mut self, mut connection: Pin<&mut C>) -> impl Future<Output = C::Output> {
        poll_fn(move |context| self.poll(context, connection.as_mut()))
    }

    fn poll<C: Future>(&mut self, context: &mut Context<'_>, connection: Pin<&mut C>) -> Poll<C::Output> {
        if let Some(permit) = &mut self.next
            && permit.is_none()
        {
            *permit = ready!(self.line.poll_acquire(context));
        }
        self.usage.turn.begin();
        let polled = connection.poll(context);
        // The next one in line is ready from now on.
        self.next = None;
        if polled.is_pending() && self.usage.turn.is_over() {
            self.stand_in_line(context);
        }
        polled
    }

    fn stand_in_line(&mut self, context: &mut Context<'_>) {
        let permit = match self.line.poll_acquire(context) {
            Poll::Ready(permit) => {
                context.waker().wake_by_ref();
                permit
            }
            Poll::Pending => None,
        };
        self.next = Some(permit);
    }
}

/// What begins a connection of HTTP/2 (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The head of a frame: a length of three bytes, a type, flags and a stream (RFC 9113, section 4.1).
const HEAD_BYTES: usize = 9;

/// Finds the frames in what a connection sends, because a frame of 9 bytes costs as much as one of 200. What is not HTTP/2
/// has none.
#[derive(Debug)]
pub struct Frames {
    state: State,
    /// The last bytes were mostly heads of frames.
    is_dense: bool,
}

#[derive(Debug)]
enum State {
    /// So many bytes of the preface have come.
    Preface(usize),
    /// So many bytes of a head have come.
    Head([u8; HEAD_BYTES], usize),
    /// So many bytes of a frame are still to come.
    Payload(usize),
    /// It is not HTTP/2.
    Other,
}

impl Frames {
    /// Those of a connection that has sent nothing yet.
    pub fn new() -> Self {
        Self { state: State::Preface(0), is_dense: false }
    }

    /// What these bytes cost, which follow those before.
    pub fn read(&mut self, bytes: &[u8]) -> usize {
        let (mut cost, mut rest) = (bytes.len(), bytes);
        while !rest.is_empty() && !matches!(self.state, State::Other) {
            let (taken, more) = self.step(rest);
            rest = &rest[taken..];
            cost += more;
        }
        self.is_dense = cost > DENSE * bytes.len();
        cost
    }

    /// Whether little should be read at once, because it costs much.
    pub fn is_dense(&self) -> bool {
        self.is_dense
    }

    /// Takes some of the bytes; returns how many, and what they cost beside.
    fn step(&mut self, bytes: &[u8]) -> (usize, usize) {
        match &mut self.state {
            State::Preface(read) => {
                let taken = bytes.len().min(PREFACE.len() - *read);
                let is_http2 = bytes[..taken] == PREFACE[*read..*read + taken];
                self.state = match *read + taken {
                    _ if !is_http2 => State::Other,
                    read if read < PREFACE.len() => State::Preface(read),
                    _ => State::Head([0; HEAD_BYTES], 0),
                };
                (taken, 0)
            }
            State::Head(head, read) => {
                let taken = bytes.len().min(HEAD_BYTES - *read);
                head[*read..][..taken].copy_from_slice(&bytes[..taken]);
                *read += taken;
                if *read < HEAD_BYTES {
                    return (taken, 0);
                }
                let [a, b, c, ..] = *head;
                let length = u32::from_be_bytes([0, a, b, c]) as usize;
                self.state = after_head(length);
                (taken, FRAME_COST)
            }
            State::Payload(left) => {
                let taken = bytes.len().min(*left);
                *left -= taken;
                if *left == 0 {
                    self.state = after_head(0);
                }
                (taken, 0)
            }
            State::Other => (bytes.len(), 0),
        }
    }
}

/// From so many bytes for each one that is sent, what is sent is mostly heads of frames.
const DENSE: usize = 4;

fn after_head(length: usize) -> State {
    if length == 0 { State::Head([0; HEAD_BYTES], 0) } else { State::Payload(length) }
}

#[cfg(test)]
mod tests {
    use std::{pin::pin, sync::Mutex};

    use futures_util::future::join4;
    use tokio_util::sync::CancellationToken;

    use super::*;

    fn frame(kind: u8, length: usize) -> Vec<u8> {
        let [_, a, b, c] = u32::try_from(length).unwrap().to_be_bytes();
        [vec![a, b, c, kind, 0, 0, 0, 0, 1], vec![7; length]].concat()
    }

    /// Uses up as many turns as it is told to, and notes in which order.
    async fn greedy(name: char, turns: usize, line: Arc<Semaphore>, order: Arc<Mutex<String>>) {
        let usage = Arc::new(Usage::new(false, CancellationToken::new()));
        let mut count = 0;
        let connection = pin!(poll_fn(|_| {
            usage.turn.charge(TURN_COST_MAX + 1);
            order.lock().unwrap().push(name);
            count += 1;
            if count == turns { Poll::Ready(()) } else { Poll::Pending }
        }));
        Turns::new(Arc::clone(&usage), line).run(connection).await;
    }

    #[tokio::test]
    async fn whoever_uses_up_a_turn_waits_in_the_line_of_its_address() {
        let order = Arc::default();
        let (line, other) = (Arc::new(Semaphore::new(1)), Arc::new(Semaphore::new(1)));
        let of =
            |name, turns, line: &Arc<Semaphore>| greedy(name, turns, Arc::clone(line), Arc::clone(&order));
        join4(of('a', 3, &line), of('b', 3, &line), of('c', 3, &line), of('x', 3, &other)).await;
        let order = order.lock().unwrap().clone();
        assert_eq!(line.available_permits(), 1);
        assert_eq!(order, "abcxabcxabcx", "one after the other, and nobody in the line of another address");
    }

    #[test]
    fn every_frame_is_found_however_the_bytes_are_cut() {
        let mut bytes = PREFACE.to_vec();
        for (kind, length) in [(4, 18), (1, 40), (0, 5), (6, 8), (0, 0), (1, 300), (0, 70_000)] {
            bytes.extend(frame(kind, length));
        }
        let expected = bytes.len() + 7 * FRAME_COST;
        for size in [1, 2, 7, 9, 10, 24, 25, 100, bytes.len()] {
            let mut frames = Frames::new();
            let cost: usize = bytes.chunks(size).map(|bytes| frames.read(bytes)).sum();
            assert_eq!(cost, expected, "in pieces of {size}");
        }
    }

    #[test]
    fn what_is_not_http_2_costs_its_bytes() {
        for text in
            ["GET / HTTP/1.1\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", "P", "\0\0\0\u{4}\0\0\0\0\0"]
        {
            let bytes = [text.as_bytes(), &frame(4, 0).repeat(100)].concat();
            let mut frames = Frames::new();
            assert_eq!(bytes.chunks(5).map(|bytes| frames.read(bytes)).sum::<usize>(), bytes.len(), "{text}");
            assert!(!frames.is_dense());
        }
    }

    #[test]
    fn small_frames_are_dense_and_large_ones_are_not() {
        let mut frames = Frames::new();
        frames.read(PREFACE);
        frames.read(&frame(6, 8).repeat(100));
        assert!(frames.is_dense());
        frames.read(&frame(0, 16_000));
        assert!(!frames.is_dense());
    }
}
