//! The membership, pure: events and times in, views and commands out.

use std::{sync::Arc, time::Duration};

use primacy::{
    cluster::{
        Identity, PeerAddress, Status,
        membership::{Announcement, ChangeKind, Command, DialError, Member, Membership, Peer, Wanted},
    },
    worker::Figures,
};

const H: Duration = Duration::from_millis(100);
const LEADER: Peer = Peer(0);
const WORKER1: Peer = Peer(1);
const WORKER2: Peer = Peer(2);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn identity(id: u32) -> Identity {
    let name: Arc<str> = if id == 4 { "leader".into() } else { format!("worker{id}").into() };
    Identity {
        id: Some(id),
        boot: u64::from(id),
        grpc_addr: format!("{name}:1").into(),
        http_addr: format!("{name}:2").into(),
        name,
        version: "1".into(),
    }
}

fn peer(id: u32) -> PeerAddress {
    PeerAddress { id: Some(id), grpc_addr: identity(id).grpc_addr }
}

/// Node `me` among the peers 4, 1, 2, 3 in this order; its own entry is ignored.
fn node(me: u32) -> Membership {
    Membership::new(&identity(me), &[peer(4), peer(1), peer(2), peer(3)], H)
}

/// Ticks from `from` to `to`, as a driver that is on time does.
fn tick(membership: &mut Membership, from: u64, to: u64) {
    for now in (from..=to).step_by(100) {
        membership.tick(ms(now));
    }
}

fn status(membership: &Membership, name: &str) -> Status {
    membership.members().iter().find(|member| &*member.name == name).unwrap().status
}

fn kinds(membership: &mut Membership) -> Vec<(String, ChangeKind)> {
    membership.drain_changes().into_iter().map(|change| (change.name.to_string(), change.kind)).collect()
}

#[test]
fn the_highest_id_leads_from_the_start_and_watches_everybody() {
    let membership = node(4);
    assert!(membership.leads());
    assert_eq!(membership.wanted(WORKER1), Wanted::Work);
    assert_eq!(membership.wanted(LEADER), Wanted::Off, "its own entry");
    assert_eq!(membership.members().len(), 4);
}

#[test]
fn a_follower_keeps_a_lane_to_the_leader_and_watches_everybody_while_it_has_none() {
    let mut membership = node(1);
    assert!(membership.leader().is_none());
    assert_eq!(membership.wanted(LEADER), Wanted::Schedule);
    assert_eq!(membership.wanted(WORKER2), Wanted::Work);

    membership.lane_up(ms(5), LEADER, Wanted::Schedule, &identity(4));
    assert_eq!(membership.leading_peer(), Some(LEADER));
    assert_eq!(membership.wanted(WORKER2), Wanted::Off);

    membership.lane_down(ms(50), LEADER, Some("its lane broke"));
    assert!(membership.leader().is_none(), "no request waits for it");
    assert_eq!(status(&membership, "leader"), Status::Suspect);
    assert_eq!(membership.wanted(WORKER2), Wanted::Work);

    membership.dial_failed(ms(51), LEADER, DialError::Refused);
    assert_eq!(status(&membership, "leader"), Status::Dead);
    use ChangeKind::{LeaderLost, Leads, Status as Became};
    let leader = |kind| ("leader".to_owned(), kind);
    let expected = [
        leader(Became(Status::Alive)),
        leader(Leads),
        leader(Became(Status::Suspect)),
        leader(LeaderLost),
        leader(Became(Status::Dead)),
    ];
    assert_eq!(kinds(&mut membership), expected);
}

#[test]
fn a_refused_dial_is_death_only_for_those_that_were_met() {
    let mut membership = node(4);
    membership.dial_failed(ms(1), WORKER1, DialError::Refused);
    assert_eq!(status(&membership, "worker1:1"), Status::Suspect, "it may still be starting");
    tick(&mut membership, 0, 900);
    assert_eq!(status(&membership, "worker1:1"), Status::Suspect);
    tick(&mut membership, 1000, 1000);
    assert_eq!(status(&membership, "worker1:1"), Status::Dead, "unreachable for 10 H");
}

#[test]
fn three_missed_heartbeats_make_a_suspect_and_ten_a_dead_one() {
    let mut membership = node(4);
    membership.tick(ms(0));
    membership.lane_up(ms(0), WORKER1, Wanted::Work, &identity(1));
    tick(&mut membership, 100, 300);
    assert_eq!(status(&membership, "worker1"), Status::Alive);
    assert!(membership.is_up(WORKER1));
    tick(&mut membership, 400, 400);
    assert_eq!(status(&membership, "worker1"), Status::Suspect);
    assert!(!membership.is_up(WORKER1), "a suspect gets no work");
    assert_eq!(membership.drain_commands(), [Command::Redial(WORKER1)], "its lane is closed");
    tick(&mut membership, 500, 1300);
    assert_eq!(status(&membership, "worker1"), Status::Suspect);
    tick(&mut membership, 1400, 1400);
    assert_eq!(status(&membership, "worker1"), Status::Dead);

    membership.lane_up(ms(1500), WORKER1, Wanted::Work, &identity(1));
    assert_eq!(status(&membership, "worker1"), Status::Alive, "who returns is used again");
}

