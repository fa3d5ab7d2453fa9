//! What is stored in etcd, and how it is asked for.

use primacy_election::{
    Identity,
    lease::{Holder, News, Registration, Told},
};
use prost::Message;

use crate::{
    limits::MEMBERS_MAX,
    proto::{
        self,
        etcd::{
            etcdserverpb::{
                Compare, PutRequest, RangeRequest, RangeResponse, RequestOp, TxnRequest, TxnResponse,
                WatchCreateRequest,
                compare::{CompareTarget, TargetUnion},
                request_op::Request,
                response_op::Response,
            },
            mvccpb::{Event, KeyValue, event::EventType},
        },
    },
};

const PREFIX: &[u8] = b"/primacy/";
/// The first key after all that begin with the prefix.
const PREFIX_END: &[u8] = b"/primacy0";
const LEADER: &[u8] = b"/primacy/leader";
const MEMBERS: &[u8] = b"/primacy/members/";

pub(super) fn everything() -> RangeRequest {
    let limit = i64::try_from(MEMBERS_MAX).unwrap_or(i64::MAX).saturating_add(1);
    RangeRequest { key: PREFIX.to_vec(), range_end: PREFIX_END.to_vec(), limit }
}

pub(super) fn who_leads() -> RangeRequest {
    RangeRequest { key: LEADER.to_vec(), ..RangeRequest::default() }
}

pub(super) fn changes_from(revision: i64) -> WatchCreateRequest {
    WatchCreateRequest { key: PREFIX.to_vec(), range_end: PREFIX_END.to_vec(), start_revision: revision }
}

/// What registers a node under a lease.
pub fn registration(me: &Identity, lease: i64) -> PutRequest {
    let key = [MEMBERS, format!("{:016x}", me.boot).as_bytes()].concat();
    PutRequest { key, value: proto::Identity::from(me).encode_to_vec(), lease }
}

/// Takes the key if nobody holds it; else says who does.
pub fn campaign(me: &Identity, lease: i64) -> (TxnRequest, Holder) {
    let holder = Holder { node: me.clone(), lease, revision: 0, transferred: false };
    (put_leader(CompareTarget::Create, TargetUnion::CreateRevision(0), &holder), holder)
}

/// Gives the key to another one if it is still ours; else says who holds it.
pub fn hand_over(mine: i64, to: &Holder) -> TxnRequest {
    put_leader(CompareTarget::Mod, TargetUnion::ModRevision(mine), to)
}

fn put_leader(target: CompareTarget, union: TargetUnion, holder: &Holder) -> TxnRequest {
    let compare = Compare {
        target: target.into(),
        key: LEADER.to_vec(),
        target_union: Some(union),
        // Equal.
        ..Compare::default()
    };
    let value = proto::LeaderKey { holder: Some((&holder.node).into()), transferred: holder.transferred };
    let put = PutRequest { key: LEADER.to_vec(), value: value.encode_to_vec(), lease: holder.lease };
    let op = |request| vec![RequestOp { request: Some(request) }];
    TxnRequest {
        compare: vec![compare],
        success: op(Request::RequestPut(put)),
        failure: op(Request::RequestRange(who_leads())),
    }
}

/// Who leads after a transaction that was to make it this one.
pub fn told_by_txn(response: TxnResponse, holder: Holder) -> Told {
    let revision = response.header.map_or(0, |header| header.revision);
    if response.succeeded {
        return Told { holder: Some(Holder { revision, ..holder }), revision };
    }
    let ranges = response.responses.into_iter().filter_map(|response| match response.response? {
        Response::ResponseRange(range) => Some(range),
        Response::ResponsePut(_) => None,
    });
    let kv = ranges.flat_map(|range| range.kvs).next();
    Told { holder: kv.map(holder_of), revision }
}

/// Who leads, as a read of the key says.
pub fn told(response: RangeResponse) -> Told {
    let revision = response.header.map_or(0, |header| header.revision);
    Told { holder: response.kvs.into_iter().next().map(holder_of), revision }
}

/// All that is stored, and as of which revision.
pub fn listed(response: RangeResponse) -> (News, i64) {
    let revision = response.header.map_or(0, |header| header.revision);
    let (leader, others): (Vec<_>, Vec<_>) = response.kvs.into_iter().partition(|kv| kv.key == LEADER);
    let holder = leader.into_iter().next().map(holder_of);
    let members = others.into_iter().filter_map(registration_of).collect();
    (News::Listed(members, Told { holder, revision }), revision)
}

/// The one after a revision, from where to watch on; an etcd may say the highest that there is.
pub fn after(revision: i64) -> i64 {
    revision.saturating_add(1)
}

/// The revision of a change.
pub fn revision(event: &Event) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}

