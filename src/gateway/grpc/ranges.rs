//! `CountPrimes` and `ListPrimes`: ranges as messages.

use futures_util::{
    Stream, StreamExt,
    stream::{self, BoxStream},
};
use tonic::Status;

use crate::{api::error::ApiError, gateway::ranges::ListedSegment, limits::MESSAGE_PRIMES_MAX, proto};

pub(super) type CountStream = BoxStream<'static, Result<proto::RangeProgress, Status>>;
pub(super) type ListStream = BoxStream<'static, Result<proto::PrimesPage, Status>>;

/// The pages of a list, of so many primes at most; 0: all.
pub(super) fn pages(
    segments: impl Stream<Item = Result<ListedSegment, ApiError>> + Send + 'static,
    limit: u32,
) -> ListStream {
    let left = if limit == 0 { usize::MAX } else { limit as usize };
    let limited = segments.scan(left, |left, segment| {
        let wanted = *left;
        *left = left.saturating_sub(segment.as_ref().map_or(0, |segment| segment.primes.count() as usize));
        std::future::ready((wanted > 0).then_some((segment, wanted)))
    });
    limited.flat_map(|(segment, wanted)| stream::iter(pages_of(segment, wanted))).boxed()
}

/// The pages of a segment, made one after the other as they are taken.
fn pages_of(
    segment: Result<ListedSegment, ApiError>,
    wanted: usize,
) -> impl Iterator<Item = Result<proto::PrimesPage, Status>> {
    let (segment, error) = match segment {
        Ok(segment) => (Some(segment), None),
        Err(error) => (None, Some(Err(error.into()))),
    };
    let pages = segment.into_iter().flat_map(move |ListedSegment { range, primes, processed_by }| {
        let mut primes = primes.into_iter().take(wanted).peekable();
        let (mut is_over, mut left) = (false, wanted);
        std::iter::from_fn(move || {
            if is_over {
                return None;
            }
            let page: Vec<u64> = primes.by_ref().take(MESSAGE_PRIMES_MAX).collect();
            left -= page.len();
            is_over = primes.peek().is_none();
            // What follows the last prime of a page is in the next one, or beyond the limit.
            let listed_to =
                if is_over && left > 0 { range.to } else { page.last().copied().unwrap_or(range.to) };
            Some(Ok(proto::PrimesPage { primes: page, listed_to, processed_by: processed_by.to_string() }))
        })
    });
    pages.chain(error)
}
