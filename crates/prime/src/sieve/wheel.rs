//! Numbers as bytes and bits: byte b stands for 30·b to 30·b + 29, its bits for those that 2, 3 and 5 do not divide.

/// How many numbers a byte stands for.
pub(super) const NUMBERS: u64 = 30;

/// What bit stands for which number of a byte.
pub(super) const RESIDUES: [u8; 8] = [1, 7, 11, 13, 17, 19, 23, 29];

/// From one residue to the next, and from the last to the first of the next byte.
pub(super) const GAPS: [u8; 8] = [6, 4, 2, 4, 2, 4, 6, 2];

/// For each remainder modulo 30: the place in [`RESIDUES`] of the first that is not less. (29 is one.)
pub(super) const PLACES: [u8; 30] = {
    let mut places = [0; 30];
    let mut remainder = 0;
    while remainder < 30 {
        let mut place = 0;
        while RESIDUES[place] < remainder {
            place += 1;
        }
        places[remainder as usize] = place as u8;
        remainder += 1;
    }
    places
};

/// The place in [`RESIDUES`] of the first residue that is not less than `remainder`, which is below 30.
#[inline(always)]
pub(super) fn place_from(remainder: u64) -> usize {
    usize::from(PLACES[remainder as usize])
}

/// The bit of a number that 2, 3 and 5 do not divide.
#[inline(always)]
pub(super) fn bit(number: u64) -> usize {
    place_from(number % NUMBERS)
}

/// The bits of a byte from a remainder on.
pub(super) fn mask_from(remainder: u64) -> u8 {
    u8::MAX << place_from(remainder)
}

/// The bits of a byte up to a remainder.
pub(super) fn mask_to(remainder: u64) -> u8 {
    match remainder {
        29 => u8::MAX,
        _ => !mask_from(remainder + 1),
    }
}

/// Calls `visit` with the number of each bit that is set; `first` is the number of the first byte.
#[inline(always)]
pub(super) fn each_number(first: u64, bytes: &[u8], visit: &mut impl FnMut(u64)) {
    let mut base = first * NUMBERS;
    for chunk in bytes.chunks(8) {
        let mut padded = [0; 8];
        padded[..chunk.len()].copy_from_slice(chunk);
        let mut bits = u64::from_le_bytes(padded);
        while bits != 0 {
            let place = bits.trailing_zeros() as usize;
            visit(base + OFFSETS[place]);
            bits &= bits - 1;
        }
        // Past the last byte of all there is nothing to count.
        base = base.wrapping_add(8 * NUMBERS);
    }
}

/// The number of each bit of eight bytes.
pub(super) const OFFSETS: [u64; 64] = {
    let mut offsets = [0; 64];
    let mut place = 0;
    while place < 64 {
        offsets[place] = place as u64 / 8 * NUMBERS + RESIDUES[place % 8] as u64;
        place += 1;
    }
    offsets
};
