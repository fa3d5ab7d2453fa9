//! Counts and lists as lines of JSON.

use std::time::Instant;

use axum::body::Bytes;
use futures_util::{Stream, StreamExt, stream};
use serde::Serialize;

use crate::{
    api::{
        error::ApiError,
        ranges::{CountLine, CountProgress, LastCountLine, LastListLine, ListLine, ListedLine, PRIME_LINE},
    },
    gateway::ranges::{ListedSegment, millis_since},
    limits::{BULK_CHUNK_BYTES, PROGRESS_INTERVAL},
    prime::Primes,
};

/// The lines of a count.
pub(super) fn of_count(
    progress: impl Stream<Item = Result<CountProgress, ApiError>> + Send + 'static,
) -> impl Stream<Item = Bytes> + Send + 'static {
    let (began, state) = (Instant::now(), Some((Box::pin(progress), 0)));
    stream::unfold(state, move |state| async move {
        let (mut progress, count) = state?;
        let next = progress.next().await;
        let error = match &next {
            Some(Ok(next)) => {
                let line = line(&CountLine::Progress(next.into()));
                return Some((line, Some((progress, next.count))));
            }
            Some(Err(error)) => Some(error.part()),
            None => None,
        };
        let (done, count, took_ms) = (error.is_none(), count.to_string(), millis_since(began));
        Some((line(&CountLine::Last(LastCountLine { done, count, took_ms, error })), None))
    })
}

fn line(line: &impl Serialize) -> Bytes {
    let mut bytes = Vec::new();
    put(&mut bytes, line);
    bytes.into()
}

fn put(bytes: &mut Vec<u8>, line: &impl Serialize) {
    // A struct of strings and numbers always serialises, and a Vec takes it.
    let _ = serde_json::to_writer(&mut *bytes, line);
    bytes.push(b'\n');
}

/// The lines of a list, of so many primes at most.
pub(super) fn of_list(
    segments: impl Stream<Item = Result<ListedSegment, ApiError>> + Send + 'static,
    limit: usize,
) -> impl Stream<Item = Bytes> + Send + 'static {
    let list = List { segments: Box::pin(segments), open: None, left: limit, count: 0, told: Instant::now() };
    stream::unfold(Some(list), |list| async move {
        let mut list = list?;
        let chunk = list.next_chunk().await;
        Some(match chunk {
            Ok(chunk) => (chunk, Some(list)),
            Err(last) => (last, None),
        })
    })
}

struct List<S> {
    segments: S,
    /// The primes of the segment that is being written, and its end.
    open: Option<(Primes<Vec<u8>>, u64)>,
    left: usize,
    count: u64,
    told: Instant,
}

impl<S: Stream<Item = Result<ListedSegment, ApiError>> + Unpin> List<S> {
    /// The next lines; as an error, the last ones.
    async fn next_chunk(&mut self) -> Result<Bytes, Bytes> {
        if self.open.is_none() && self.left > 0 {
            match self.segments.next().await {
                Some(Ok(segment)) => self.open = Some((segment.primes.into_iter(), segment.range.to)),
                Some(Err(error)) => return Err(self.last(Some(&error))),
                None => return Err(self.last(None)),
            }
        }
        if self.left == 0 {
            return Err(self.last(None));
        }
        Ok(self.write().into())
    }

    fn write(&mut self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(BULK_CHUNK_BYTES + 256);
        let Some((primes, to)) = &mut self.open else { return bytes };
        let [head, tail] = PRIME_LINE;
        let mut digits = itoa::Buffer::new();
        while self.left > 0 && bytes.len() < BULK_CHUNK_BYTES {
            let Some(prime) = primes.next() else {
                if self.told.elapsed() >= PROGRESS_INTERVAL {
                    put(&mut bytes, &ListLine::Progress(ListedLine { listed_to: to.to_string() }));
                    self.told = Instant::now();
                }
                self.open = None;
                break;
            };
            bytes.extend_from_slice(head);
            bytes.extend_from_slice(digits.format(prime).as_bytes());
            bytes.extend_from_slice(tail);
            self.left -= 1;
            self.count += 1;
        }
        bytes
    }

    fn last(&self, error: Option<&ApiError>) -> Bytes {
        let (done, count, error) = (error.is_none(), self.count.to_string(), error.map(ApiError::part));
        line(&ListLine::Last(LastListLine { done, count, error }))
    }
}
