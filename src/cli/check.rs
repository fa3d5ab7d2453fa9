//! `primacy check`: the seed's client.

mod bulk;
mod input;
mod progress;

use std::{io::Write, process::ExitCode};

use clap::Args;
use tonic::{Request, Status};

use super::{
    OutputFormat,
    client::{Channel, Client, ClientArgs},
    fail, misused, written,
};
use crate::{
    api::prime::{Outcome, PrimeAnswer, number_to_wire},
    limits::DEADLINE_MAX,
    prime::{Certainty, Number},
    proto::scheduler_client::SchedulerClient,
};

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// The numbers, as decimal digits, or as powers and sums such as 1e12, 10^12 or 2^127-1; `-` reads them from standard input, one
    /// a line, in digits
    #[arg(required = true, value_name = "NUMBER", allow_negative_numbers = true)]
    numbers: Vec<String>,
    /// How to print the answers
    #[arg(short, long, value_enum, default_value = "text")]
    output: OutputFormat,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) async fn run(args: CheckArgs) -> ExitCode {
    let client = match Client::new(args.client) {
        Ok(client) => client,
        Err(error) => return misused(error),
    };
    if args.numbers == ["-"] {
        return bulk::run(&client, args.output).await;
    }
    let numbers: Result<Vec<Number>, _> = args.numbers.iter().map(|text| Number::from_typed(text)).collect();
    match numbers {
        Ok(numbers) => answer(&client, numbers, args.output).await,
        Err(error) => misused(error),
    }
}

async fn check(channel: Channel, number: &Number) -> Result<Outcome, Status> {
    let mut request = Request::new(number_to_wire(number));
    request.set_timeout(DEADLINE_MAX);
    let response = SchedulerClient::new(channel).check_prime(request).await?;
    Ok(response.into_inner().into())
}

/// One by one, as the seed's client asks: each worker in turn.
async fn answer(client: &Client, numbers: Vec<Number>, output: OutputFormat) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    let mut printed = Vec::new();
    for number in numbers {
        match client.call(|channel| check(channel, &number)).await {
            Ok(outcome) => {
                line(&mut printed, &number, &outcome, output);
                if let Err(code) = written(std::io::stdout().write_all(&printed)) {
                    return code;
                }
                printed.clear();
            }
            Err(status) => code = fail(format_args!("{}: {}", short(&number), status.message())),
        }
    }
    code
}

/// Appends the line of an answer.
fn line(out: &mut Vec<u8>, number: &Number, outcome: &Outcome, output: OutputFormat) {
    // A Vec takes whatever is written, and a struct of strings and a bool always serialises.
    let _ = match output {
        OutputFormat::Json => {
            serde_json::to_writer(&mut *out, &PrimeAnswer::new(number, outcome)).map_err(Into::into)
        }
        OutputFormat::Text => text(out, number, outcome),
    };
    out.push(b'\n');
}

fn text(out: &mut Vec<u8>, number: &Number, outcome: &Outcome) -> std::io::Result<()> {
    let Outcome { verdict, processed_by, .. } = outcome;
    let sure = match verdict.certainty {
        Certainty::Proven => "",
        Certainty::Probable => ", probable",
    };
    write!(out, "{number} is prime: {} (processed by {processed_by}{sure})", verdict.is_prime)
}

/// A number as an error names it: not all of its 10,000 digits.
pub(super) fn short(number: &Number) -> String {
    let text = number.as_str();
    if text.len() <= 40 { text.into_owned() } else { format!("{}… ({} digits)", &text[..20], text.len()) }
}
