//! `POST /primes`: a number a line, written and read at the same time over one HTTP/1.1 connection.

use std::{error::Error, io, ops::Range, rc::Rc, str};

use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::spawn_local,
    time::timeout,
};

use crate::{
    PATIENCE,
    numbers::{Entry, Numbers},
    report::Report,
};

type Failure = Box<dyn Error>;

/// Numbers that are drawn; a longer stream goes through them again.
const TABLE: usize = 1_000_000;
/// Numbers in one chunk of the request: some 60 KiB.
const CHUNK: usize = 3000;
/// What is read at once.
const READ_BYTES: usize = 256 * 1024;

/// Sends so many millions of numbers, and verifies that all are answered rightly and in order.
pub async fn run(addr: &str, path: &str, millions: usize) -> Result<Report, Failure> {
    let table = Rc::new(Table::random());
    let stream = TcpStream::connect(addr).await?;
    stream.set_nodelay(true)?;
    let (reader, writer) = stream.into_split();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {addr}\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    let mut results = Results::new(Rc::clone(&table));
    let writing = spawn_local(async move { write(writer, &head, &table, millions).await });
    read(reader, &mut results).await.map_err(|error| format!("after {} results: {error}", results.place))?;
    let (sent, answered, counted) = (millions * TABLE, results.place, results.counted);
    if answered != sent || counted != Some(sent) {
        return Err(format!(
            "sent {sent} numbers, {answered} were answered; the last line counts {counted:?}"
        )
        .into());
    }
    drop(writing.await??);
    Ok(results.finish())
}

/// The numbers, and the lines as which they are sent.
struct Table {
    entries: Vec<Entry>,
    text: String,
    /// Where each line begins in the text, and the end of the last.
    starts: Vec<usize>,
}

impl Table {
    fn random() -> Self {
        let entries = Numbers::random(TABLE).into_entries();
        let (mut text, mut starts) = (String::new(), vec![0]);
        for entry in &entries {
            text += &entry.number.to_string();
            text.push('\n');
            starts.push(text.len());
        }
        Self { entries, text, starts }
    }

    fn lines(&self, range: Range<usize>) -> &str {
        &self.text[self.starts[range.start]..self.starts[range.end]]
    }

    fn digits(&self, place: usize) -> &str {
        self.lines(place..place + 1).trim_end()
    }
}

/// Sends all, and gives the writer back: dropped, it would close its half, which a server takes for the client's end.
async fn write(
    mut writer: OwnedWriteHalf,
    head: &str,
    table: &Table,
    passes: usize,
) -> io::Result<OwnedWriteHalf> {
    writer.write_all(head.as_bytes()).await?;
    for _ in 0..passes {
        for start in (0..TABLE).step_by(CHUNK) {
            let lines = table.lines(start..(start + CHUNK).min(TABLE));
            let chunk = format!("{:x}\r\n{lines}\r\n", lines.len());
            writer.write_all(chunk.as_bytes()).await?;
        }
    }
    writer.write_all(b"0\r\n\r\n").await?;
    Ok(writer)
}

/// Reads the response to its end.
async fn read(reader: OwnedReadHalf, results: &mut Results) -> Result<(), Failure> {
    let mut reader = BufReader::with_capacity(READ_BYTES, reader);
    timeout(PATIENCE, expect_head(&mut reader)).await.map_err(|_| "no answer begins")??;
    let mut body = Vec::new();
    while timeout(PATIENCE, read_chunk(&mut reader, &mut body)).await.map_err(|_| "nothing more comes")?? {
        let taken = results.take(&body)?;
        body.drain(..taken);
    }
    Ok(())
}

async fn expect_head(reader: &mut BufReader<OwnedReadHalf>) -> Result<(), Failure> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).await? == 0 {
            return Err(format!("the connection ended in the head: {head}").into());
        }
    }
    let is_chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    if head.get(9..12) == Some("200") && is_chunked { Ok(()) } else { Err(head.into()) }
}

/// Appends the next chunk; false at the last one.
async fn read_chunk(reader: &mut BufReader<OwnedReadHalf>, body: &mut Vec<u8>) -> Result<bool, Failure> {
    let mut size = String::new();
    if reader.read_line(&mut size).await? == 0 {
        return Err("the connection ended before the response did".into());
    }
    let size = usize::from_str_radix(size.trim_end(), 16).map_err(|_| format!("no chunk size: {size:?}"))?;
    let filled = body.len();
    body.resize(filled + size, 0);
    reader.read_exact(&mut body[filled..]).await?;
    reader.read_exact(&mut [0; 2]).await?;
    Ok(size > 0)
}

/// A line of the response.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Result { number: String, is_prime: bool, processed_by: String },
    Done { done: bool, count: usize },
}

/// What has come so far.
struct Results {
    table: Rc<Table>,
    place: usize,
    counted: Option<usize>,
    /// How the last line went on after `is_prime`, and who did that number: most lines go on like the one before.
    rest: Option<Vec<u8>>,
    processed_by: String,
    report: Report,
}

impl Results {
    fn new(table: Rc<Table>) -> Self {
        let (counted, rest, processed_by) = (None, None, String::new());
        Self { table, place: 0, counted, rest, processed_by, report: Report::default() }
    }

    /// Verifies the lines that are whole; returns how many bytes they are.
    fn take(&mut self, body: &[u8]) -> Result<usize, Failure> {
        let mut taken = 0;
        loop {
            let ahead = &body[taken..];
            taken += match self.like_the_last(ahead) {
                Some(length) => length,
                None => match ahead.iter().position(|byte| *byte == b'\n') {
                    Some(end) => self.parse(str::from_utf8(&ahead[..=end])?)?,
                    None => return Ok(taken),
                },
            };
        }
    }

    fn entry(&self) -> (Entry, &str) {
        let place = self.place % TABLE;
        (self.table.entries[place], self.table.digits(place))
    }

    /// The length of the next line if it is right and goes on like the one before; read without parsing, because a
    /// client that parsed millions of lines would be slower than what it measures.
    fn like_the_last(&mut self, ahead: &[u8]) -> Option<usize> {
        let (entry, digits) = self.entry();
        let is_prime: &[u8] = if entry.is_prime { b"true" } else { b"false" };
        let after = ahead
            .strip_prefix(br#"{"number":""#)?
            .strip_prefix(digits.as_bytes())?
            .strip_prefix(br#"","is_prime":"#)?
            .strip_prefix(is_prime)?
            .strip_prefix(self.rest.as_deref()?)?;
        self.report.judge(entry, entry.is_prime, &self.processed_by);
        self.place += 1;
        Some(ahead.len() - after.len())
    }

    fn parse(&mut self, line: &str) -> Result<usize, Failure> {
        match serde_json::from_str(line).map_err(|error| format!("{error}: {line}"))? {
            Line::Result { number, is_prime, processed_by } => {
                let (entry, digits) = self.entry();
                if number != digits || self.counted.is_some() {
                    return Err(format!("instead of {digits} comes {line}").into());
                }
                self.report.judge(entry, is_prime, &processed_by);
                self.place += 1;
                let after = line.split_once(r#""is_prime":"#).map(|(_, after)| after);
                self.rest = after.map(|after| after.trim_start_matches(char::is_alphabetic).into());
                self.processed_by = processed_by;
            }
            Line::Done { done: true, count } => self.counted = Some(count),
            Line::Done { .. } => return Err(line.into()),
        }
        Ok(line.len())
    }

    fn finish(self) -> Report {
        self.report.finish()
    }
}