#[test]
fn acknowledged_heartbeats_keep_a_member_alive_and_bring_its_figures() {
    let mut membership = node(4);
    membership.lane_up(ms(0), WORKER1, Wanted::Work, &identity(1));
    let figures = Figures { in_flight: 2, completed: 7 };
    for now in (0..5000).step_by(100) {
        membership.tick(ms(now));
        membership.acked(ms(now + 1), WORKER1, figures);
    }
    assert_eq!(status(&membership, "worker1"), Status::Alive);
    assert_eq!(membership.members()[0].figures, figures);
}

#[test]
fn after_a_late_wake_up_of_ones_own_nobody_is_suspected() {
    let mut membership = node(4);
    membership.lane_up(ms(0), WORKER1, Wanted::Work, &identity(1));
    tick(&mut membership, 0, 200);
    // This process was stopped for a minute: the silence was its own.
    tick(&mut membership, 60_000, 60_300);
    assert_eq!(status(&membership, "worker1"), Status::Alive);
    tick(&mut membership, 60_400, 60_400);
    assert_eq!(status(&membership, "worker1"), Status::Suspect, "from then on it counts anew");
}

#[test]
fn an_orderly_stop_is_no_suspicion_and_lasts() {
    let mut membership = node(4);
    membership.lane_up(ms(0), WORKER1, Wanted::Work, &identity(1));
    membership.lane_stopping(ms(10), WORKER1);
    assert_eq!(status(&membership, "worker1"), Status::Stopped);
    assert!(!membership.is_up(WORKER1));
    membership.lane_down(ms(20), WORKER1, Some("its lane closed"));
    membership.dial_failed(ms(21), WORKER1, DialError::Stopping);
    membership.dial_failed(ms(1021), WORKER1, DialError::Refused);
    tick(&mut membership, 0, 3000);
    assert_eq!(status(&membership, "worker1"), Status::Stopped);
}

#[test]
fn a_node_that_freezes_while_it_stops_is_left_after_three_missed_heartbeats() {
    let mut membership = node(4);
    membership.lane_up(ms(0), WORKER1, Wanted::Work, &identity(1));
    membership.lane_stopping(ms(10), WORKER1);
    for now in (0..2000).step_by(100) {
        membership.tick(ms(now));
        membership.acked(ms(now), WORKER1, Figures::default());
    }
    assert_eq!(membership.drain_commands(), [], "it answers what it holds");
    tick(&mut membership, 2000, 2200);
    assert_eq!(membership.drain_commands(), []);
    tick(&mut membership, 2300, 2300);
    assert_eq!(
        membership.drain_commands(),
        [Command::Redial(WORKER1)],
        "its lane is closed, its asks given back"
    );
    tick(&mut membership, 2400, 4000);
    assert_eq!(membership.drain_commands(), [], "once is enough");
    assert_eq!(status(&membership, "worker1"), Status::Stopped);
}

#[test]
fn a_quick_restart_is_a_death_that_is_seen() {
    let mut membership = node(4);
    membership.lane_up(ms(0), WORKER1, Wanted::Work, &identity(1));
    membership.drain_changes();
    let reborn = Identity { boot: 99, ..identity(1) };
    membership.lane_up(ms(50), WORKER1, Wanted::Work, &reborn);
    let worker1 = |status| ("worker1".to_owned(), ChangeKind::Status(status));
    assert_eq!(kinds(&mut membership), [worker1(Status::Dead), worker1(Status::Alive)]);
}

#[test]
fn a_lane_that_we_closed_ourselves_is_no_suspicion() {
    let mut membership = node(1);
    membership.lane_up(ms(0), WORKER2, Wanted::Work, &identity(2));
    membership.lane_up(ms(5), LEADER, Wanted::Schedule, &identity(4));
    membership.lane_down(ms(6), WORKER2, None);
    assert_eq!(status(&membership, "worker2"), Status::Alive, "the leader watches it now");
}

