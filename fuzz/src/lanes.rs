//! The messages of a lane.

use std::{
    cell::OnceCell,
    time::{Duration, Instant},
};

use axum::body::Body;
use futures_util::future::join_all;
use primacy::{
    Ask, AskError, Lane, Pass, PeerConnection,
    decoders::{Trace, bounded, single_asks},
    limits::LANE_BATCH_MAX,
    proto::{self, LaneAnswers, LaneAsks},
};
use primacy_election::Wanted;
use prost::Message;
use tokio::{
    runtime::{Builder, Runtime},
    sync::mpsc,
    time::timeout,
};
use tonic::{Streaming, codec::Codec, transport::Endpoint};
use tonic_prost::ProstCodec;

use crate::check;

/// What a peer asks: no more than a message may have, one after the other, each with its value and its time.
pub fn asks(bytes: &[u8]) {
    let Ok(message) = LaneAsks::decode(bytes) else { return };
    let (first, values, times) = (message.first_ask, message.values.clone(), message.timeouts_ms.clone());
    let begun = Instant::now();
    let asks = match bounded(message) {
        Ok(asks) => asks,
        Err(status) => return check::reason(status.message()),
    };
    assert!(values.len() <= LANE_BATCH_MAX && [0, values.len()].contains(&times.len()));
    let asks = single_asks(Ok(asks));
    assert_eq!(asks.len(), values.len());
    for (place, single) in asks.into_iter().enumerate() {
        let (ask, check) = single.expect("the message is good");
        assert_eq!((ask, check.number.word()), (first + place as u64, Some(values[place])));
        let time = Duration::from_millis(times.get(place).copied().unwrap_or_default().into());
        assert!((begun + time..=Instant::now() + time).contains(&check.deadline));
    }
}

/// The asks that are open.
const OPEN: u64 = 3;

/// What a peer answers, as the body of its stream: however the lane ends, each ask has an answer of this peer, an error or is
/// given back, and every text can be shown.
pub fn answers(bytes: &[u8]) {
    thread_local!(static RUNTIME: OnceCell<Runtime> = const { OnceCell::new() });
    RUNTIME.with(|runtime| {
        let paused = || Builder::new_current_thread().enable_time().build().expect("it needs nothing");
        runtime.get_or_init(paused).block_on(answer(bytes));
    });
}

async fn answer(bytes: &[u8]) {
    let channel = Endpoint::from_static("http://127.0.0.1:1").connect_lazy();
    let connection = PeerConnection::new(channel, Pass::default());
    let decoder = ProstCodec::<(), LaneAnswers>::default().decoder();
    // The stream stays open behind the bytes only for as long as the lane wants.
    let answers = Streaming::new_request(decoder, Body::from(bytes.to_vec()), None, None);
    let (outgoing, _asked) = mpsc::channel(4);
    let (lane, task, identity) = match Lane::greet(connection, Wanted::Schedule, answers, outgoing).await {
        Ok(greeted) => greeted,
        Err(error) => return check::reason(&error.to_string()),
    };
    [&identity.grpc_addr, &identity.http_addr, &identity.version]
        .iter()
        .for_each(|text| check::shown(text, 256));
    check::shown(&identity.name, 64);
    let ask = |value| {
        let deadline = Instant::now() + Duration::from_secs(1);
        lane.ask(Ask { value, deadline, trace: Trace::default().into() })
    };
    let all = async { tokio::join!(join_all((0..OPEN).map(ask)), task.run(|| ())) };
    let (answered, end) = timeout(Duration::from_secs(1), all).await.expect("the bytes have ended");
    check::reason(&end.to_string());
    for answer in answered {
        match answer {
            Ok(answer) => check::plain(&answer.processed_by),
            Err(AskError::Failed(failure)) => check::shown(&failure.message, primacy::limits::LINE_CHARS_MAX),
            Err(AskError::GivenBack) => {}
            Err(AskError::Full) => panic!("three asks do not fill a lane"),
        }
    }
}

/// A message as it stands in a stream.
pub fn framed(message: &LaneAnswers) -> Vec<u8> {
    let message = message.encode_to_vec();
    let length = u32::try_from(message.len()).expect("it is short");
    [&[0][..], &length.to_be_bytes(), &message].concat()
}

/// Who answers.
pub fn hello(receiver: proto::Identity) -> LaneAnswers {
    LaneAnswers { receiver: Some(receiver), segment_threads: 2, ..LaneAnswers::default() }
}
