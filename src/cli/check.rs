//! `primacy check`: the seed's client.

use std::{
    io::{self, IsTerminal},
    process::ExitCode,
    time::Duration,
};

use clap::Args;
use futures_util::{Stream, StreamExt, stream};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Stdin, stdin};
use tonic::{Request, Status};

use super::{
    FAILED, Output, USAGE,
    client::{Client, ClientArgs},
    fail, print,
};
use crate::{
    gateway::http::prime::PrimeAnswer,
    limits::DEADLINE_MAX,
    prime::{Certainty, Number, NumberError},
    proto::{PrimeRequest, scheduler_client::SchedulerClient},
    scheduler::Outcome,
};

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// The numbers, in decimal; `-` reads them from standard input, one a line
    #[arg(required = true, value_name = "NUMBER", allow_negative_numbers = true)]
    numbers: Vec<String>,
    /// How to print the answers
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
    #[command(flatten)]
    client: ClientArgs,
}

/// Numbers from standard input in flight at once; the answers stay in order.
const IN_FLIGHT: usize = 64;
/// A line is shorter than this: a number of 10,000 digits and some blanks.
const LINE_BYTES_MAX: u64 = 16 * 1024;

type Asked = Result<(Number, Outcome), String>;

pub(super) async fn run(args: CheckArgs) -> ExitCode {
    let client = match Client::new(args.client) {
        Ok(client) => client,
        Err(error) => return fail(error),
    };
    if args.numbers == ["-"] {
        let asked = lines().map(|line| ask(&client, line)).buffered(IN_FLIGHT);
        return answer(asked, args.output, progress()).await;
    }
    let numbers: Result<Vec<Number>, _> = args.numbers.iter().map(|text| text.parse::<Number>()).collect();
    match numbers {
        Ok(numbers) => {
            // One by one, as the seed's client asks: each worker in turn.
            let asked = stream::iter(numbers).then(|number| ask(&client, Ok(number)));
            answer(asked, args.output, ProgressBar::hidden()).await
        }
        Err(error) => {
            fail(error);
            ExitCode::from(USAGE)
        }
    }
}

async fn ask(client: &Client, number: Result<Number, String>) -> Asked {
    let number = number?;
    let answered = client.call(|channel| check(channel, &number)).await;
    match answered {
        Ok(outcome) => Ok((number, outcome)),
        Err(status) => Err(format!("{}: {}", short(&number), status.message())),
    }
}

async fn check(channel: tonic::transport::Channel, number: &Number) -> Result<Outcome, Status> {
    let mut request = Request::new(PrimeRequest { number: 0, decimal: number.to_string() });
    request.set_timeout(DEADLINE_MAX);
    let response = SchedulerClient::new(channel).check_prime(request).await?;
    Ok(response.into_inner().into())
}

async fn answer(asked: impl Stream<Item = Asked>, output: Output, progress: ProgressBar) -> ExitCode {
    let mut failed = false;
    let mut asked = std::pin::pin!(asked);
    while let Some(asked) = asked.next().await {
        progress.inc(1);
        match asked {
            Ok((number, outcome)) => {
                if let Err(code) = print(line(&number, &outcome, output)) {
                    return code;
                }
            }
            Err(error) => {
                failed = true;
                progress.suspend(|| fail(error));
            }
        }
    }
    progress.finish_and_clear();
    if failed { ExitCode::from(FAILED) } else { ExitCode::SUCCESS }
}

fn line(number: &Number, outcome: &Outcome, output: Output) -> String {
    if output == Output::Json {
        // A struct of strings and a bool always serialises.
        return serde_json::to_string(&PrimeAnswer::new(number, outcome)).unwrap_or_default();
    }
    let Outcome { verdict, processed_by } = outcome;
    let sure = match verdict.certainty {
        Certainty::Proven => "",
        Certainty::Probable => ", probable",
    };
    format!("{number} is prime: {} (processed by {processed_by}{sure})", verdict.is_prime)
}

/// The numbers of standard input; blank lines are passed over.
fn lines() -> impl Stream<Item = Result<Number, String>> {
    stream::unfold((Some(BufReader::new(stdin())), 0_u64), |(input, count)| async move {
        let mut input = input?;
        let count = count + 1;
        match next_line(&mut input).await {
            Ok(None) => None,
            Ok(Some(line)) => {
                let number = number(&line).map_err(|error| format!("line {count}: {error}"));
                Some((number.transpose(), (Some(input), count)))
            }
            // Whoever reads on would be told the same for ever.
            Err(error) => Some((Some(Err(format!("cannot read standard input: {error}"))), (None, count))),
        }
    })
    .filter_map(std::future::ready)
}

fn number(line: &[u8]) -> Result<Option<Number>, String> {
    if line.len() as u64 == LINE_BYTES_MAX {
        let digits = Number::DIGITS_MAX;
        return Err(format!("it has {LINE_BYTES_MAX} bytes or more; a number has at most {digits} digits"));
    }
    match str::from_utf8(line).map(str::trim) {
        Ok("") => Ok(None),
        Ok(text) => text.parse().map(Some).map_err(|error: NumberError| error.to_string()),
        Err(_) => Err("it is not UTF-8; write a decimal integer such as 17 or -5".to_owned()),
    }
}

/// A line, or as much as is read of one that is too long; the rest is passed over, so that it cannot fill the memory.
async fn next_line(input: &mut BufReader<Stdin>) -> io::Result<Option<Vec<u8>>> {
    let line = piece(input).await?;
    let mut last = line.ends_with(b"\n") || (line.len() as u64) < LINE_BYTES_MAX;
    while !last {
        let more = piece(input).await?;
        last = more.ends_with(b"\n") || more.is_empty();
    }
    Ok((!line.is_empty()).then_some(line))
}

async fn piece(input: &mut BufReader<Stdin>) -> io::Result<Vec<u8>> {
    let mut piece = Vec::new();
    input.take(LINE_BYTES_MAX).read_until(b'\n', &mut piece).await?;
    Ok(piece)
}

/// On a terminal, unless the answers themselves are shown there.
fn progress() -> ProgressBar {
    if !io::stderr().is_terminal() || io::stdout().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{spinner} {human_pos} answered, {per_sec}, {elapsed}");
    let bar =
        ProgressBar::new_spinner().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// A number as an error names it: not all of its 10,000 digits.
fn short(number: &Number) -> String {
    let text = number.as_str();
    if text.len() <= 40 { text.into_owned() } else { format!("{}… ({} digits)", &text[..20], text.len()) }
}
