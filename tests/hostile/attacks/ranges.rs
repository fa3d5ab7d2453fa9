//! Ranges and searches: questions of one line that are work for hours.

use std::sync::LazyLock;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    attacker::{Attacker, drained, hold},
    harness::long_number,
};

/// The head of a question that is answered in lines.
fn question(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: node\r\nAccept: application/x-ndjson\r\n\r\n")
}

fn all(path: &str) -> String {
    question(&format!("{path}?from=0&to={}", u64::MAX))
}

/// Counts that are read: as many as there are places, and more that want one.
pub fn counts(attacker: &mut Attacker) {
    attacker.connections(64, attacker.http, |stream| {
        drained(stream, |mut writer| async move {
            writer.write_all(all("/primes/count").as_bytes()).await?;
            hold(writer).await
        })
    });
}

/// Counts whose clients go when they have begun: each is cut into segments, which are sent out and given up.
pub fn counts_given_up(attacker: &mut Attacker) {
    attacker.connections(32, attacker.http, |mut stream| async move {
        stream.set_zero_linger()?;
        stream.write_all(all("/primes/count").as_bytes()).await?;
        stream.read_u8().await.map(drop)
    });
}

/// Lists that nobody reads.
pub fn unread_lists(attacker: &mut Attacker) {
    attacker.slow_connections(64, attacker.http, Some(4096), |mut stream| async move {
        stream.write_all(all("/primes").as_bytes()).await?;
        hold(stream).await
    });
}

/// Searches beside numbers of 10,000 digits.
pub fn searches(attacker: &mut Attacker) {
    static QUESTION: LazyLock<String> =
        LazyLock::new(|| question(&format!("/prime/{}/next", long_number(10_000))));
    attacker.connections(64, attacker.http, |stream| {
        drained(stream, |mut writer| async move {
            writer.write_all(QUESTION.as_bytes()).await?;
            hold(writer).await
        })
    });
}
