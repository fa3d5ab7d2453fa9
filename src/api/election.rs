//! What nodes say to each other to agree on a leader: `primacy_election`'s shapes, and `proto`'s.

use std::{sync::Arc, time::Duration};

use primacy_election::{Ballot, Claim, ClaimVerdict, HandOver, Identity, QuestionAnswer, Scheme};

use crate::{
    clock::millis,
    limits::{COUNTER_MAX, HEARTBEAT_MAX, HEARTBEAT_MIN, SUCCEEDS_MAX},
    proto,
    text::{is_name, is_short, plain},
};

impl From<&Identity> for proto::Identity {
    fn from(identity: &Identity) -> Self {
        Self {
            id: identity.id.map(u32::cast_signed),
            name: identity.name.to_string(),
            boot: identity.boot,
            grpc_addr: identity.grpc_addr.to_string(),
            http_addr: identity.http_addr.to_string(),
            version: identity.version.to_string(),
            scheme: scheme_to_wire(identity.scheme),
        }
    }
}

impl TryFrom<proto::Identity> for Identity {
    type Error = &'static str;

    fn try_from(wire: proto::Identity) -> Result<Self, Self::Error> {
        if !is_name(&wire.name) {
            return Err("a node's name has 1 to 64 letters, digits, dots, dashes and underscores");
        }
        if ![&wire.grpc_addr, &wire.http_addr, &wire.version].into_iter().all(|text| is_short(text)) {
            return Err(
                "a node's addresses and version have at most 256 bytes, and no control characters or others that are not seen",
            );
        }
        let id = match wire.id.map(u32::try_from) {
            None => None,
            Some(Ok(id)) if id > 0 => Some(id),
            Some(_) => return Err("an id is a whole number from 1 to 2147483647"),
        };
        Ok(Self {
            id,
            name: wire.name.into(),
            boot: wire.boot,
            grpc_addr: wire.grpc_addr.into(),
            http_addr: wire.http_addr.into(),
            version: wire.version.into(),
            scheme: scheme_from_wire(&wire.scheme),
        })
    }
}

/// Clear text is not named: so nodes that know no other scheme say and prove the same.
pub fn scheme_to_wire(scheme: Scheme) -> String {
    match scheme {
        Scheme::Http => String::new(),
        Scheme::Https => scheme.as_str().to_owned(),
    }
}

/// Whatever else is said counts as clear text.
pub fn scheme_from_wire(wire: &str) -> Scheme {
    if wire == Scheme::Https.as_str() { Scheme::Https } else { Scheme::Http }
}

impl From<Ballot> for proto::Ballot {
    fn from(Ballot { counter, id }: Ballot) -> Self {
        Self { counter, id: id.cast_signed() }
    }
}

impl TryFrom<proto::Ballot> for Ballot {
    type Error = &'static str;

    fn try_from(proto::Ballot { counter, id }: proto::Ballot) -> Result<Self, Self::Error> {
        let id = u32::try_from(id).unwrap_or_default();
        match id > 0 && (1..=COUNTER_MAX).contains(&counter) {
            true => Ok(Self { counter, id }),
            false => Err("a ballot has a counter from 1 to 2^53 and an id from 1 to 2147483647"),
        }
    }
}

impl From<&Claim> for proto::Claim {
    fn from(claim: &Claim) -> Self {
        Self {
            ballot: Some(claim.ballot.into()),
            succeeds: claim.succeeds.iter().map(|ballot| (*ballot).into()).collect(),
            followers: claim.followers,
            reason: claim.reason.to_string(),
            took_ms: millis(claim.took),
            interval_ms: millis(claim.heartbeat),
        }
    }
}

/// What a sender claims: its own leadership and no other.
///
/// # Errors
/// What is wrong with it.
pub fn claim_from_wire(wire: proto::Claim, sender: &Identity) -> Result<Claim, &'static str> {
    let ballot = Ballot::try_from(wire.ballot.ok_or("a claim has a ballot")?)?;
    if Some(ballot.id) != sender.id {
        return Err("a claim is of the sender's own leadership");
    }
    let heartbeat = Duration::from_millis(wire.interval_ms).clamp(HEARTBEAT_MIN, HEARTBEAT_MAX);
    Ok(Claim {
        ballot,
        succeeds: ballots(wire.succeeds)?,
        followers: wire.followers,
        heartbeat,
        reason: plain(&wire.reason).into(),
        took: Duration::from_millis(wire.took_ms),
    })
}

impl From<&HandOver> for proto::HandOverRequest {
    /// Without the sender.
    fn from(offer: &HandOver) -> Self {
        Self {
            sender: None,
            ballot: Some(offer.ballot.into()),
            succeeds: offer.succeeds.iter().map(|ballot| (*ballot).into()).collect(),
            reason: offer.reason.to_string(),
            transferred: offer.transferred,
        }
    }
}

