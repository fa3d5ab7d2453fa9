//! How messages and the time to agreement grow with the cluster. Printed as Markdown, and drawn.

use std::{env, fmt::Write as _, fs, path::Path, time::Duration};

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{
    Plan, WorldTime,
    faults::{Fault, Who},
    ms,
    world::World,
};

const SIZES: [usize; 4] = [3, 10, 32, 100];
const LONGEST: WorldTime = Duration::from_secs(8);

/// What an election took.
#[derive(Debug, Clone, Copy)]
struct Sample {
    time: Duration,
    messages: u64,
}

/// The number of nodes, the messages and the milliseconds.
type Point = (usize, f64, f64);
type Curve = (Kind, Vec<Point>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Kill,
    Hang,
    Stop,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Kill, Self::Hang, Self::Stop];

    fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill -9",
            Self::Hang => "SIGSTOP",
            Self::Stop => "SIGTERM",
        }
    }

    fn fault(self) -> Fault {
        let who = Who::Leader(0);
        match self {
            Self::Kill => Fault::Crash(who, None),
            Self::Hang => Fault::Pause(who, LONGEST * 2),
            Self::Stop => Fault::Stop { who, exit: LONGEST, down: None },
        }
    }
}

/// From the fault until all others follow one leader; messages are counted for another 100 ms.
fn sample(seed: u64, count: usize, kind: Kind) -> Sample {
    let mut world = World::new(Plan::quiet(seed, count, LONGEST), false);
    let at = Duration::from_micros(2_000_000 + StdRng::seed_from_u64(seed).random_range(0..100_000));
    world.run_until(at);
    let leader = world.agreed(&world.living()).expect("they agree after two seconds");
    let others: Vec<usize> = (0..count).filter(|node| *node != leader).collect();
    let messages = world.messages;
    world.befall(kind.fault());
    world.run_while(LONGEST, |world| world.agreed(&others).is_none());
    let time = world.now - at;
    world.run_until(world.now + ms(100));
    assert!(world.violation.is_none(), "{:?}", world.violation);
    Sample { time, messages: world.messages - messages }
}

fn samples(count: usize, kind: Kind, seeds: u64) -> Vec<Sample> {
    let mut samples: Vec<Sample> = (0..seeds).map(|seed| sample(seed, count, kind)).collect();
    samples.sort_by_key(|sample| sample.time);
    samples
}

fn percentile<T: Copy + Ord>(values: impl Iterator<Item = T>, of: usize) -> T {
    let mut values: Vec<T> = values.collect();
    values.sort_unstable();
    values[(values.len() - 1) * of / 100]
}

fn in_ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

/// The bounds of the design: p99 200 ms after `kill -9`, 600 ms after `SIGSTOP`.
#[test]
fn bounds_hold_for_four_nodes() {
    for (kind, bound) in [(Kind::Kill, ms(200)), (Kind::Hang, ms(600)), (Kind::Stop, ms(100))] {
        let samples = samples(4, kind, 200);
        let slow = percentile(samples.iter().map(|sample| sample.time), 99);
        assert!(slow <= bound, "{}: p99 {slow:?} > {bound:?}", kind.name());
    }
}

/// What a node costs without a leader, in connections that it tries: as much in a large cluster as in a small one. Its
/// own share of the others, twice, and what the leader and its followers try towards each other.
#[test]
fn a_leader_is_found_with_few_connections() {
    for count in [24, 32, 65, 100] {
        let mut world = World::new(Plan::quiet(1, count, LONGEST), false);
        let until_all_agree = |world: &mut World, nodes: &[usize]| {
            let before = world.dials;
            world.run_while(LONGEST, |world| world.agreed(nodes).is_none());
            (world.dials - before) / count as u64
        };
        let all: Vec<usize> = (0..count).collect();
        let at_start = until_all_agree(&mut world, &all);
        world.run_until(ms(3_000));
        world.befall(Fault::Crash(Who::Leader(0), None));
        let after_a_death = until_all_agree(&mut world, &all[..count - 1]);
        assert!(at_start <= 20 && after_a_death <= 12, "{count} nodes: {at_start} and {after_a_death}");
    }
}

