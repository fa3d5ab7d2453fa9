//! The membership, pure: events and times in, orders and members out. Who leads is tested beside it.

use std::{sync::Arc, time::Duration};

use crate::{
    ChangeKind, DialError, Figures, Identity, ListedMember, Member, MemberList, Membership, Met, Orders,
    Peer, PeerAddress, Refusal, Scheme, Status, Time, Wanted,
    limits::{JOINED_KEPT, MEMBERS_MAX},
};

const H: Duration = Duration::from_millis(100);

fn ms(ms: u64) -> Time {
    Time::at(Duration::from_millis(ms))
}

fn for_ms(ms: u64) -> Duration {
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
        ..Identity::default()
    }
}

fn replica(number: u64) -> Identity {
    let name: Arc<str> = format!("replica{number}").into();
    let grpc_addr = format!("{name}:1").into();
    Identity { id: None, boot: 1000 + number, grpc_addr, name, ..identity(1) }
}

fn address(id: u32) -> PeerAddress {
    PeerAddress { id: Some(id), grpc_addr: identity(id).grpc_addr }
}

/// Node `me` among the peers 4, 1, 2, 3 in this order, of which it wants work.
fn node(me: u32) -> Membership {
    let mut membership = Membership::new(&identity(me), &[address(4), address(1), address(2), address(3)], H);
    for peer in membership.peers().collect::<Vec<_>>() {
        membership.want(Time::ZERO, peer, Wanted::Work);
    }
    membership
}

fn peer(membership: &Membership, id: u32) -> Peer {
    membership.peers().find(|peer| membership.id(*peer) == Some(id)).expect("it is a member")
}

/// The leader, whose worker 1 is alive.
fn leader_and_worker1() -> (Membership, Peer) {
    let mut membership = node(4);
    let worker1 = peer(&membership, 1);
    membership.lane_up(ms(0), worker1, Wanted::Work, &identity(1)).unwrap();
    (membership, worker1)
}

/// Ticks from `from` to `to`, as a driver that is on time does.
fn tick(membership: &mut Membership, from: u64, to: u64) {
    for now in (from..=to).step_by(50) {
        membership.tick(ms(now));
    }
}

fn kinds(membership: &mut Membership) -> Vec<(String, ChangeKind)> {
    membership.drain_changes().into_iter().map(|change| (change.name.to_string(), change.kind)).collect()
}

fn list(version: u64, membership: &Membership) -> MemberList {
    let listed = |member: Member| ListedMember { heard_ago: member.heard.map(|_| for_ms(30)), member };
    MemberList { version, members: membership.members().into_iter().map(listed).collect() }
}

#[test]
fn who_is_asked_more_rarely_may_be_silent_for_longer() {
    let (mut membership, worker1) = leader_and_worker1();
    membership.pace(ms(0), for_ms(300));
    assert_eq!(membership.orders(worker1).interval, for_ms(300));
    tick(&mut membership, 50, 1000);
    assert_eq!(membership.status(worker1), Status::Alive, "it was asked three times at most");
    // From now on it is asked every H, and was not yet.
    membership.pace(ms(1000), for_ms(100));
    tick(&mut membership, 1000, 1300);
    assert_eq!(membership.status(worker1), Status::Alive);
    tick(&mut membership, 1350, 1350);
    assert_eq!(membership.status(worker1), Status::Suspect, "3.5 H");
}

#[test]
fn a_nodes_own_entry_is_left_out() {
    let membership = node(4);
    assert_eq!(membership.peers().count(), 3);
    assert_eq!(membership.members().len(), 4, "with itself");
}

#[test]
fn a_refused_dial_is_death_only_for_those_that_were_met() {
    let mut membership = node(4);
    let worker1 = peer(&membership, 1);
    assert!(membership.dial_failed(ms(1), worker1, &DialError::Refused), "that is news");
    assert!(!membership.dial_failed(ms(2), worker1, &DialError::Refused), "that is none");
    assert_eq!(membership.status(worker1), Status::Suspect, "it may still be starting");
    tick(&mut membership, 0, 950);
    assert_eq!(membership.status(worker1), Status::Suspect);
    tick(&mut membership, 1000, 1000);
    assert_eq!(membership.status(worker1), Status::Dead, "unreachable for 10 H");
}