/// What a sender hands over: its own leadership and no other.
///
/// # Errors
/// What is wrong with it.
pub fn hand_over_from_wire(
    wire: proto::HandOverRequest,
    sender: &Identity,
) -> Result<HandOver, &'static str> {
    let ballot = Ballot::try_from(wire.ballot.ok_or("a hand-over has a ballot")?)?;
    if Some(ballot.id) != sender.id {
        return Err("a node hands over its own leadership");
    }
    let (succeeds, reason) = (ballots(wire.succeeds)?, plain(&wire.reason).into());
    Ok(HandOver { ballot, succeeds, reason, transferred: wire.transferred })
}

fn ballots(wire: Vec<proto::Ballot>) -> Result<Arc<[Ballot]>, &'static str> {
    match wire.len() <= SUCCEEDS_MAX {
        true => wire.into_iter().map(Ballot::try_from).collect(),
        false => Err("a claim names at most 16 leaderships that it succeeds"),
    }
}

impl From<ClaimVerdict> for proto::Verdict {
    fn from(verdict: ClaimVerdict) -> Self {
        let (kind, ballot) = match verdict {
            ClaimVerdict::Follows => (proto::VerdictKind::Follows, None),
            ClaimVerdict::Stale(seen) => (proto::VerdictKind::Stale, Some(seen.into())),
            ClaimVerdict::Hears(other) => (proto::VerdictKind::Hears, Some(other.into())),
            ClaimVerdict::Unreached => (proto::VerdictKind::Unreached, None),
        };
        Self { kind: kind.into(), ballot }
    }
}

/// What a peer says; nothing if it says nothing sensible.
pub fn verdict_from_wire(wire: Option<proto::Verdict>) -> Option<ClaimVerdict> {
    let wire = wire?;
    let ballot = wire.ballot.and_then(|ballot| Ballot::try_from(ballot).ok());
    match wire.kind() {
        proto::VerdictKind::Follows => Some(ClaimVerdict::Follows),
        proto::VerdictKind::Stale => ballot.map(ClaimVerdict::Stale),
        proto::VerdictKind::Hears => ballot.map(ClaimVerdict::Hears),
        proto::VerdictKind::Unreached => Some(ClaimVerdict::Unreached),
        proto::VerdictKind::VerdictUnspecified => None,
    }
}

impl From<QuestionAnswer> for proto::ElectionResponse {
    fn from(answer: QuestionAnswer) -> Self {
        let ok = answer == QuestionAnswer::Ok;
        let mut wire = Self { ok, ..Self::default() };
        let kind = match answer {
            QuestionAnswer::LeaderAlive(leader) => {
                wire.leader = Some((&leader).into());
                proto::Answer::LeaderAlive
            }
            QuestionAnswer::Ok => proto::Answer::Ok,
            QuestionAnswer::Go => proto::Answer::Go,
            QuestionAnswer::Stopping => proto::Answer::Stopping,
            QuestionAnswer::Taken(by) => {
                wire.taken_by = by.to_string();
                proto::Answer::Taken
            }
        };
        wire.set_answer(kind);
        wire
    }
}

/// What a peer says; nothing if it says nothing sensible.
pub fn answer_from_wire(wire: proto::ElectionResponse) -> Option<QuestionAnswer> {
    match wire.answer() {
        proto::Answer::LeaderAlive => Identity::try_from(wire.leader?).ok().map(QuestionAnswer::LeaderAlive),
        proto::Answer::Ok => Some(QuestionAnswer::Ok),
        proto::Answer::Go => Some(QuestionAnswer::Go),
        proto::Answer::Stopping => Some(QuestionAnswer::Stopping),
        proto::Answer::Taken if is_short(&wire.taken_by) => Some(QuestionAnswer::Taken(wire.taken_by.into())),
        proto::Answer::Taken | proto::Answer::Unspecified => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_give_as_a_reason_is_one_short_line() {
        let sender = Identity { id: Some(3), ..Identity::default() };
        let ballot = Some(proto::Ballot { counter: 1, id: 3 });
        for (given, shown) in
            [("a\nWorker worker1 is DEAD\u{1b}[31m", "a\\u{a}Worker worker1 is DEAD\\u{1b}[31m"), ("é", "é")]
        {
            let claim = proto::Claim { ballot, reason: given.to_owned(), ..proto::Claim::default() };
            assert_eq!(&*claim_from_wire(claim, &sender).unwrap().reason, shown);
        }
        let claim = proto::Claim { ballot, reason: "x".repeat(1000), ..proto::Claim::default() };
        assert_eq!(claim_from_wire(claim, &sender).unwrap().reason.chars().count(), 160);
    }
}
