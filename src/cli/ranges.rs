//! `primacy count` and `primacy list`: the primes of a range. When the node that answers dies, the next endpoint goes on from
//! where it was.

mod progress;

use std::{
    io::{self, IsTerminal, Write},
    process::ExitCode,
    time::Instant,
};

use clap::Args;
use tonic::{Code, Status, Streaming};

use super::{
    OutputFormat,
    client::{Client, ClientArgs},
    fail, misused, print_all, words, written,
};
use crate::{
    api::ranges::{CountAnswer, DoneSegment, NumberRange, PRIME_LINE, WorkShares},
    prime::Number,
    proto::{self, scheduler_client::SchedulerClient},
    text::plain,
};
use progress::CountBar;

/// Count the primes from one number to another
///
/// Numbers are decimal digits, or powers and sums such as 1e12, 10^12 or 2^64-1, below 2^64.
#[derive(Debug, Args)]
pub(super) struct CountArgs {
    #[command(flatten)]
    range: RangeArgs,
    #[command(flatten)]
    client: ClientArgs,
}

/// Print the primes from one number to another, one a line
///
/// Numbers are decimal digits, or powers and sums such as 1e12, 10^12 or 2^64-1, below 2^64.
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    range: RangeArgs,
    /// End after so many primes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, Args)]
struct RangeArgs {
    /// The first number
    #[arg(value_name = "FROM", allow_negative_numbers = true)]
    from: String,
    /// The last number, which counts too
    #[arg(value_name = "TO", allow_negative_numbers = true)]
    to: String,
    /// How to print the answer
    #[arg(short, long, value_enum, default_value = "text")]
    output: OutputFormat,
}

impl RangeArgs {
    fn range(&self) -> Result<NumberRange, String> {
        NumberRange::new(end(&self.from)?, end(&self.to)?).map_err(|_| {
            format!(
                "the range begins at {}, after its end {}; write the smaller number first",
                self.from, self.to
            )
        })
    }
}

fn end(typed: &str) -> Result<u64, String> {
    let number = Number::from_typed(typed).map_err(|error| error.to_string())?;
    number.word().ok_or_else(|| format!("the ends of a range are from 0 to {}, and {typed} is not", u64::MAX))
}

/// A range that is asked for until all of it is answered.
struct Asked<'a> {
    client: &'a Client,
    /// What has no answer yet.
    rest: Option<NumberRange>,
    /// How many primes are wanted; 0: all.
    limit: u32,
    /// Calls that broke since the last progress.
    broken: usize,
}

impl Asked<'_> {
    /// All up to this number is answered.
    fn answered(&mut self, to: u64) {
        self.broken = 0;
        self.rest = self.rest.and_then(|rest| rest.after(NumberRange { to, ..rest }));
    }

    fn request(&self, rest: NumberRange) -> proto::Range {
        proto::Range { from: rest.from, to: rest.to, limit: self.limit }
    }

    /// The call has broken: the next endpoint goes on, if that may help.
    async fn broke(&mut self, status: &Status) -> Result<(), ExitCode> {
        if status.code() == Code::InvalidArgument {
            return Err(fail(status.message()));
        }
        self.client.go_on(&mut self.broken, status).await.map_err(fail)
    }
}

pub(super) async fn count(args: CountArgs) -> ExitCode {
    let (range, client) = match (args.range.range(), Client::new(args.client)) {
        (Ok(range), Ok(client)) => (range, client),
        (Err(error), _) => return misused(error),
        (_, Err(error)) => return misused(error),
    };
    let mut count = Count {
        asked: Asked { client: &client, rest: Some(range), limit: 0, broken: 0 },
        before: 0,
        count: 0,
        shares: WorkShares::default(),
        progress: CountBar::new(io::stderr().is_terminal(), range),
    };
    let began = Instant::now();
    let counted = count.run().await;
    count.progress.finish();
    match counted {
        Ok(()) => count.print(range, began, args.range.output),
        Err(code) => code,
    }
}

struct Count<'a> {
    asked: Asked<'a>,
    /// Counted by the calls before this one.
    before: u64,
    count: u64,
    shares: WorkShares,
    progress: CountBar,
}

