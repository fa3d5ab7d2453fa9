//! Each rule of the machine is broken in turn, on all nodes: an invariant or a scenario must notice.

use std::{env, fmt::Write as _, fs, path::Path, sync::Arc, time::Duration};

use super::{
    Ballot, Claim, DialError, Election, Identity, PeerAddress, Plan, Rule, Rules, Time, Wanted, WorldTime,
    faults::{Fault, Who},
    first_violation, ms,
    world::World,
};

/// So many seeds at most, until an invariant notices.
const SEEDS_MAX: u64 = 3_000;

/// What notices it: an invariant within some seeds, or a scenario of its own.
struct Caught {
    rule: Rule,
    by: String,
    after: String,
}

type Scenario = fn(Rules) -> Result<(), String>;

const RULES: [(Rule, &str); 29] = [
    (Rule::ClaimsRise, "a claim takes the highest counter seen, and not one more"),
    (Rule::StaleClaimsAnew, "a leader that is refused as stale does not claim anew"),
    (Rule::Suspicion, "three missed heartbeats make no suspect"),
    (Rule::LateWakeUp, "after a late wake-up the timers go on"),
    (Rule::Veto, "who hears the leader answers `go` or `ok`"),
    (Rule::VetoOnReceipt, "who hears its leader follows a higher claim"),
    (Rule::SilenceIsAwaited, "who is silent is waited for H/20, not 2 H"),
    (Rule::OkIsAwaited, "`ok` is not minded"),
    (Rule::AskingMovesNobody, "who is asked gives up its leader"),
    (Rule::Rank, "all ask at once"),
    (Rule::QuestionIsOk, "a higher id's question is not minded"),
    (Rule::BootWait, "a new node asks at once"),
    (Rule::NoOkAtBoot, "a node in its boot wait answers `ok`"),
    (Rule::HandOverIsNamed, "a claim that names what it succeeds is not accepted for it"),
    (Rule::HandOverAtStop, "a stopping leader hands nothing over"),
    (Rule::HandOverIsRetried, "a stopping leader tries each successor once"),
    (Rule::StoppingNeverClaims, "a stopping node claims"),
    (Rule::LeadsUntilVictory, "who hands over stops leading at once"),
    (Rule::HearingRefusesHandOver, "who hears another leader accepts a hand-over"),
    (Rule::MeetingHandsOver, "two leaders that meet both go on"),
    (Rule::SucceededIsNotMet, "a leader meets those that it succeeds"),
    (Rule::HighestReturns, "no leader hands over to a higher id"),
    (Rule::DeadAreDialled, "dead peers are not dialled"),
    (Rule::OneLife, "a changed boot is not minded"),
    (Rule::FewAreReached, "a node without a leader reaches for all"),
    (Rule::UnreachedIsReachedFor, "the leader that is heard and not reached is not dialled"),
    (Rule::FewAreAskedAtFirst, "a candidate asks all at once"),
    (Rule::AllAreAsked, "a candidate asks a few, and nobody else"),
    (Rule::LeaderIsAsked, "who hears of the leader does not ask it"),
];

/// The easy to break unseen, and those that need one certain moment.
const SCENARIOS: [(Rule, &str, Scenario); 14] = [
    (Rule::LateWakeUp, "a follower that hung keeps its leader", a_late_wake_up_loses_no_leader),
    (Rule::Rank, "few messages when a leader dies", a_death_takes_few_messages),
    (Rule::QuestionIsOk, "the lower of two candidates gives way", a_higher_question_is_an_ok),
    (
        Rule::BootWait,
        "the highest of those that start together leads",
        the_first_to_boot_does_not_grab_the_lead,
    ),
    (Rule::HandOverAtStop, "a stop leaves nobody without leader", a_stop_leaves_nobody_without_leader),
    (Rule::LeadsUntilVictory, "a stop leaves nobody without leader", a_stop_leaves_nobody_without_leader),
    (Rule::HandOverIsRetried, "a stop retries its hand-over", a_stop_retries_its_hand_over),
    (Rule::SucceededIsNotMet, "a transfer takes one claim", a_transfer_takes_one_claim),
    (Rule::OkIsAwaited, "an `ok` is waited for", an_ok_is_waited_for),
    (Rule::NoOkAtBoot, "who boots holds nobody up", who_boots_holds_nobody_up),
    (Rule::OneLife, "a quick restart is a death", a_quick_restart_is_a_death),
    (Rule::UnreachedIsReachedFor, "who hears the leader dials it", who_hears_the_leader_dials_it),
    (Rule::AllAreAsked, "the last of many objects", the_last_of_many_objects),
    (Rule::LeaderIsAsked, "who returns is heard of", who_returns_is_heard_of),
];

