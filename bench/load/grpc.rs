//! Unary calls by tonic's own client.

use primacy::proto::{PrimeRequest, PrimeResponse};
use tonic::{
    Request,
    client::Grpc,
    codegen::http::uri::PathAndQuery,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;

use crate::{Client, Reply};

/// One of the streams of a connection.
pub struct Stream {
    grpc: Grpc<Channel>,
    path: PathAndQuery,
}

/// So many streams on each of so many connections.
pub async fn connect(
    addr: &str,
    path: &str,
    connections: usize,
    streams: usize,
) -> Result<Vec<Stream>, Box<dyn std::error::Error>> {
    let path = PathAndQuery::try_from(path)?;
    let mut all = Vec::with_capacity(connections * streams);
    for _ in 0..connections {
        let channel = Endpoint::from_shared(format!("http://{addr}"))?.tcp_nodelay(true).connect().await?;
        let stream = || Stream { grpc: Grpc::new(channel.clone()), path: path.clone() };
        all.extend(std::iter::repeat_with(stream).take(streams));
    }
    Ok(all)
}

impl Client for Stream {
    async fn ask(&mut self, number: u64) -> Result<Reply, String> {
        let request = Request::new(PrimeRequest { number: number.cast_signed(), ..PrimeRequest::default() });
        self.grpc.ready().await.map_err(|error| error.to_string())?;
        let codec = ProstCodec::<PrimeRequest, PrimeResponse>::default();
        let answer = self.grpc.unary(request, self.path.clone(), codec).await;
        let answer = answer.map_err(|status| format!("{number}: {status}"))?.into_inner();
        Ok(Reply { is_prime: answer.is_prime, processed_by: answer.processed_by })
    }
}
