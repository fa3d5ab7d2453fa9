//! The token, which peers know and strangers do not.
//!
//! Nodes never show it to each other. Whoever dials proves that it knows the token, and whoever answers proves it in
//! turn and says, proven too, who it is; then calls carry a pass, which is good at that process alone:
//!
//! ```text
//!   dials                                                          answers
//!     │  Identify, with a number drawn anew and ask(number)            │
//!     │ ─────────────────────────────────────────────────────────────▶ │  refused, if ask is wrong
//!     │                       who it is, and proof(number, who it is)  │
//!     │ ◀───────────────────────────────────────────────────────────── │
//!     │  every other call, with pass(its boot)                         │
//!     │ ─────────────────────────────────────────────────────────────▶ │
//! ```
//! Each of the three is an HMAC-SHA256 under the token. That the caller proves it first keeps strangers from collecting
//! proofs, by which they could try out short tokens.

use std::sync::Arc;

use primacy_election::Identity;
use rand::random;
use ring::hmac::{Context, HMAC_SHA256, Key, Tag};
use subtle::ConstantTimeEq;
use thiserror::Error;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataMap, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};

use crate::limits::TOKEN_CHARS_MAX;

/// A connection to a peer, on which every call carries the pass.
pub type PeerConnection = InterceptedService<Channel, Pass>;

/// The metadata by which a caller is known as a peer: a pass, or, from operators' clients, `Bearer` and the token (RFC
/// 6750).
pub const AUTHORIZATION: &str = "authorization";
/// The token of those who only try the cluster; everybody knows it.
pub const TRIAL: &str = "trial";
/// The one call for which it is enough to know the token.
pub const IDENTIFY: &str = "/scheduler.Peer/Identify";

/// How a caller is known: by a pass, or by the answer to its own challenge.
const PASS: &str = "Primacy-Pass ";
const ASK: &str = "Primacy-Ask ";

/// The cluster's token; without one, every caller that brings none is believed.
#[derive(Clone, Default)]
pub struct Token(Option<Arc<Secret>>);

struct Secret {
    bearer: String,
    key: Key,
    is_trial: bool,
}

/// Whom a node takes for a peer.
#[derive(Debug, Clone)]
pub struct Door {
    token: Token,
    /// What its peers' calls carry.
    pass: String,
}

/// What a caller's calls carry, if the cluster has a token: it is good at one process, for as long as that lives.
#[derive(Clone, Default)]
pub struct Pass(Option<MetadataValue<Ascii>>);

/// A number drawn anew, about which whoever answers at an address proves that it knows the token.
#[derive(Debug)]
pub struct Challenge(String);

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
        let key = Key::new(HMAC_SHA256, token.as_bytes());
        Ok(Self(Some(Arc::new(Secret { bearer: format!("Bearer {token}"), key, is_trial: token == TRIAL }))))
    }

    /// Whether there is one.
    pub fn is_set(&self) -> bool {
        self.0.is_some()
    }

    /// Whether it is the one that everybody knows.
    pub fn is_trial(&self) -> bool {
        self.0.as_ref().is_some_and(|token| token.is_trial)
    }

    /// Draws a challenge; none where there is nothing to prove.
    pub fn challenge(&self) -> Option<Challenge> {
        self.is_set().then(|| Challenge(hex(&random::<[u8; 32]>())))
    }

    /// What a node answers to the challenge that came in this header: the proof that it knows the token and is who it is.
    /// Nothing to whoever brought none.
    pub fn proof(&self, header: Option<&[u8]>, me: &Identity) -> Vec<u8> {
        match (&self.0, header.and_then(number_of)) {
            (Some(secret), Some(number)) => secret.proof(number, me).as_ref().to_vec(),
            _ => Vec::new(),
        }
    }

    /// Whether the answer to a challenge proves that who gave it knows the token, and is this node.
    pub fn is_proven(&self, challenge: &Challenge, identity: &Identity, proof: &[u8]) -> bool {
        let Some(secret) = &self.0 else { return false };
        bool::from(secret.proof(challenge.0.as_bytes(), identity).as_ref().ct_eq(proof))
    }

    /// What the challenge is sent with.
    pub fn ask(&self, challenge: &Challenge) -> Pass {
        let number = &challenge.0;
        self.header(|secret| format!("{ASK}{number} {}", hex(secret.ask(number.as_bytes()).as_ref())))
    }

    /// What calls to the process of this boot are to carry.
    pub fn pass(&self, boot: u64) -> Pass {
        self.header(|secret| secret.pass(boot))
    }

    fn header(&self, of: impl FnOnce(&Secret) -> String) -> Pass {
        let value = self.0.as_ref().and_then(|secret| of(secret).parse().ok());
        Pass(value.map(|mut value: MetadataValue<Ascii>| {
            value.set_sensitive(true);
            value
        }))
    }
}