fn caught(rule: Rule) -> Option<Caught> {
    if let Some((_, name, scenario)) = SCENARIOS.iter().find(|(of, ..)| *of == rule) {
        scenario(Rules::all_but(rule)).err()?;
        return Some(Caught { rule, by: format!("scenario: {name}"), after: "–".to_owned() });
    }
    let (seed, violation) = first_violation(0..SEEDS_MAX, Rules::all_but(rule))?;
    Some(Caught { rule, by: violation.invariant.to_owned(), after: (seed + 1).to_string() })
}

/// With `PRIMACY_UPDATE_TRACES=1` the table of the documentation is written anew.
#[test]
fn every_broken_rule_is_noticed() {
    let mut table =
        String::from("| rule | broken, so that | noticed by | after seeds |\n|---|---|---|---|\n");
    let mut unnoticed = Vec::new();
    let only = env::var("PRIMACY_RULE").unwrap_or_default();
    for (rule, broken) in RULES.into_iter().filter(|(rule, _)| format!("{rule:?}").contains(&only)) {
        match caught(rule) {
            Some(Caught { rule, by, after }) => {
                let _ = writeln!(table, "| `{rule:?}` | {broken} | {by} | {after} |");
            }
            None => unnoticed.push(rule),
        }
    }
    println!("{table}");
    if env::var_os("PRIMACY_UPDATE_TRACES").is_some() {
        let intro = "# Broken rules\n\nEach rule of the election is broken in turn, on all nodes, and the simulator runs seeds until an invariant of\n`crates/election/src/tests/bully/invariants.rs` is violated. What seeds may not find has a scenario of its own in\n`mutants.rs` beside it. `PRIMACY_UPDATE_TRACES=1 cargo test -p primacy-election bully::mutants` writes this page.\n\n";
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/election-mutants.md");
        fs::write(path, format!("{intro}{table}")).unwrap();
    }
    assert!(unnoticed.is_empty(), "nothing notices that these are broken: {unnoticed:?}");
}

/// What the scenarios find broken must hold otherwise.
#[test]
fn scenarios_hold() {
    for (_, name, scenario) in SCENARIOS {
        if let Err(wrong) = scenario(Rules::ALL) {
            panic!("{name}: {wrong}");
        }
    }
}

fn world(seed: u64, count: usize, rules: Rules) -> World {
    let mut world = World::new(Plan { rules, ..Plan::quiet(seed, count, ms(60_000)) }, false);
    world.run_until(ms(3_000));
    world
}

fn expect(condition: bool, wrong: impl FnOnce() -> String) -> Result<(), String> {
    if condition { Ok(()) } else { Err(wrong()) }
}

fn leaders_lost(world: &World) -> usize {
    world.living().iter().map(|node| world.times_lost(*node)).sum()
}

fn a_late_wake_up_loses_no_leader(rules: Rules) -> Result<(), String> {
    for seed in 0..8 {
        let mut world = world(seed, 3, rules);
        world.befall(Fault::Pause(Who::Node(0), ms(900)));
        world.run_until(ms(6_000));
        expect(leaders_lost(&world) == 0, || format!("seed {seed}: a leader was lost"))?;
    }
    Ok(())
}

