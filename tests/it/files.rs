//! The files in the binary, and which answers are compressed.

use std::io::Read;

use flate2::read::GzDecoder;
use primacy::limits::{COMPRESSED_BYTES_MAX, COMPRESSED_BYTES_MIN};
use reqwest::{Client, Method};

use crate::{
    harness::TestNode,
    http::{Answer, get, post},
};

const FILES: [&str; 9] = [
    "/",
    "/app.js",
    "/style.css",
    "/favicon.svg",
    "/docs/",
    "/docs/swagger-ui-bundle.js",
    "/docs/swagger-ui.css",
    "/docs/favicon-32x32.png",
    "/openapi.json",
];

/// A request with these headers.
async fn asks(node: &TestNode, method: Method, path: &str, headers: &[(&str, &str)]) -> Answer {
    let client = Client::builder().no_proxy().no_gzip().build().unwrap();
    let request = client.request(method, node.url(path));
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Answer { status, headers, body: response.bytes().await.unwrap().to_vec() }
}

async fn zipped(node: &TestNode, path: &str) -> Answer {
    asks(node, Method::GET, path, &[("accept-encoding", "gzip, deflate, br")]).await
}

fn unzipped(answer: &Answer) -> Vec<u8> {
    assert_eq!(answer.header("content-encoding"), "gzip");
    let mut plain = Vec::new();
    GzDecoder::new(&*answer.body).read_to_end(&mut plain).unwrap();
    plain
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_the_same_in_either_encoding_under_a_strong_tag_of_its_own() {
    let node = TestNode::alone(&["--id", "1"]).await;
    for path in FILES {
        let (plain, zipped) = (get(&node, path).await, zipped(&node, path).await);
        assert_eq!(plain.header("content-encoding"), "", "{path}");
        assert!(unzipped(&zipped) == plain.body, "{path}");
        for header in ["vary", "cache-control", "content-type"] {
            assert_eq!(plain.header(header), zipped.header(header), "{path}: {header}");
        }
        assert_eq!((plain.header("vary"), plain.header("cache-control")), ("accept-encoding", "no-cache"));
        let (one, other) = (plain.header("etag"), zipped.header("etag"));
        assert!(one.starts_with('"') && other.starts_with('"') && one != other, "{path}: {one} {other}");
    }
    // The best level; the fastest makes half a megabyte of it.
    let bundle = zipped(&node, "/docs/swagger-ui-bundle.js").await.body.len();
    assert!(bundle < 430_000, "{bundle}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_a_file_is_told_so() {
    let node = TestNode::alone(&["--id", "1"]).await;
    for path in FILES {
        for encoding in ["gzip", "identity"] {
            let asks = |method, tag| {
                let headers = [("accept-encoding", encoding), ("if-none-match", tag)];
                let node = &node;
                async move { asks(node, method, path, &headers).await }
            };
            let first = asks(Method::GET, "\"another\"").await;
            assert_eq!(first.status, 200, "{path}");
            let tag = first.header("etag");
            let (listed, weak) = (format!("\"another\", {tag}"), format!("W/{tag}"));
            for known in [tag, "*", &listed, &weak] {
                for method in [Method::GET, Method::HEAD] {
                    let again = asks(method, known).await;
                    assert_eq!((again.status, again.body.len()), (304, 0), "{path} {known}");
                    for header in ["etag", "vary", "cache-control", "content-security-policy"] {
                        assert_eq!(again.header(header), first.header(header), "{path}: {header}");
                    }
                    assert_eq!(again.header("content-encoding"), "", "{path}");
                }
            }
            let head = asks(Method::HEAD, "\"another\"").await;
            assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
            assert_eq!(head.header("content-length"), first.body.len().to_string(), "{path}");
            for header in ["etag", "content-encoding", "content-type"] {
                assert_eq!(head.header(header), first.header(header), "{path}: {header}");
            }
        }
        let of_plain = get(&node, path).await.header("etag").to_owned();
        let headers = [("accept-encoding", "gzip"), ("if-none-match", &*of_plain)];
        assert_eq!(
            asks(&node, Method::GET, path, &headers).await.status,
            200,
            "{path}: of the other encoding"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_encoding_is_the_one_that_the_client_prefers() {
    let node = TestNode::alone(&["--id", "1"]).await;
    for (accepted, status, encoding) in [
        ("gzip;q=0.5, identity;q=0.9", 200, ""),
        ("gzip;q=0.9, identity;q=0.5", 200, "gzip"),
        ("*", 200, "gzip"),
        ("gzip;q=0", 200, ""),
        ("br", 200, ""),
        ("gzip, identity;q=0", 200, "gzip"),
        ("identity;q=0", 406, ""),
        ("br, *;q=0", 406, ""),
    ] {
        for path in ["/", "/docs/swagger-ui.css", "/openapi.json", "/metrics"] {
            let answer = asks(&node, Method::GET, path, &[("accept-encoding", accepted)]).await;
            let what = format!("{path} {accepted}");
            assert_eq!((answer.status, answer.header("content-encoding")), (status, encoding), "{what}");
            assert!(answer.header("vary").contains("accept"), "{what}: {}", answer.header("vary"));
            if status == 406 {
                answer.problem(&what, 406, "invalid_argument");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_are_made_are_compressed_between_two_sizes() {
    let node = TestNode::alone(&["--id", "1"]).await;
    let long = format!("1{}", "0".repeat(9_999));
    let mut compressed = 0;
    for asked in 0..8_u64 {
        let (plain, zipped) = (get(&node, "/results").await, zipped(&node, "/results").await);
        let length = plain.body.len() as u64;
        if (COMPRESSED_BYTES_MIN..=COMPRESSED_BYTES_MAX).contains(&length) {
            assert!(unzipped(&zipped) == plain.body && zipped.body.len() * 2 < plain.body.len());
            assert_eq!((plain.header("vary"), zipped.header("vary")), ("accept-encoding", "accept-encoding"));
            compressed += 1;
        } else {
            assert_eq!(zipped.header("content-encoding"), "", "{length}");
            assert!(zipped.body == plain.body, "{length}");
        }
        assert!(length >= asked * 10_000, "{length}");
        post(&node, format!(r#"{{"number": "{long}"}}"#)).await.json();
    }
    assert!((2..8).contains(&compressed), "{compressed}");
    let metrics = zipped(&node, "/metrics").await;
    assert!(String::from_utf8(unzipped(&metrics)).unwrap().contains("primacy_requests_ok_total"));
    assert_eq!(metrics.headers.get_all("vary").iter().count(), 2, "{:?}", metrics.headers);
}
