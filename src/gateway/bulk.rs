//! A bulk: numbers in and answers out, in order, in bounded memory.
//!
//! ```text
//!  client ─▶ pieces ─▶ Form::take ─▶ Window: groups in flight, in order ─▶ Form::write ─▶ chunks ─▶ client
//! ```
//! A group is a run of short numbers or one long number, and a task of its own: it is done, and its worker free for
//! others, whether or not the client reads. Input is read only while the window has room, and the window is emptied
//! only as the client reads, so that a slow reader holds up its own sender and nobody else. A group leaves when nothing
//! more is ready to join it: there is no timer, and a line that comes alone is answered at once.

pub mod lines;
pub mod window;

use std::{future::ready, net::IpAddr, sync::Arc};

use axum::body::Bytes;
use futures_util::{FutureExt, Stream, StreamExt, stream};
use tokio::{
    sync::mpsc,
    task::yield_now,
    time::{sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tonic::Code;

use super::{
    Gateway,
    admission::{
        fair::{Flow, InTurn},
        memory::Held,
        shares::Share,
    },
};
use crate::{
    api::error::ApiError,
    limits::{
        BULK_BYTES, BULK_CHUNK_BYTES, BULK_CHUNKS_MAX, BULK_IDLE_TIMEOUT, BULK_NUMBER_COST,
        BULK_PIECES_BEFORE_YIELD, BULK_STOP_TIMEOUT, BULKS_MAX, REQUEST_COST,
    },
};
use window::{Answered, Terms, Window};

/// How a bulk is read and written: as lines of JSON, or as messages of gRPC.
pub trait Form: Send + 'static {
    /// What comes at once.
    type Piece: Send;
    /// What leaves at once.
    type Chunk: Send + 'static;
    /// Whether a client whose input broke still reads what is in flight: a bad message may come over a good connection.
    const READS_ON: bool;

    /// Takes a piece, when nothing is left of the one before.
    fn feed(&mut self, piece: Self::Piece);
    /// No piece follows.
    fn end_input(&mut self);
    /// Puts numbers into the window while it has room.
    fn take(&mut self, window: &mut Window);
    /// Whether something is left that the window had no room for.
    fn has_more(&self) -> bool;
    /// Writes answers down.
    fn write(&mut self, answered: Answered);
    /// Writes the end down: that all was answered, or why not.
    fn close(&mut self, ended: Result<(), ApiError>);
    /// Whether nothing is written.
    fn is_empty(&self) -> bool;
    /// Whether what is written is enough to leave.
    fn is_full(&self) -> bool;
    /// Takes what is written.
    fn chunk(&mut self) -> Self::Chunk;
}

/// A bulk between its input and its output.
struct Bulk<F: Form, S> {
    form: F,
    input: S,
    /// How the input ended; nothing while it is read.
    ended: Option<Result<(), ApiError>>,
    window: Window,
    out: mpsc::Sender<F::Chunk>,
    stopping: CancellationToken,
    flow: Arc<Flow>,
}

/// A place among the bulk streams of a node, with room for what it holds.
#[derive(Debug)]
pub struct BulkPlace {
    /// The node stops, or an address with fewer bulks has the place.
    stopping: CancellationToken,
    /// To whom its work is charged.
    flow: Arc<Flow>,
    _share: Share,
    _held: Held,
}

/// A place among the bulk streams of a node, for a client at this address.
///
/// # Errors
/// `resource_exhausted` when all are taken and no other address has more of them, `unavailable` when the node stops.
pub fn enter(gateway: &Gateway, from: IpAddr) -> Result<BulkPlace, ApiError> {
    if gateway.cluster.is_stopping() {
        return Err(is_stopping());
    }
    let stopping = gateway.cluster.stopping().child_token();
    let share = gateway.bulks.enter(from, stopping.clone()).ok_or_else(|| {
        let detail = format!(
            "{BULKS_MAX} bulk streams are open on this node, which is its limit; try again in a second, or at another node"
        );
        ApiError::new(Code::ResourceExhausted, detail)
    })?;
    let mut held = gateway.memory.hold(from);
    held.grow(BULK_BYTES)?;
    let flow = Arc::new(Flow::new(gateway.queue.clone(), from));
    // In the line of connections that were answered, because its head was accepted.
    flow.mark_answered();
    Ok(BulkPlace { stopping, flow, _share: share, _held: held })
}

/// Answers the numbers of the input. An error among the chunks says that the end did not reach the client, so that what
/// came before must not pass for the whole. The stream must be kept: dropping it ends the work.
pub fn answer<F: Form>(
    gateway: &Arc<Gateway>,
    place: BulkPlace,
    terms: Terms,
    form: F,
    input: impl Stream<Item = Result<F::Piece, ApiError>> + Send + Unpin + 'static,
) -> impl Stream<Item = Result<F::Chunk, ApiError>> + Send + 'static {
    let (out, chunks) = mpsc::channel(BULK_CHUNKS_MAX);
    let (gateway, flow) = (Arc::clone(gateway), Arc::clone(&place.flow));
    let bulk = Bulk {
        form,
        input: input.fuse(),
        ended: None,
        window: Window::new(Arc::clone(&gateway), terms),
        out,
        stopping: place.stopping.clone(),
        flow: Arc::clone(&flow),
    };
    let work = async move {
        let _place = place;
        // The place in flight of the request ends with its head, so the bulk takes its own. If the node has filled up
        // since, this one goes on all the same.
        let _pass = gateway.enter().ok();
        let ended = bulk.run().await;
        if !matches!(ended, Ok(true)) {
            gateway.metrics.bulks_broken.inc();
        }
        ended
    };
    until_the_end(chunks, AbortOnDropHandle::new(tokio::spawn(InTurn::new(work, flow))))
}

