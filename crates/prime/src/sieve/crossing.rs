//! Crossing out multiples, by size of the prime.

use std::sync::LazyLock;

use super::{
    check, sieve,
    wheel::{GAPS, NUMBERS, PLACES, RESIDUES, bit, each_number, place_from},
};

/// The primes whose multiples are crossed out by patterns, so grouped that a pattern stays small.
const PATTERN_PRIMES: [&[u64]; 12] = [
    &[7, 11, 13, 17],
    &[19, 23, 29],
    &[31, 37],
    &[41, 43],
    &[47, 53],
    &[59, 61],
    &[67, 71],
    &[73, 79],
    &[83, 89],
    &[97, 101],
    &[103, 107],
    &[109, 113],
];

/// The first prime whose multiples are crossed out one by one.
const SMALL_MIN: u64 = 127;

/// From here on a prime has few multiples in a small block.
const MEDIUM_MIN: u64 = 1 << 12;

/// From here on a prime has few multiples in a block.
pub(super) const LARGE_MIN: u64 = 1 << 20;

/// The bytes of a small block, which stays in the first cache while it is worked on.
const SMALL_BLOCK_BYTES: usize = 1 << 15;

/// The next multiples of the small and medium primes.
pub(super) struct Crossings {
    small: Vec<Small>,
    /// By the bit of the prime.
    medium: [Vec<Medium>; 8],
}

/// A prime with many multiples in a block: for each residue its next multiple and what it leaves of a byte.
struct Small {
    prime: u32,
    next: [u32; 8],
    left: [u8; 8],
}

/// A prime with some multiples in a block.
struct Medium {
    /// How many bytes it spans.
    bytes: u32,
    /// The byte of its next multiple.
    next: u32,
    /// The cofactor of its next multiple, by its place in [`RESIDUES`].
    place: u8,
}

impl Crossings {
    /// Of all primes up to `primes_max`, in blocks that begin at `first`, a multiple of 30.
    pub(super) fn new(first: u64, primes_max: u64, go_on: &dyn Fn() -> bool) -> Option<Self> {
        let mut crossings = Self { small: Vec::new(), medium: Default::default() };
        sieve(SMALL_MIN..=primes_max, go_on, &mut |byte, block| {
            each_number(byte, block, &mut |prime| crossings.add(prime, first));
            Some(())
        })?;
        Some(crossings)
    }

    fn add(&mut self, prime: u64, first: u64) {
        let (mut offset, mut place) = first_multiple(prime, first);
        if prime >= MEDIUM_MIN {
            let (bytes, next) = ((prime / NUMBERS) as u32, (offset / NUMBERS) as u32);
            self.medium[bit(prime)].push(Medium { bytes, next, place: place as u8 });
            return;
        }
        let mut small = Small { prime: prime as u32, next: [0; 8], left: [0; 8] };
        for (next, left) in small.next.iter_mut().zip(&mut small.left) {
            (*next, *left) = ((offset / NUMBERS) as u32, !(1 << bit(offset)));
            offset += prime * u64::from(GAPS[place]);
            place = (place + 1) % 8;
        }
        self.small.push(small);
    }

    /// Crosses out in the next block; `first` is the number of its first byte.
    pub(super) fn cross(&mut self, first: u64, block: &mut [u8], go_on: &dyn Fn() -> bool) -> Option<()> {
        let firsts = (first..).step_by(SMALL_BLOCK_BYTES);
        for (first, bytes) in firsts.zip(block.chunks_mut(SMALL_BLOCK_BYTES)) {
            check(go_on)?;
            PATTERNS.iter().for_each(|pattern| pattern.apply(first, bytes));
            self.small.iter_mut().for_each(|small| small.cross(bytes));
        }
        for (bit, primes) in self.medium.iter_mut().enumerate() {
            check(go_on)?;
            CROSS_MEDIUM[bit](primes, block);
        }
        restore_pattern_primes(first, block);
        Some(())
    }
}

