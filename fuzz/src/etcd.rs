//! What an etcd says.

use std::{sync::Arc, time::Duration};

use primacy::{
    decoders::{etcd, is_name},
    limits::MEMBERS_MAX,
    proto::etcd::{
        etcdserverpb::{PutRequest, RangeResponse, TxnResponse},
        mvccpb::{Event, KeyValue},
    },
};
use primacy_election::{
    Identity, Time,
    lease::{Fit, Holder, LeaseState, News, Registration, Told},
};
use prost::Message;

use crate::check;

/// A kind; then a list, the answer to a transaction, or events, each after its length, which a node that holds a lease hears.
pub fn etcd(bytes: &[u8]) {
    let Some((kind, message)) = bytes.split_first() else { return };
    match kind % 3 {
        0 => {
            let Ok(response) = RangeResponse::decode(message) else { return };
            told(&etcd::told(response.clone()));
            let (news, _) = etcd::listed(response);
            good(&news);
            heard([news].into_iter());
        }
        1 => {
            let Ok(response) = TxnResponse::decode(message) else { return };
            let holder = Holder { node: me(), lease: 1, revision: 0, transferred: false };
            told(&etcd::told_by_txn(response, holder));
        }
        _ => heard(Events(message).filter_map(etcd::news)),
    }
}

fn me() -> Identity {
    Identity { id: Some(2), name: "me".into(), boot: 7, ..Identity::default() }
}

struct Events<'a>(&'a [u8]);

impl Iterator for Events<'_> {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        Event::decode_length_delimited(&mut self.0).ok().inspect(|event| {
            etcd::after(etcd::revision(event));
        })
    }
}

/// A node that hears all of it goes on: it has a next step, and recognises a leader or none.
fn heard(news: impl Iterator<Item = News>) {
    let (mut lease, mut now) = (LeaseState::new(Arc::new(me())), Time::ZERO);
    for news in news {
        good(&news);
        lease.hear(now, news);
        now += Duration::from_millis(700);
        lease.next(now, &[Fit { boot: 7, since: Time::ZERO }]);
        let recognised = lease.recognised(now);
        assert!(recognised.members.len() <= MEMBERS_MAX + 1);
    }
}

fn good(news: &News) {
    match news {
        News::Listed(members, by) => {
            members.iter().for_each(registration);
            told(by);
        }
        News::Registered(member) => registration(member),
        News::Leads(by) => told(by),
        News::Unregistered(_) => {}
    }
}

/// What is registered would be registered so again.
fn registration(member: &Registration) {
    node(&member.node);
    let PutRequest { key, value, lease } = etcd::registration(&member.node, member.lease);
    let kv = KeyValue { key, value, lease, mod_revision: member.revision, ..KeyValue::default() };
    let again = etcd::news(Event { kv: Some(kv), ..Event::default() });
    assert_eq!(again, Some(News::Registered(member.clone())));
}

/// Whoever leads is a node or unknown.
fn told(told: &Told) {
    if let Some(holder) = &told.holder
        && holder.node != Identity::default()
    {
        node(&holder.node);
    }
}

fn node(node: &Identity) {
    assert!(is_name(&node.name) && node.id.is_none_or(|id| id > 0));
    [&node.grpc_addr, &node.http_addr, &node.version].iter().for_each(|text| check::shown(text, 256));
}