/// An answer that is whole, in chunks. Its place is free when the last one has left, or the client does not read. The
/// stream must be kept.
pub fn send_whole(
    held: Held,
    answer: Vec<u8>,
) -> impl Stream<Item = Result<Bytes, ApiError>> + Send + 'static {
    let (out, chunks) = mpsc::channel(BULK_CHUNKS_MAX);
    let running = AbortOnDropHandle::new(tokio::spawn(async move {
        let _held = held;
        for chunk in answer.chunks(BULK_CHUNK_BYTES) {
            // Copied, so that the connection of who does not read holds some chunks and not the whole.
            room(&out).await?.send(Bytes::copy_from_slice(chunk));
        }
        Ok(())
    }));
    until_the_end(chunks, running)
}

/// The chunks of a task, and an error if it did not bring the last one to the client.
fn until_the_end<T: Send + 'static, E: Send + 'static>(
    chunks: mpsc::Receiver<T>,
    running: AbortOnDropHandle<Result<E, ApiError>>,
) -> impl Stream<Item = Result<T, ApiError>> + Send + 'static {
    let cut_off = async { running.await.unwrap_or_else(|_| Err(defect())).err().map(Err) };
    ReceiverStream::new(chunks).map(Ok).chain(stream::once(cut_off).filter_map(ready))
}

/// Room for a chunk, within the time that a client may leave one unread.
async fn room<T>(out: &mpsc::Sender<T>) -> Result<mpsc::Permit<'_, T>, ApiError> {
    timeout(BULK_IDLE_TIMEOUT, out.reserve()).await.ok().and_then(Result::ok).ok_or_else(unread)
}

impl<F: Form, S: Stream<Item = Result<F::Piece, ApiError>> + Unpin> Bulk<F, S> {
    /// Answers what can be answered, and tells the client how it ended; returns whether that was well. The error is for
    /// a client that was not told.
    async fn run(mut self) -> Result<bool, ApiError> {
        let stopping = self.stopping.clone();
        tokio::select! {
            answered = self.answer_all() => answered?,
            () = overdue(stopping) => self.ended = Some(Err(is_stopping())),
        }
        let ended = self.ended.take().unwrap_or(Ok(()));
        let is_well = ended.is_ok();
        self.form.close(ended);
        self.send().await?;
        Ok(is_well)
    }

