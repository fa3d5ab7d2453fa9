//! The client's end of a connection: whether it may still send, has ended its input, or is gone.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, Interest, ReadBuf},
    net::{TcpStream, tcp::OwnedReadHalf},
    task::{JoinSet, yield_now},
    time::{sleep, timeout},
};

use crate::{
    gateway::admission::places::Place,
    limits::{INPUT_END_INTERVAL, LINGER, LINGER_BYTES_MAX, LINGER_MAX},
};

/// Bytes that are read at once and dropped.
const DROPPED_BYTES: usize = 16 * 1024;

/// The reading side of a connection, which hyper, the requests and the connection's task share.
#[derive(Debug)]
pub(super) struct Socket {
    input: OwnedReadHalf,
    /// Whether something was read after the end of the last request.
    may_send: AtomicBool,
    /// Among the connections: as long as its descriptor.
    pub(super) place: Place,
    /// The bodies of HTTP/2 that are answered and still dropped.
    bodies: Mutex<JoinSet<()>>,
}

impl Socket {
    pub(super) fn new(input: OwnedReadHalf, place: Place) -> Self {
        Self { input, may_send: AtomicBool::new(false), place, bodies: Mutex::default() }
    }

    /// Keeps a body for some time, at most as long as the connection.
    pub(super) fn keep(&self, body: impl Future<Output = ()> + Send + 'static) {
        let mut bodies = self.bodies.lock().unwrap_or_else(PoisonError::into_inner);
        // As many are left as the connection has streams.
        while bodies.try_join_next().is_some() {}
        bodies.spawn(async { timeout(LINGER_MAX, body).await.unwrap_or_default() });
    }

    /// A request has been read to its end.
    pub(super) fn request_ended(&self) {
        self.may_send.store(false, Relaxed);
    }

    /// Returns when the client has reset the connection, whether or not anybody reads.
    pub(super) async fn was_reset(&self) {
        let _ = self.input.ready(Interest::ERROR).await;
    }

    /// Returns when the client has ended its input, whether or not all of that is read.
    pub(super) async fn input_ended(&self) {
        while let Ok(ready) = self.input.ready(Interest::READABLE).await
            && !ready.is_read_closed()
        {
            // Something else is there that is not read yet, such as the next request.
            sleep(INPUT_END_INTERVAL).await;
        }
    }

    /// After the last answer, with nothing more to be written: reads and drops what the client may still send. A socket
    /// that is closed before all of that is read resets the connection, and the client may lose the answer.
    pub(super) async fn linger(&self) {
        // How it ends does not matter: the socket is closed afterwards.
        let _ = timeout(LINGER_MAX, self.drop_input()).await;
    }

    async fn drop_input(&self) -> io::Result<()> {
        let (mut dropped, mut buffer) = (0, Vec::with_capacity(DROPPED_BYTES));
        while dropped <= LINGER_BYTES_MAX {
            match self.input.try_read_buf(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(read) => {
                    self.may_send.store(true, Relaxed);
                    dropped += read as u64;
                    buffer.clear();
                    // A client that sends fast must not keep the others from this thread.
                    let turn = &self.place.usage.flow.turn;
                    turn.charge(read);
                    if turn.is_over() {
                        yield_now().await;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && self.may_send.load(Relaxed) => {
                    timeout(LINGER, self.input.readable()).await??;
                }
                Err(error) => return Err(error),
            }
        }
        // A client that reads the answer while it sends has time for it.
        Ok(timeout(LINGER, self.was_reset()).await?)
    }

    /// Reads once.
    fn read(&self, into: &mut ReadBuf<'_>) -> io::Result<()> {
        let socket: &TcpStream = self.input.as_ref();
        let filled = into.filled().len();
        let read = socket.try_io(Interest::READABLE, || {
            let read = socket.try_read_buf(into)?;
            // Less than there was room for is all that was there: the next read waits without trying.
            if read > 0 && into.remaining() > 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        });
        if into.filled().len() > filled {
            self.may_send.store(true, Relaxed);
            return Ok(());
        }
        read
    }
}

/// What hyper reads from.
pub(super) struct Input(pub(super) Arc<Socket>);

impl AsyncRead for Input {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let socket: &TcpStream = self.0.input.as_ref();
        loop {
            ready!(socket.poll_read_ready(cx))?;
            match self.0.read(into) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read),
            }
        }
    }
}
