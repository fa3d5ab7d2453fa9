//! Settings from the environment, for all commands: an empty variable counts as unset, and a message about a wrong
//! value names the variable if the value came from it.

use std::{env, ffi::OsStr};

use clap::{
    Arg, ArgMatches, CommandFactory, Error, FromArgMatches,
    error::{ContextKind, ContextValue},
};

use super::{Cli, Command};
use crate::config::SettingNames;

/// What was typed and set; ends the process if that is wrong.
pub(super) fn parse() -> Cli {
    let mut command = without_empty(Cli::command());
    let matches = command.try_get_matches_from_mut(env::args_os());
    let matches = matches.unwrap_or_else(|error| by_variable(error, &mut command).exit());
    let mut cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.format(&mut command).exit());
    let told = told(&command, &matches);
    match &mut cli.command {
        Some(Command::Node(args)) => args.told = told,
        Some(Command::Transfer(args)) => args.told = told,
        _ => {}
    }
    cli
}

/// A variable that is empty, or blank, is not looked at.
fn without_empty(command: clap::Command) -> clap::Command {
    let is_empty = |name: &OsStr| env::var_os(name).is_some_and(|value| is_blank(&value));
    let forget = |arg: Arg| match arg.get_env().is_some_and(is_empty) {
        true => arg.env(None::<&str>),
        false => arg,
    };
    command.mut_args(forget).mut_subcommands(without_empty)
}

/// Whether a variable with this value counts as unset.
pub(super) fn is_blank(value: &OsStr) -> bool {
    value.to_str().is_some_and(|value| value.trim().is_empty())
}

/// Which settings of the command the environment told.
fn told(command: &clap::Command, matches: &ArgMatches) -> SettingNames {
    let subcommand = matches.subcommand().and_then(|(name, of)| Some((command.find_subcommand(name)?, of)));
    subcommand.map(|(command, matches)| SettingNames::by(command, matches)).unwrap_or_default()
}

/// Names the variable that an error is about, where it names the flag that was not given.
fn by_variable(mut error: Error, command: &mut clap::Command) -> Error {
    let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg) else { return error };
    // An argument has its text once its command is built; so far only the command that was named is.
    command.build();
    if let Some(variable) = variable_of(flag, command) {
        error.insert(ContextKind::InvalidArg, ContextValue::String(variable));
    }
    error
}

fn variable_of(flag: &str, command: &clap::Command) -> Option<String> {
    let of_subcommands = || command.get_subcommands().find_map(|command| variable_of(flag, command));
    let arg = command.get_arguments().find(|arg| arg.to_string() == flag && !is_given(arg));
    let variable = arg.and_then(|arg| arg.get_env()?.to_str());
    variable.map(str::to_owned).or_else(of_subcommands)
}

/// Whether the flag was typed: then its variable does not count.
fn is_given(arg: &Arg) -> bool {
    let Some(flag) = arg.get_long() else { return true };
    env::args_os().skip(1).any(|typed| {
        let typed = typed.to_string_lossy();
        let rest = typed.strip_prefix("--").and_then(|typed| typed.strip_prefix(flag));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
    })
}