    /// Reads until the input ends, and answers what was read.
    async fn answer_all(&mut self) -> Result<(), ApiError> {
        loop {
            self.read_what_is_ready().await;
            if let Err(defect) = self.write_what_is_ready() {
                self.ended = Some(Err(defect));
                return Ok(());
            }
            if self.flow.turn.is_over() {
                yield_now().await;
            }
            if !self.form.is_empty() {
                self.send().await?;
            } else if self.window.is_empty() && !self.reads() && !self.form.has_more() {
                return Ok(());
            } else {
                self.wait().await;
            }
        }
    }

    /// Fills the window. When nothing more is ready, what there is leaves.
    async fn read_what_is_ready(&mut self) {
        self.form.take(&mut self.window);
        let mut pieces = 0;
        while self.reads()
            && self.has_room()
            && pieces < BULK_PIECES_BEFORE_YIELD
            && let Some(piece) = self.input.next().now_or_never()
        {
            self.feed(piece);
            pieces += 1;
        }
        if self.reads() && self.stopping.is_cancelled() {
            self.ended = Some(Err(is_stopping()));
        }
        if pieces == BULK_PIECES_BEFORE_YIELD {
            yield_now().await;
        }
        if self.has_room() {
            self.window.flush();
        }
    }

    fn feed(&mut self, piece: Option<Result<F::Piece, ApiError>>) {
        match piece {
            Some(Ok(piece)) => self.form.feed(piece),
            Some(Err(error)) => {
                self.ended = Some(Err(error));
                if !F::READS_ON {
                    self.window.clear();
                }
            }
            None => {
                self.ended = Some(Ok(()));
                self.form.end_input();
            }
        }
        self.form.take(&mut self.window);
    }

    fn write_what_is_ready(&mut self) -> Result<(), ApiError> {
        while !self.form.is_full()
            && let Some(answered) = self.window.next_ready()?
        {
            self.flow.turn.charge(REQUEST_COST + answered.count() * BULK_NUMBER_COST);
            self.form.write(answered);
        }
        Ok(())
    }

    fn reads(&self) -> bool {
        self.ended.is_none()
    }

    fn has_room(&self) -> bool {
        self.window.has_room() && !self.form.has_more()
    }

    /// Waits for whatever comes first.
    async fn wait(&mut self) {
        let (reads, has_room, is_idle) = (self.reads(), self.has_room(), self.window.is_empty());
        tokio::select! {
            () = self.window.front_done(), if !is_idle => {}
            piece = self.input.next(), if reads && has_room => self.feed(piece),
            () = self.stopping.cancelled(), if reads => {}
            () = sleep(BULK_IDLE_TIMEOUT), if is_idle => self.ended = Some(Err(idle())),
        }
    }

    /// Sends what is written. It is taken only when there is room for it, so that giving up the wait loses none of it.
    async fn send(&mut self) -> Result<(), ApiError> {
        if self.form.is_empty() {
            return Ok(());
        }
        room(&self.out).await?.send(self.form.chunk());
        Ok(())
    }
}

/// Returns when a bulk of a node that stops has had its time.
async fn overdue(stopping: CancellationToken) {
    stopping.cancelled().await;
    sleep(BULK_STOP_TIMEOUT).await;
}

fn is_stopping() -> ApiError {
    ApiError::new(
        Code::Unavailable,
        "this node is stopping, or the place of this stream was given to another address; send the numbers that have no answer to another node",
    )
}

fn idle() -> ApiError {
    let detail =
        format!("nothing came for {} s; send the rest in a new request", BULK_IDLE_TIMEOUT.as_secs());
    ApiError::new(Code::DeadlineExceeded, detail)
}

fn unread() -> ApiError {
    let detail = format!("the answers were not read for {} s; the rest is lost", BULK_IDLE_TIMEOUT.as_secs());
    ApiError::new(Code::DeadlineExceeded, detail)
}

/// A part of a bulk is lost, and the log says why.
fn defect() -> ApiError {
    ApiError::new(Code::Internal, "this bulk met an internal error of the node; its log says more")
}
