//! What is asked of the cluster: one check, or a batch of short ones; segments of ranges are in [`segment`](super::segment).
//! All are dispatched by the same rules.

use std::{sync::Arc, time::Instant};

use tonic::{Code, Request};

use super::{Check, Recipient, Scheduler};
use crate::{
    api::{error::CheckError, prime::Outcome, primes::BatchOutcome},
    cluster::{
        lane::{AskError, Failure, Lane},
        trace::Trace,
    },
    proto::{self, peer_client::PeerClient},
};

/// Short checks of one client that travel together.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The words to decide, at most [`BATCH_MAX`](crate::limits::BATCH_MAX).
    pub values: Vec<u64>,
    /// When nobody waits for them any more.
    pub deadline: Instant,
    /// By which their request is found again.
    pub trace: Arc<Trace>,
    /// A peer forwarded it: it is not forwarded again.
    pub forwarded: bool,
}

/// What can be asked of another node, or done here.
pub(super) trait Job: Sync {
    /// The answer to it.
    type Outcome: Send;

    /// How many numbers it has.
    fn count(&self) -> u64;
    /// Whether a peer forwarded it.
    fn is_forwarded(&self) -> bool;
    /// Its estimated time in microseconds, if it is work for the pool.
    fn long_cost_us(&self) -> Option<u64>;
    /// How loaded a lane is with work of its kind; nothing if it takes none.
    fn load(&self, lane: &Lane) -> Option<u64>;
    /// Whether the leader takes it, as far as that is known before it is asked.
    fn may_be_sent_to_leader(&self, _: &Lane) -> bool {
        true
    }
    /// The range whose turn it waits for, if it waits for one.
    fn range_id(&self) -> Option<u64> {
        None
    }
    /// Asks another node.
    fn ask(
        &self,
        scheduler: &Scheduler,
        lane: &Lane,
        recipient: Recipient,
    ) -> impl Future<Output = Result<Self::Outcome, AskError>> + Send;
    /// Does it here.
    fn work(&self, scheduler: &Scheduler) -> impl Future<Output = Result<Self::Outcome, CheckError>> + Send;
}

impl Job for Check {
    type Outcome = Outcome;

    fn count(&self) -> u64 {
        1
    }

    fn is_forwarded(&self) -> bool {
        self.forwarded
    }

    fn long_cost_us(&self) -> Option<u64> {
        self.number.equivalent_word().is_none().then(|| self.number.estimated_cost_us())
    }

    fn load(&self, lane: &Lane) -> Option<u64> {
        match self.number.equivalent_word() {
            Some(_) => lane.is_open().then(|| lane.load()),
            None => lane.has_room_for_long().then(|| lane.long_load_us()),
        }
    }

    async fn ask(
        &self,
        scheduler: &Scheduler,
        lane: &Lane,
        recipient: Recipient,
    ) -> Result<Outcome, AskError> {
        scheduler.ask(lane, self, recipient).await
    }

    async fn work(&self, scheduler: &Scheduler) -> Result<Outcome, CheckError> {
        Ok(scheduler.worker.check(&self.number).await?)
    }
}

impl Job for Batch {
    type Outcome = BatchOutcome;

    fn count(&self) -> u64 {
        self.values.len() as u64
    }

    fn is_forwarded(&self) -> bool {
        self.forwarded
    }

    fn long_cost_us(&self) -> Option<u64> {
        None
    }

    fn load(&self, lane: &Lane) -> Option<u64> {
        lane.has_room_for_batch().then(|| lane.load())
    }

    /// In a call of its own, so that deadline and cancellation travel with it.
    async fn ask(
        &self,
        scheduler: &Scheduler,
        lane: &Lane,
        recipient: Recipient,
    ) -> Result<BatchOutcome, AskError> {
        let mut request = Request::new(proto::BatchRequest { values: self.values.clone() });
        // A made id would outweigh many of the numbers.
        let trace = self.trace.is_named().then_some(&*self.trace);
        scheduler.equip(&mut request, self.deadline, trace, recipient);
        let mut client = PeerClient::new(lane.connection());
        let call = Box::pin(async {
            match recipient {
                Recipient::Leader => client.schedule_batch(request).await,
                Recipient::Worker => client.work_batch(request).await,
            }
        });
        let response = lane.call_batch(self.values.len(), call).await?.into_inner();
        BatchOutcome::from_wire(response, self.values.len()).map_err(|wrong| {
            AskError::Failed(Failure { code: Code::Unavailable, message: wrong.to_string() })
        })
    }

    async fn work(&self, scheduler: &Scheduler) -> Result<BatchOutcome, CheckError> {
        let are_prime = scheduler.worker.check_batch(&self.values).await;
        Ok(BatchOutcome { are_prime, processed_by: Arc::clone(scheduler.worker.name()) })
    }
}
