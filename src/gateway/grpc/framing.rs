//! The messages of a request, counted and measured before tonic reads them. tonic takes any number of messages where
//! one is asked for, and its codes for other faults are not those of gRPC's own table.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::body::{Body, Bytes};
use hyper::body::Frame;
use tonic::Status;
use tower::BoxError;

use crate::{api::error::ApiError, gateway::admission::memory::Held};

/// A flag and a length come before each message.
const HEAD_BYTES: usize = 5;

/// The body of a request, which ends with a status where its messages are not what the method takes.
pub struct Framed {
    body: Body,
    messages: Messages,
    refusal: Option<Status>,
    /// What is held of the message that comes, unless whoever sends it is trusted.
    held: Option<Held>,
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
    pub fn new(body: Body, may_be_many: bool, bytes_max: usize, held: Option<Held>) -> Self {
        let (head, head_read) = ([0; HEAD_BYTES], 0);
        let messages = Messages { may_be_many, bytes_max, count: 0, head, head_read, missing: 0 };
        Self { body, messages, refusal: None, held }
    }
}

impl hyper::body::Body for Framed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(status) = self.refusal.take() {
            return Poll::Ready(Some(Err(status.into())));
        }
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
            Some(Ok(frame)) => frame.into_data(),
            Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
            None => return Poll::Ready(self.messages.end().err().map(|status| Err(status.into()))),
        };
        Poll::Ready(Some(match frame {
            Ok(data) => Ok(Frame::data(self.good_part(data))),
            Err(trailers) => self.messages.end().map(|()| trailers).map_err(BoxError::from),
        }))
    }
}

impl Framed {
    /// What comes before a message that is refused; the refusal follows it.
    fn good_part(&mut self, mut data: Bytes) -> Bytes {
        if let Err((good_bytes, status)) = self.messages.read(&data, self.held.as_mut()) {
            data.truncate(good_bytes);
            self.refusal = Some(status);
        }
        data
    }
}

impl Messages {
    /// With an error comes how many bytes are before the head that is refused.
    fn read(&mut self, whole: &[u8], mut held: Option<&mut Held>) -> Result<(), (usize, Status)> {
        let mut data = whole;
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
                let read = whole.len() - data.len();
                let begun = self.begin(held.as_deref_mut());
                begun.map_err(|status| (read.saturating_sub(HEAD_BYTES), status))?;
            }
        }
    }

    /// A head is whole. Its flag is tonic's to judge.
    fn begin(&mut self, held: Option<&mut Held>) -> Result<(), Status> {
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
        // Room is made for all of it when its head is read. A stream has one message after the other.
        held.map_or(Ok(()), |held| held.grow(self.missing)).map_err(|full| ApiError::from(full).into())
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
    use std::future::poll_fn;

    use futures_util::stream;
    use hyper::body::Body as _;
    use tonic::Code;

    use super::*;

    const BYTES_MAX: usize = 10;

    /// How a body ends that comes in pieces of so many bytes, and how many bytes of it are passed on.
    async fn ends(may_be_many: bool, body: &[u8], piece: usize) -> (usize, Result<(), Code>) {
        let pieces: Vec<Result<Bytes, Status>> =
            body.chunks(piece).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        let mut framed = Framed::new(Body::from_stream(stream::iter(pieces)), may_be_many, BYTES_MAX, None);
        let mut passed = 0;
        loop {
            match poll_fn(|context| Pin::new(&mut framed).poll_frame(context)).await {
                Some(Ok(frame)) => passed += frame.into_data().unwrap().len(),
                Some(Err(error)) => return (passed, Err(error.downcast::<Status>().unwrap().code())),
                None => return (passed, Ok(())),
            }
        }
    }

    fn message(length: u8) -> Vec<u8> {
        let body = vec![7; length.into()];
        [&[0, 0, 0, 0, length], &body[..]].concat()
    }

    #[tokio::test]
    async fn messages_are_counted_and_measured_wherever_they_are_cut() {
        let two = [message(10), message(0)].concat();
        let (unimplemented, exhausted) = (Err(Code::Unimplemented), Err(Code::ResourceExhausted));
        let internal = Err(Code::Internal);
        let cases = [
            (message(10), Ok(()), Ok(())),
            (message(0), Ok(()), Ok(())),
            (two.clone(), unimplemented, Ok(())),
            (vec![], unimplemented, Ok(())),
            (message(11), exhausted, exhausted),
            (vec![0, 0xff, 0xff, 0xff, 0xff], exhausted, exhausted),
            (message(10)[..9].to_vec(), internal, internal),
            (message(10)[..5].to_vec(), internal, internal),
            (message(10)[..3].to_vec(), internal, internal),
            ([&two[..], &two[..17]].concat(), unimplemented, internal),
            ([&two[..], &message(11)].concat(), unimplemented, exhausted),
        ];
        for (body, one, many) in cases {
            for piece in 1..=body.len().max(1) {
                let (passed, ended) = ends(false, &body, piece).await;
                assert_eq!(ended, one, "{body:?} by {piece}");
                assert!(one != unimplemented || body.is_empty() || (15..20).contains(&passed), "{passed}");
                let (passed, ended) = ends(true, &body, piece).await;
                assert_eq!(ended, many, "{body:?} by {piece}, many");
                assert!(many.is_err() || passed == body.len(), "{passed} of {body:?} by {piece}");
                assert!(many != exhausted || passed < 25, "{passed} of {body:?} by {piece}");
            }
        }
    }
}
