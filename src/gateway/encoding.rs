//! In which encoding an answer leaves: as it is, or compressed where that is cheap.

use std::io::{self, Write};

use axum::{
    body::{Body, Bytes, HttpBody, to_bytes},
    extract::Request,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use flate2::{Compression, write::GzEncoder};

use crate::limits::{COMPRESSED_BYTES_MAX, COMPRESSED_BYTES_MIN};

const VARY: HeaderValue = HeaderValue::from_static("accept-encoding");

/// What a client prefers of what there is; among the extensions of its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// As it is.
    Identity,
    /// Compressed.
    Gzip,
}

impl Encoding {
    /// By `Accept-Encoding` (RFC 9110, 12.5.3); nothing if that excludes both.
    pub fn preferred(headers: &HeaderMap) -> Option<Self> {
        let listed = Preferences::in_headers(headers);
        let gzip = listed.gzip.or(listed.all).unwrap_or(0);
        // What is not excluded is acceptable, but what is listed is preferred.
        let is_excluded = listed.identity.or(listed.all) == Some(0);
        let identity = listed.identity.or(listed.all).unwrap_or(0);
        match gzip {
            0 if is_excluded => None,
            0 => Some(Self::Identity),
            _ if gzip >= identity => Some(Self::Gzip),
            _ => Some(Self::Identity),
        }
    }

    /// Says that a body is in it.
    pub(super) fn say(self, headers: &mut HeaderMap) {
        if self == Self::Gzip {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
    }
}

/// How much each encoding is liked, in thousandths.
#[derive(Default)]
struct Preferences {
    gzip: Option<u16>,
    identity: Option<u16>,
    /// Those that are not named.
    all: Option<u16>,
}

impl Preferences {
    fn in_headers(headers: &HeaderMap) -> Self {
        let lines = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|line| line.to_str().ok());
        let mut listed = Self::default();
        for one in lines.flat_map(|line| line.split(',')) {
            let (name, parameter) = one.split_once(';').unwrap_or((one, "q=1"));
            let quality = quality(parameter.trim());
            match name.trim().to_ascii_lowercase().as_str() {
                "gzip" | "x-gzip" => listed.gzip = listed.gzip.or(quality),
                "identity" => listed.identity = listed.identity.or(quality),
                "*" => listed.all = listed.all.or(quality),
                _ => {}
            }
        }
        listed
    }
}

/// `q=0.5` in thousandths; nothing for what is no such parameter.
fn quality(parameter: &str) -> Option<u16> {
    let (name, value) = parameter.split_once('=')?;
    let is_number = value.len() <= 5 && value.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let value: f32 = value.parse().ok().filter(|_| is_number && name.eq_ignore_ascii_case("q"))?;
    (value <= 1.0).then_some((value * 1000.0).round() as u16)
}

/// Refuses a request that takes no encoding that there is, tells the handler the one that it prefers, and compresses what
/// the handler has made if that gains something and costs little.
pub(super) async fn negotiate(mut request: Request, next: Next) -> Response {
    let Some(encoding) = Encoding::preferred(request.headers()) else {
        return ([(header::VARY, VARY)], StatusCode::NOT_ACCEPTABLE).into_response();
    };
    request.extensions_mut().insert(encoding);
    let mut response = next.run(request).await;
    if !is_worth_it(&response) {
        return response;
    }
    response.headers_mut().append(header::VARY, VARY);
    match encoding {
        Encoding::Identity => response,
        Encoding::Gzip => compress(response).await,
    }
}

/// Whether it may be compressed: it was made for this request, as a whole, and is neither short nor long.
fn is_worth_it(response: &Response) -> bool {
    let length = response.body().size_hint().exact().unwrap_or_default();
    let is_file = response.headers().contains_key(header::ETAG);
    !is_file && (COMPRESSED_BYTES_MIN..=COMPRESSED_BYTES_MAX).contains(&length)
}

async fn compress(response: Response) -> Response {
    let (mut head, body) = response.into_parts();
    // Its length is known, and what is made as a whole does not fail on the way.
    let plain = to_bytes(body, usize::MAX).await.unwrap_or_default();
    let body = match compressed(&plain) {
        Ok(bytes) => {
            Encoding::Gzip.say(&mut head.headers);
            head.headers.remove(header::CONTENT_LENGTH);
            bytes
        }
        Err(_) => plain,
    };
    Response::from_parts(head, Body::from(body))
}

fn compressed(plain: &[u8]) -> io::Result<Bytes> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(plain.len() / 2), Compression::fast());
    encoder.write_all(plain)?;
    encoder.finish().map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use super::{Encoding::*, *};

    fn preferred(accepted: &[&str]) -> Option<Encoding> {
        let lines = accepted.iter().map(|line| (header::ACCEPT_ENCODING, line.parse().unwrap()));
        Encoding::preferred(&lines.collect())
    }

    #[test]
    fn qualities_say_which_encoding_is_preferred() {
        for gzip in [
            "gzip",
            "GZip",
            "x-gzip",
            "gzip, deflate, br, zstd",
            "br;q=1.0, gzip;q=0.8, *;q=0.1",
            "gzip;q=0.001",
            "gzip ; Q=1",
            "gzip;q=1.000",
            "*",
            "gzip, identity",
            "*;q=0.5, identity;q=0.5",
            "identity;q=0, gzip;q=0.1",
            "identity;q=0, *",
            "gzip, *;q=0",
        ] {
            assert_eq!(preferred(&[gzip]), Some(Gzip), "{gzip}");
        }
        for identity in [
            "",
            "identity",
            "br",
            "gzip;q=0",
            "gzip;q=0.000",
            "gzip;q=0.4, identity;q=0.5",
            "*;q=0.5, identity",
            "*;q=0, identity;q=0.1",
            "gzip;q=0, *",
            "gzip;q=2",
            "gzip;q=nan",
            "gzip;q=-1",
            "gzip;q=0.0001",
            "gzip;level=9",
            "gzipped",
            ";,;,=",
        ] {
            assert_eq!(preferred(&[identity]), Some(Identity), "{identity}");
        }
        for none in ["identity;q=0", "*;q=0", "br, *;q=0", "gzip;q=0, identity;q=0", "identity;q=0, gzip;q=x"]
        {
            assert_eq!(preferred(&[none]), None, "{none}");
        }
        assert_eq!(preferred(&[]), Some(Identity));
        assert_eq!(preferred(&["br", "gzip;q=0.5", "identity;q=0.1"]), Some(Gzip));
    }
}
