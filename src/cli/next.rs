//! `primacy next` and `primacy previous`: the prime beside a number.

use std::{
    io::{self, IsTerminal},
    process::ExitCode,
    time::Duration,
};

use clap::Args;
use indicatif::ProgressBar;
use tonic::{Request, Status};

use super::{
    OutputFormat, check,
    client::{Channel, Client, ClientArgs},
    fail, misused, print_all,
};
use crate::{
    api::{
        next::{Neighbour, NeighbourAnswer},
        prime::number_to_wire,
    },
    limits::DEADLINE_MAX,
    prime::{Certainty, Direction, Number},
    proto::{self, scheduler_client::SchedulerClient},
};

#[derive(Debug, Args)]
pub(super) struct NextArgs {
    /// The number, as decimal digits, or as powers and sums such as 10^999 or 2^127-1
    #[arg(value_name = "NUMBER", allow_hyphen_values = true)]
    number: String,
    /// How to print the answer
    #[arg(short, long, value_enum, default_value = "text")]
    output: OutputFormat,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) async fn run(args: NextArgs, direction: Direction) -> ExitCode {
    let (number, client) = match (Number::from_typed(&args.number), Client::new(args.client)) {
        (Ok(number), Ok(client)) => (number, client),
        (Err(error), _) => return misused(error),
        (_, Err(error)) => return misused(error),
    };
    let waiting = if io::stderr().is_terminal() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    waiting.enable_steady_tick(Duration::from_millis(100));
    let found = client.call(|channel| find(channel, &number, direction)).await;
    waiting.finish_and_clear();
    match found {
        Ok(found) => print(&number, &found, args.output),
        Err(status) => fail(format_args!("{}: {}", check::short(&number), status.message())),
    }
}

async fn find(channel: Channel, number: &Number, direction: Direction) -> Result<Neighbour, Status> {
    let mut request = Request::new(number_to_wire(number));
    request.set_timeout(DEADLINE_MAX);
    let mut client = SchedulerClient::new(channel);
    let response: proto::NeighbourResponse = match direction {
        Direction::Next => client.next_prime(request).await?.into_inner(),
        Direction::Previous => client.previous_prime(request).await?.into_inner(),
    };
    Neighbour::try_from(response).map_err(|error| Status::unavailable(error.to_string()))
}

fn print(number: &Number, found: &Neighbour, output: OutputFormat) -> ExitCode {
    let Neighbour { prime, distance, outcome } = found;
    match output {
        // A struct of strings and a bool always serialises.
        OutputFormat::Json => {
            print_all(serde_json::to_string(&NeighbourAnswer::from(found)).unwrap_or_default())
        }
        OutputFormat::Text => {
            let sure = match outcome.verdict.certainty {
                Certainty::Proven => "",
                Certainty::Probable => ", probable",
            };
            let by = &outcome.processed_by;
            print_all(format_args!(
                "{prime} ({distance} from {}, processed by {by}{sure})",
                check::short(number)
            ))
        }
    }
}
