//! `CheckPrimes`: a bulk as messages.

use std::{mem, sync::Arc, vec};

use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use tonic::{Status, Streaming};

use crate::{
    api::{
        error::ApiError,
        prime::{Outcome, checked, number_from_wire},
    },
    gateway::{
        Gateway,
        bulk::{
            self, Form,
            window::{Answered, Terms, Window},
        },
    },
    limits::{BATCH_MAX, LANE_BATCH_MAX},
    proto,
};

pub(super) type Checked = BoxStream<'static, Result<proto::CheckedPrime, Status>>;

/// Answers the numbers of a call.
pub(super) fn answer(
    gateway: &Arc<Gateway>,
    place: bulk::BulkPlace,
    terms: Terms,
    requests: Streaming<proto::PrimeRequest>,
    is_compressed: bool,
) -> Checked {
    // A few compressed bytes may hold a large message: of those the memory and the time of one are bounded.
    let together = if is_compressed { 1 } else { LANE_BATCH_MAX };
    let pieces = requests.ready_chunks(together).flat_map(|piece| stream::iter(good_before_bad(piece)));
    let chunks = bulk::answer(gateway, place, terms, MessageForm::default(), pieces);
    chunks.flat_map(|chunk| stream::iter(chunk.unwrap_or_else(|error| vec![Err(error.into())]))).boxed()
}

/// The requests that came before the call broke, and why it did.
fn good_before_bad(
    piece: Vec<Result<proto::PrimeRequest, Status>>,
) -> impl Iterator<Item = Result<Vec<proto::PrimeRequest>, ApiError>> {
    let (mut good, mut broken) = (Vec::with_capacity(piece.len()), None);
    for request in piece {
        match request {
            Ok(request) => good.push(request),
            Err(status) => {
                broken = Some(Err(ApiError::new(status.code(), status.message())));
                // What follows is read from the middle of a message.
                break;
            }
        }
    }
    [Ok(good)].into_iter().chain(broken)
}

/// Messages in and messages out.
#[derive(Debug, Default)]
struct MessageForm {
    piece: vec::IntoIter<proto::PrimeRequest>,
    answers: Vec<Result<proto::CheckedPrime, Status>>,
}

impl Form for MessageForm {
    type Piece = Vec<proto::PrimeRequest>;
    type Chunk = Vec<Result<proto::CheckedPrime, Status>>;
    const READS_ON: bool = true;

    fn feed(&mut self, piece: Vec<proto::PrimeRequest>) {
        self.piece = piece.into_iter();
    }

    fn end_input(&mut self) {}

    fn take(&mut self, window: &mut Window) {
        while window.has_room()
            && let Some(request) = self.piece.next()
        {
            match number_from_wire(&request) {
                Ok(number) => window.push(number),
                Err(error) => window.push_bad(error),
            }
        }
    }

    fn has_more(&self) -> bool {
        self.piece.len() > 0
    }

    fn write(&mut self, answered: Answered) {
        match answered {
            Answered::Batch(_, _, Ok(outcome)) => {
                let by = outcome.processed_by;
                let answer = |is_prime| Ok(checked(Ok(Outcome::of_word(is_prime, Arc::clone(&by)))));
                self.answers.extend(outcome.are_prime.into_iter().map(answer));
            }
            Answered::Batch(_, batch, Err(error)) => {
                let failed = |_| Ok(checked(Err(error.clone().into())));
                self.answers.extend(batch.values.iter().map(failed));
            }
            Answered::One(_, _, outcome) => {
                self.answers.push(Ok(checked(outcome.map_err(ApiError::from))));
            }
            Answered::Bad(_, error) => self.answers.push(Ok(checked(Err(error)))),
        }
    }

    fn close(&mut self, ended: Result<(), ApiError>) {
        self.answers.extend(ended.err().map(|error| Err(error.into())));
    }

    fn is_empty(&self) -> bool {
        self.answers.is_empty()
    }

    fn is_full(&self) -> bool {
        self.answers.len() >= BATCH_MAX
    }

    fn chunk(&mut self) -> Self::Chunk {
        mem::take(&mut self.answers)
    }
}