#[test]
fn three_missed_heartbeats_make_a_suspect_and_ten_a_dead_one() {
    let (mut membership, worker1) = leader_and_worker1();
    tick(&mut membership, 50, 300);
    assert_eq!(membership.status(worker1), Status::Alive);
    assert!(membership.is_up(worker1));
    tick(&mut membership, 350, 350);
    assert_eq!(membership.status(worker1), Status::Suspect, "3.5 H");
    assert!(!membership.is_up(worker1), "a suspect gets no work");
    assert_eq!(membership.orders(worker1).redials, 1, "its lane is closed");
    tick(&mut membership, 400, 1300);
    assert_eq!(membership.status(worker1), Status::Suspect);
    tick(&mut membership, 1350, 1350);
    assert_eq!(membership.status(worker1), Status::Dead);
    let orders = Orders { wanted: Wanted::Work, redials: 1, reconnect_hints: 0, interval: for_ms(100) };
    assert_eq!(membership.orders(worker1), orders);

    membership.lane_up(ms(1500), worker1, Wanted::Work, &identity(1)).unwrap();
    assert_eq!(membership.status(worker1), Status::Alive, "who returns is used again");
}

#[test]
fn acknowledged_heartbeats_keep_a_member_alive_and_bring_its_figures() {
    let (mut membership, worker1) = leader_and_worker1();
    let figures = Figures { in_flight: 2, completed: 7 };
    for now in (0..5000).step_by(100) {
        membership.tick(ms(now));
        membership.acked(ms(now + 1), worker1, figures);
    }
    assert_eq!(membership.status(worker1), Status::Alive);
    assert_eq!(membership.member(worker1).unwrap().figures, figures);
}

#[test]
fn timers_that_start_anew_forgive_the_silence_so_far() {
    let (mut membership, worker1) = leader_and_worker1();
    tick(&mut membership, 0, 200);
    membership.restart_timers(ms(60_000));
    tick(&mut membership, 60_000, 60_300);
    assert_eq!(membership.status(worker1), Status::Alive);
    tick(&mut membership, 60_350, 60_350);
    assert_eq!(membership.status(worker1), Status::Suspect, "from then on it counts anew");
}

#[test]
fn whose_own_timers_come_late_is_as_much_more_patient_and_at_most_two_heartbeats() {
    for (late, patience) in [(0, 350), (50, 400), (150, 500), (200, 550), (5000, 550)] {
        let (mut membership, worker1) = leader_and_worker1();
        membership.timer_was_late(for_ms(late));
        tick(&mut membership, 50, patience - 50);
        assert_eq!(membership.status(worker1), Status::Alive, "{late} ms late");
        tick(&mut membership, patience, patience);
        assert_eq!(membership.status(worker1), Status::Suspect, "{late} ms late");
    }
}

#[test]
fn who_keeps_time_again_is_soon_as_patient_as_before() {
    let (mut membership, _) = leader_and_worker1();
    membership.timer_was_late(for_ms(200));
    membership.timer_was_late(for_ms(30));
    assert_eq!(membership.lateness(), for_ms(175), "the latest timer is not the measure alone");
    for _ in 0..40 {
        membership.timer_was_late(for_ms(0));
    }
    assert!(membership.lateness() < for_ms(1), "{:?}", membership.lateness());
}

#[test]
fn an_orderly_stop_is_no_suspicion_and_lasts() {
    let (mut membership, worker1) = leader_and_worker1();
    membership.lane_stopping(ms(10), worker1);
    assert_eq!(membership.status(worker1), Status::Stopped);
    assert!(!membership.is_up(worker1));
    membership.lane_down(ms(20), worker1, Some("its lane closed"));
    membership.dial_failed(ms(21), worker1, &DialError::Stopping);
    membership.dial_failed(ms(1021), worker1, &DialError::Refused);
    tick(&mut membership, 50, 3000);
    assert_eq!(membership.status(worker1), Status::Stopped);
}

