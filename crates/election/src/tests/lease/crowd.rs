//! A thousand nodes: what it costs one of them, and etcd. Measured, not judged.
//!
//! ```text
//!   cargo test --release -p primacy-election lease::crowd -- --ignored --nocapture --test-threads 1
//! ```

use std::{sync::Arc, time::Instant};

use super::{
    Identity, Plan, World, WorldTime,
    lease::{LeaseState, News, Registration, Told},
    ms,
    plan::Fault,
};
use crate::{Election, Scheme, Time};

const COUNT: usize = 1_000;

fn registration(place: usize) -> Registration {
    let name: Arc<str> = format!("node{place}").into();
    let grpc_addr = format!("10.0.{}.{}:50051", place / 250, place % 250).into();
    let (id, boot) = (Some(place as u32 + 1), place as u64 + 1);
    let (http_addr, version) = ("10.0.0.1:8080".into(), "1".into());
    let node = Identity { id, name, boot, grpc_addr, http_addr, version, scheme: Scheme::default() };
    Registration { node, lease: boot.cast_signed(), revision: boot.cast_signed() }
}

/// What the task that holds the lease, and the driver's election, take for the news.
fn taken_in(news: Vec<News>) -> [std::time::Duration; 2] {
    let me = Arc::new(registration(0).node);
    let (mut lease_state, mut election) =
        (LeaseState::new(Arc::clone(&me)), Election::appointed(&me, &[], ms(100)));
    let mut took = [std::time::Duration::ZERO; 2];
    for news in news {
        let started = Instant::now();
        lease_state.hear(Time::ZERO, news);
        lease_state.next(Time::ZERO, &[]);
        let recognised = lease_state.recognised(Time::ZERO);
        took[0] += started.elapsed();
        let started = Instant::now();
        election.recognise(Time::ZERO, &recognised);
        took[1] += started.elapsed();
    }
    assert_eq!(election.members().peers().count(), COUNT - 1);
    took
}

#[test]
#[ignore = "it measures, and judges nothing"]
fn one_node_takes_in_a_thousand() {
    let all: Vec<Registration> = (0..COUNT).map(registration).collect();
    let list = News::Listed(all.clone(), Told { holder: None, revision: 1 });
    println!("a list of {COUNT}: lease_state, election: {:?}", taken_in(vec![list]));
    let one_by_one = all.into_iter().map(News::Registered).collect();
    println!("{COUNT} registrations, one by one: {:?}", taken_in(one_by_one));
}

/// Counts what happens until a condition holds, or for a time.
fn tell(what: &str, world: &mut World, longest: WorldTime, until: impl Fn(&World) -> bool) {
    let (from, calls, told) = (world.now, world.figures.calls, world.figures.told);
    let mut busiest = 0;
    while world.now < from + longest && !until(world) {
        let before = world.figures.calls;
        world.run_until(world.now + ms(100));
        busiest = busiest.max(world.figures.calls - before);
    }
    assert_eq!(world.violation, None);
    let (time, calls, told) = (world.now - from, world.figures.calls - calls, world.figures.told - told);
    println!(
        "| {what} | {:.1} s | {calls} | {:.1} | {busiest} | {told} | {:.1} |",
        time.as_secs_f64(),
        calls as f64 / COUNT as f64,
        told as f64 / COUNT as f64,
    );
}

#[test]
#[ignore = "it measures, and judges nothing but the invariants"]
fn a_thousand_nodes() {
    println!(
        "| what | time | calls | of a node | most in 100 ms | events told | to a node |\n|---|---|---|---|---|---|---|"
    );
    let mut world = World::new(Plan { gathers: true, ..Plan::quiet(1, COUNT, ms(600_000)) }, false);
    let agree = |world: &World| world.agreed_on().is_some();
    tell("all join at once, until all follow one", &mut world, ms(60_000), agree);
    tell("at rest", &mut world, ms(20_000), |_| false);
    let leader = world.leader().unwrap();
    world.kill(leader, None);
    let agree_anew = |world: &World| world.agreed_on().is_some() && world.leader() != Some(leader);
    tell("the leader is killed, until all follow the next", &mut world, ms(60_000), agree_anew);
    world.befall(Fault::Outage(ms(60_000), false));
    tell("etcd is away for a minute", &mut world, ms(60_000), |_| false);
    tell("it is back and the leases are gone, until all follow one", &mut world, ms(60_000), agree);
    tell("the second after", &mut world, ms(1_000), |_| false);
    tell("at rest", &mut world, ms(20_000), |_| false);
}
