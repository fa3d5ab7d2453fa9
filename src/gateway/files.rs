//! The files in the binary. `build.rs` has compressed them: a request costs what it takes to write the bytes.

use axum::{
    body::{Body, Bytes},
    extract::Request,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::Response,
    routing::{MethodRouter, get},
};

use super::{admission::memory::InProgram, encoding::Encoding, etag};

include!(concat!(env!("OUT_DIR"), "/files.rs"));

/// A file in the binary.
#[derive(Debug)]
pub struct File {
    /// Its name, without the path that it is served below.
    pub name: &'static str,
    media: &'static str,
    plain: Stored,
    gzip: Stored,
}

/// A file in one encoding.
#[derive(Debug)]
struct Stored {
    bytes: &'static [u8],
    /// A strong tag: the same for the same bytes only.
    etag: &'static str,
}

impl File {
    /// The route that serves it.
    pub fn route<S: Clone + Send + Sync + 'static>(&'static self) -> MethodRouter<S> {
        get(move |request: Request| async move { self.answer(&request) })
    }

    /// What answers this request: the bytes in the encoding that it prefers, or that it has them.
    pub fn answer(&self, request: &Request) -> Response {
        let encoding = request.extensions().get().copied().unwrap_or(Encoding::Identity);
        let stored = match encoding {
            Encoding::Gzip => &self.gzip,
            Encoding::Identity => &self.plain,
        };
        let is_known = etag::is_known(request.headers(), stored.etag);
        let mut response = Response::new(match is_known {
            true => Body::empty(),
            false => Body::from(Bytes::from_static(stored.bytes)),
        });
        *response.headers_mut() = self.headers(stored);
        response.extensions_mut().insert(InProgram);
        match is_known {
            true => *response.status_mut() = StatusCode::NOT_MODIFIED,
            false => encoding.say(response.headers_mut()),
        }
        response
    }

    fn headers(&self, stored: &Stored) -> HeaderMap {
        let headers = [
            (header::CONTENT_TYPE, self.media),
            // A node that was upgraded serves another file at once: nothing is kept unasked.
            (header::CACHE_CONTROL, "no-cache"),
            (header::ETAG, stored.etag),
            (header::VARY, "accept-encoding"),
            (header::REFERRER_POLICY, "no-referrer"),
            // For browsers that do not know `frame-ancestors`.
            (header::X_FRAME_OPTIONS, "DENY"),
        ];
        headers.into_iter().map(|(name, value)| (name, HeaderValue::from_static(value))).collect()
    }
}
