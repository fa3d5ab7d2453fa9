//! `primacy openapi`: what `openapi/openapi.json` holds.

use std::{
    io::{Write, stdout},
    process::ExitCode,
};

use super::fail;
use crate::gateway::openapi::json;

pub(super) fn run() -> ExitCode {
    match stdout().write_all(json().as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(error),
    }
}
