//! Parses, starts logging, runs the command; nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    primacy::cli::main()
}
