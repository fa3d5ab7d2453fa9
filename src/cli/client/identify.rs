//! What an address is that answers, but not as a node does: mostly its HTTP port.

use std::{io, time::Duration};

use serde::Deserialize;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{config::HostPort, text::plain};

/// How long it may take to tell: the command has failed already.
const ANSWER: Duration = Duration::from_millis(500);
/// What is read of an answer: the list of all members.
const ANSWER_BYTES_MAX: u64 = 1024 * 1024;

/// What a node says of itself over HTTP.
#[derive(Deserialize)]
struct ShownCluster {
    observed_by: String,
    members: Vec<ShownMember>,
}

#[derive(Deserialize)]
struct ShownMember {
    name: String,
    grpc_addr: String,
}

/// What is said once of all addresses that end connections in clear text.
pub(super) const PERHAPS_TLS: &str = "an endpoint that takes connections and ends them may speak TLS: write https:// before it, and name the CA of its \
     certificate with --cacert";

/// What this address is by its answer to a request of HTTP/1 in clear text, if it takes connections.
pub(super) async fn http(address: &HostPort) -> Option<String> {
    let answer = timeout(ANSWER, ask(address)).await.ok()?.ok()?;
    if answer.is_empty() {
        return Some(PERHAPS_TLS.to_owned());
    }
    let status: u16 = answer.strip_prefix("HTTP/1.")?.split_whitespace().nth(1)?.parse().ok()?;
    let what = match node(&answer) {
        Some((name, grpc)) => format!("is the HTTP port of {name}, whose gRPC port is {grpc}"),
        None => format!(
            "answers HTTP {status}, not gRPC: is it the HTTP port of a node? gRPC has another port, 50051 by default"
        ),
    };
    Some(format!("{address} {what}"))
}

async fn ask(address: &HostPort) -> io::Result<String> {
    let mut stream = TcpStream::connect(&*address.as_arc()).await?;
    // By this version the answer ends with the connection.
    stream.write_all(format!("GET /cluster HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    // What came before an error may do.
    let _ = stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// The node that answered, and where it listens for gRPC.
pub fn node(answer: &str) -> Option<(String, String)> {
    let (_, body) = answer.split_once("\r\n\r\n")?;
    let ShownCluster { observed_by, members } = serde_json::from_str(body).ok()?;
    let member = members.into_iter().find(|member| member.name == observed_by)?;
    Some((plain(&observed_by), plain(&member.grpc_addr)))
}