/// I8: at most 4n election messages a round when nothing is lost and all notice within H/5.
fn a_death_takes_few_messages(rules: Rules) -> Result<(), String> {
    for (seed, count) in [(0, 3), (1, 4), (2, 5), (3, 8), (4, 16), (5, 32)] {
        let mut world = world(seed, count, rules);
        let before = world.messages;
        world.befall(Fault::Crash(Who::Leader(0), None));
        world.run_until(ms(4_000));
        let messages = world.messages - before;
        expect(messages <= 4 * count as u64, || format!("{messages} messages among {count}"))?;
    }
    Ok(())
}

/// The lowest misses the leader first, and its question to the higher one gets lost; then that one asks, and waits for
/// a third that hangs.
fn a_higher_question_is_an_ok(rules: Rules) -> Result<(), String> {
    let mut world = world(9, 4, rules);
    world.befall(Fault::Cut(vec![(3, 0)], ms(2_000)));
    world.run_until(ms(3_100));
    world.befall(Fault::Pause(Who::Node(1), ms(2_000)));
    world.befall(Fault::Pause(Who::Node(3), ms(5_000)));
    world.run_while(ms(3_900), |world| world.leader_of(0).is_some());
    world.befall(Fault::Cut(vec![(0, 2)], ms(70)));
    world.run_until(ms(3_900));
    let leaders = world.leaders();
    expect(leaders.contains(&2) && !leaders.contains(&0), || format!("{leaders:?} lead"))
}

fn the_first_to_boot_does_not_grab_the_lead(rules: Rules) -> Result<(), String> {
    let mut plan = Plan { rules, ..Plan::quiet(7, 3, ms(60_000)) };
    for (node, start) in plan.nodes.iter_mut().zip([0, 150, 300]) {
        node.starts = ms(start);
    }
    let mut world = World::new(plan, false);
    world.run_until(ms(2_000));
    let (leader, claims) = (world.agreed(&world.living()), world.claims_after(WorldTime::ZERO));
    expect(leader == Some(2) && claims == 1, || format!("{claims} claims, and {leader:?} leads"))
}

fn a_stop_leaves_nobody_without_leader(rules: Rules) -> Result<(), String> {
    let mut world = world(3, 4, rules);
    world.befall(Fault::Stop { who: Who::Leader(0), exit: ms(1_500), down: None });
    world.run_while(ms(6_000), |world| !world.leaders().is_empty());
    expect(!world.leaders().is_empty() && leaders_lost(&world) == 0, || {
        format!("no leader at {:?}", world.now)
    })
}

/// The one offer gets lost.
fn a_stop_retries_its_hand_over(rules: Rules) -> Result<(), String> {
    let mut world = world(4, 2, rules);
    world.befall(Fault::Cut(vec![(1, 0)], ms(2)));
    world.befall(Fault::Stop { who: Who::Node(1), exit: ms(1_900), down: None });
    world.run_until(ms(4_700));
    expect(world.leaders().contains(&0), || "it has no successor yet".to_owned())
}

/// A heartbeat of the old leader may be on its way when its successor claims.
fn a_transfer_takes_one_claim(rules: Rules) -> Result<(), String> {
    for seed in 0..40 {
        let mut plan = Plan { rules, ..Plan::quiet(seed, 4, ms(60_000)) };
        plan.delay = (ms(2), ms(15));
        let mut world = World::new(plan, false);
        world.run_until(ms(3_000 + seed));
        let before = world.now;
        world.befall(Fault::Transfer(Who::Leader(3), 0));
        world.run_until(before + ms(500));
        let claims = world.claims_after(before);
        expect(claims == 1, || format!("seed {seed}: {claims} claims"))?;
    }
    Ok(())
}

/// The lowest misses the leader first, because its heartbeats failed to reach it before the leader hung.
fn an_ok_is_waited_for(rules: Rules) -> Result<(), String> {
    let mut world = world(5, 4, rules);
    world.befall(Fault::Cut(vec![(3, 0)], ms(2_000)));
    world.run_until(ms(3_120));
    world.befall(Fault::Pause(Who::Node(3), ms(5_000)));
    world.run_until(ms(4_000));
    let leader = world.agreed(&[0, 1, 2]);
    expect(leader == Some(2), || format!("{leader:?} leads"))
}

