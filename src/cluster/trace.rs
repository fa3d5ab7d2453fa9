//! The ids by which a request is found again in the logs of all nodes that it met.

use std::{borrow::Cow, fmt::Write as _};

use crate::proto;

/// The `X-Request-Id` and the W3C `traceparent` of a request. What the client did not name is made when it is looked at:
/// mostly nobody does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trace {
    request_id: Option<Box<str>>,
    traceparent: Option<Box<str>>,
    made_of: u128,
}

impl Trace {
    /// The ids that the client named; the others are made of `made_of`, which is to be drawn at random.
    pub fn new(request_id: Option<&str>, traceparent: Option<&str>, made_of: u128) -> Self {
        Self { request_id: request_id.map(Into::into), traceparent: traceparent.map(Into::into), made_of }
    }

    /// Whether the client named at least one of them. Only then they travel on a lane: made ones would outweigh the asks.
    pub fn is_named(&self) -> bool {
        self.request_id.is_some() || self.traceparent.is_some()
    }

    /// The `X-Request-Id`.
    pub fn request_id(&self) -> Cow<'_, str> {
        match &self.request_id {
            Some(named) => Cow::Borrowed(named),
            None => Cow::Owned(format!("{:032x}", self.made_of)),
        }
    }

    /// The `traceparent`, version 00.
    pub fn traceparent(&self) -> Cow<'_, str> {
        match &self.traceparent {
            Some(named) => Cow::Borrowed(named),
            None => Cow::Owned(make_traceparent(self.made_of)),
        }
    }

    pub(super) fn on_lane(&self, ask: u64) -> proto::LaneTrace {
        let (request_id, traceparent) = (self.request_id().into_owned(), self.traceparent().into_owned());
        proto::LaneTrace { ask, request_id, traceparent }
    }
}

impl From<proto::LaneTrace> for Trace {
    fn from(trace: proto::LaneTrace) -> Self {
        Self::new(Some(&trace.request_id), Some(&trace.traceparent), 0)
    }
}

/// Neither of its ids may be all zeros.
fn make_traceparent(random: u128) -> String {
    let mut parent = String::with_capacity(55);
    let span = (random as u64) | 1;
    // Writing to a String does not fail.
    let _ = write!(parent, "00-{:032x}-{span:016x}-00", random | 1);
    parent
}
