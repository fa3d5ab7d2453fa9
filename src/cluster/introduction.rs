//! Who answers at an address. Where there is a token it must prove that it knows it before it is believed in anything, or
//! shown what calls of peers carry.

use std::{error::Error, io, time::Duration};

use primacy_election::{DialError, Identity, Scheme, Sought};
use tonic::{
    Code, Request, Status,
    body::Body,
    client::GrpcService,
    codegen::{Body as HttpBody, Bytes, StdError},
    transport::Channel,
};

use super::{
    Snapshot, innermost,
    lane::describe,
    token::{PeerConnection, Token, TokenValue},
};
use crate::{
    connection::{ConnectError, Dial, tls::Tls},
    limits::{PING_INTERVAL, PING_TIMEOUT},
    proto::{self, peer_client::PeerClient},
    text::plain,
};

/// What a node shows to its peers, and believes them by.
#[derive(Debug, Clone, Default)]
pub struct PeerCredentials {
    /// What its peers know.
    pub token: Token,
    /// How they are dialled, if not in clear text.
    pub tls: Option<Tls>,
}

impl PeerCredentials {
    /// Connects to a peer that speaks this, as far as is known; the name is resolved anew each time.
    pub(super) async fn connect(
        &self,
        address: &str,
        scheme: Scheme,
        time: Duration,
    ) -> Result<Channel, DialError> {
        let dial = Dial {
            address,
            tls: self.tls.as_ref().and_then(|tls| tls.for_peer(scheme)),
            connect_timeout: Some(time),
            ping_interval: PING_INTERVAL,
            ping_timeout: PING_TIMEOUT,
            is_pinged_idle: true,
        };
        dial.connect().await.map_err(|error| dial_error(&error))
    }
}

fn dial_error(error: &ConnectError) -> DialError {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(current) = cause {
        if let Some(io) = current.downcast_ref::<io::Error>()
            && io.kind() == io::ErrorKind::ConnectionRefused
        {
            return DialError::Refused;
        }
        if current.to_string().starts_with("dns error") {
            return DialError::Unresolvable;
        }
        cause = current.source();
    }
    DialError::Other(plain(&innermost(error).to_string()))
}

/// Who is at the end of a connection.
pub(super) struct Introduction {
    /// What carries calls to it.
    pub(super) connection: PeerConnection,
    /// Who it has proven to be, and by which value of the token; nobody without a token.
    pub(super) proven: Option<(Identity, TokenValue)>,
}

/// Asks who answers. With a token it has proven it; without one it only says so.
///
/// # Errors
/// [`DialError::Unproven`] when it does not know the token, [`DialError::Stranger`] when it says that of us.
pub async fn identify<S>(service: S, token: &Token) -> Result<(Identity, Option<TokenValue>), DialError>
where
    S: GrpcService<Body>,
    S::Error: Into<StdError>,
    S::ResponseBody: HttpBody<Data = Bytes> + Send + 'static,
    <S::ResponseBody as HttpBody>::Error: Into<StdError> + Send,
{
    let challenge = token.challenge();
    let mut request = Request::new(proto::IdentifyRequest {});
    if let Some(challenge) = &challenge {
        challenge.put(request.metadata_mut());
    }
    let answered = PeerClient::new(service).identify(request).await;
    let answer = answered.map_err(|status| refusal(&status))?.into_inner();
    let unnamed = || DialError::Other("it does not say who it is".to_owned());
    let identity = Identity::try_from(answer.receiver.ok_or_else(unnamed)?)
        .map_err(|wrong| DialError::Other(wrong.to_owned()))?;
    match challenge {
        None => Ok((identity, None)),
        Some(challenge) if challenge.is_proven(&identity, &answer.proof) => {
            Ok((identity, Some(challenge.value(token))))
        }
        Some(_) => Err(DialError::Unproven),
    }
}

/// Nothing else that it says before its proof is believed, least of all that it stops.
fn refusal(status: &Status) -> DialError {
    match status.code() {
        Code::Unauthenticated => DialError::Stranger,
        _ => DialError::Other(describe(status)),
    }
}

/// Who is at the end of this channel, if that may be the node that is sought.
///
/// # Errors
/// When it proves nothing, or is another node.
pub(super) async fn introduce(
    channel: Channel,
    token: &Token,
    sought: &Sought,
    snapshot: &Snapshot,
) -> Result<Introduction, DialError> {
    if !token.is_set() {
        return Ok(Introduction { connection: PeerConnection::new(channel, token.pass(0)), proven: None });
    }
    let (identity, value) = identify(channel.clone(), token).await?;
    if identity.boot == snapshot.view.me.boot {
        return Err(DialError::Itself);
    }
    if !sought.may_be(&identity, snapshot.view.members.iter().chain(&snapshot.task_view.ghosts)) {
        return Err(DialError::Misled);
    }
    let connection = PeerConnection::new(channel, token.pass(identity.boot));
    Ok(Introduction { connection, proven: value.map(|value| (identity, value)) })
}
