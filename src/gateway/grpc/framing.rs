//! The messages of a request, counted and measured before tonic reads them. It takes any number of messages where one is
//! asked for, and its codes for other faults are not those of gRPC's own table.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::body::{Body, Bytes};
use hyper::body::Frame;
use tonic::Status;
use tower::BoxError;

/// A flag and a length come before each message.
const HEAD_BYTES: usize = 5;

/// The body of a request, which ends with a status where its messages are not what the method takes.
pub struct Framed {
    body: Body,
    messages: Messages,
}

/// How far the messages have been read.
struct Messages {
    /// Whether the method takes a stream of them.
    may_be_many: bool,
    bytes_max: usize,
    count: u64,
    head: [u8; HEAD_BYTES],
    head_read: usize,
    /// Bytes of the message that are still to come.
    missing: usize,
}

impl Framed {
    /// A body whose method takes one message or many, each of so many bytes at most.
    pub fn new(body: Body, may_be_many: bool, bytes_max: usize) -> Self {
        let (head, head_read) = ([0; HEAD_BYTES], 0);
        Self { body, messages: Messages { may_be_many, bytes_max, count: 0, head, head_read, missing: 0 } }
    }
}

impl hyper::body::Body for Framed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
            Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
            Some(Ok(frame)) => Some(frame),
            None => None,
        };
        let read = match frame.as_ref().and_then(Frame::data_ref) {
            Some(data) => self.messages.read(data),
            None => self.messages.end(),
        };
        Poll::Ready(match read {
            Ok(()) => frame.map(Ok),
            Err(status) => Some(Err(status.into())),
        })
    }
}

impl Messages {
    fn read(&mut self, mut data: &[u8]) -> Result<(), Status> {
        loop {
            let passed = self.missing.min(data.len());
            self.missing -= passed;
            data = &data[passed..];
            if data.is_empty() {
                return Ok(());
            }
            let taken = (HEAD_BYTES - self.head_read).min(data.len());
            self.head[self.head_read..][..taken].copy_from_slice(&data[..taken]);
            self.head_read += taken;
            data = &data[taken..];
            if self.head_read == HEAD_BYTES {
                self.head_read = 0;
                self.begin()?;
            }
        }
    }

    /// A head is whole. Its flag is tonic's to judge.
    fn begin(&mut self) -> Result<(), Status> {
        let [_flag, length @ ..] = self.head;
        self.missing = u32::from_be_bytes(length) as usize;
        self.count += 1;
        if self.count > 1 && !self.may_be_many {
            return Err(Status::unimplemented("this method takes one message, and another one came"));
        }
        if self.missing > self.bytes_max {
            let (length, max) = (self.missing, self.bytes_max);
            let detail = format!("a message of {length} bytes is too large; at most {max} are allowed");
            return Err(Status::resource_exhausted(detail));
        }
        Ok(())
    }

    fn end(&self) -> Result<(), Status> {
        if self.head_read > 0 {
            let detail = format!(
                "the call ended within the {HEAD_BYTES} bytes before a message; a flag and a length of 4 bytes are expected"
            );
            return Err(Status::internal(detail));
        }
        if self.missing > 0 {
            let detail = format!(
                "the call ended within a message, of whose announced length {} bytes did not come",
                self.missing
            );
            return Err(Status::internal(detail));
        }
        if self.count == 0 && !self.may_be_many {
            return Err(Status::unimplemented("this method takes one message, and none came"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;

    const BYTES_MAX: usize = 10;

    /// How a body ends that comes in pieces of so many bytes.
    fn ends(may_be_many: bool, body: &[u8], piece: usize) -> Result<(), Code> {
        let mut messages = Framed::new(Body::empty(), may_be_many, BYTES_MAX).messages;
        let read = body.chunks(piece).try_for_each(|piece| messages.read(piece));
        read.and_then(|()| messages.end()).map_err(|status| status.code())
    }

    fn message(length: u8) -> Vec<u8> {
        let body = vec![7; length.into()];
        [&[0, 0, 0, 0, length], &body[..]].concat()
    }

    #[test]
    fn messages_are_counted_and_measured_wherever_they_are_cut() {
        let two = [message(10), message(0)].concat();
        let cases = [
            (message(10), Ok(()), Ok(())),
            (message(0), Ok(()), Ok(())),
            (two.clone(), Err(Code::Unimplemented), Ok(())),
            (vec![], Err(Code::Unimplemented), Ok(())),
            (message(11), Err(Code::ResourceExhausted), Err(Code::ResourceExhausted)),
            (vec![0, 0xff, 0xff, 0xff, 0xff], Err(Code::ResourceExhausted), Err(Code::ResourceExhausted)),
            (message(10)[..9].to_vec(), Err(Code::Internal), Err(Code::Internal)),
            (message(10)[..5].to_vec(), Err(Code::Internal), Err(Code::Internal)),
            (message(10)[..3].to_vec(), Err(Code::Internal), Err(Code::Internal)),
            ([&two[..], &two[..17]].concat(), Err(Code::Unimplemented), Err(Code::Internal)),
        ];
        for (body, one, many) in cases {
            for piece in 1..=body.len().max(1) {
                assert_eq!(ends(false, &body, piece), one, "{body:?} by {piece}");
                assert_eq!(ends(true, &body, piece), many, "{body:?} by {piece}, many");
            }
        }
    }
}