impl Count<'_> {
    async fn run(&mut self) -> Result<(), ExitCode> {
        while let Some(rest) = self.asked.rest {
            self.before = self.count;
            let mut grpc = SchedulerClient::new(self.asked.client.channel());
            let broken = match grpc.count_primes(self.asked.request(rest)).await {
                Ok(call) => self.take(call.into_inner()).await,
                Err(status) => Some(status),
            };
            if let Some(status) = broken {
                self.asked.broke(&status).await?;
            }
        }
        Ok(())
    }

    /// Takes the progress of a call; returns how it broke.
    async fn take(&mut self, mut call: Streaming<proto::RangeProgress>) -> Option<Status> {
        while self.asked.rest.is_some() {
            let progress = match call.message().await {
                Ok(Some(progress)) => progress,
                Ok(None) => return Some(Status::unavailable("it ended the call")),
                Err(status) => return Some(status),
            };
            let proto::RangeProgress { counted_to: Some(to), count, segments } = progress else { continue };
            let segments: Vec<DoneSegment> = segments.into_iter().filter_map(done_segment).collect();
            self.shares.add(&segments);
            self.count = self.before.saturating_add(count);
            self.asked.answered(to);
            self.progress.show(to, self.count, &self.shares);
        }
        None
    }

    fn print(&self, range: NumberRange, began: Instant, output: OutputFormat) -> ExitCode {
        let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let NumberRange { from, to } = range;
        match output {
            OutputFormat::Text => {
                let shares = progress::shares(&self.shares);
                let (count, took) = (self.count, words::duration(took_ms));
                let primes = if count == 1 { "prime" } else { "primes" };
                print_all(format_args!("{count} {primes} from {from} to {to}, in {took} ({shares})"))
            }
            OutputFormat::Json => {
                let answer = CountAnswer {
                    from: from.to_string(),
                    to: to.to_string(),
                    count: self.count.to_string(),
                    took_ms,
                    shares: self.shares.parts(),
                };
                // A struct of strings and numbers always serialises.
                print_all(serde_json::to_string(&answer).unwrap_or_default())
            }
        }
    }
}

fn done_segment(wire: proto::DoneSegment) -> Option<DoneSegment> {
    let range = NumberRange::new(wire.from, wire.to).ok()?;
    Some(DoneSegment { range, processed_by: plain(&wire.processed_by).into() })
}

pub(super) async fn list(args: ListArgs) -> ExitCode {
    let (range, client) = match (args.range.range(), Client::new(args.client)) {
        (Ok(range), Ok(client)) => (range, client),
        (Err(error), _) => return misused(error),
        (_, Err(error)) => return misused(error),
    };
    let asked =
        Asked { client: &client, rest: Some(range), limit: args.limit.unwrap_or_default(), broken: 0 };
    print_list(asked, args.range.output).await.err().unwrap_or(ExitCode::SUCCESS)
}

async fn print_list(mut asked: Asked<'_>, output: OutputFormat) -> Result<(), ExitCode> {
    while let Some(rest) = asked.rest {
        let mut grpc = SchedulerClient::new(asked.client.channel());
        let broken = match grpc.list_primes(asked.request(rest)).await {
            Ok(call) => print_pages(&mut asked, call.into_inner(), output).await?,
            Err(status) => Some(status),
        };
        if let Some(status) = broken {
            asked.broke(&status).await?;
        }
    }
    Ok(())
}

/// Prints the pages of a call; returns how it broke.
async fn print_pages(
    asked: &mut Asked<'_>,
    mut call: Streaming<proto::PrimesPage>,
    output: OutputFormat,
) -> Result<Option<Status>, ExitCode> {
    let mut lines = Vec::new();
    while asked.rest.is_some() {
        let proto::PrimesPage { primes, listed_to, .. } = match call.message().await {
            Ok(Some(page)) => page,
            Ok(None) => return Ok(Some(Status::unavailable("it ended the call"))),
            Err(status) => return Ok(Some(status)),
        };
        primes.iter().for_each(|prime| put(&mut lines, *prime, output));
        let mut out = io::stdout().lock();
        written(out.write_all(&lines).and_then(|()| out.flush()))?;
        lines.clear();
        asked.answered(listed_to);
        if asked.limit > 0 {
            asked.limit = asked.limit.saturating_sub(primes.len() as u32);
            if asked.limit == 0 {
                asked.rest = None;
            }
        }
    }
    Ok(None)
}

fn put(lines: &mut Vec<u8>, prime: u64, output: OutputFormat) {
    let [head, tail]: [&[u8]; 2] = match output {
        OutputFormat::Text => [b"", b"\n"],
        OutputFormat::Json => PRIME_LINE,
    };
    lines.extend_from_slice(head);
    lines.extend_from_slice(itoa::Buffer::new().format(prime).as_bytes());
    lines.extend_from_slice(tail);
}
