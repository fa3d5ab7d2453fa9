//! A stranger who harms nodes on purpose, while ordinary clients ask, beside everything that it must not reach.
//!
//! `cargo test --test hostile` passes every attack in short and fails if an ordinary client was not answered, if the
//! cluster changed, or if a node took too much memory. `cargo test --test hostile attack_2` passes those whose name
//! begins so, and so does `PRIMACY_ATTACK=2`. `PRIMACY_HOSTILE_SECONDS=30` attacks for so long each, and counts the
//! 99th percentile too. `PRIMACY_BINARY` names another program than the one under test.
//!
//! The attacker is this program again, in a process of its own.

mod attacker;
mod attacks;
#[path = "../it/certificates.rs"]
mod certificates;
mod clients;
mod cluster;
mod frames;
#[path = "../it/harness.rs"]
mod harness;
mod siege;
mod table;

use std::{
    env,
    process::ExitCode,
    time::{Duration, Instant},
};

use attacker::Attacker;
use attacks::{ATTACKS, Attack};
use cluster::Cluster;
use siege::Outcome;

/// How long each attack takes in the gate: all of them are over within a minute.
const SHORT: Duration = Duration::from_secs(1);
/// Attacks on the same nodes, unless one has failed.
const ATTACKS_PER_CLUSTER: usize = 5;
/// Options of the test harness that take a value of their own.
const VALUED: [&str; 5] = ["--skip", "--test-threads", "--format", "--color", "-Z"];

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["attacker", id, http, grpc, from, seconds] => {
            let attack = ATTACKS.iter().find(|attack| attack.id == id).unwrap();
            let time = Duration::from_secs_f64(seconds.parse().unwrap());
            Attacker::run(attack, http.parse().unwrap(), grpc.parse().unwrap(), from.parse().unwrap(), time);
            ExitCode::SUCCESS
        }
        _ if words.contains(&"--list") => {
            ATTACKS.iter().for_each(|attack| println!("{}: test", name(attack)));
            ExitCode::SUCCESS
        }
        // None of them is left out of plain `cargo test`.
        _ if words.contains(&"--ignored") => ExitCode::SUCCESS,
        _ => pass(&chosen(&words)),
    }
}

fn name(attack: &Attack) -> String {
    format!("attack_{}", attack.id)
}

/// Those that the arguments or the environment name; all if neither names any.
fn chosen(words: &[&str]) -> Vec<&'static Attack> {
    let mut filters = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.starts_with('-') {
            true if VALUED.contains(word) => drop(words.next()),
            true => {}
            false => filters.push((*word).to_owned()),
        }
    }
    filters.extend(env::var("PRIMACY_ATTACK").map(|id| format!("attack_{id}")));
    let wanted =
        |attack: &&Attack| filters.is_empty() || filters.iter().any(|filter| is_meant(filter, &name(attack)));
    ATTACKS.iter().filter(wanted).collect()
}

/// By its whole name, or by the number that it shares with others: `attack_4` is 4a to 4d, and `attack_1` not 10.
fn is_meant(filter: &str, name: &str) -> bool {
    name.strip_prefix(filter).is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
}

fn pass(attacks: &[&'static Attack]) -> ExitCode {
    if attacks.is_empty() {
        return ExitCode::SUCCESS;
    }
    let seconds = env::var("PRIMACY_HOSTILE_SECONDS").ok();
    let time = seconds.as_ref().map_or(SHORT, |text| Duration::from_secs_f64(text.parse().unwrap()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let started = Instant::now();
    let failed = runtime.block_on(all(attacks, time, seconds.is_some()));
    println!("\n{} attacks in {:.0?}", attacks.len(), started.elapsed());
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("failed: {}", failed.join(", "));
    ExitCode::FAILURE
}

/// All attacks, after a time without any; returns the names of those that did harm.
async fn all(attacks: &[&'static Attack], time: Duration, bench: bool) -> Vec<String> {
    table::head();
    let (mut cluster, mut failed) = (Cluster::start(attacks[0].over_tls).await, Vec::new());
    let nobody = siege::besiege(&cluster, None, time, bench).await;
    table::row("nobody", "", &nobody);
    if !nobody.problems.is_empty() {
        failed.push("nobody".to_owned());
    }
    let mut passed = 0;
    for attack in attacks {
        if passed == ATTACKS_PER_CLUSTER || attack.over_tls != cluster.speaks_tls() {
            drop(std::mem::replace(&mut cluster, Cluster::start(attack.over_tls).await));
            passed = 0;
        }
        let outcome: Outcome = siege::besiege(&cluster, Some(attack), time, bench).await;
        table::row(attack.id, attack.what, &outcome);
        passed += 1;
        if !outcome.problems.is_empty() {
            failed.push(name(attack));
            passed = ATTACKS_PER_CLUSTER;
        }
    }
    failed
}
