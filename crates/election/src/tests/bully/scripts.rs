//! Stories with golden traces: what is told and claimed, line by line, in virtual time. Heartbeats are left out.
//! `PRIMACY_UPDATE_TRACES=1` writes them anew.

use std::{env, fs, path::Path, time::Duration};

use super::{
    ClaimVerdict, Election, Figures, Identity, Judged, PeerAddress, Plan, Rules, Time, Wanted, WorldTime,
    faults::{
        Fault,
        Who::{Leader, Node},
    },
    ms,
    world::World,
};

/// The trace of `count` nodes to which this happens, from shortly before the first fault.
fn tell(name: &str, count: usize, end: WorldTime, faults: Vec<(u64, Fault)>) {
    let mut plan = Plan::quiet(1, count, end);
    let from = faults.first().map_or(0, |(at, _)| *at);
    plan.faults = faults.into_iter().map(|(at, fault)| (ms(at), fault)).collect();
    let mut world = World::new(plan, true);
    world.run();
    let violation = world.violation.map(|violation| violation.text);
    assert!(violation.is_none(), "{name}: {violation:?}");
    let time_of = |line: &str| line.split_whitespace().next().and_then(|at| at.parse::<f64>().ok());
    let trace = world.trace.unwrap_or_default();
    let told = trace.lines().filter(|line| time_of(line).is_some_and(|at| at >= from as f64));
    check(name, &told.map(|line| format!("{line}\n")).collect::<String>());
}

fn check(name: &str, trace: &str) {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tests/bully/traces").join(format!("{name}.txt"));
    if env::var_os("PRIMACY_UPDATE_TRACES").is_some() {
        return fs::write(path, trace).unwrap();
    }
    let golden = fs::read_to_string(&path).unwrap_or_default();
    if golden != trace {
        let mut lines = golden.lines().zip(trace.lines());
        let first = lines.position(|(old, new)| old != new);
        let at = first.unwrap_or_else(|| golden.lines().count().min(trace.lines().count()));
        let tail = |text: &str| text.lines().skip(at).take(8).collect::<Vec<_>>().join("\n");
        panic!(
            "{name} differs from line {}:\n--- golden\n{}\n+++ now\n{}\nPRIMACY_UPDATE_TRACES=1 writes it anew",
            at + 1,
            tail(&golden),
            tail(trace)
        );
    }
}

const AGAIN: Option<Duration> = Some(Duration::from_secs(2));

#[test]
fn all_start() {
    tell("all_start", 3, ms(1_000), Vec::new());
}

#[test]
fn leader_dies() {
    tell("leader_dies", 4, ms(4_000), vec![(3_000, Fault::Crash(Leader(3), None))]);
}

#[test]
fn leader_hangs() {
    tell("leader_hangs", 4, ms(7_000), vec![(3_000, Fault::Pause(Leader(3), ms(2_000)))]);
}

#[test]
fn leader_returns() {
    tell("leader_returns", 4, ms(18_000), vec![(3_000, Fault::Crash(Leader(3), AGAIN))]);
}

#[test]
fn two_leaders_meet() {
    let ways = [(0, 2), (0, 3), (1, 2), (1, 3)].into_iter().flat_map(|(a, b)| [(a, b), (b, a)]);
    tell("two_leaders_meet", 4, ms(8_000), vec![(3_000, Fault::Cut(ways.collect(), ms(2_000)))]);
}

#[test]
fn one_way_cut() {
    tell("one_way_cut", 4, ms(7_000), vec![(3_000, Fault::Cut(vec![(3, 0)], ms(2_000)))]);
}

#[test]
fn sends_and_does_not_hear() {
    let deaf = Fault::Isolate { who: Node(1), mute: false, deaf: true, time: ms(2_000) };
    tell("sends_and_does_not_hear", 4, ms(7_000), vec![(3_000, deaf)]);
}

#[test]
fn leader_does_not_hear() {
    let deaf = Fault::Isolate { who: Leader(3), mute: false, deaf: true, time: ms(2_000) };
    tell("leader_does_not_hear", 4, ms(8_000), vec![(3_000, deaf)]);
}