impl Secret {
    fn ask(&self, number: &[u8]) -> Tag {
        self.mac("ask", &[number])
    }

    fn proof(&self, number: &[u8], node: &Identity) -> Tag {
        let Identity { id, name, boot, grpc_addr, http_addr, version } = node;
        // 0 is no id.
        let (id, boot) = (id.unwrap_or_default().to_be_bytes(), boot.to_be_bytes());
        let texts = [name, grpc_addr, http_addr, version].map(|text| text.as_bytes());
        self.mac("proof", &[&[number, &id, &boot], &texts[..]].concat())
    }

    fn pass(&self, boot: u64) -> String {
        format!("{PASS}{}", hex(self.mac("pass", &[&boot.to_be_bytes()]).as_ref()))
    }

    /// Each part has its length before it, so that no two lists of parts are the same bytes.
    fn mac(&self, kind: &str, parts: &[&[u8]]) -> Tag {
        let mut context = Context::with_key(&self.key);
        for part in [&[kind.as_bytes()], parts].concat() {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        context.sign()
    }
}

impl Door {
    /// The door of the process of this boot.
    pub fn new(token: Token, boot: u64) -> Self {
        let pass = token.0.as_ref().map(|secret| secret.pass(boot)).unwrap_or_default();
        Self { token, pass }
    }

    /// The token.
    pub fn token(&self) -> &Token {
        &self.token
    }

    /// Whether there is a token.
    pub fn is_set(&self) -> bool {
        self.token.is_set()
    }

    /// Whether whoever makes this call with this header is a peer. The comparison takes as long for every wrong token
    /// of its length.
    ///
    /// A node without a token refuses callers that bring one: else it would go on answering peers that do not believe
    /// it, and its vetoes would keep them from ever electing a leader.
    pub fn admits(&self, path: &str, header: Option<&[u8]>) -> bool {
        let (secret, header) = match (&self.token.0, header) {
            (None, header) => return header.is_none(),
            (Some(_), None) => return false,
            (Some(secret), Some(header)) => (secret, header),
        };
        let is = |known: &str| known.as_bytes().ct_eq(header);
        bool::from(is(&self.pass) | is(&secret.bearer)) || (path == IDENTIFY && secret.is_asked(header))
    }
}

impl Secret {
    fn is_asked(&self, header: &[u8]) -> bool {
        let Some(number) = number_of(header) else { return false };
        let whole = [ASK.as_bytes(), number, b" ", hex(self.ask(number).as_ref()).as_bytes()].concat();
        bool::from(whole.ct_eq(header))
    }
}

/// The number of a challenge in the header that it is sent with.
fn number_of(header: &[u8]) -> Option<&[u8]> {
    header.strip_prefix(ASK.as_bytes())?.split(|byte| *byte == b' ').next()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.is_set() { "Token(set)" } else { "Token(none)" })
    }
}

impl Interceptor for Pass {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        self.put(request.metadata_mut());
        Ok(request)
    }
}

