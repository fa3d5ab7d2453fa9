//! Who answers at an address. Where there is a token it must prove that it knows it before it is believed in anything, or
//! shown what calls of peers carry.

use primacy_election::{DialError, Identity, Sought};
use tonic::{
    Code, Request, Status,
    body::Body,
    client::GrpcService,
    codegen::{Body as HttpBody, Bytes, StdError},
    transport::Channel,
};

use super::{
    Snapshot,
    lane::describe,
    token::{PeerConnection, Token},
};
use crate::proto::{self, peer_client::PeerClient};

/// Asks who answers. With a token it has proven it; without one it only says so.
///
/// # Errors
/// [`DialError::Unproven`] when it does not know the token, [`DialError::Stranger`] when it says that of us.
pub async fn identify<S>(service: S, token: &Token) -> Result<Identity, DialError>
where
    S: GrpcService<Body>,
    S::Error: Into<StdError>,
    S::ResponseBody: HttpBody<Data = Bytes> + Send + 'static,
    <S::ResponseBody as HttpBody>::Error: Into<StdError> + Send,
{
    let challenge = token.challenge();
    let mut request = Request::new(proto::IdentifyRequest {});
    if let Some(challenge) = &challenge {
        token.ask(challenge).put(request.metadata_mut());
    }
    let answered = PeerClient::new(service).identify(request).await;
    let answer = answered.map_err(|status| refusal(&status))?.into_inner();
    let unnamed = || DialError::Other("it does not say who it is".to_owned());
    let identity = Identity::try_from(answer.receiver.ok_or_else(unnamed)?)
        .map_err(|wrong| DialError::Other(wrong.to_owned()))?;
    match challenge {
        Some(challenge) if !token.is_proven(&challenge, &identity, &answer.proof) => Err(DialError::Unproven),
        _ => Ok(identity),
    }
}

/// Nothing else that it says before its proof is believed, least of all that it stops.
fn refusal(status: &Status) -> DialError {
    match status.code() {
        Code::Unauthenticated => DialError::Stranger,
        _ => DialError::Other(describe(status)),
    }
}

/// What carries calls over this channel to the node that is sought, and who that has proven to be: nobody without a
/// token.
///
/// # Errors
/// When it proves nothing, or is another node.
pub(super) async fn introduce(
    channel: Channel,
    token: &Token,
    sought: &Sought,
    snapshot: &Snapshot,
) -> Result<(PeerConnection, Option<Identity>), DialError> {
    if !token.is_set() {
        return Ok((PeerConnection::new(channel, token.pass(0)), None));
    }
    let identity = identify(channel.clone(), token).await?;
    if identity.boot == snapshot.view.me.boot {
        return Err(DialError::Itself);
    }
    if !sought.may_be(&identity, snapshot.view.members.iter().chain(&snapshot.task_view.ghosts)) {
        return Err(DialError::Misled);
    }
    Ok((PeerConnection::new(channel, token.pass(identity.boot)), Some(identity)))
}
