//! Segments of ranges: asked of other nodes, or done here.

use std::{sync::Arc, time::Instant};

use tonic::{Code, Request};

use super::{
    Recipient, Scheduler,
    job::Job,
    turns::{Place, RangeTurn},
};
use crate::{
    api::{
        error::CheckError,
        ranges::{Segment, SegmentOutcome, segment_to_wire},
    },
    cluster::{
        lane::{AskError, Failure, Lane},
        trace::Trace,
    },
    limits::PEER_MESSAGE_BYTES_MAX,
    prime::range_cost_us,
    proto::peer_client::PeerClient,
};

/// A segment, for somebody who waits.
#[derive(Debug, Clone)]
pub struct SegmentJob {
    /// What is to be done.
    pub segment: Segment,
    /// Of which range it is a part.
    pub range_id: u64,
    /// When nobody waits for it any more.
    pub deadline: Instant,
    /// By which its request is found again.
    pub trace: Arc<Trace>,
    /// A peer forwarded it: it is not forwarded again.
    pub forwarded: bool,
}

impl Job for SegmentJob {
    type Outcome = SegmentOutcome;

    fn count(&self) -> u64 {
        1
    }

    fn is_forwarded(&self) -> bool {
        self.forwarded
    }

    fn long_cost_us(&self) -> Option<u64> {
        let range = self.segment.range;
        Some(range_cost_us(&(range.from..=range.to)))
    }

    fn load(&self, lane: &Lane) -> Option<u64> {
        lane.has_room_for_segment().then(|| lane.long_load_us())
    }

    fn may_be_sent_to_leader(&self, leader: &Lane) -> bool {
        leader.has_room_for_segment()
    }

    fn range_id(&self) -> Option<u64> {
        Some(self.range_id)
    }

    async fn ask(
        &self,
        scheduler: &Scheduler,
        lane: &Lane,
        recipient: Recipient,
    ) -> Result<SegmentOutcome, AskError> {
        let mut request = Request::new(segment_to_wire(self.segment, self.range_id));
        let trace = self.trace.is_named().then_some(&*self.trace);
        scheduler.equip(&mut request, self.deadline, trace, recipient);
        let mut client = PeerClient::new(lane.connection()).max_decoding_message_size(PEER_MESSAGE_BYTES_MAX);
        let call = Box::pin(async {
            match recipient {
                Recipient::Leader => client.schedule_segment(request).await,
                Recipient::Worker => client.work_segment(request).await,
            }
        });
        let response = lane.call_segment(call).await?.into_inner();
        SegmentOutcome::from_wire(response, self.segment).map_err(|wrong| {
            AskError::Failed(Failure { code: Code::Unavailable, message: wrong.to_string() })
        })
    }

    async fn work(&self, scheduler: &Scheduler) -> Result<SegmentOutcome, CheckError> {
        let found = scheduler.worker.sieve(self.segment).await?;
        Ok(SegmentOutcome { found, processed_by: Arc::clone(scheduler.worker.name()) })
    }
}

impl Scheduler {
    /// Returns when a segment of this range may take a place: it is its turn, and a lane that it was not tried on has room, or
    /// takes none at all.
    pub(super) async fn turn(&self, range_id: u64, job: &impl Job, tried: &[Lane]) -> RangeTurn {
        let turn = self.turns.next(range_id).await;
        let mut views = self.cluster.subscribe();
        while !self.has_room_for_segment(job, tried) {
            tokio::select! {
                () = self.turns.room(&turn) => {}
                changed = views.changed() => if changed.is_err() {
                    return turn;
                }
            }
        }
        turn
    }

    fn has_room_for_segment(&self, job: &impl Job, tried: &[Lane]) -> bool {
        let lanes = &self.cluster.snapshot().lanes;
        let takes = |lane: &&Lane| lane.takes_segments() && !tried.iter().any(|before| before.is(lane));
        if let Some(leader) = lanes.leader.as_ref().filter(|lane| !job.is_forwarded() && takes(lane)) {
            return leader.has_room_for_segment();
        }
        let mut takers = lanes.workers.iter().filter(takes).peekable();
        takers.peek().is_none() || takers.any(Lane::has_room_for_segment)
    }

    /// The place of a segment at this lane.
    pub(super) fn place(&self, job: &impl Job, lane: &Lane) -> Option<Place> {
        job.range_id().map(|_| self.turns.place(lane.segment_place()))
    }
}
