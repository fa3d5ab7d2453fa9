//! HTTP/1.1 by hand, so that the load costs less than what it measures.

use std::{error::Error, io::Write, str};

use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    Client, Reply,
    tls::{self, Stream},
};

/// What is read at once: many times an answer.
const READ_BYTES: usize = 16 * 1024;

/// An answer as any of the systems gives it; a transcoder does not repeat the number.
#[derive(Deserialize)]
struct Answer<'a> {
    number: Option<&'a str>,
    is_prime: bool,
    processed_by: &'a str,
}

/// A connection that carries one request at a time.
pub struct Connection {
    stream: Stream,
    head: String,
    request: Vec<u8>,
    response: Vec<u8>,
}

/// So many connections to there. Each asks once at once: a server need not keep many that are silent.
pub async fn connect(
    addr: &str,
    path: &str,
    count: usize,
    cacert: Option<&str>,
) -> Result<Vec<Connection>, Box<dyn Error>> {
    let config = tls::config(cacert, true)?;
    let mut connections = Vec::with_capacity(count);
    for _ in 0..count {
        let stream = tls::connect(addr, &config).await?;
        let head = format!("POST {path} HTTP/1.1\r\nHost: {addr}\r\nContent-Type: application/json\r\n");
        let mut connection = Connection { stream, head, request: Vec::new(), response: vec![0; READ_BYTES] };
        connection.ask(2).await?;
        connections.push(connection);
    }
    Ok(connections)
}

impl Client for Connection {
    async fn ask(&mut self, number: u64) -> Result<Reply, String> {
        let digits = number.to_string();
        self.send(&digits).await.map_err(|error| format!("cannot send: {error}"))?;
        let (status, body) = self.receive().await?;
        if status != "200" {
            return Err(format!("{number}: {status} {body}"));
        }
        let answer: Answer = serde_json::from_str(body).map_err(|error| format!("{error}: {body}"))?;
        if answer.number.is_some_and(|echoed| echoed != digits) {
            return Err(format!("asked for {number}, answered {body}"));
        }
        Ok(Reply { is_prime: answer.is_prime, processed_by: answer.processed_by.to_owned() })
    }
}

impl Connection {
    async fn send(&mut self, digits: &str) -> std::io::Result<()> {
        let length = digits.len() + r#"{"number":}"#.len();
        self.request.clear();
        write!(self.request, "{}Content-Length: {length}\r\n\r\n{{\"number\":{digits}}}", self.head)?;
        self.stream.write_all(&self.request).await
    }

    /// The status and the body of the one response that is due.
    async fn receive(&mut self) -> Result<(&str, &str), String> {
        let (mut filled, mut length) = (0, None);
        while length != Some(filled) {
            let read = self.stream.read(&mut self.response[filled..]).await;
            match read.map_err(|error| format!("cannot read: {error}"))? {
                0 => return Err("the connection ended, or the answer is too long".to_owned()),
                read => filled += read,
            }
            length = length.or(response_length(&self.response[..filled])?);
        }
        let text = str::from_utf8(&self.response[..filled]).map_err(|error| error.to_string())?;
        let (head, body) = text.split_once("\r\n\r\n").ok_or("no head")?;
        Ok((head.get(9..12).unwrap_or_default(), body))
    }
}

/// The bytes of the whole response, once its head is there.
fn response_length(response: &[u8]) -> Result<Option<usize>, String> {
    const END: &[u8] = b"\r\n\r\n";
    let Some(head) = response.windows(END.len()).position(|window| window == END) else { return Ok(None) };
    let text = str::from_utf8(&response[..head]).map_err(|error| error.to_string())?;
    let length = text.lines().filter_map(|line| line.split_once(':')).find_map(|(name, value)| {
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let body = length.ok_or_else(|| format!("an answer without content-length: {text}"))?;
    Ok(Some(head + END.len() + body))
}
