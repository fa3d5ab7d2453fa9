//! What comes in pieces: none of it may depend on where it is cut.

use std::convert::Infallible;

use axum::body::{Body, Bytes, HttpBody};
use futures_util::{
    FutureExt, StreamExt,
    future::{poll_fn, ready},
    stream,
};
use primacy::{
    decoders::{Framed, Frames, InputLine, Lines, parse_item},
    limits::{FRAME_COST, LINE_BYTES_MAX},
    proto::PrimeRequest,
};
use tonic::{
    Code, Status, Streaming,
    codec::{Codec, CompressionEncoding},
};
use tonic_prost::ProstCodec;

use crate::{bodies, check};

/// A line as it was read; nothing for one that is too long.
type Line = Option<Vec<u8>>;

/// A seed of the cuts, and lines: they are those that another reader finds in the whole, wherever it is cut. A zero byte
/// stands for a third of the longest line.
pub fn lines(bytes: &[u8]) {
    let Some((seed, text)) = bytes.split_first() else { return };
    if text.iter().filter(|byte| **byte == 0).count() > 4 {
        return;
    }
    let text = grown(text);
    let whole = read([&text[..]].into_iter());
    // Not `assert_eq`: what it would print is too long to read.
    let is_long = text.len() > LINE_BYTES_MAX / 3;
    assert!(is_long || read(check::cut(&text, *seed).into_iter()) == whole);
    assert!(read(text.chunks(100 + usize::from(*seed) * 256)) == whole);
    let mut expected = text.split(|byte| *byte == b'\n').collect::<Vec<_>>();
    // What follows the last newline is a line if it is something.
    expected.pop_if(|last| last.is_empty());
    assert_eq!(whole.len(), expected.len());
    for (place, (line, expected)) in whole.iter().zip(expected).enumerate() {
        same(line, expected, place == 0);
    }
}

fn grown(text: &[u8]) -> Vec<u8> {
    let long = [b'1'; LINE_BYTES_MAX / 3];
    text.iter()
        .flat_map(|byte| if *byte == 0 { &long[..] } else { std::slice::from_ref(byte) })
        .copied()
        .collect()
}

fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<Line> {
    let (mut lines, mut read) = (Lines::default(), Vec::new());
    for piece in pieces.map(Some).chain([None]) {
        match piece {
            Some(piece) => lines.feed(piece.to_vec()),
            None => lines.end(),
        }
        while let Some(line) = lines.next_line() {
            read.push(match line {
                // The same line is one or the other, by where it was cut.
                InputLine::Word(word) => Some(word.to_string().into_bytes()),
                InputLine::Text(text) => Some(text.to_vec()),
                InputLine::Overlong => None,
            });
        }
        assert!(!lines.has_more());
    }
    read
}

fn same(line: &Line, expected: &[u8], is_first: bool) {
    let without_mark = expected.strip_prefix(b"\xef\xbb\xbf").filter(|_| is_first).unwrap_or(expected);
    let Some(text) = line else { return assert!(expected.len() > LINE_BYTES_MAX) };
    assert!(text == without_mark && expected.len() <= LINE_BYTES_MAX);
    match parse_item(text) {
        Ok(number) => bodies::same(&number, str::from_utf8(text).expect("it was read")),
        Err(error) => check::refusal(error),
    }
}

/// The most bytes of a message here.
const BYTES_MAX: usize = 64;

/// A seed of the cuts, and what begins like the body of a gRPC call: the messages before the first bad one are passed on,
/// and how it ends is what another reader says of the whole. tonic reads the same, compressed messages included.
pub fn framing(bytes: &[u8]) {
    let Some((seed, body)) = bytes.split_first() else { return };
    let may_be_many = seed % 2 == 0;
    let (passed, ended) = framed(check::cut(body, seed / 2), may_be_many);
    let (end, expected) = expected(body, may_be_many);
    assert_eq!(ended, expected, "{may_be_many} {body:?}");
    assert!(passed.len() >= end && body.starts_with(&passed), "{} of {end} bytes", passed.len());
    assert!(expected.is_some() || passed.len() == body.len());
    let read = messages(check::cut(body, seed / 2), may_be_many);
    assert!(read.len() <= body.len());
}

fn framed(pieces: Vec<&[u8]>, may_be_many: bool) -> (Vec<u8>, Option<Code>) {
    let mut framed = Framed::new(body(pieces), may_be_many, BYTES_MAX, None);
    let mut passed = Vec::new();
    let mut next = || poll_fn(|context| std::pin::Pin::new(&mut framed).poll_frame(context)).now_or_never();
    while let Some(frame) = next().expect("all pieces are there") {
        match frame {
            Ok(frame) => passed.extend(frame.into_data().expect("there are no trailers")),
            Err(error) => {
                let status = error.downcast::<Status>().expect("it is a status");
                check::reason(status.message());
                return (passed, Some(status.code()));
            }
        }
    }
    (passed, None)
}

fn body(pieces: Vec<&[u8]>) -> Body {
    let pieces: Vec<Result<Bytes, Infallible>> =
        pieces.into_iter().map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    Body::from_stream(stream::iter(pieces))
}

/// Where the last good message ends, and why there is no further one if that is a fault.
fn expected(body: &[u8], may_be_many: bool) -> (usize, Option<Code>) {
    let (mut end, mut count) = (0, 0);
    while end < body.len() {
        let Some(head) = body[end..].first_chunk::<5>() else { return (end, Some(Code::Internal)) };
        let [_, length @ ..] = *head;
        let length = u32::from_be_bytes(length) as usize;
        if count == 1 && !may_be_many {
            return (end, Some(Code::Unimplemented));
        }
        if length > BYTES_MAX {
            return (end, Some(Code::ResourceExhausted));
        }
        if body.len() < end + 5 + length {
            return (end, Some(Code::Internal));
        }
        (end, count) = (end + 5 + length, count + 1);
    }
    (end, (count == 0 && !may_be_many).then_some(Code::Unimplemented))
}

/// What tonic makes of it.
fn messages(pieces: Vec<&[u8]>, may_be_many: bool) -> Vec<PrimeRequest> {
    let framed = Framed::new(body(pieces), may_be_many, BYTES_MAX, None);
    let decoder = ProstCodec::<(), PrimeRequest>::default().decoder();
    let gzip = Some(CompressionEncoding::Gzip);
    let messages = Streaming::new_request(decoder, framed, gzip, Some(BYTES_MAX));
    // What follows an error is read from the middle of a message; some errors come again for ever.
    let good = messages.take_while(|message| ready(message.is_ok()));
    let read: Vec<_> = good.collect().now_or_never().expect("all pieces are there");
    read.into_iter().flatten().inspect(|message| assert!(message.decimal.len() <= BYTES_MAX)).collect()
}

/// A seed of the cuts, a choice of whether the preface comes first, and frames: what they cost is between their bytes and
/// what as many heads cost, and does not depend on the cuts.
pub fn frames(bytes: &[u8]) {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let [seed, kind, bytes @ ..] = bytes else { return };
    let preface = if kind % 2 == 0 { PREFACE } else { b"" };
    let bytes = [preface, bytes].concat();
    let whole = Frames::default().read(&bytes);
    let mut frames = Frames::default();
    let cost: usize = check::cut(&bytes, *seed).into_iter().map(|piece| frames.read(piece)).sum();
    assert_eq!(cost, whole);
    let heads_max = bytes.len().saturating_sub(PREFACE.len()) / 9;
    assert!((bytes.len()..=bytes.len() + heads_max * FRAME_COST).contains(&whole));
    assert!(bytes.starts_with(PREFACE) || whole == bytes.len());
}