#[test]
fn a_node_that_freezes_while_it_stops_is_left_after_three_missed_heartbeats() {
    let (mut membership, worker1) = leader_and_worker1();
    membership.lane_stopping(ms(10), worker1);
    for now in (50..2000).step_by(50) {
        membership.acked(ms(now), worker1, Figures::default());
        membership.tick(ms(now));
    }
    assert_eq!(membership.orders(worker1).redials, 0, "it answers what it holds");
    tick(&mut membership, 2000, 2250);
    assert_eq!(membership.orders(worker1).redials, 0);
    tick(&mut membership, 2300, 2300);
    assert_eq!(membership.orders(worker1).redials, 1, "its lane is closed, its asks given back");
    tick(&mut membership, 2350, 4000);
    assert_eq!(membership.orders(worker1).redials, 1, "once is enough");
    assert_eq!(membership.status(worker1), Status::Stopped);
}

#[test]
fn a_quick_restart_is_a_death_that_is_seen() {
    let (mut membership, worker1) = leader_and_worker1();
    membership.drain_changes();
    let reborn = Identity { boot: 99, ..identity(1) };
    let met = membership.lane_up(ms(50), worker1, Wanted::Work, &reborn);
    assert_eq!(met, Ok(Met { peer: worker1, is_anew: true, replaces: None }));
    let became = |status| ("worker1".to_owned(), ChangeKind::Status(status));
    assert_eq!(kinds(&mut membership), [became(Status::Dead), became(Status::Alive)]);
}

#[test]
fn a_new_life_that_speaks_up_before_its_lane_is_open_ends_the_old_one() {
    let (mut membership, worker1) = leader_and_worker1();
    let reborn = Identity { boot: 99, ..identity(1) };
    assert_eq!(membership.heard(ms(50), &reborn), Ok(Met { peer: worker1, is_anew: true, replaces: None }));
    assert!(!membership.is_up(worker1));
    assert_eq!(membership.orders(worker1).redials, 1);
    assert_eq!(membership.heard(ms(60), &reborn), Ok(Met { peer: worker1, is_anew: false, replaces: None }));
}

#[test]
fn what_a_node_speaks_is_learnt_from_itself_and_not_forgotten_by_a_leader_that_does_not_know() {
    let mut membership = node(2);
    let worker1 = peer(&membership, 1);
    let scheme = |membership: &Membership| membership.member(worker1).unwrap().scheme;
    membership.heard(ms(0), &identity(1)).unwrap();
    assert_eq!(scheme(&membership), Scheme::Http);
    membership.heard(ms(10), &Identity { scheme: Scheme::Https, ..identity(1) }).unwrap();
    assert_eq!(scheme(&membership), Scheme::Https);
    membership.want(ms(20), worker1, Wanted::Off);
    let mut unmet = list(1, &node(4));
    let leader = peer(&membership, 4);
    membership.adopt(ms(30), leader, unmet.clone());
    assert_eq!(scheme(&membership), Scheme::Https);
    unmet.version = 2;
    for listed in &mut unmet.members {
        (listed.member.boot, listed.member.scheme) = (Some(77), Scheme::Http);
    }
    membership.adopt(ms(40), leader, unmet);
    assert_eq!(scheme(&membership), Scheme::Http, "another life of it");
}

#[test]
fn a_lane_that_is_not_wanted_any_more_is_no_suspicion() {
    let (mut membership, worker1) = leader_and_worker1();
    membership.want(ms(5), worker1, Wanted::Off);
    membership.lane_down(ms(6), worker1, None);
    tick(&mut membership, 50, 2000);
    assert_eq!(membership.status(worker1), Status::Alive, "the leader watches it now");
}

#[test]
fn whoever_is_heard_of_while_out_of_reach_is_dialled_at_once() {
    let mut membership = node(4);
    let worker1 = peer(&membership, 1);
    membership.heard(ms(5), &identity(1)).unwrap();
    assert_eq!(membership.orders(worker1).reconnect_hints, 1);
    membership.lane_up(ms(6), worker1, Wanted::Work, &identity(1)).unwrap();
    membership.heard(ms(7), &identity(1)).unwrap();
    assert_eq!(membership.orders(worker1).reconnect_hints, 1, "there is no need");
}