/// The first multiple to be crossed out from `first` on, as a distance from there, and the place of its cofactor: that is
/// at least the prime itself, and 2, 3 and 5 do not divide it.
#[inline(always)]
fn first_multiple(prime: u64, first: u64) -> (u64, usize) {
    let cofactor = first.div_ceil(prime).max(prime);
    let remainder = cofactor % NUMBERS;
    let place = place_from(remainder);
    let cofactor = cofactor + u64::from(RESIDUES[place]) - remainder;
    // The multiple itself may lie beyond 2⁶⁴, its distance does not.
    (prime.wrapping_mul(cofactor).wrapping_sub(first), place)
}

impl Small {
    fn cross(&mut self, bytes: &mut [u8]) {
        let (prime, length) = (self.prime as usize, bytes.len());
        for (next, left) in self.next.iter_mut().zip(self.left) {
            let mut at = *next as usize;
            while let Some(byte) = bytes.get_mut(at) {
                *byte &= left;
                at += prime;
            }
            *next = (at - length) as u32;
        }
    }
}

/// From one multiple of a prime to the next are `bytes`·`gap` bytes and some of these.
const CARRIES: [[u8; 8]; 8] = table(false);

/// What a multiple leaves of its byte.
const LEFT: [[u8; 8]; 8] = table(true);

/// For the prime's bit and the cofactor's place.
const fn table(is_left: bool) -> [[u8; 8]; 8] {
    let mut table = [[0; 8]; 8];
    let mut entry = 0;
    while entry < 64 {
        let (bit, place) = (entry / 8, entry % 8);
        let (residue, cofactor) = (RESIDUES[bit] as u32, RESIDUES[place] as u32);
        let product = residue * cofactor;
        table[bit][place] = if is_left {
            !(1 << PLACES[(product % 30) as usize])
        } else {
            ((product % 30 + residue * GAPS[place] as u32) / 30) as u8
        };
        entry += 1;
    }
    table
}

type CrossMedium = fn(&mut [Medium], &mut [u8]);

/// What crosses out the multiples of primes of each bit.
const CROSS_MEDIUM: [CrossMedium; 8] = [
    cross_medium::<0>,
    cross_medium::<1>,
    cross_medium::<2>,
    cross_medium::<3>,
    cross_medium::<4>,
    cross_medium::<5>,
    cross_medium::<6>,
    cross_medium::<7>,
];

fn cross_medium<const BIT: usize>(primes: &mut [Medium], block: &mut [u8]) {
    for prime in primes {
        let mut next = prime.next as usize;
        let mut place = usize::from(prime.place);
        let step =
            |place: usize| prime.bytes as usize * usize::from(GAPS[place]) + usize::from(CARRIES[BIT][place]);
        'block: {
            while place != 0 {
                let Some(byte) = block.get_mut(next) else { break 'block };
                *byte &= LEFT[BIT][place];
                next += step(place);
                place = (place + 1) % 8;
            }
            loop {
                for (turn, left) in LEFT[BIT].iter().enumerate() {
                    let Some(byte) = block.get_mut(next) else {
                        place = turn;
                        break 'block;
                    };
                    *byte &= left;
                    next += step(turn);
                }
            }
        }
        prime.next = (next - block.len()) as u32;
        prime.place = place as u8;
    }
}

/// Crosses out the multiples of the primes from [`LARGE_MIN`] to `primes_max` in a window that begins at `first`.
pub(super) fn cross_stream(
    first: u64,
    primes_max: u64,
    window: &mut [u8],
    go_on: &dyn Fn() -> bool,
) -> Option<()> {
    let span = window.len() as u64 * NUMBERS;
    let mut multiples = Multiples::new(window);
    sieve(LARGE_MIN..=primes_max, go_on, &mut |byte, block| {
        let firsts = (byte..).step_by(STREAM_BYTES);
        for (byte, bytes) in firsts.zip(block.chunks(STREAM_BYTES)) {
            check(go_on)?;
            each_number(byte, bytes, &mut |prime| {
                let (mut offset, mut place) = first_multiple(prime, first);
                while offset < span {
                    multiples.push(offset);
                    offset += prime * u64::from(GAPS[place]);
                    place = (place + 1) % 8;
                }
            });
        }
        Some(())
    })?;
    multiples.cross_all();
    Some(())
}

