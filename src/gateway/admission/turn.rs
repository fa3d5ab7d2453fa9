//! A connection's turn: how much it may make the node read and write in one poll. A connection is served for as long as
//! bytes come, and whoever sends without a pause would keep a thread of the runtime for itself.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::limits::{FRAME_COST, POLL_COST, TURN_ALONE_COST_MAX, TURN_COST_MAX};

/// What is left of a turn. Only the task of the connection counts in it.
#[derive(Debug)]
pub struct Turn {
    whole: AtomicUsize,
    left: AtomicUsize,
}

impl Turn {
    /// A whole turn.
    pub fn new() -> Self {
        Self { whole: AtomicUsize::new(TURN_COST_MAX), left: AtomicUsize::new(TURN_COST_MAX) }
    }

    /// Begins the next one.
    pub fn begin(&self) {
        self.whole.store(TURN_COST_MAX, Relaxed);
        self.left.store(TURN_COST_MAX - POLL_COST, Relaxed);
    }

    /// Makes it longer, because nobody else waits.
    pub fn extend(&self) {
        let cost = self.cost();
        self.whole.store(TURN_ALONE_COST_MAX, Relaxed);
        self.left.store(TURN_ALONE_COST_MAX.saturating_sub(cost), Relaxed);
    }

    /// What it has cost so far.
    pub fn cost(&self) -> usize {
        self.whole.load(Relaxed) - self.left.load(Relaxed)
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

/// What begins a connection of HTTP/2 (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The head of a frame: a length of three bytes, a type, flags and a stream (RFC 9113, section 4.1).
const HEAD_BYTES: usize = 9;

/// Finds the frames in what a connection sends, because a frame of 9 bytes costs as much as one of 200. What is not
/// HTTP/2 has none.
#[derive(Debug)]
pub struct Frames {
    state: FrameState,
    /// The last bytes were mostly heads of frames.
    is_dense: bool,
}

#[derive(Debug)]
enum FrameState {
    /// So many bytes of the preface have come.
    Preface(usize),
    /// So many bytes of a head have come.
    Head([u8; HEAD_BYTES], usize),
    /// So many bytes of a frame are still to come.
    Payload(usize),
    /// It is not HTTP/2.
    Other,
}

impl Default for Frames {
    /// Those of a connection that has sent nothing yet.
    fn default() -> Self {
        Self { state: FrameState::Preface(0), is_dense: false }
    }
}

impl Frames {
    /// What these bytes cost, which follow those before.
    pub fn read(&mut self, bytes: &[u8]) -> usize {
        let (mut cost, mut rest) = (bytes.len(), bytes);
        while !rest.is_empty() && !matches!(self.state, FrameState::Other) {
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

    /// Takes some of the bytes; returns how many, and what they cost beyond their bytes.
    fn step(&mut self, bytes: &[u8]) -> (usize, usize) {
        match &mut self.state {
            FrameState::Preface(read) => {
                let taken = bytes.len().min(PREFACE.len() - *read);
                let is_http2 = bytes[..taken] == PREFACE[*read..*read + taken];
                self.state = match *read + taken {
                    _ if !is_http2 => FrameState::Other,
                    read if read < PREFACE.len() => FrameState::Preface(read),
                    _ => FrameState::Head([0; HEAD_BYTES], 0),
                };
                (taken, 0)
            }
            FrameState::Head(head, read) => {
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
            FrameState::Payload(left) => {
                let taken = bytes.len().min(*left);
                *left -= taken;
                if *left == 0 {
                    self.state = after_head(0);
                }
                (taken, 0)
            }
            FrameState::Other => (bytes.len(), 0),
        }
    }
}

/// Input that costs more than so many times its bytes is mostly heads of frames.
const DENSE: usize = 4;

fn after_head(length: usize) -> FrameState {
    if length == 0 { FrameState::Head([0; HEAD_BYTES], 0) } else { FrameState::Payload(length) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, length: usize) -> Vec<u8> {
        let [_, a, b, c] = u32::try_from(length).unwrap().to_be_bytes();
        [vec![a, b, c, kind, 0, 0, 0, 0, 1], vec![7; length]].concat()
    }

    #[test]
    fn a_turn_that_is_extended_keeps_what_it_has_cost() {
        let turn = Turn::new();
        turn.charge(TURN_COST_MAX - 1);
        turn.extend();
        assert_eq!(turn.cost(), TURN_COST_MAX - 1);
        turn.charge(TURN_COST_MAX);
        assert!(!turn.is_over());
        turn.charge(TURN_ALONE_COST_MAX);
        assert!(turn.is_over());
        turn.begin();
        assert_eq!(turn.cost(), POLL_COST, "the next one is as long as any");
        turn.charge(TURN_COST_MAX);
        assert!(turn.is_over());
    }

    #[test]
    fn every_frame_is_found_however_the_bytes_are_cut() {
        let mut bytes = PREFACE.to_vec();
        for (kind, length) in [(4, 18), (1, 40), (0, 5), (6, 8), (0, 0), (1, 300), (0, 70_000)] {
            bytes.extend(frame(kind, length));
        }
        let expected = bytes.len() + 7 * FRAME_COST;
        for size in [1, 2, 7, 9, 10, 24, 25, 100, bytes.len()] {
            let mut frames = Frames::default();
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
            let mut frames = Frames::default();
            assert_eq!(bytes.chunks(5).map(|bytes| frames.read(bytes)).sum::<usize>(), bytes.len(), "{text}");
            assert!(!frames.is_dense());
        }
    }

    #[test]
    fn small_frames_are_dense_and_large_ones_are_not() {
        let mut frames = Frames::default();
        frames.read(PREFACE);
        frames.read(&frame(6, 8).repeat(100));
        assert!(frames.is_dense());
        frames.read(&frame(0, 16_000));
        assert!(!frames.is_dense());
    }
}
