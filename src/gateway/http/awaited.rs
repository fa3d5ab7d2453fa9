//! Work for a client that may be gone.

use std::time::Instant;

use axum::http::Extensions;
use tokio::time::sleep;
use tonic::Code;

use crate::{api::error::ApiError, gateway::listener::arrival::Arrival, limits::HALF_CLOSED_MAX};

/// Does the work for one answer. When the client has ended its input, it goes on for a limited time: whether anybody
/// still waits shows only when something is written.
///
/// # Errors
/// Those of the work; `deadline_exceeded` after that time.
pub(super) async fn while_awaited<T>(
    request: &Extensions,
    deadline: Instant,
    work: impl Future<Output = Result<T, ApiError>>,
) -> Result<T, ApiError> {
    match request.get::<Arrival>() {
        Some(arrival) if deadline > arrival.at + HALF_CLOSED_MAX => tokio::select! {
            done = work => done,
            error = has_left(arrival) => Err(error),
        },
        _ => work.await,
    }
}

async fn has_left(arrival: &Arrival) -> ApiError {
    arrival.input_ended().await;
    sleep(HALF_CLOSED_MAX).await;
    let detail = format!(
        "your side of the connection ended, after which a check goes on for {} s; keep it open to wait for longer",
        HALF_CLOSED_MAX.as_secs()
    );
    ApiError::new(Code::DeadlineExceeded, detail)
}
