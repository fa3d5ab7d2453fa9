//! The command line: one file a command.

mod check;
pub mod client;
mod completions;
mod environment;
mod health;
mod log;
mod next;
mod node;
mod openapi;
mod ranges;
pub mod status;
mod transfer;
mod up;
mod words;

use std::{
    fmt::Display,
    io::{self, IsTerminal, Write},
    process::{self, ExitCode},
    thread,
};

use clap::{Parser, Subcommand, ValueEnum};
use comfy_table::{CellAlignment, Table, presets};
use rustix::process::Signal;
use tokio::{
    runtime::{self, Runtime},
    signal::unix::{SignalKind, signal},
};

use crate::{limits::BLOCKING_THREADS_MAX, node::descriptors, prime::Direction, text::line};

/// Ask a cluster whether a number is prime.
#[derive(Debug, Parser)]
#[command(
    version,
    propagate_version = true,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    up: up::UpArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a whole cluster on this machine (what happens without a command)
    Up(up::UpArgs),
    /// Run one node
    Node(Box<crate::config::NodeArgs>),
    /// Ask whether numbers are prime
    Check(check::CheckArgs),
    Count(ranges::CountArgs),
    List(ranges::ListArgs),
    /// Find the least prime above a number
    Next(next::NextArgs),
    /// Find the largest prime below a number
    Previous(next::NextArgs),
    /// Show the members, who leads and the last elections, as one node sees them
    Status(status::StatusArgs),
    Transfer(transfer::TransferArgs),
    /// Exit with 0 if the first endpoint that answers serves, with 1 if it is stopping or none answers
    Health(client::ClientArgs),
    /// Print the HTTP contract
    Openapi,
    /// Print the completions for a shell
    Completions(completions::CompletionsArgs),
}

/// How answers are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OutputFormat {
    /// For people.
    Text,
    /// For programs: JSON.
    Json,
}

/// Some were not answered, or the command failed.
const FAILED: u8 = 1;
/// What was typed is wrong.
const USAGE: u8 = 2;

/// Parses the command line, runs the command, and says how it ended.
pub fn main() -> ExitCode {
    let cli = environment::parse();
    let _flushed = match log::start() {
        Ok(flushed) => flushed,
        Err(error) => return fail(format_args!("cannot start the log: {error}")),
    };
    descriptors::raise();
    let command = cli.command.unwrap_or(Command::Up(cli.up));
    let runtime = match runtime(&command).and_then(|runtime| end_at_signals(&command).map(|()| runtime)) {
        Ok(runtime) => runtime,
        Err(error) => return fail(format_args!("cannot start the runtime: {error}")),
    };
    let code = runtime.block_on(async {
        match command {
            Command::Up(args) => up::run(args).await,
            Command::Node(args) => node::run(*args).await,
            Command::Check(args) => check::run(args).await,
            Command::Count(args) => ranges::count(args).await,
            Command::List(args) => ranges::list(args).await,
            Command::Next(args) => next::run(args, Direction::Next).await,
            Command::Previous(args) => next::run(args, Direction::Previous).await,
            Command::Status(args) => status::run(args).await,
            Command::Transfer(args) => transfer::run(args).await,
            Command::Health(args) => health::run(args).await,
            Command::Openapi => openapi::run(),
            Command::Completions(args) => completions::run(&args),
        }
    });
    // A read of standard input cannot be cancelled, and the runtime would wait for its end.
    runtime.shutdown_background();
    code
}

/// A thread for every two cores of a node: a wake-up of another thread costs more than it gains, and half of the time
/// of a request is the kernel's, which runs where it likes. The other commands mostly wait.
fn runtime(command: &Command) -> io::Result<Runtime> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let mut builder = match (command, cores / 2) {
        (Command::Node(_), threads @ 2..) => {
            let mut builder = runtime::Builder::new_multi_thread();
            builder.worker_threads(threads);
            builder
        }
        _ => runtime::Builder::new_current_thread(),
    };
    builder.max_blocking_threads(BLOCKING_THREADS_MAX).enable_all().build()
}

/// The system ends a process at a signal that it does not handle, but not process 1, which a command in a container is.
/// The commands that stop in an order of their own see to it themselves; for the others a thread does, because what they
/// wait for may be a print that nobody reads.
fn end_at_signals(command: &Command) -> io::Result<()> {
    let stops_itself = match command {
        Command::Up(_) | Command::Node(_) => true,
        Command::Status(args) => args.watches(),
        _ => false,
    };
    if stops_itself || process::id() != 1 {
        return Ok(());
    }
    let waiting = runtime::Builder::new_current_thread().enable_all().build()?;
    let stopped = {
        let _inside = waiting.enter();
        told_to_stop()
    };
    let thread = thread::Builder::new().name("signals".to_owned());
    thread.spawn(move || exit_after(waiting.block_on(stopped))).map(drop)
}

/// Ends the process as a shell says that a signal ended it.
fn exit_after(signal: Signal) {
    log::flush();
    process::exit(128 + signal.as_raw());
}

/// Colours are for terminals, and for those who want them (no-color.org).
fn colours(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Tells on standard error, in one line, why the command fails: mostly in words of others.
fn fail(error: impl Display) -> ExitCode {
    // Nobody may be there to read it.
    let _ = writeln!(io::stderr(), "primacy: {}", line(&error.to_string()));
    ExitCode::from(FAILED)
}

/// The same for what was typed or set.
fn misused(error: impl Display) -> ExitCode {
    fail(error);
    ExitCode::from(USAGE)
}

/// Like `fail`, for what runs for long and must not wait for a reader.
fn fail_in_log(error: impl Display) -> ExitCode {
    log::say(format_args!("primacy: {error}"));
    ExitCode::from(FAILED)
}

/// Prints to standard output; if that fails the command ends with this code. When nobody reads any more, as in
/// `primacy check - | head`, it ends well.
fn print(text: impl Display) -> Result<(), ExitCode> {
    written(writeln!(io::stdout(), "{text}"))
}

/// The same for what was written there.
fn written(result: io::Result<()>) -> Result<(), ExitCode> {
    result.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        _ => fail(format_args!("cannot print: {error}")),
    })
}

/// The same for whole lines, while everything else goes on: whoever reads them may not.
async fn print_aside(lines: String) -> Result<(), ExitCode> {
    let print = move || {
        let mut stdout = io::stdout();
        written(stdout.write_all(lines.as_bytes()).and_then(|()| stdout.flush()))
    };
    tokio::task::spawn_blocking(print).await.unwrap_or(Ok(()))
}

/// The same for a command that prints once.
fn print_all(text: impl Display) -> ExitCode {
    print(text).err().unwrap_or(ExitCode::SUCCESS)
}

/// Columns that align, two blanks apart; those named are numbers, and end at one line.
fn table<const N: usize>(
    header: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
    numbers: &[usize],
) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header).add_rows(rows);
    for (place, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if numbers.contains(&place) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt()
}

/// Returns at the next SIGTERM or Ctrl-C from this call on, and says which it was.
fn told_to_stop() -> impl Future<Output = Signal> {
    let handlers = signal(SignalKind::terminate()).and_then(|terminate| {
        let interrupt = signal(SignalKind::interrupt())?;
        Ok((terminate, interrupt))
    });
    async move {
        let Ok((mut terminate, mut interrupt)) = handlers else {
            // Without handlers the system's own apply: the process ends at once.
            return std::future::pending().await;
        };
        tokio::select! {
            _ = terminate.recv() => Signal::TERM,
            _ = interrupt.recv() => Signal::INT,
        }
    }
}