#[test]
fn whoever_speaks_as_a_member_joins_and_is_forgotten_an_hour_after_its_death() {
    let mut membership = node(4);
    let joined = membership.heard(ms(5), &replica(1)).unwrap().peer;
    assert_eq!(membership.members().len(), 5);
    assert!(membership.configured().all(|peer| peer != joined));
    membership.want(ms(5), joined, Wanted::Work);
    membership.lane_up(ms(6), joined, Wanted::Work, &replica(1)).unwrap();
    membership.lane_down(ms(100), joined, Some("its lane broke"));
    membership.dial_failed(ms(101), joined, &DialError::Refused);
    membership.tick(Time::at(JOINED_KEPT));
    assert!(membership.member(joined).is_some());
    membership.tick(ms(1000) + JOINED_KEPT);
    assert!(membership.member(joined).is_none());
    assert_eq!(membership.members().len(), 4, "configured ones are never forgotten, dead as they are");
}

#[test]
fn a_cluster_that_is_full_takes_nobody_in() {
    let mut membership = node(4);
    for number in 0..MEMBERS_MAX as u64 - 4 {
        membership.heard(ms(1), &replica(number)).unwrap();
    }
    assert_eq!(membership.members().len(), MEMBERS_MAX);
    assert_eq!(membership.heard(ms(1), &replica(5000)), Err(Refusal::Full));
    assert!(membership.heard(ms(1), &replica(7)).is_ok(), "members stay members");
}

#[test]
fn a_copied_id_is_refused_while_its_owner_is_alive() {
    let (mut membership, worker1) = leader_and_worker1();
    let copy = Identity { boot: 99, grpc_addr: "elsewhere:1".into(), ..identity(1) };
    assert_eq!(membership.heard(ms(5), &copy), Err(Refusal::Taken("worker1:1".into())));
    let own = Identity { boot: 98, grpc_addr: "elsewhere:1".into(), ..identity(4) };
    assert_eq!(membership.heard(ms(5), &own), Err(Refusal::Taken("leader:1".into())));
    assert!(membership.is_up(worker1));

    membership.lane_down(ms(10), worker1, Some("its lane broke"));
    membership.dial_failed(ms(11), worker1, &DialError::Refused);
    assert!(membership.heard(ms(12), &copy).is_ok(), "the id is free again");
}

#[test]
fn the_wrong_node_at_a_peers_address_is_not_taken_for_it() {
    let (mut membership, _) = leader_and_worker1();
    let worker2 = peer(&membership, 2);
    let copy = Identity { boot: 99, grpc_addr: "worker2:1".into(), ..identity(1) };
    let met = membership.lane_up(ms(5), worker2, Wanted::Work, &copy);
    assert_eq!(met, Err(Refusal::Taken("worker1:1".into())));
    assert!(!membership.is_up(worker2));
    assert_eq!(membership.orders(worker2).redials, 1, "its lane is closed");
}

#[test]
fn an_id_that_was_left_out_is_learnt() {
    let nameless = PeerAddress { id: None, grpc_addr: "worker2:1".into() };
    let mut membership = Membership::new(&identity(1), &[nameless], H);
    let worker2 = membership.peers().next().unwrap();
    membership.want(ms(0), worker2, Wanted::Work);
    assert_eq!(membership.id(worker2), None);
    membership.lane_up(ms(1), worker2, Wanted::Work, &identity(2)).unwrap();
    assert_eq!(membership.id(worker2), Some(2));
    assert!(!membership.heard(ms(2), &identity(2)).unwrap().is_anew);
}

#[test]
fn one_finds_oneself_at_a_peers_address_and_drops_the_entry() {
    let alias = PeerAddress { id: None, grpc_addr: "another-name-of-worker1:1".into() };
    let mut membership = Membership::new(&identity(1), &[alias], H);
    let entry = membership.peers().next().unwrap();
    assert_eq!(membership.lane_up(ms(1), entry, Wanted::Work, &identity(1)), Err(Refusal::Listed));
    assert_eq!(membership.members().len(), 1);
}

#[test]
fn a_node_that_is_listed_by_two_addresses_is_one_member() {
    let alias = PeerAddress { id: None, grpc_addr: "another-name-of-worker2:1".into() };
    let mut membership = Membership::new(&identity(1), &[alias], H);
    let entry = membership.peers().next().unwrap();
    membership.want(ms(0), entry, Wanted::Work);
    membership.heard(ms(1), &identity(2)).unwrap();
    assert_eq!(membership.peers().count(), 2, "nobody can know yet");
    let joined = membership.peers().find(|peer| *peer != entry).unwrap();
    let met = membership.lane_up(ms(2), entry, Wanted::Work, &identity(2));
    assert_eq!(met, Ok(Met { peer: entry, is_anew: false, replaces: Some(joined) }));
    let kept: Vec<Peer> = membership.peers().collect();
    assert_eq!(kept, membership.configured().collect::<Vec<_>>(), "by the address that was configured");
    assert_eq!(membership.heard(ms(3), &identity(2)).unwrap().peer, entry);
}

