//! `grpc.reflection.v1`, by which grpcurl and its like need no file. What is not found is an answer like any other, and
//! the stream goes on.

use std::{collections::HashMap, sync::Arc};

use futures_util::stream::{self, BoxStream};
use prost::{DecodeError, Message};
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorProto, FileDescriptorSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use tonic_reflection::pb::v1::{
    ErrorResponse, ExtensionNumberResponse, FileDescriptorResponse, ListServiceResponse,
    ServerReflectionRequest, ServerReflectionResponse, ServiceResponse,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    server_reflection_server::ServerReflection,
};

use super::call_of;
use crate::{cluster::STOPPING, gateway::Gateway, limits::REFLECTION_IDLE_TIMEOUT, proto, text::plain};

/// Serves `grpc.reflection.v1.ServerReflection`.
pub struct ReflectionService {
    gateway: Arc<Gateway>,
    known: Arc<Known>,
}

/// What there is to ask for.
#[derive(Debug, Default)]
pub struct Known {
    services: Vec<ServiceResponse>,
    files: HashMap<String, Arc<[u8]>>,
    /// The file of each service, method, message, field, enum and value, by its full name.
    symbols: HashMap<String, Arc<[u8]>>,
}

impl ReflectionService {
    /// A service that knows all that the node serves.
    ///
    /// # Errors
    /// When the descriptors that were compiled in cannot be read, which a test excludes.
    pub fn new(gateway: Arc<Gateway>) -> Result<Self, DecodeError> {
        Ok(Self { gateway, known: Arc::new(Known::new()?) })
    }
}

#[tonic::async_trait]
impl ServerReflection for ReflectionService {
    type ServerReflectionInfoStream = BoxStream<'static, Result<ServerReflectionResponse, Status>>;

    async fn server_reflection_info(
        &self,
        request: Request<Streaming<ServerReflectionRequest>>,
    ) -> Result<Response<Self::ServerReflectionInfoStream>, Status> {
        let place = self.gateway.watch(call_of(&request).from.ip())?;
        let (known, stopping) = (Arc::clone(&self.known), self.gateway.cluster.stopping());
        let answers = stream::try_unfold(request.into_inner(), move |mut requests| {
            let (known, stopping) = (Arc::clone(&known), stopping.clone());
            async move {
                let request = next(&mut requests, &stopping).await?;
                Ok(request.map(|request| (known.response(request), requests)))
            }
        });
        Ok(Response::new(place.hold(answers)))
    }
}

/// The next question, if there is one: a client that asks nothing holds its place for a bounded time.
async fn next(
    requests: &mut Streaming<ServerReflectionRequest>,
    stopping: &CancellationToken,
) -> Result<Option<ServerReflectionRequest>, Status> {
    tokio::select! {
        asked = timeout(REFLECTION_IDLE_TIMEOUT, requests.message()) => asked.unwrap_or_else(|_| Err(idle())),
        () = stopping.cancelled() => Err(Status::unavailable(STOPPING)),
    }
}

fn idle() -> Status {
    let seconds = REFLECTION_IDLE_TIMEOUT.as_secs();
    Status::deadline_exceeded(format!("no request came for {seconds} s; start a new call"))
}

impl Known {
    const SETS: [&[u8]; 4] = [
        proto::FILE_DESCRIPTOR_SET,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ];

    /// All that the node serves.
    ///
    /// # Errors
    /// When the descriptors that were compiled in cannot be read, which a test excludes.
    pub fn new() -> Result<Self, DecodeError> {
        let mut known = Self::default();
        for set in Self::SETS {
            FileDescriptorSet::decode(set)?.file.iter().for_each(|file| known.add(file));
        }
        known.services.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(known)
    }

    fn add(&mut self, file: &FileDescriptorProto) {
        let bytes: Arc<[u8]> = file.encode_to_vec().into();
        self.files.insert(file.name().to_owned(), Arc::clone(&bytes));
        let names = |service: &prost_types::ServiceDescriptorProto| within(file.package(), service.name());
        self.services.extend(file.service.iter().map(|service| ServiceResponse { name: names(service) }));
        self.symbols.extend(symbols(file).into_iter().map(|symbol| (symbol, Arc::clone(&bytes))));
    }

    /// The answer to a question; what is not found is an answer too.
    pub fn response(&self, request: ServerReflectionRequest) -> ServerReflectionResponse {
        let answer = self.answer(request.message_request.as_ref());
        let message_response = answer.unwrap_or_else(|status| {
            let (error_code, error_message) = (status.code().into(), status.message().to_owned());
            MessageResponse::ErrorResponse(ErrorResponse { error_code, error_message })
        });
        ServerReflectionResponse {
            valid_host: request.host.clone(),
            original_request: Some(request),
            message_response: Some(message_response),
        }
    }

