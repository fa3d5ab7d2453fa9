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
//!
//! A token that comes from a file may be several, of which the first is used and all are accepted: so it is replaced while
//! the nodes run.

mod secret;

use std::{future::pending, sync::Arc};

use primacy_election::Identity;
use rand::random;
use thiserror::Error;
use tokio::sync::watch;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataMap, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};

use super::introduction::PeerCredentials;
use crate::{
    connection::tls::Tls,
    limits::{TOKEN_CHARS_MAX, TOKENS_MAX},
};
use secret::{Secret, hex};

/// A connection to a peer, on which every call carries the pass.
pub type PeerConnection = InterceptedService<Channel, Pass>;

/// The metadata by which a caller is known as a peer: a pass, or, from operators' clients, `Bearer` and the token (RFC
/// 6750).
pub const AUTHORIZATION: &str = "authorization";
/// The token of those who only try the cluster; everybody knows it.
pub const TRIAL: &str = "trial";
/// The one call for which it is enough to know the token.
pub const IDENTIFY: &str = "/scheduler.Peer/Identify";

/// The cluster's token; without one, every caller that brings none is believed.
#[derive(Clone, Default)]
pub struct Token(Option<Arc<watch::Sender<Secrets>>>);

/// At least one. The first is used, all are accepted.
type Secrets = Arc<[Arc<Secret>]>;

/// Whom a node takes for a peer.
#[derive(Debug, Clone)]
pub struct Door {
    credentials: PeerCredentials,
    /// Which process it is of.
    boot: u64,
}

/// What a caller's calls carry, if the cluster has a token: it is good at one process, for as long as that lives.
#[derive(Clone, Default)]
pub struct Pass {
    token: Token,
    boot: u64,
}

/// A number drawn anew, about which whoever answers at an address proves that it knows the token.
pub struct Challenge {
    number: String,
    secret: Arc<Secret>,
}

/// One of the token's values, which a lane rests on: the lane is renewed when it is not the first any more, and refused
/// when it is none of them.
#[derive(Clone)]
pub struct TokenValue {
    token: Token,
    secret: Arc<Secret>,
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
    /// A file lists none.
    #[error("it holds no token; write one a line, such as `openssl rand -hex 16` prints")]
    NoneListed,
    /// A file lists this many.
    #[error("it holds {0} tokens; a node takes at most {TOKENS_MAX}, one a line")]
    TooMany(usize),
}

impl Token {
    /// A token of visible ASCII characters.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn new(token: &str) -> Result<Self, TokenError> {
        Ok(Self::of([Arc::new(Secret::new(token)?)].into()))
    }

    /// The tokens of a file, one a line; blanks around them, and empty lines, mean nothing.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn listed(file: &[u8]) -> Result<Self, TokenError> {
        let text = str::from_utf8(file).map_err(|_| TokenError::NotVisible)?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let secrets: Vec<_> = lines.map(|line| Secret::new(line).map(Arc::new)).collect::<Result<_, _>>()?;
        match secrets.len() {
            0 => Err(TokenError::NoneListed),
            1..=TOKENS_MAX => Ok(Self::of(secrets.into())),
            count => Err(TokenError::TooMany(count)),
        }
    }

    fn of(secrets: Secrets) -> Self {
        Self(Some(Arc::new(watch::Sender::new(secrets))))
    }

    /// Takes the values of another token, wherever this one is known. Whether there is one at all does not change.
    pub fn replace(&self, with: &Self) {
        if let (Self(Some(values)), Self(Some(with))) = (self, with) {
            values.send_replace(Arc::clone(&with.borrow()));
        }
    }

    /// Whether there is one.
    pub fn is_set(&self) -> bool {
        self.0.is_some()
    }

    /// How many values it has, in words.
    pub fn count(&self) -> String {
        match self.secrets().map_or(0, |secrets| secrets.len()) {
            1 => "1 value is".to_owned(),
            count => format!("{count} values are"),
        }
    }

    /// Whether everybody knows a value of it.
    pub fn is_trial(&self) -> bool {
        self.secrets().is_some_and(|secrets| secrets.iter().any(|secret| secret.is(TRIAL)))
    }

    /// Draws a challenge; none where there is nothing to prove.
    pub fn challenge(&self) -> Option<Challenge> {
        let secret = Arc::clone(self.secrets()?.first()?);
        Some(Challenge { number: hex(&random::<[u8; 32]>()), secret })
    }

    /// What a node answers to the challenge that came in this header: the proof that it knows the token and is who it is.
    /// Nothing to whoever brought none.
    pub fn proof(&self, header: Option<&[u8]>, me: &Identity) -> Vec<u8> {
        let (Some(header), Some(secrets)) = (header, self.secrets()) else { return Vec::new() };
        let proof = secrets.iter().find_map(|secret| Some(secret.prove(secret.asked(header)?, me)));
        proof.map_or_else(Vec::new, |proof| proof.as_ref().to_vec())
    }

    /// What calls to the process of this boot are to carry.
    pub fn pass(&self, boot: u64) -> Pass {
        Pass { token: self.clone(), boot }
    }

    /// None where there is no token.
    fn secrets(&self) -> Option<Secrets> {
        Some(Arc::clone(&self.0.as_ref()?.borrow()))
    }

    fn value(&self, secret: &Arc<Secret>) -> TokenValue {
        TokenValue { token: self.clone(), secret: Arc::clone(secret) }
    }
}

