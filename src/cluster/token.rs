//! What peers know and strangers do not.

use std::sync::Arc;

use subtle::ConstantTimeEq;
use thiserror::Error;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};

use crate::limits::TOKEN_CHARS_MAX;

/// A connection to a peer, on which every call carries the token.
pub type Road = InterceptedService<Channel, Token>;

/// The metadata that carries it, as `Bearer` and the token (RFC 6750).
pub const AUTHORIZATION: &str = "authorization";
/// The token of those who only try the cluster; everybody knows it.
pub const TRIAL: &str = "trial";

/// The cluster's token; without one everybody is believed who has none either.
#[derive(Clone, Default)]
pub struct Token(Option<Arc<Header>>);

struct Header {
    value: MetadataValue<Ascii>,
    is_trial: bool,
}

/// A text that is no token. None of the messages repeats it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TokenError {
    /// It has no characters.
    #[error(
        "the token is empty; to have none, unset PRIMACY_TOKEN, else set it to 1 to {TOKEN_CHARS_MAX} visible ASCII characters, such as `openssl rand -hex 16` prints"
    )]
    Empty,
    /// It has this many characters.
    #[error(
        "a token of {0} characters is too long; it takes 1 to {TOKEN_CHARS_MAX}, such as `openssl rand -hex 16` prints"
    )]
    TooLong(usize),
    /// It cannot travel in a header.
    #[error(
        "the token has a blank, or a character that is not ASCII; it takes 1 to {TOKEN_CHARS_MAX} visible ASCII characters, such as `openssl rand -hex 16` prints"
    )]
    NotVisible,
}

impl Token {
    /// A token of visible ASCII characters.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn new(token: &str) -> Result<Self, TokenError> {
        match token.chars().count() {
            0 => return Err(TokenError::Empty),
            1..=TOKEN_CHARS_MAX => {}
            characters => return Err(TokenError::TooLong(characters)),
        }
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(TokenError::NotVisible);
        }
        let mut value: MetadataValue<Ascii> =
            format!("Bearer {token}").parse().map_err(|_| TokenError::NotVisible)?;
        value.set_sensitive(true);
        Ok(Self(Some(Arc::new(Header { value, is_trial: token == TRIAL }))))
    }

    /// Whether there is one.
    pub fn is_set(&self) -> bool {
        self.0.is_some()
    }

    /// Whether it is the one that everybody knows.
    pub fn is_trial(&self) -> bool {
        self.0.as_ref().is_some_and(|token| token.is_trial)
    }

    /// Whether whoever sent this header is a peer. The comparison takes as long for every wrong token of its length.
    ///
    /// Who brings a token where there is none is refused as well: else a node that was started without one would go on
    /// answering those that do not believe it, and its vetoes would keep them from ever electing a leader.
    pub fn admits(&self, header: Option<&[u8]>) -> bool {
        match &self.0 {
            None => header.is_none(),
            Some(token) => header.is_some_and(|header| bool::from(token.value.as_bytes().ct_eq(header))),
        }
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.is_set() { "Token(set)" } else { "Token(none)" })
    }
}

impl Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert(AUTHORIZATION, token.value.clone());
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_visible_ascii_within_bounds_and_is_never_shown() {
        let longest = "x".repeat(TOKEN_CHARS_MAX);
        for good in ["x", "trial", "!~:=/+\"'$", &longest] {
            let token = Token::new(good).unwrap();
            assert!(token.is_set() && token.is_trial() == (good == TRIAL), "{good}");
            assert_eq!(format!("{token:?}"), "Token(set)");
        }
        let too_long = TokenError::TooLong(TOKEN_CHARS_MAX + 1);
        for (bad, error) in [
            ("", TokenError::Empty),
            (&*format!("{longest}x"), too_long),
            ("a b", TokenError::NotVisible),
            (" ", TokenError::NotVisible),
            ("a\n", TokenError::NotVisible),
            ("ä", TokenError::NotVisible),
            ("\0", TokenError::NotVisible),
        ] {
            assert_eq!(Token::new(bad).err(), Some(error), "{bad:?}");
        }
    }

    #[test]
    fn only_the_whole_token_is_admitted_and_where_there_is_none_none() {
        let token = Token::new("secret").unwrap();
        assert!(token.admits(Some(b"Bearer secret")));
        for wrong in [
            "",
            "secret",
            "Bearer",
            "Bearer ",
            "Bearer secre",
            "Bearer secrets",
            "Bearer Secret",
            "Basic secret",
        ] {
            assert!(!token.admits(Some(wrong.as_bytes())), "{wrong}");
        }
        assert!(!token.admits(None));
        assert!(Token::default().admits(None) && !Token::default().admits(Some(b"Bearer secret")));
    }
}