// ── Names that return at another address ────────────────────────────────────────────────────────────────────────

fn dies(membership: &mut Membership, peer: Peer, now: u64) {
    membership.lane_down(ms(now), peer, Some("its lane broke"));
    membership.dial_failed(ms(now), peer, &DialError::Refused);
    membership.tick(ms(now));
    assert_eq!(membership.status(peer), Status::Dead);
}

/// The node in another life, at another address.
fn moved(node: &Identity, life: u64) -> Identity {
    Identity { boot: 100 * life + node.boot, grpc_addr: format!("elsewhere{life}:1").into(), ..node.clone() }
}

/// It speaks up, and the lane to where it spoke from opens.
fn returns(membership: &mut Membership, node: &Identity, now: u64) -> Peer {
    let peer = membership.heard(ms(now), node).unwrap().peer;
    membership.want(ms(now), peer, Wanted::Work);
    membership.lane_up(ms(now), peer, Wanted::Work, node).unwrap();
    membership.tick(ms(now));
    peer
}

/// The addresses that are shown for it, and how it is doing.
fn shown(membership: &Membership, name: &str) -> Vec<(String, Status)> {
    let members = membership.shown_and_ghosts().0.into_iter().filter(|member| &*member.name == name);
    members.map(|member| (member.grpc_addr.to_string(), member.status)).collect()
}

#[test]
fn whoever_returns_at_another_address_leaves_no_ghost() {
    for node in [replica(1), Identity { name: "joined".into(), ..identity(9) }] {
        let mut membership = self::node(4);
        let mut peer = returns(&mut membership, &node, 10);
        for life in 1..4 {
            dies(&mut membership, peer, life * 1000);
            let alive = moved(&node, life);
            peer = returns(&mut membership, &alive, life * 1000 + 10);
            let address = format!("elsewhere{life}:1");
            assert_eq!(shown(&membership, &node.name), [(address, Status::Alive)], "{node:?}");
            assert_eq!(membership.named(&node.name), Some(peer));
        }
        dies(&mut membership, peer, 9000);
        assert_eq!(shown(&membership, &node.name), [("elsewhere3:1".to_owned(), Status::Dead)]);
        let back = Identity { boot: 7777, ..node.clone() };
        returns(&mut membership, &back, 10_000);
        assert_eq!(shown(&membership, &node.name), [(node.grpc_addr.to_string(), Status::Alive)]);
    }
}

#[test]
fn living_nodes_of_one_name_do_not_push_each_other_out() {
    let mut membership = node(4);
    let twins = [replica(1), Identity { name: "replica1".into(), ..replica(2) }];
    let peers = twins.each_ref().map(|twin| returns(&mut membership, twin, 10));
    assert_eq!(shown(&membership, "replica1").len(), 2);
    membership.lane_down(ms(20), peers[0], Some("its lane broke"));
    membership.tick(ms(30));
    assert_eq!(membership.status(peers[0]), Status::Suspect);
    assert_eq!(shown(&membership, "replica1").len(), 2, "a suspect may be alive");
    let other_id = Identity { name: "worker1".into(), ..identity(3) };
    let (mut membership, worker1) = leader_and_worker1();
    let worker3 = peer(&membership, 3);
    membership.lane_up(ms(0), worker3, Wanted::Work, &other_id).unwrap();
    dies(&mut membership, worker1, 100);
    assert_eq!(shown(&membership, "worker1").len(), 2, "another id is another node, whatever its name");
}