impl Pass {
    /// Puts it into what a call brings.
    pub fn put(&self, metadata: &mut MetadataMap) {
        if let Self(Some(value)) = self {
            metadata.insert(AUTHORIZATION, value.clone());
        }
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

    const WORK: &str = "/scheduler.Peer/Work";

    fn node(boot: u64) -> Identity {
        Identity {
            id: Some(3),
            name: "worker3".into(),
            boot,
            grpc_addr: "127.0.0.1:1".into(),
            ..Identity::default()
        }
    }

    fn header(pass: &Pass) -> Option<&[u8]> {
        pass.0.as_ref().map(MetadataValue::as_bytes)
    }

    #[test]
    fn only_the_whole_token_is_admitted_and_where_there_is_none_none() {
        let door = Door::new(Token::new("secret").unwrap(), 7);
        assert!(door.admits(WORK, Some(b"Bearer secret")));
        for wrong in [
            "",
            "secret",
            "Bearer",
            "Bearer ",
            "Bearer secre",
            "Bearer secrets",
            "Bearer Secret",
            "Basic secret",
            "Primacy-Pass ",
            "Primacy-Ask ",
            "Primacy-Ask 1 ",
        ] {
            assert!(!door.admits(WORK, Some(wrong.as_bytes())), "{wrong}");
            assert!(!door.admits(IDENTIFY, Some(wrong.as_bytes())), "{wrong}");
        }
        assert!(!door.admits(WORK, None) && !door.admits(IDENTIFY, None));
        let open = Door::new(Token::default(), 7);
        assert!(open.admits(WORK, None) && !open.admits(WORK, Some(b"Bearer secret")));
        assert!(!open.admits(WORK, Some(b"")) && !open.admits(WORK, Some(b"Primacy-Pass ")));
    }

    #[test]
    fn a_pass_is_good_at_one_process_and_an_ask_for_one_call() {
        let (token, other) = (Token::new("secret").unwrap(), Token::new("other").unwrap());
        let door = Door::new(token.clone(), 7);
        assert!(door.admits(WORK, header(&token.pass(7))));
        assert!(!door.admits(WORK, header(&token.pass(8))), "another process");
        assert!(!door.admits(WORK, header(&other.pass(7))));
        let challenge = token.challenge().unwrap();
        assert!(door.admits(IDENTIFY, header(&token.ask(&challenge))));
        assert!(!door.admits(WORK, header(&token.ask(&challenge))));
        assert!(!door.admits(IDENTIFY, header(&other.ask(&challenge))));
        for pass in [token.pass(7), token.ask(&challenge)] {
            let shown = String::from_utf8(header(&pass).unwrap().to_vec()).unwrap();
            assert!(!shown.contains("secret") && shown.is_ascii(), "{shown}");
        }
        assert!(header(&Token::default().pass(7)).is_none() && Token::default().challenge().is_none());
    }

    #[test]
    fn a_proof_is_of_one_challenge_and_one_node_and_nobody_makes_it_without_the_token() {
        let (token, other) = (Token::new("secret").unwrap(), Token::new("other").unwrap());
        let (challenge, another) = (token.challenge().unwrap(), token.challenge().unwrap());
        assert_ne!(challenge.0, another.0);
        let ask = token.ask(&challenge);
        let proof = token.proof(header(&ask), &node(7));
        assert!(token.is_proven(&challenge, &node(7), &proof));
        assert!(!token.is_proven(&another, &node(7), &proof), "said again");
        for wrong in [
            node(8),
            Identity { id: None, ..node(7) },
            Identity { grpc_addr: "127.0.0.1:2".into(), ..node(7) },
            Identity { name: "worker31".into(), grpc_addr: "27.0.0.1:1".into(), ..node(7) },
        ] {
            assert!(!token.is_proven(&challenge, &wrong, &proof), "{wrong:?}");
        }
        assert!(!token.is_proven(&challenge, &node(7), &other.proof(header(&ask), &node(7))));
        assert!(
            !token.is_proven(&challenge, &node(7), &proof[..31])
                && !token.is_proven(&challenge, &node(7), &[])
        );
        assert!(
            token.proof(None, &node(7)).is_empty()
                && token.proof(Some(b"Bearer secret"), &node(7)).is_empty()
        );
    }
}
