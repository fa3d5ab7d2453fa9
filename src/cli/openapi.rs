//! `primacy openapi`: what `openapi/openapi.json` holds.

use std::process::ExitCode;

use super::print_all;
use crate::gateway::openapi::json;

pub(super) fn run() -> ExitCode {
    print_all(json().trim_end())
}
