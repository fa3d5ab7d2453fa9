//! What holds for many decoders.

use primacy::{
    decoders::ApiError,
    is_harmless,
    limits::{LINE_CHARS_MAX, TEXT_CHARS_MAX},
};
use tonic::{Code, Status};

/// A text that is shown: one line without control characters, of a bounded length.
pub fn shown(text: &str, chars_max: usize) {
    assert!(text.chars().all(is_harmless), "{text:?} has characters that are not shown");
    let count = text.chars().count();
    assert!(count <= chars_max, "{count} characters of at most {chars_max}");
}

/// A name, an address or a reason that came from others.
pub fn plain(text: &str) {
    shown(text, TEXT_CHARS_MAX);
}

/// What somebody who sent something wrong is told: one line that says something, with the code of a client's fault.
pub fn refusal(error: ApiError) {
    assert!(error.status().is_client_error(), "{error:?}");
    let status = Status::from(error);
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(!status.message().is_empty());
    shown(status.message(), LINE_CHARS_MAX);
}

/// A text of an error that no request carries.
pub fn reason(text: &str) {
    assert!(!text.is_empty());
    shown(text, LINE_CHARS_MAX);
}

/// The bytes in pieces of various sizes, none of them empty; which sizes follows from `seed`.
pub fn cut(bytes: &[u8], seed: u8) -> Vec<&[u8]> {
    let (mut pieces, mut rest, mut state) = (Vec::new(), bytes, u32::from(seed));
    while !rest.is_empty() {
        state = state.wrapping_mul(1_103_515_245).wrapping_add(12_345);
        let size = 1 + (state >> 16) as usize % (1 + usize::from(seed));
        let (piece, after) = rest.split_at(size.min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces
}
