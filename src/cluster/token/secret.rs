//! One value of the token, and what is proven by it.

use primacy_election::{Identity, Scheme};
use ring::hmac::{Context, HMAC_SHA256, Key, Tag};
use subtle::ConstantTimeEq;

use super::TokenError;
use crate::limits::TOKEN_CHARS_MAX;

/// How a caller is known: by a pass, or by the answer to its own challenge.
const PASS: &str = "Primacy-Pass ";
const ASK: &str = "Primacy-Ask ";
const BEARER: &str = "Bearer ";

/// A value of the token, ready to be compared and to prove things by.
pub(super) struct Secret {
    bearer: String,
    key: Key,
}

impl Secret {
    pub(super) fn new(token: &str) -> Result<Self, TokenError> {
        match token.chars().count() {
            0 => return Err(TokenError::Empty),
            1..=TOKEN_CHARS_MAX => {}
            characters => return Err(TokenError::TooLong(characters)),
        }
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(TokenError::NotVisible);
        }
        Ok(Self { bearer: format!("{BEARER}{token}"), key: Key::new(HMAC_SHA256, token.as_bytes()) })
    }

    pub(super) fn is(&self, token: &str) -> bool {
        self.bearer.strip_prefix(BEARER) == Some(token)
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.bearer == other.bearer
    }

    /// The header of a challenge.
    pub(super) fn ask(&self, number: &[u8]) -> String {
        let tag = self.mac("ask", &[number]);
        format!("{ASK}{} {}", String::from_utf8_lossy(number), hex(tag.as_ref()))
    }

    /// The number that this header asks about, if it comes from somebody who knows the token.
    pub(super) fn asked<'a>(&self, header: &'a [u8]) -> Option<&'a [u8]> {
        let number = header.strip_prefix(ASK.as_bytes())?.split(|byte| *byte == b' ').next()?;
        let tag = hex(self.mac("ask", &[number]).as_ref());
        let whole = [ASK.as_bytes(), number, b" ", tag.as_bytes()].concat();
        bool::from(whole.ct_eq(header)).then_some(number)
    }

    pub(super) fn prove(&self, number: &[u8], node: &Identity) -> Tag {
        let Identity { id, name, boot, grpc_addr, http_addr, version, scheme } = node;
        // 0 is no id.
        let (id, boot) = (id.unwrap_or_default().to_be_bytes(), boot.to_be_bytes());
        let texts = [name, grpc_addr, http_addr, version].map(|text| text.as_bytes());
        // Nodes of versions that know no scheme prove none.
        let scheme = Some(scheme.as_str().as_bytes()).filter(|_| *scheme == Scheme::Https);
        self.mac("proof", &[&[number, &id, &boot], &texts[..], scheme.as_slice()].concat())
    }

    pub(super) fn is_proof(&self, number: &[u8], node: &Identity, proof: &[u8]) -> bool {
        bool::from(self.prove(number, node).as_ref().ct_eq(proof))
    }

    /// The header of calls to the process of this boot.
    pub(super) fn pass(&self, boot: u64) -> String {
        format!("{PASS}{}", hex(self.mac("pass", &[&boot.to_be_bytes()]).as_ref()))
    }

    /// Whether the header is the token itself, or a pass for this boot.
    pub(super) fn is_shown(&self, boot: u64, header: &[u8]) -> bool {
        bool::from(self.bearer.as_bytes().ct_eq(header) | self.pass(boot).as_bytes().ct_eq(header))
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

pub(super) fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from(b"0123456789abcdef"[usize::from(value)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_in_clear_text_proves_what_nodes_prove_that_know_no_scheme() {
        let node = Identity { id: Some(3), name: "worker3".into(), boot: 7, ..Identity::default() };
        let mut context = Context::with_key(&Key::new(HMAC_SHA256, b"secret"));
        let (id, boot) = (3_u32.to_be_bytes(), 7_u64.to_be_bytes());
        for part in [&b"proof"[..], b"number", &id, &boot, b"worker3", b"", b"", b""] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let secret = Secret::new("secret").unwrap();
        assert!(secret.is_proof(b"number", &node, context.sign().as_ref()));
        let encrypted = Identity { scheme: Scheme::Https, ..node.clone() };
        assert!(!secret.is_proof(b"number", &encrypted, secret.prove(b"number", &node).as_ref()));
    }
}
