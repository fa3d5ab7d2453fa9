//! The command line: one file a command.

mod check;
mod client;
mod completions;
mod health;
mod node;
mod openapi;
mod status;
mod transfer;
mod up;
mod words;

use std::{
    fmt::Display,
    io::{self, IsTerminal, Write},
    process::ExitCode,
    thread,
};

use clap::{Parser, Subcommand, ValueEnum};
use comfy_table::{CellAlignment, Table, presets};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

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
    /// Show the members, who leads and the last elections, as one node sees them
    Status(status::StatusArgs),
    Transfer(transfer::TransferArgs),
    /// Exit with 0 if a node serves, with 1 if not
    Health(client::ClientArgs),
    /// Print the HTTP contract
    Openapi,
    /// Print the completions for a shell
    Completions(completions::CompletionsArgs),
}

/// How answers are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
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
    let cli = Cli::parse();
    start_logging();
    let runtime = match runtime(cli.command.as_ref()) {
        Ok(runtime) => runtime,
        Err(error) => return fail(format_args!("cannot start the runtime: {error}")),
    };
    let code = runtime.block_on(async {
        match cli.command.unwrap_or(Command::Up(cli.up)) {
            Command::Up(args) => up::run(args).await,
            Command::Node(args) => node::run(*args).await,
            Command::Check(args) => check::run(args).await,
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
fn runtime(command: Option<&Command>) -> io::Result<tokio::runtime::Runtime> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let mut builder = match (command, cores / 2) {
        (Some(Command::Node(_)), threads @ 2..) => {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(threads);
            builder
        }
        _ => tokio::runtime::Builder::new_current_thread(),
    };
    builder.enable_all().build()
}

fn start_logging() {
    let filter = EnvFilter::builder()
        .with_env_var("PRIMACY_LOG")
        .with_default_directive(tracing::Level::INFO.into())
        .from_env_lossy();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(colours(&io::stderr()))
        .with_target(false)
        // It would be told to a standard error that cannot be written to, which panics.
        .log_internal_errors(false)
        .init();
}

/// Colours are for terminals, and for those who want them (no-color.org).
fn colours(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn fail(error: impl Display) -> ExitCode {
    // Nobody may be there to read it.
    let _ = writeln!(io::stderr(), "primacy: {error}");
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

/// Returns at SIGTERM or Ctrl-C.
async fn told_to_stop() {
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        // Without handlers the system's own apply: the process ends at once.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