/// Nothing for keys that are not ours.
pub fn news(event: Event) -> Option<News> {
    let is_put = event.r#type() == EventType::Put;
    let kv = event.kv?;
    if kv.key == LEADER {
        let revision = kv.mod_revision;
        return Some(News::Leads(Told { holder: is_put.then(|| holder_of(kv)), revision }));
    }
    if is_put { registration_of(kv).map(News::Registered) } else { boot_of(&kv).map(News::Unregistered) }
}

fn boot_of(kv: &KeyValue) -> Option<u64> {
    let boot = std::str::from_utf8(kv.key.strip_prefix(MEMBERS)?).ok()?;
    u64::from_str_radix(boot, 16).ok()
}

fn registration_of(kv: KeyValue) -> Option<Registration> {
    let boot = boot_of(&kv)?;
    let node = Identity::try_from(proto::Identity::decode(&*kv.value).ok()?).ok()?;
    (node.boot == boot).then_some(Registration { node, lease: kv.lease, revision: kv.mod_revision })
}

/// Whoever holds the key. A value that is none of ours has an unknown holder, and the key counts as held.
fn holder_of(kv: KeyValue) -> Holder {
    let value = proto::LeaderKey::decode(&*kv.value).unwrap_or_default();
    let node = value.holder.and_then(|holder| Identity::try_from(holder).ok()).unwrap_or_default();
    Holder { node, lease: kv.lease, revision: kv.mod_revision, transferred: value.transferred }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> Identity {
        Identity {
            id: Some(3),
            name: "n3".into(),
            boot: 0xab,
            grpc_addr: "n3:1".into(),
            ..Identity::default()
        }
    }

    fn stored(put: PutRequest, revision: i64) -> KeyValue {
        let PutRequest { key, value, lease } = put;
        KeyValue { key, value, lease, create_revision: revision, mod_revision: revision }
    }

    fn put_event(kv: KeyValue) -> Event {
        Event { r#type: EventType::Put.into(), kv: Some(kv) }
    }

    fn leader_put(request: &TxnRequest) -> PutRequest {
        match request.success[0].request.clone() {
            Some(Request::RequestPut(put)) => put,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_registered_is_read_back_and_its_end_too() {
        let kv = stored(registration(&node(), 5), 9);
        let read = Registration { node: node(), lease: 5, revision: 9 };
        assert_eq!(news(put_event(kv.clone())), Some(News::Registered(read.clone())));
        let deleted = Event { r#type: EventType::Delete.into(), kv: Some(kv.clone()) };
        assert_eq!(news(deleted), Some(News::Unregistered(0xab)));
        let (listed, revision) = listed(RangeResponse { kvs: vec![kv], ..RangeResponse::default() });
        assert_eq!((listed, revision), (News::Listed(vec![read], Told { holder: None, revision: 0 }), 0));
    }

    #[test]
    fn after_the_highest_revision_there_is_no_other() {
        assert_eq!([0, i64::MAX - 1, i64::MAX].map(after), [1, i64::MAX, i64::MAX]);
    }

    #[test]
    fn a_campaign_takes_a_key_that_is_not_there_and_a_hand_over_the_one_that_is_ours() {
        let (request, holder) = campaign(&node(), 5);
        assert_eq!(request.compare[0].target_union, Some(TargetUnion::CreateRevision(0)));
        let leads = news(put_event(stored(leader_put(&request), 9)));
        let held = Holder { revision: 9, ..holder.clone() };
        assert_eq!(leads, Some(News::Leads(Told { holder: Some(held.clone()), revision: 9 })));
        let handed = hand_over(9, &Holder { transferred: true, ..holder.clone() });
        assert_eq!(handed.compare[0].target_union, Some(TargetUnion::ModRevision(9)));
        let told =
            told(RangeResponse { kvs: vec![stored(leader_put(&handed), 10)], ..RangeResponse::default() });
        assert_eq!(told.holder, Some(Holder { revision: 10, transferred: true, ..holder }));
    }

    #[test]
    fn a_key_whose_value_is_none_of_ours_is_held_by_nobody_that_is_known() {
        let kv = KeyValue {
            key: LEADER.to_vec(),
            value: b"?".to_vec(),
            lease: 7,
            mod_revision: 9,
            ..KeyValue::default()
        };
        let Some(News::Leads(Told { holder: Some(holder), revision: 9 })) = news(put_event(kv)) else {
            panic!("it is held");
        };
        assert_eq!((holder.node, holder.lease), (Identity::default(), 7));
        assert_eq!(
            news(put_event(KeyValue { key: b"/primacy/other".to_vec(), ..KeyValue::default() })),
            None
        );
    }
}