/// The bytes of the stream between two looks whether to go on: some thousand primes.
const STREAM_BYTES: usize = 1 << 9;

/// A window is divided into parts of so many bytes, which stay in the second cache while multiples are crossed out.
const PART_BYTES: usize = 1 << 19;

/// The multiples of a part that are gathered before they are crossed out together.
const GATHERED_MAX: usize = 1 << 11;

/// Multiples that are found all over a window and crossed out part by part. One by one, each would wait for memory.
struct Multiples<'a> {
    window: &'a mut [u8],
    /// By part: the byte of each, and its bit in the lowest three.
    gathered: Vec<Vec<u32>>,
}

impl<'a> Multiples<'a> {
    fn new(window: &'a mut [u8]) -> Self {
        let parts = window.len().div_ceil(PART_BYTES);
        Self { window, gathered: (0..parts).map(|_| Vec::with_capacity(GATHERED_MAX)).collect() }
    }

    #[inline(always)]
    fn push(&mut self, offset: u64) {
        let byte = (offset / NUMBERS) as u32;
        let part = &mut self.gathered[byte as usize / PART_BYTES];
        part.push(byte << 3 | bit(offset) as u32);
        if part.len() == GATHERED_MAX {
            cross_gathered(self.window, part);
        }
    }

    fn cross_all(&mut self) {
        self.gathered.iter_mut().for_each(|part| cross_gathered(self.window, part));
    }
}

fn cross_gathered(window: &mut [u8], part: &mut Vec<u32>) {
    for multiple in part.drain(..) {
        window[(multiple >> 3) as usize] &= !(1 << (multiple & 7));
    }
}

/// The multiples of some primes, crossed out in as many bytes as their product: then it repeats.
struct Pattern(Vec<u8>);

static PATTERNS: LazyLock<[Pattern; PATTERN_PRIMES.len()]> =
    LazyLock::new(|| PATTERN_PRIMES.map(Pattern::new));

impl Pattern {
    fn new(primes: &[u64]) -> Self {
        let length: u64 = primes.iter().product();
        let mut bytes = vec![u8::MAX; length as usize];
        for prime in primes {
            let multiples = (0..length * NUMBERS).step_by(*prime as usize);
            for multiple in multiples.filter(|multiple| RESIDUES.contains(&((multiple % NUMBERS) as u8))) {
                bytes[(multiple / NUMBERS) as usize] &= !(1 << bit(multiple));
            }
        }
        Self(bytes)
    }

    fn apply(&self, first: u64, bytes: &mut [u8]) {
        let mut phase = (first % self.0.len() as u64) as usize;
        let mut bytes = bytes;
        while !bytes.is_empty() {
            let length = bytes.len().min(self.0.len() - phase);
            let (now, later) = bytes.split_at_mut(length);
            now.iter_mut().zip(&self.0[phase..]).for_each(|(byte, left)| *byte &= left);
            (bytes, phase) = (later, 0);
        }
    }
}

/// The patterns cross out their own primes too, and leave 1, which is not prime.
fn restore_pattern_primes(first: u64, block: &mut [u8]) {
    if first == 0 {
        block[0] &= !1;
    }
    for prime in PATTERN_PRIMES.into_iter().flatten() {
        let place = (prime / NUMBERS).checked_sub(first);
        if let Some(byte) = place.and_then(|place| block.get_mut(place as usize)) {
            *byte |= 1 << bit(*prime);
        }
    }
}
