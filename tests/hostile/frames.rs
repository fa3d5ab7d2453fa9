//! HTTP/2 by hand (RFC 9113): a library would refuse to send most of what a hostile client does.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

/// What a client says first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;
/// A kind that no specification knows.
pub const UNKNOWN: u8 = 0xbe;

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// The parameters of SETTINGS.
pub const HEADER_TABLE_SIZE: u16 = 1;
pub const INITIAL_WINDOW_SIZE: u16 = 4;

/// The window that every stream and connection begins with.
pub const WINDOW: usize = 65_535;
/// The largest frame that every server takes.
pub const FRAME_MAX: usize = 16_384;
/// As much as a window can be.
const WINDOW_MAX: u32 = 0x7fff_ffff;

/// A frame with any kind, flags and payload.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

pub fn data(stream: u32, payload: &[u8]) -> Vec<u8> {
    frame(DATA, 0, stream, payload)
}

pub fn settings(parameters: &[(u16, u32)]) -> Vec<u8> {
    let pair = |(name, value): &(u16, u32)| [&name.to_be_bytes()[..], &value.to_be_bytes()[..]].concat();
    frame(SETTINGS, 0, 0, &parameters.iter().flat_map(pair).collect::<Vec<u8>>())
}

pub fn window_update(stream: u32, more: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &more.to_be_bytes())
}

pub fn reset(stream: u32) -> Vec<u8> {
    const CANCEL: u32 = 8;
    frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes())
}

/// What opens a connection, with windows that never fill.
pub fn opening() -> Vec<u8> {
    let windows = [settings(&[(INITIAL_WINDOW_SIZE, WINDOW_MAX)]), window_update(0, WINDOW_MAX - 65_535)];
    [PREFACE, &windows.concat()].concat()
}

/// The same with a window of nothing: no answer's body can be sent.
pub fn opening_unread() -> Vec<u8> {
    [PREFACE, &settings(&[(INITIAL_WINDOW_SIZE, 0)])].concat()
}

pub fn head(stream: u32, flags: u8, fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | flags, stream, &block(fields))
}

/// A header list in HPACK (RFC 7541), every field as a literal with its name.
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| [vec![0], string(name), string(value)].concat()).collect()
}

/// The same fields, each to be kept in the server's table.
pub fn block_indexed(fields: &[(&str, &str)]) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| [vec![0x40], string(name), string(value)].concat()).collect()
}

/// Tells the server's decoder how large its table is to be.
pub fn table_size(size: usize) -> Vec<u8> {
    integer(0x20, 5, size)
}

fn string(text: &str) -> Vec<u8> {
    [integer(0, 7, text.len()), text.as_bytes().to_vec()].concat()
}

/// An integer with a prefix of so many bits.
fn integer(first: u8, bits: u8, value: usize) -> Vec<u8> {
    let most = (1 << bits) - 1;
    if value < most {
        return vec![first | u8::try_from(value).unwrap()];
    }
    let (mut bytes, mut rest) = (vec![first | u8::try_from(most).unwrap()], value - most);
    while rest >= 128 {
        bytes.push(u8::try_from(rest % 128).unwrap() | 128);
        rest /= 128;
    }
    bytes.push(u8::try_from(rest).unwrap());
    bytes
}

/// The head of a request, and more fields.
pub fn request(stream: u32, flags: u8, method: &str, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    head(stream, flags, &request_fields(method, path, more))
}

pub fn request_fields<'a>(
    method: &'a str,
    path: &'a str,
    more: &[(&'a str, &'a str)],
) -> Vec<(&'a str, &'a str)> {
    let first = [(":method", method), (":scheme", "http"), (":path", path), (":authority", "node")];
    first.into_iter().chain(more.iter().copied()).collect()
}

/// The head of a gRPC call, and more fields.
pub fn call(stream: u32, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let fields = [&[("content-type", "application/grpc"), ("te", "trailers")], more].concat();
    request(stream, 0, "POST", path, &fields)
}

/// A message as gRPC frames it, or the beginning of one that is announced to be longer.
pub fn message(length: usize, bytes: &[u8]) -> Vec<u8> {
    message_flagged(0, length, bytes)
}

/// The same, said to be compressed.
pub fn message_compressed(bytes: &[u8]) -> Vec<u8> {
    message_flagged(1, bytes.len(), bytes)
}

fn message_flagged(flag: u8, length: usize, bytes: &[u8]) -> Vec<u8> {
    [&[flag], &u32::try_from(length).unwrap().to_be_bytes()[..], bytes].concat()
}

/// A frame that was received.
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// Whether it ends its stream, in either way.
    pub fn ends(&self) -> bool {
        let last = matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0;
        last || self.kind == RST_STREAM
    }

    /// The number that the payload begins with.
    pub fn number(&self) -> u32 {
        self.payload.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
    }

    /// What the other side is owed for it, if anything.
    pub fn acknowledgement(&self) -> Option<Vec<u8>> {
        match self.kind {
            SETTINGS if self.flags & ACK == 0 => Some(frame(SETTINGS, ACK, 0, &[])),
            PING if self.flags & ACK == 0 => Some(frame(PING, ACK, 0, &self.payload)),
            _ => None,
        }
    }

    /// The window that a stream begins with, if the frame says so.
    pub fn initial_window(&self) -> Option<usize> {
        let pairs = self.payload.chunks_exact(6).filter(|_| self.kind == SETTINGS);
        let mut named = pairs.filter(|pair| pair[..2] == INITIAL_WINDOW_SIZE.to_be_bytes());
        let value = named.next()?[2..].first_chunk()?;
        usize::try_from(u32::from_be_bytes(*value)).ok()
    }
}

/// The next frame; an error at the end of the connection.
pub async fn read(reader: &mut (impl AsyncRead + Unpin)) -> io::Result<Frame> {
    let mut head = [0; 9];
    reader.read_exact(&mut head).await?;
    let [high, middle, low, kind, flags, stream @ ..] = head;
    let mut payload = vec![0; u32::from_be_bytes([0, high, middle, low]) as usize];
    reader.read_exact(&mut payload).await?;
    Ok(Frame { kind, flags, stream: u32::from_be_bytes(stream), payload })
}