#[test]
fn a_follower_takes_over_what_its_leader_says_of_the_others() {
    let mut membership = node(1);
    let (leader, worker2) = (peer(&membership, 4), peer(&membership, 2));
    membership.lane_up(ms(0), leader, Wanted::Schedule, &identity(4)).unwrap();
    for other in [worker2, peer(&membership, 3)] {
        membership.want(ms(0), other, Wanted::Off);
    }
    let mut leaders = node(4);
    let its_worker2 = peer(&leaders, 2);
    leaders.lane_up(ms(0), its_worker2, Wanted::Work, &identity(2)).unwrap();
    leaders.heard(ms(0), &replica(1)).unwrap();
    let figures = Figures { in_flight: 3, completed: 9 };
    leaders.own_figures(ms(101), figures);

    membership.adopt(ms(200), leader, list(7, &leaders));
    assert_eq!(membership.adopted_version(), 7);
    assert_eq!(membership.status(worker2), Status::Alive);
    assert_eq!(membership.member(worker2).unwrap().heard, Some(ms(170)), "by the age that was told");
    assert_eq!(membership.member(leader).unwrap().figures, figures);
    assert_eq!(membership.members().len(), 5, "who joined the leader is known to all");

    leaders.lane_down(ms(300), its_worker2, Some("its lane broke"));
    leaders.dial_failed(ms(301), its_worker2, &DialError::Refused);
    let mut told = list(8, &leaders);
    told.members.retain(|listed| listed.member.id.is_some());
    membership.adopt(ms(400), leader, told);
    assert_eq!(membership.status(worker2), Status::Dead);
    assert_eq!(membership.members().len(), 4, "and who was forgotten is forgotten by all");

    let nothing_new = MemberList { version: 9, members: Vec::new() };
    membership.adopt(ms(500), leader, nothing_new);
    assert_eq!(membership.adopted_version(), 8);
    assert_eq!(membership.members().len(), 4);
}

#[test]
fn changes_say_why_and_how_long_the_state_before_had_lasted() {
    let (mut membership, worker1) = leader_and_worker1();
    membership.lane_down(ms(520), worker1, Some("its lane broke: connection reset"));
    let change = membership.recent().next().unwrap();
    assert_eq!(change.duration, for_ms(520));
    assert_eq!(change.reason, "its lane broke: connection reset");
    assert_eq!(change.at, ms(520));
}

#[test]
fn who_answers_at_an_address_may_be_the_one_that_is_sought_there_or_is_another() {
    let mut membership = node(4);
    let (mut first, second) = (peer(&membership, 1), peer(&membership, 2));
    for (peer, id) in [(first, 1), (second, 2)] {
        membership.lane_up(ms(1), peer, Wanted::Work, &identity(id)).unwrap();
    }
    let joined = returns(&mut membership, &replica(1), 2);
    let alias = |node: Identity| Identity { grpc_addr: "another.name:1".into(), ..node };
    let anew = |node: Identity| Identity { boot: 500, ..node };
    let may_be = |membership: &Membership, peer: Peer, node: &Identity| {
        membership.sought(peer).unwrap().may_be(node, membership.members().iter())
    };
    for (sought, node, expected, why) in [
        (first, identity(1), true, "it is the one that was met"),
        (first, alias(identity(1)), true, "under another name than it gives itself"),
        (first, anew(identity(1)), true, "in another life"),
        (first, alias(anew(identity(1))), true, "in another life and under another name"),
        (first, identity(2), false, "its id is another's, which is known elsewhere"),
        (first, replica(1), false, "it is known elsewhere"),
        (
            first,
            alias(anew(identity(3))),
            true,
            "whom nobody has met yet: an address of ours has another node",
        ),
        (joined, replica(1), true, "it is the one that joined"),
        (joined, alias(replica(1)), true, "others reach it by another name"),
        (joined, anew(replica(1)), true, "another life at the same address"),
        (joined, alias(anew(replica(1))), false, "another life at another one"),
        (joined, identity(1), false, "another member"),
        (joined, identity(4), false, "this node itself"),
    ] {
        assert_eq!(may_be(&membership, sought, &node), expected, "{why}");
    }
    // Of a configured address nothing is known before somebody answers there, unless its id is given.
    let addresses = [PeerAddress { id: None, ..address(1) }, address(2), address(3)];
    membership = Membership::new(&identity(4), &addresses, H);
    first = membership.peers().next().unwrap();
    let (second, third) = (peer(&membership, 2), peer(&membership, 3));
    membership.lane_up(ms(1), second, Wanted::Work, &identity(2)).unwrap();
    assert!(may_be(&membership, first, &identity(2)), "it is listed twice, perhaps");
    assert!(!may_be(&membership, third, &identity(2)), "the id says that it is not");
}
