//! `primacy health`: for health checks of containers.

use std::process::ExitCode;

use tonic::Status;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::{
    client::{Channel, Client, ClientArgs},
    fail, misused,
};

pub(super) async fn run(args: ClientArgs) -> ExitCode {
    let client = match Client::new(args) {
        Ok(client) => client,
        Err(error) => return misused(error),
    };
    match client.call(ask).await {
        Ok(ServingStatus::Serving) => ExitCode::SUCCESS,
        Ok(_) => fail("the node is stopping"),
        Err(status) => fail(status.message()),
    }
}

async fn ask(channel: Channel) -> Result<ServingStatus, Status> {
    let response = HealthClient::new(channel).check(HealthCheckRequest::default()).await?;
    Ok(response.into_inner().status())
}
