//! What etcd stores: one line of revisions, leases by its own clock, and what watches are told.

use std::{collections::BTreeMap, time::Duration};

use super::Time;
use crate::proto::etcd::{
    etcdserverpb::{
        Compare, PutRequest, RangeRequest, RangeResponse, ResponseHeader, ResponseOp, TxnRequest,
        TxnResponse, compare::TargetUnion, request_op::Request, response_op::Response,
    },
    mvccpb::{Event, KeyValue, event::EventType},
};

/// There is no such lease.
#[derive(Debug)]
pub struct NoLease;

#[derive(Default)]
pub struct Store {
    pub revision: i64,
    keys: BTreeMap<Vec<u8>, KeyValue>,
    /// What was granted, and until when it lives.
    leases: BTreeMap<i64, (Duration, Time)>,
    granted: i64,
    /// All that happened, the revision rising.
    pub log: Vec<Event>,
    /// What happened up to there is forgotten.
    pub compacted: i64,
}

impl Store {
    pub fn grant(&mut self, now: Time, ttl: Duration) -> i64 {
        self.granted += 1;
        self.leases.insert(self.granted, (ttl, now + ttl));
        self.granted
    }

    /// The time that is granted anew; none if it is gone.
    pub fn keep_alive(&mut self, now: Time, id: i64) -> Duration {
        match self.leases.get_mut(&id) {
            Some((ttl, ends)) if now < *ends => {
                *ends = now + *ttl;
                *ttl
            }
            Some(_) => {
                let _ = self.revoke(id);
                Duration::ZERO
            }
            None => Duration::ZERO,
        }
    }

    pub fn lives(&self, now: Time, id: i64) -> bool {
        self.leases.get(&id).is_some_and(|(_, ends)| now < *ends)
    }

    /// In one revision all its keys go.
    pub fn revoke(&mut self, id: i64) -> Result<(), NoLease> {
        self.leases.remove(&id).ok_or(NoLease)?;
        let keys: Vec<Vec<u8>> =
            self.keys.values().filter(|kv| kv.lease == id).map(|kv| kv.key.clone()).collect();
        self.revision += i64::from(!keys.is_empty());
        for key in keys {
            self.keys.remove(&key);
            let kv = KeyValue { key, mod_revision: self.revision, ..KeyValue::default() };
            self.log.push(Event { r#type: EventType::Delete.into(), kv: Some(kv) });
        }
        Ok(())
    }

    pub fn expire(&mut self, now: Time) {
        let ended = self.leases.iter().filter(|(_, (_, ends))| now >= *ends).map(|(id, _)| *id);
        for id in ended.collect::<Vec<_>>() {
            let _ = self.revoke(id);
        }
    }

    /// etcd has another leader: each lease lives for its whole time once more.
    pub fn extend(&mut self, now: Time) {
        self.leases.values_mut().for_each(|(ttl, ends)| *ends = (*ends).max(now + *ttl));
    }

    pub fn put(&mut self, request: PutRequest) -> Result<(), NoLease> {
        let PutRequest { key, value, lease } = request;
        if !self.leases.contains_key(&lease) {
            return Err(NoLease);
        }
        self.revision += 1;
        let create_revision = self.keys.get(&key).map_or(self.revision, |kv| kv.create_revision);
        let kv = KeyValue { key: key.clone(), create_revision, mod_revision: self.revision, value, lease };
        self.keys.insert(key, kv.clone());
        self.log.push(Event { r#type: EventType::Put.into(), kv: Some(kv) });
        Ok(())
    }

    pub fn range(&self, request: &RangeRequest) -> RangeResponse {
        let RangeRequest { key, range_end, limit } = request;
        let is_in = |kv: &&KeyValue| kv.key == *key || (kv.key > *key && kv.key < *range_end);
        let limit = if *limit == 0 { usize::MAX } else { usize::try_from(*limit).unwrap() };
        let kvs = self.keys.values().filter(is_in).take(limit).cloned().collect();
        RangeResponse { header: self.header(), kvs }
    }

    /// A lease is looked at only where the put is done.
    pub fn txn(&mut self, request: TxnRequest) -> Result<TxnResponse, NoLease> {
        let succeeded = request.compare.iter().all(|compare| self.is_so(compare));
        let mut responses = Vec::new();
        for op in if succeeded { request.success } else { request.failure } {
            match op.request.unwrap() {
                Request::RequestPut(put) => self.put(put)?,
                Request::RequestRange(range) => {
                    let response = Some(Response::ResponseRange(self.range(&range)));
                    responses.push(ResponseOp { response });
                }
            }
        }
        Ok(TxnResponse { header: self.header(), succeeded, responses })
    }

    /// The events from a revision on.
    pub fn since(&self, revision: i64) -> &[Event] {
        let of = |event: &Event| event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
        &self.log[self.log.partition_point(|event| of(event) < revision)..]
    }

    fn header(&self) -> Option<ResponseHeader> {
        Some(ResponseHeader { revision: self.revision })
    }

    fn is_so(&self, compare: &Compare) -> bool {
        let kv = self.keys.get(&compare.key);
        match compare.target_union.as_ref().unwrap() {
            TargetUnion::CreateRevision(is) => kv.map_or(0, |kv| kv.create_revision) == *is,
            TargetUnion::ModRevision(is) => kv.map_or(0, |kv| kv.mod_revision) == *is,
        }
    }
}