    fn answer(&self, request: Option<&MessageRequest>) -> Result<MessageResponse, Status> {
        match request {
            Some(MessageRequest::ListServices(_)) => {
                Ok(MessageResponse::ListServicesResponse(ListServiceResponse {
                    service: self.services.clone(),
                }))
            }
            Some(MessageRequest::FileByFilename(name)) => {
                let file = self.files.get(name).ok_or_else(|| not_found("file", name))?;
                Ok(file_response(file))
            }
            Some(MessageRequest::FileContainingSymbol(symbol)) => Ok(file_response(self.file_of(symbol)?)),
            // No file here extends a message.
            Some(MessageRequest::FileContainingExtension(extension)) => {
                let (number, message) = (extension.extension_number, &extension.containing_type);
                Err(not_found("extension", &format!("{number} of {message}")))
            }
            Some(MessageRequest::AllExtensionNumbersOfType(message)) => {
                self.file_of(message)?;
                let numbers =
                    ExtensionNumberResponse { base_type_name: message.clone(), extension_number: vec![] };
                Ok(MessageResponse::AllExtensionNumbersResponse(numbers))
            }
            None => Err(Status::invalid_argument(
                "the request asks for nothing; set one of its fields beside `host`",
            )),
        }
    }

    fn file_of(&self, symbol: &str) -> Result<&[u8], Status> {
        self.symbols.get(symbol).map(|file| &**file).ok_or_else(|| not_found("symbol", symbol))
    }
}

fn file_response(file: &[u8]) -> MessageResponse {
    MessageResponse::FileDescriptorResponse(FileDescriptorResponse {
        file_descriptor_proto: vec![file.to_vec()],
    })
}

/// The name is the client's: it is made harmless, and cut.
fn not_found(what: &str, name: &str) -> Status {
    let name = plain(name);
    Status::not_found(format!("there is no {what} `{name}` here; list_services names what there is"))
}

fn symbols(file: &FileDescriptorProto) -> Vec<String> {
    let (package, mut symbols) = (file.package(), Vec::new());
    file.message_type.iter().for_each(|message| add_message(package, message, &mut symbols));
    file.enum_type.iter().for_each(|kind| add_enum(package, kind, &mut symbols));
    for service in &file.service {
        let name = within(package, service.name());
        symbols.extend(service.method.iter().map(|method| within(&name, method.name())));
        symbols.push(name);
    }
    symbols
}

fn add_message(scope: &str, message: &DescriptorProto, symbols: &mut Vec<String>) {
    let name = within(scope, message.name());
    symbols.extend(message.field.iter().map(|field| within(&name, field.name())));
    symbols.extend(message.oneof_decl.iter().map(|oneof| within(&name, oneof.name())));
    message.nested_type.iter().for_each(|nested| add_message(&name, nested, symbols));
    message.enum_type.iter().for_each(|kind| add_enum(&name, kind, symbols));
    symbols.push(name);
}

/// The values of an enum are its siblings.
fn add_enum(scope: &str, kind: &EnumDescriptorProto, symbols: &mut Vec<String>) {
    symbols.extend(kind.value.iter().map(|value| within(scope, value.name())));
    symbols.push(within(scope, kind.name()));
}

fn within(scope: &str, name: &str) -> String {
    match scope {
        "" => name.to_owned(),
        scope => format!("{scope}.{name}"),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use tonic::{Code, codec::Codec};
    use tonic_prost::ProstCodec;

    use super::*;
    use crate::text::is_harmless;

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_asks_nothing_holds_its_place_for_a_bounded_time() {
        let silent = Body::from_stream(stream::pending::<Result<Vec<u8>, Status>>());
        let decoder = ProstCodec::<(), ServerReflectionRequest>::default().decoder();
        let mut requests = Streaming::new_request(decoder, silent, None, None);
        let started = tokio::time::Instant::now();
        let stopping = CancellationToken::new();
        let status = next(&mut requests, &stopping).await.unwrap_err();
        assert_eq!((status.code(), started.elapsed().as_secs()), (Code::DeadlineExceeded, 60));
        stopping.cancel();
        assert_eq!(next(&mut requests, &stopping).await.unwrap_err().code(), Code::Unavailable);
    }

    #[test]
    fn a_name_that_is_not_found_is_repeated_in_one_short_line() {
        let known = Known::new().unwrap();
        for name in ["a\n\u{1b}[2J", &"x".repeat(100_000)] {
            for question in [MessageRequest::FileByFilename, MessageRequest::FileContainingSymbol] {
                let asked = question(name.to_owned());
                let request = ServerReflectionRequest { host: String::new(), message_request: Some(asked) };
                let Some(MessageResponse::ErrorResponse(error)) = known.response(request).message_response
                else {
                    panic!("there is none");
                };
                let text = error.error_message;
                assert!(text.chars().all(is_harmless) && text.len() < 300, "{text}");
            }
        }
    }

    #[test]
    fn the_methods_that_take_a_stream_are_those_of_the_descriptors() {
        let mut streams = Vec::new();
        for set in Known::SETS {
            for file in FileDescriptorSet::decode(set).unwrap().file {
                for service in &file.service {
                    let streaming = service.method.iter().filter(|method| method.client_streaming());
                    let name = within(file.package(), service.name());
                    streams.extend(streaming.map(|method| format!("/{name}/{}", method.name())));
                }
            }
        }
        let mut listed = super::super::STREAMS.to_vec();
        streams.sort();
        listed.sort_unstable();
        assert_eq!(streams, listed);
    }
}