/// Writes `docs/election-growth.svg` and prints the tables; `PRIMACY_SEEDS` each, 100 by default.
#[test]
#[ignore = "takes a quarter of an hour, most of it for 100 nodes; it measures and judges nothing"]
fn growth() {
    let seeds = super::from_environment("PRIMACY_SEEDS").unwrap_or(100);
    println!(
        "| nodes | fault | p50 ms | p99 ms | messages p50 | messages p99 | messages / n |\n|---|---|---|---|---|---|---|"
    );
    let mut curves: Vec<Curve> = Vec::new();
    for kind in Kind::ALL {
        let mut curve = Vec::new();
        for count in [3, 4, 10, 32, 100] {
            let samples = samples(count, kind, seeds);
            let time = |of| in_ms(percentile(samples.iter().map(|sample| sample.time), of));
            let messages = |of| percentile(samples.iter().map(|sample| sample.messages), of);
            println!(
                "| {count} | `{}` | {:.1} | {:.1} | {} | {} | {:.1} |",
                kind.name(),
                time(50),
                time(99),
                messages(50),
                messages(99),
                messages(50) as f64 / count as f64
            );
            if SIZES.contains(&count) {
                curve.push((count, messages(50) as f64, time(50)));
            }
        }
        curves.push((kind, curve));
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/election-growth.svg");
    fs::write(path, draw(&curves)).unwrap();
}

const COLOURS: [&str; 3] = ["#c2410c", "#2563eb", "#15803d"];

/// Two panels: messages and time, over the number of nodes, both axes logarithmic.
fn draw(curves: &[Curve]) -> String {
    let mut svg = String::from(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 760 320\" role=\"img\" aria-label=\"Messages and time of an election by the number of nodes\">\n<style>\n  text { font: 12px system-ui, sans-serif; fill: #555; } .grid { stroke: #8884; } .title { font-weight: 600; }\n  @media (prefers-color-scheme: dark) { text { fill: #bbb; } }\n</style>\n",
    );
    panel(&mut svg, 0.0, "messages of an election (p50)", &[1.0, 10.0, 100.0, 1_000.0], curves, |point| {
        point.1
    });
    panel(&mut svg, 380.0, "ms until all agree (p50)", &[1.0, 10.0, 100.0, 1_000.0], curves, |point| point.2);
    svg.push_str("</svg>\n");
    svg
}

fn panel(
    svg: &mut String,
    left: f64,
    title: &str,
    marks: &[f64],
    curves: &[Curve],
    value: impl Fn(&Point) -> f64,
) {
    let x =
        |count: f64| left + 50.0 + (count.log10() - 3f64.log10()) / (100f64.log10() - 3f64.log10()) * 300.0;
    let y = |value: f64| 260.0 - value.max(1.0).log10() / 3.0 * 210.0;
    let _ = writeln!(svg, "<text class=\"title\" x=\"{}\" y=\"24\">{title}</text>", left + 50.0);
    for mark in marks {
        let at = y(*mark);
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{mark}</text>",
            left + 50.0,
            left + 350.0,
            left + 44.0,
            at + 4.0
        );
    }
    for count in SIZES {
        let at = x(count as f64);
        let _ = writeln!(svg, "<text x=\"{at:.1}\" y=\"280\" text-anchor=\"middle\">{count}</text>");
    }
    let _ = writeln!(svg, "<text x=\"{}\" y=\"300\" text-anchor=\"middle\">nodes</text>", left + 200.0);
    for (place, (kind, points)) in curves.iter().enumerate() {
        let colour = COLOURS[place % COLOURS.len()];
        let at = |point: &Point| (x(point.0 as f64), y(value(point)));
        let line: Vec<String> = points.iter().map(at).map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(
            svg,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{}\"/>",
            line.join(" ")
        );
        for (x, y) in points.iter().map(at) {
            let _ = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>");
        }
        let row = 50.0 + 16.0 * place as f64;
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{row}\" style=\"fill:{colour}\">{}</text>",
            left + 60.0,
            kind.name()
        );
    }
}