#[test]
fn a_follower_takes_over_what_its_leader_says_of_the_others() {
    let mut membership = node(1);
    membership.lane_up(ms(0), LEADER, Wanted::Schedule, &identity(4));
    let mut leaders = node(4);
    leaders.lane_up(ms(0), WORKER2, Wanted::Work, &identity(2));
    let told = |leaders: &Membership| {
        // On the wire `heard` is an age.
        let members: Vec<Member> =
            leaders.members().into_iter().map(|member| Member { heard: Some(ms(30)), ..member }).collect();
        Announcement { interval: H, version: 1, members }
    };
    membership.heard(ms(100), &identity(4), Some(&told(&leaders)));
    assert_eq!(status(&membership, "worker2"), Status::Alive);
    let heard = membership.members().iter().find(|member| member.id == Some(2)).unwrap().heard;
    assert_eq!(heard, Some(ms(70)));
    let figures = Figures { in_flight: 3, completed: 9 };
    leaders.own_figures(ms(101), figures);
    membership.heard(ms(101), &identity(4), Some(&told(&leaders)));
    assert_eq!(membership.leader().unwrap().0.figures, figures, "the leader's own among them");

    leaders.lane_down(ms(110), WORKER2, Some("its lane broke"));
    leaders.dial_failed(ms(111), WORKER2, DialError::Refused);
    membership.heard(ms(200), &identity(4), Some(&told(&leaders)));
    assert_eq!(status(&membership, "worker2"), Status::Dead);

    // Only of the leader: what another node claims to lead says is not taken.
    leaders.lane_up(ms(300), WORKER2, Wanted::Work, &identity(2));
    membership.heard(ms(300), &identity(3), Some(&told(&leaders)));
    assert_eq!(status(&membership, "worker2"), Status::Dead);
}

#[test]
fn a_follower_judges_its_leader_by_the_leaders_own_interval() {
    let mut membership = node(1);
    membership.lane_up(ms(0), LEADER, Wanted::Schedule, &identity(4));
    let slow = Announcement { interval: ms(500), version: 1, members: Vec::new() };
    membership.heard(ms(0), &identity(4), Some(&slow));
    tick(&mut membership, 0, 1700);
    assert_eq!(status(&membership, "leader"), Status::Alive);
    tick(&mut membership, 1800, 1800);
    assert_eq!(status(&membership, "leader"), Status::Suspect);
}

#[test]
fn whoever_is_heard_of_while_out_of_reach_is_dialled_at_once() {
    let mut membership = node(4);
    membership.heard(ms(5), &identity(1), None);
    assert_eq!(membership.drain_commands(), [Command::Knock(WORKER1)]);
    let stranger = Identity { id: Some(9), grpc_addr: "stranger:1".into(), ..identity(1) };
    membership.heard(ms(6), &stranger, None);
    assert_eq!(membership.drain_commands(), []);
    assert_eq!(membership.members().len(), 4, "nodes that are not listed cannot join");
}

#[test]
fn an_id_that_was_left_out_is_learnt_and_may_lead() {
    let nameless = |id| PeerAddress { id: None, grpc_addr: identity(id).grpc_addr };
    let mut membership = Membership::new(&identity(1), &[nameless(4), nameless(2)], H);
    let (leader, worker2) = (Peer(0), Peer(1));
    assert!(membership.leads(), "it knows of no higher id yet");
    membership.lane_up(ms(1), worker2, Wanted::Work, &identity(2));
    assert!(!membership.leads());
    assert_eq!(membership.wanted(worker2), Wanted::Schedule);
    assert!(!membership.is_up(worker2), "the lane that is open is not the one that is wanted now");
    membership.lane_down(ms(2), worker2, None);
    membership.lane_up(ms(3), worker2, Wanted::Schedule, &identity(2));
    assert_eq!(membership.leading_peer(), Some(worker2));
    assert_eq!(membership.wanted(leader), Wanted::Work, "whose id is not learnt might lead");
    membership.lane_up(ms(4), leader, Wanted::Work, &identity(4));
    assert_eq!(membership.wanted(leader), Wanted::Schedule);
    assert!(kinds(&mut membership).iter().all(|(_, kind)| *kind != ChangeKind::Status(Status::Suspect)));
}

#[test]
fn one_finds_oneself_at_a_peers_address_and_drops_the_entry() {
    let alias = PeerAddress { id: None, grpc_addr: "another-name-of-worker1:1".into() };
    let mut membership = Membership::new(&identity(1), &[alias], H);
    assert_eq!(membership.members().len(), 2);
    membership.lane_up(ms(1), Peer(0), Wanted::Work, &identity(1));
    assert_eq!(membership.members().len(), 1);
    assert_eq!(membership.wanted(Peer(0)), Wanted::Off);
    assert!(membership.leads());
}

#[test]
fn a_node_without_an_id_never_leads() {
    let me = Identity { id: None, name: "replica".into(), grpc_addr: "replica:1".into(), ..identity(1) };
    let membership = Membership::new(&me, &[], H);
    assert!(membership.leader().is_none());
}

#[test]
fn changes_say_why_and_how_long_the_state_before_had_lasted() {
    let mut membership = node(4);
    membership.lane_up(ms(20), WORKER1, Wanted::Work, &identity(1));
    membership.lane_down(ms(520), WORKER1, Some("its lane broke: connection reset"));
    let change = membership.recent().next().unwrap();
    assert_eq!(change.duration, ms(500));
    assert_eq!(change.reason, "its lane broke: connection reset");
    assert_eq!(change.at, ms(520));
}