/// The highest starts in the instant in which the leader dies, and a fifth node is down: it has to wait.
fn who_boots_holds_nobody_up(rules: Rules) -> Result<(), String> {
    let mut plan = Plan { rules, ..Plan::quiet(6, 5, ms(60_000)) };
    (plan.nodes[3].starts, plan.nodes[4].starts) = (ms(2_990), ms(50_000));
    let mut world = World::new(plan, false);
    world.run_until(ms(2_994));
    world.befall(Fault::Crash(Who::Leader(0), None));
    world.run_until(ms(3_200));
    expect(!world.leaders().is_empty(), || "nobody leads after 200 ms".to_owned())
}

/// It is there again before anybody has found it gone, and has to wait for a fifth, which is down.
fn a_quick_restart_is_a_death(rules: Rules) -> Result<(), String> {
    let mut plan = Plan { rules, ..Plan::quiet(8, 5, ms(60_000)) };
    plan.nodes[4].starts = ms(50_000);
    let mut world = World::new(plan, false);
    world.run_until(ms(3_000));
    world.befall(Fault::Crash(Who::Leader(0), Some(ms(1))));
    world.run_until(ms(3_200));
    expect(world.agreed(&world.living()).is_some(), || "no leader after 200 ms".to_owned())
}

/// So many that each reaches for two of them.
const MANY: usize = 65;

/// It is hardly ever one of those that share the node's work.
fn who_hears_the_leader_dials_it(rules: Rules) -> Result<(), String> {
    let node = |id: u32, boot| Identity {
        id: Some(id),
        boot,
        grpc_addr: format!("n{id}").into(),
        ..Identity::default()
    };
    for boot in 1..=8 {
        let peers =
            (2..=MANY as u32).map(|id| PeerAddress { id: Some(id), grpc_addr: format!("n{id}").into() });
        let mut election = Election::bully(&node(1, boot), &peers.collect::<Vec<_>>(), ms(100), rules);
        let ballot = Ballot { counter: 1, id: MANY as u32 };
        let succeeds = Arc::default();
        let (followers, heartbeat, reason, took) = (0, ms(100), "".into(), Duration::ZERO);
        let claim = Claim { ballot, succeeds, followers, heartbeat, reason, took };
        election
            .claimed(Time::at(ms(1)), &node(MANY as u32, 1_000), &claim, None)
            .map_err(|refused| refused.to_string())?;
        let leader = election.leading_peer().ok_or("it does not follow")?;
        election.dial_failed(Time::at(ms(2)), leader, &DialError::Refused);
        let wanted = election.members().orders(leader).wanted;
        let follows = election.leading_peer().is_some();
        expect(!follows && wanted == Wanted::Work, || format!("boot {boot}: {wanted:?}"))?;
    }
    Ok(())
}

/// The lowest alone hears the leader.
fn the_last_of_many_objects(rules: Rules) -> Result<(), String> {
    let mut world = world(11, MANY, rules);
    let others = 1..MANY - 1;
    world.befall(Fault::Cut(
        others.flat_map(|node| [(MANY - 1, node), (node, MANY - 1)]).collect(),
        ms(2_000),
    ));
    world.run_until(ms(4_900));
    let (claims, wrong) = (world.claims_after(ms(3_000)), world.violation.map(|violation| violation.text));
    expect(claims == 0 && wrong.is_none(), || format!("{claims} claims, {wrong:?}"))
}

/// By then the leader dials it once a second.
fn who_returns_is_heard_of(rules: Rules) -> Result<(), String> {
    for seed in 0..4 {
        let mut world = world(seed, MANY, rules);
        world.befall(Fault::Crash(Who::Node(0), Some(ms(6_250))));
        world.run_until(ms(9_350));
        let leader = world.leader_of(0);
        expect(leader == Some(MANY - 1), || format!("seed {seed}: after 100 ms it follows {leader:?}"))?;
    }
    Ok(())
}