#[test]
fn highest_crash_loops() {
    let crash = |at| (at, Fault::Crash(Node(3), Some(ms(500))));
    tell("highest_crash_loops", 4, ms(22_000), (0..5).map(|time| crash(3_000 + 1_500 * time)).collect());
}

#[test]
fn all_restart() {
    tell("all_restart", 4, ms(5_000), vec![(3_000, Fault::CrashAll(ms(300)))]);
}

#[test]
fn two_nodes() {
    tell("two_nodes", 2, ms(20_000), vec![(3_000, Fault::Crash(Leader(1), AGAIN))]);
}

#[test]
fn one_node() {
    tell("one_node", 1, ms(2_000), Vec::new());
}

#[test]
fn successor_dies() {
    let stop = Fault::Stop { who: Leader(3), exit: ms(1_200), down: None };
    tell("successor_dies", 4, ms(6_000), vec![(3_000, stop), (3_001, Fault::Crash(Node(2), None))]);
}

#[test]
fn successor_dies_after_its_claim() {
    let stop = Fault::Stop { who: Leader(3), exit: ms(1_200), down: None };
    let faults = vec![(3_000, stop), (3_004, Fault::Crash(Node(2), None))];
    tell("successor_dies_after_its_claim", 4, ms(6_000), faults);
}

#[test]
fn sigterm() {
    let stop = Fault::Stop { who: Leader(3), exit: ms(1_000), down: AGAIN };
    tell("sigterm", 4, ms(18_000), vec![(3_000, stop)]);
}

#[test]
fn transfer() {
    tell("transfer", 4, ms(16_000), vec![(3_000, Fault::Transfer(Leader(3), 1))]);
}

/// A leader of one follower, which agreed a heartbeat ago.
fn leader_of_one() -> (Election, super::Peer, Time) {
    let node = |id, address: &str| Identity {
        id: Some(id),
        boot: u64::from(id),
        grpc_addr: address.into(),
        ..Identity::default()
    };
    let peer = PeerAddress { id: Some(1), grpc_addr: "b".into() };
    let mut election = Election::bully(&node(2, "a"), &[peer], ms(100), Rules::ALL);
    let peer = election.members().peers().next().unwrap();
    election.lane_up(Time::at(ms(1)), peer, Wanted::Work, &node(1, "b"));
    let mut now = Time::at(ms(1));
    while !election.leads() {
        now = election.next_deadline();
        election.tick(now);
    }
    agrees(&mut election, peer, now, now);
    (election, peer, now + ms(100))
}

fn agrees(election: &mut Election, peer: super::Peer, now: Time, asked: Time) {
    let ballot = election.highest();
    let judged = Judged { asked, ballot, verdict: ClaimVerdict::Follows };
    election.acked(now, peer, Figures::default(), Some(judged));
}

fn followers(election: &Election, now: Time) -> u32 {
    election.claim(now).unwrap().followers
}

/// Whatever it finds in its sockets: its followers of before are no followers of now.
#[test]
fn leader_that_wakes_up_has_no_followers() {
    let (mut election, peer, asleep) = leader_of_one();
    assert_eq!(followers(&election, asleep), 1);
    let (told, awake) = (election.claim(asleep).unwrap(), asleep + ms(2_000));
    assert_eq!(told.told_at(asleep + ms(200), asleep).followers, 1);
    assert_eq!(told.told_at(awake, asleep).followers, 0, "the claim of before");
    agrees(&mut election, peer, awake, asleep);
    assert_eq!(followers(&election, awake), 0, "the agreement of before");
    agrees(&mut election, peer, awake + ms(2), awake);
    assert_eq!(followers(&election, awake + ms(2)), 1);
}

/// That on a victory may come after those on later heartbeats.
#[test]
fn verdict_that_was_overtaken_takes_back_nothing() {
    let (mut election, peer, now) = leader_of_one();
    agrees(&mut election, peer, now, now);
    agrees(&mut election, peer, now, now - ms(300));
    assert_eq!(followers(&election, now), 1);
}