impl TokenValue {
    /// Returns when the token's first value is another one.
    pub async fn superseded(&self) {
        self.until(|secrets| !secrets.first().is_some_and(|first| first.is_same(&self.secret))).await;
    }

    /// Returns when none of the token's values is this one.
    pub async fn withdrawn(&self) {
        self.until(|secrets| !secrets.iter().any(|secret| secret.is_same(&self.secret))).await;
    }

    async fn until(&self, holds: impl Fn(&[Arc<Secret>]) -> bool) {
        let Token(Some(values)) = &self.token else { return pending().await };
        // The sender is in our own hands, so that it does not end.
        let _ = values.subscribe().wait_for(|secrets| holds(secrets)).await;
    }
}

impl Challenge {
    /// What it is sent with.
    pub fn put(&self, metadata: &mut MetadataMap) {
        put(metadata, &self.secret.ask(self.number.as_bytes()));
    }

    /// Whether the answer proves that who gave it knows the token, and is this node.
    pub fn is_proven(&self, identity: &Identity, proof: &[u8]) -> bool {
        self.secret.is_proof(self.number.as_bytes(), identity, proof)
    }

    /// The value that the proof rests on, of this token.
    pub fn value(&self, of: &Token) -> TokenValue {
        of.value(&self.secret)
    }
}

impl Door {
    /// The door of the process of this boot.
    pub fn new(credentials: PeerCredentials, boot: u64) -> Self {
        Self { credentials, boot }
    }

    /// TLS, if the node speaks it.
    pub fn tls(&self) -> Option<&Tls> {
        self.credentials.tls.as_ref()
    }

    /// Whether only who has shown a certificate can be a peer.
    pub fn certifies(&self) -> bool {
        self.tls().is_some_and(Tls::certifies_peers)
    }

    /// The token.
    pub fn token(&self) -> &Token {
        &self.credentials.token
    }

    /// Whether there is a token.
    pub fn is_set(&self) -> bool {
        self.token().is_set()
    }

    /// Whether whoever makes this call with this header is a peer. The comparison takes as long for every wrong token
    /// of its length.
    ///
    /// A node without a token refuses callers that bring one: else it would go on answering peers that do not believe
    /// it, and its vetoes would keep them from ever electing a leader.
    pub fn admits(&self, path: &str, header: Option<&[u8]>) -> bool {
        match (self.is_set(), header) {
            (false, header) => header.is_none(),
            (true, None) => false,
            (true, Some(header)) => {
                self.value(header).is_some() || (path == IDENTIFY && self.is_asked(header))
            }
        }
    }

    fn is_asked(&self, header: &[u8]) -> bool {
        let secrets = self.token().secrets();
        secrets.is_some_and(|secrets| secrets.iter().any(|secret| secret.asked(header).is_some()))
    }

    /// The value of the token that this header shows.
    pub fn value(&self, header: &[u8]) -> Option<TokenValue> {
        let secrets = self.token().secrets()?;
        let shown = secrets.iter().find(|secret| secret.is_shown(self.boot, header))?;
        Some(self.token().value(shown))
    }
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
    /// Puts it into what a call brings: by the token's first value of this moment.
    pub fn put(&self, metadata: &mut MetadataMap) {
        let secrets = self.token.secrets();
        if let Some(secret) = secrets.as_ref().and_then(|secrets| secrets.first()) {
            put(metadata, &secret.pass(self.boot));
        }
    }
}

