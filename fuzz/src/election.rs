//! What members say to agree on a leader.

use std::{sync::Arc, time::Duration};

use primacy::{
    decoders::{
        ClusterAnswer, ClusterView, answer_from_wire, claim_from_wire, hand_over_from_wire, is_name,
        is_short, member_list_from_wire, verdict_from_wire,
    },
    limits::{COUNTER_MAX, HEARTBEAT_MAX, HEARTBEAT_MIN, MEMBERS_MAX, SUCCEEDS_MAX},
    proto::{self, ElectionResponse, HandOverRequest, HeartbeatRequest, VictoryRequest},
};
use primacy_election::{Ballot, Claim, Election, Identity, Member, MemberList, Rules, Time};
use prost::Message;

use crate::check;

/// A heartbeat: its sender, its claim and its list keep within their bounds, and are the same again.
pub fn members(bytes: &[u8]) {
    let Ok(heartbeat) = HeartbeatRequest::decode(bytes) else { return };
    said(heartbeat);
}

/// What is taken of a heartbeat.
fn said(heartbeat: HeartbeatRequest) -> Option<(Identity, Option<Claim>, Option<MemberList>)> {
    let HeartbeatRequest { sender, claim, members_version, members, .. } = heartbeat;
    let count = members.len();
    let list = member_list_from_wire(members_version, members);
    assert_eq!(list.is_some(), members_version != 0 && count <= MEMBERS_MAX);
    let members = list.iter().flat_map(|list| &list.members);
    members.for_each(|listed| short(&listed.member));
    let sender = identity(sender?)?;
    let claim = claim.and_then(|claim| match claim_from_wire(claim, &sender) {
        Ok(claim) => Some(good(claim, &sender)),
        Err(error) => {
            check::reason(error);
            None
        }
    });
    Some((sender, claim, list))
}

/// Who somebody is: a good name, a good id, and short texts.
fn identity(wire: proto::Identity) -> Option<Identity> {
    match Identity::try_from(wire.clone()) {
        Ok(identity) => {
            assert!(is_name(&identity.name) && identity.id.is_none_or(|id| id > 0));
            // Any other scheme counts as clear text, which is not named.
            let scheme = Some(wire.scheme.clone()).filter(|scheme| scheme == "https").unwrap_or_default();
            assert_eq!(proto::Identity::from(&identity), proto::Identity { scheme, ..wire });
            check::shown(&identity.grpc_addr, 256);
            Some(identity)
        }
        Err(error) => {
            check::reason(error);
            None
        }
    }
}

fn short(member: &Member) {
    let texts = [&member.name, &member.grpc_addr, &member.advertised, &member.http_addr, &member.version];
    assert!(texts.into_iter().all(|text| is_short(text)));
    texts.iter().for_each(|text| check::shown(text, 256));
}

fn good(claim: Claim, sender: &Identity) -> Claim {
    assert_eq!(Some(claim.ballot.id), sender.id);
    assert!((HEARTBEAT_MIN..=HEARTBEAT_MAX).contains(&claim.heartbeat));
    ballots(claim.ballot, &claim.succeeds);
    check::plain(&claim.reason);
    assert_eq!(claim_from_wire((&claim).into(), sender).as_ref(), Ok(&claim));
    claim
}

fn ballots(own: Ballot, succeeds: &[Ballot]) {
    assert!(succeeds.len() <= SUCCEEDS_MAX);
    let is_good = |ballot: &Ballot| (1..=COUNTER_MAX).contains(&ballot.counter) && ballot.id > 0;
    assert!(succeeds.iter().chain([&own]).all(is_good));
}

/// A kind, and an answer of that kind, or a hand-over or a victory with its sender.
pub fn replies(bytes: &[u8]) {
    let Some((kind, message)) = bytes.split_first() else { return };
    match kind % 4 {
        0 => {
            let Ok(wire) = proto::Verdict::decode(message) else { return };
            let Some(verdict) = verdict_from_wire(Some(wire)) else { return };
            assert_eq!(verdict_from_wire(Some(verdict.into())), Some(verdict));
        }
        1 => {
            let Ok(wire) = ElectionResponse::decode(message) else { return };
            let Some(answer) = answer_from_wire(wire) else { return };
            assert_eq!(answer_from_wire(answer.clone().into()), Some(answer));
        }
        2 => {
            let Ok(mut wire) = HandOverRequest::decode(message) else { return };
            let Some(sender) = wire.sender.take().and_then(identity) else { return };
            match hand_over_from_wire(wire, &sender) {
                Ok(offer) => {
                    ballots(offer.ballot, &offer.succeeds);
                    check::plain(&offer.reason);
                    assert_eq!(hand_over_from_wire((&offer).into(), &sender), Ok(offer));
                }
                Err(error) => check::reason(error),
            }
        }
        _ => {
            let Ok(VictoryRequest { sender, claim, .. }) = VictoryRequest::decode(message) else { return };
            said(HeartbeatRequest { sender, claim, ..HeartbeatRequest::default() });
        }
    }
}

/// Heartbeats, each after its length, to a node that is there: whatever they say, it knows no more members than a cluster may
/// have and no higher ballot than there may be, and what it shows of them is harmless.
pub fn election(bytes: &[u8]) {
    const HEARTBEAT: Duration = Duration::from_millis(100);
    let me = Identity { id: Some(2), name: "me".into(), boot: 7, ..Identity::default() };
    let (mut election, mut now) = (Election::bully(&me, &[], HEARTBEAT, Rules::ALL), Time::ZERO);
    let mut bytes = bytes;
    while let Ok(heartbeat) = HeartbeatRequest::decode_length_delimited(&mut bytes) {
        let passed = Duration::from_millis(heartbeat.interval_ms % 10_000);
        if let Some((sender, claim, list)) = said(heartbeat) {
            hear(&mut election, now, &sender, claim, list);
        }
        now += passed;
        if election.next_deadline() <= now {
            election.tick(now);
        }
        election.drain_effects();
        assert!(election.members().members().len() <= MEMBERS_MAX + 1);
        assert!(election.highest().counter <= COUNTER_MAX + 1);
    }
    show(&election, me);
}

/// A claim, a question, a hand-over or only a sign of life.
fn hear(
    election: &mut Election,
    now: Time,
    sender: &Identity,
    claim: Option<Claim>,
    list: Option<MemberList>,
) {
    let refused = match claim {
        Some(claim) => election.claimed(now, sender, &claim, list).err(),
        None if list.is_some() => {
            election.question(now, sender, true);
            None
        }
        None => election.heard(now, sender).err(),
    };
    if let Some(refusal) = refused {
        check::reason(&refusal.to_string());
    }
}

fn show(election: &Election, me: Identity) {
    let (shown, ghosts) = election.members().shown_and_ghosts();
    shown.iter().chain(&ghosts).for_each(short);
    let recent: Arc<[_]> = election.members().recent().cloned().collect();
    let view = ClusterView { me: me.into(), members: shown, recent, ..ClusterView::default() };
    let wire = proto::ClusterView::from(&view);
    wire.recent.iter().for_each(|change| check::plain(&change.reason));
    serde_json::to_vec(&ClusterAnswer::from(wire)).expect("it is JSON");
}
