//! `--token` and `--token-file`.

use std::{convert::Infallible, fmt, path::PathBuf, str::FromStr};

use clap::Args;
use thiserror::Error;

use super::SettingNames;
use crate::{
    cluster::token::{Token, TokenError},
    reload::{self, Reload},
};

/// The token as it is told.
#[derive(Debug, Clone, Default, Args)]
pub struct TokenArgs {
    /// The cluster's token, the same on all nodes: 1 to 256 visible ASCII characters. Other users of the machine can
    /// read flags
    #[arg(long, env = "PRIMACY_TOKEN", hide_env_values = true)]
    token: Option<TokenArg>,
    /// A file with tokens, one a line: the first is used, all are accepted. It is read again when it changes
    #[arg(long, env = "PRIMACY_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// Settings of the token that cannot be. Each names the settings as they were told.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum TokenSettingError {
    /// It is none.
    #[error("{0}: {1}")]
    Bad(String, TokenError),
    /// The file cannot be read.
    #[error("{0}: {1}")]
    Unreadable(String, String),
    /// The file holds none.
    #[error("{0} names {1}: {2}")]
    BadFile(String, PathBuf, TokenError),
    /// There are two of them.
    #[error("{0} and {1} both name the token; leave one of the two out")]
    Two(String, String),
}

impl TokenArgs {
    /// The token that was told, none if none was; and how it is replaced, if it comes from a file.
    ///
    /// # Errors
    /// See [`TokenSettingError`].
    pub fn read(&self, told: &SettingNames) -> Result<(Token, Option<Reload>), TokenSettingError> {
        let name = |flag: &'static str| told.name(flag).to_owned();
        match (&self.token, &self.token_file) {
            (None, None) => Ok((Token::default(), None)),
            (Some(_), Some(_)) => Err(TokenSettingError::Two(name("--token"), name("--token-file"))),
            (Some(TokenArg(token)), None) => {
                let token =
                    Token::new(token).map_err(|error| TokenSettingError::Bad(name("--token"), error))?;
                Ok((token, None))
            }
            (None, Some(path)) => {
                let contents = reload::read(std::slice::from_ref(path))
                    .map_err(|error| TokenSettingError::Unreadable(name("--token-file"), error))?;
                let bad = |error| TokenSettingError::BadFile(name("--token-file"), path.clone(), error);
                let token = listed(&contents).map_err(bad)?;
                Ok((token.clone(), Some(reload(token, path.clone(), contents))))
            }
        }
    }
}

fn listed(contents: &[Vec<u8>]) -> Result<Token, TokenError> {
    Token::listed(contents.first().map(Vec::as_slice).unwrap_or_default())
}

fn reload(token: Token, path: PathBuf, contents: Vec<Vec<u8>>) -> Reload {
    Reload::new(vec![path.clone()], contents, move |contents| {
        let again = listed(contents).map_err(|error| format!("{}: {error}", path.display()))?;
        token.replace(&again);
        let warning = if token.is_trial() { "; everybody knows the value `trial`" } else { "" };
        let (path, count) = (path.display(), token.count());
        Ok::<_, String>(format!("the token was read again from {path}; {count} accepted now{warning}"))
    })
}

/// A token as it is told. It is judged later: the command line would repeat a bad one in its message.
#[derive(Clone)]
struct TokenArg(String);

impl FromStr for TokenArg {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for TokenArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenArg")
    }
}