fn put(metadata: &mut MetadataMap, text: &str) {
    if let Ok(mut value) = text.parse::<MetadataValue<Ascii>>() {
        value.set_sensitive(true);
        metadata.insert(AUTHORIZATION, value);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

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

    fn header(put: impl FnOnce(&mut MetadataMap)) -> Option<Vec<u8>> {
        let mut metadata = MetadataMap::new();
        put(&mut metadata);
        metadata.get(AUTHORIZATION).map(|value| value.as_bytes().to_vec())
    }

    fn door_of(token: Token) -> Door {
        Door::new(PeerCredentials { token, tls: None }, 7)
    }

    fn pass(token: &Token, boot: u64) -> Option<Vec<u8>> {
        header(|metadata| token.pass(boot).put(metadata))
    }

    fn ask(challenge: &Challenge) -> Option<Vec<u8>> {
        header(|metadata| challenge.put(metadata))
    }

    #[test]
    fn only_the_whole_token_is_admitted_and_where_there_is_none_none() {
        let door = door_of(Token::new("secret").unwrap());
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
        let open = door_of(Token::default());
        assert!(open.admits(WORK, None) && !open.admits(WORK, Some(b"Bearer secret")));
        assert!(!open.admits(WORK, Some(b"")) && !open.admits(WORK, Some(b"Primacy-Pass ")));
    }

    #[test]
    fn a_pass_is_good_at_one_process_and_an_ask_for_one_call() {
        let (token, other) = (Token::new("secret").unwrap(), Token::new("other").unwrap());
        let door = door_of(token.clone());
        assert!(door.admits(WORK, pass(&token, 7).as_deref()));
        assert!(!door.admits(WORK, pass(&token, 8).as_deref()), "another process");
        assert!(!door.admits(WORK, pass(&other, 7).as_deref()));
        let challenge = token.challenge().unwrap();
        assert!(door.admits(IDENTIFY, ask(&challenge).as_deref()));
        assert!(!door.admits(WORK, ask(&challenge).as_deref()));
        assert!(!door.admits(IDENTIFY, ask(&other.challenge().unwrap()).as_deref()));
        for header in [pass(&token, 7), ask(&challenge)] {
            let shown = String::from_utf8(header.unwrap()).unwrap();
            assert!(!shown.contains("secret") && shown.is_ascii(), "{shown}");
        }
        assert!(pass(&Token::default(), 7).is_none() && Token::default().challenge().is_none());
    }

    #[test]
    fn a_proof_is_of_one_challenge_and_one_node_and_nobody_makes_it_without_the_token() {
        let (token, other) = (Token::new("secret").unwrap(), Token::new("other").unwrap());
        let (challenge, another) = (token.challenge().unwrap(), token.challenge().unwrap());
        assert_ne!(challenge.number, another.number);
        let ask = ask(&challenge);
        let proof = token.proof(ask.as_deref(), &node(7));
        assert!(challenge.is_proven(&node(7), &proof));
        assert!(!another.is_proven(&node(7), &proof), "said again");
        for wrong in [
            node(8),
            Identity { id: None, ..node(7) },
            Identity { grpc_addr: "127.0.0.1:2".into(), ..node(7) },
            Identity { name: "worker31".into(), grpc_addr: "27.0.0.1:1".into(), ..node(7) },
        ] {
            assert!(!challenge.is_proven(&wrong, &proof), "{wrong:?}");
        }
        assert!(!challenge.is_proven(&node(7), &other.proof(ask.as_deref(), &node(7))));
        assert!(!challenge.is_proven(&node(7), &proof[..31]) && !challenge.is_proven(&node(7), &[]));
        assert!(
            token.proof(None, &node(7)).is_empty()
                && token.proof(Some(b"Bearer secret"), &node(7)).is_empty()
        );
    }

    #[test]
    fn a_token_of_several_values_uses_the_first_and_accepts_all() {
        let listed = |text: &str| Token::listed(text.as_bytes());
        let token = listed("old\nnew\n").unwrap();
        let door = door_of(token.clone());
        let (old, new) = (Token::new("old").unwrap(), Token::new("new").unwrap());
        for known in [&old, &new] {
            assert!(door.admits(WORK, pass(known, 7).as_deref()));
            let challenge = known.challenge().unwrap();
            assert!(door.admits(IDENTIFY, ask(&challenge).as_deref()));
            assert!(challenge.is_proven(&node(7), &token.proof(ask(&challenge).as_deref(), &node(7))));
        }
        let carried = token.pass(7);
        assert_eq!(header(|metadata| carried.put(metadata)), pass(&old, 7));
        token.replace(&listed("new\nold").unwrap());
        assert_eq!(header(|metadata| carried.put(metadata)), pass(&new, 7), "of this moment");
        token.replace(&listed("new").unwrap());
        assert!(!door.admits(WORK, pass(&old, 7).as_deref()) && door.admits(WORK, pass(&new, 7).as_deref()));
    }

    #[tokio::test]
    async fn a_value_is_superseded_when_another_is_first_and_withdrawn_when_it_is_gone() {
        let listed = |text: &str| Token::listed(text.as_bytes()).unwrap();
        let token = listed("old");
        let value = token.challenge().unwrap().value(&token);
        let states = || {
            let (superseded, withdrawn) =
                (value.superseded().now_or_never(), value.withdrawn().now_or_never());
            (superseded.is_some(), withdrawn.is_some())
        };
        assert_eq!(states(), (false, false));
        token.replace(&listed("old\nnew"));
        assert_eq!(states(), (false, false));
        token.replace(&listed("new\nold"));
        assert_eq!(states(), (true, false));
        token.replace(&listed("new"));
        assert_eq!(states(), (true, true));
    }

    #[test]
    fn a_file_holds_a_token_a_line() {
        let listed = |text: &[u8]| Token::listed(text).map(|token| token.count());
        assert_eq!(listed(b" a \r\n\n b\n"), Ok("2 values are".to_owned()));
        assert_eq!(listed(b"a"), Ok("1 value is".to_owned()));
        assert_eq!(listed(b"\n \n"), Err(TokenError::NoneListed));
        assert_eq!(listed(b"a b"), Err(TokenError::NotVisible));
        assert_eq!(listed(b"\xff"), Err(TokenError::NotVisible));
        assert_eq!(listed("a\n".repeat(TOKENS_MAX + 1).as_bytes()), Err(TokenError::TooMany(TOKENS_MAX + 1)));
    }
}
