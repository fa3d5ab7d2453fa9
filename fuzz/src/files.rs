//! Files that an operator replaces while a node runs.

use primacy::{
    Token,
    decoders::{ClientCertificates, TlsFiles},
    limits::{TOKEN_CHARS_MAX, TOKENS_MAX},
};

use crate::check;

/// A file of tokens: one a line, each as `PRIMACY_TOKEN` takes it.
pub fn tokens(bytes: &[u8]) {
    let lines = str::from_utf8(bytes).ok().map(|text| text.lines().map(str::trim));
    let tokens: Option<Vec<&str>> = lines.map(|lines| lines.filter(|line| !line.is_empty()).collect());
    let is_token =
        |token: &&str| token.len() <= TOKEN_CHARS_MAX && token.bytes().all(|byte| byte.is_ascii_graphic());
    let is_good =
        tokens.is_some_and(|tokens| (1..=TOKENS_MAX).contains(&tokens.len()) && tokens.iter().all(is_token));
    match Token::listed(bytes) {
        Ok(token) => assert!(is_good && token.is_set()),
        Err(error) => {
            assert!(!is_good, "{error}");
            check::reason(&error.to_string());
        }
    }
}

/// A certificate, its key and a CA, each after a byte of zero.
pub fn credentials(bytes: &[u8]) {
    let files = TlsFiles {
        certificate: "certificate".into(),
        key: "key".into(),
        authorities: Some("authorities".into()),
    };
    let contents: Vec<Vec<u8>> = bytes.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
    if let Err(error) = files.credentials(&contents, ClientCertificates::Ask) {
        check::reason(&error.to_string());
    }
}
