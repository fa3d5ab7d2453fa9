//! A bulk: numbers in and answers out, in order, in bounded memory.
//!
//! ```text
//!  client ─▶ pieces ─▶ Form::take ─▶ Window: groups in flight, in order ─▶ Form::write ─▶ chunks ─▶ client
//! ```
//! A group is a run of short numbers or one long number, and a task of its own: it is done, and its worker free for
//! others, whether or not the client reads. Input is read only while the window has room, and the window is emptied only
//! as the client reads, so that a slow reader holds up its own sender and nobody else. A group leaves when nothing more is
//! ready to join it: there is no timer, and a line that comes alone is answered at once.

pub mod lines;
pub mod window;

use std::{future::ready, sync::Arc};

use futures_util::{FutureExt, Stream, StreamExt};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    time::{sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tonic::Code;

use super::{Gateway, error::ApiError};
use crate::limits::{BULK_CHUNKS_MAX, BULK_IDLE_TIMEOUT, BULK_LINGER, BULK_STOP_TIMEOUT, BULKS_MAX};
use window::{Answered, Terms, Window};

/// How a bulk is read and written: as lines of JSON, or as messages of gRPC.
pub trait Form: Send + 'static {
    /// What comes at once.
    type Piece: Send;
    /// What leaves at once.
    type Chunk: Send + 'static;

    /// Takes a piece, when nothing is left of the one before.
    fn feed(&mut self, piece: Self::Piece);
    /// No piece follows.
    fn end_input(&mut self);
    /// Puts numbers into the window while it has room.
    fn take(&mut self, window: &mut Window);
    /// Whether something is left that the window had no room for.
    fn has_more(&self) -> bool;
    /// Forgets what is left, which will not be answered.
    fn forget(&mut self);
    /// Writes answers down.
    fn write(&mut self, answered: Answered);
    /// Whether what is written is enough to leave.
    fn is_full(&self) -> bool;
    /// What is written, if anything is.
    fn chunk(&mut self) -> Option<Self::Chunk>;
    /// The last chunk: that all was answered, or why not.
    fn close(&mut self, ended: Result<(), ApiError>) -> Option<Self::Chunk>;
}

/// Why a bulk ended before its client did.
enum Ended {
    /// The node stops: what is in flight may still be answered.
    Stopping,
    /// The client can be told.
    Early(ApiError),
    /// The client does not read, or has gone.
    Unread,
}

/// A bulk between its input and its output.
struct Bulk<F: Form, S> {
    form: F,
    input: S,
    input_ended: bool,
    window: Window,
    out: mpsc::Sender<F::Chunk>,
    stopping: CancellationToken,
    is_stopped: bool,
}

/// A place among the bulk streams of a node.
///
/// # Errors
/// `resource_exhausted` when all are taken.
pub fn enter(gateway: &Gateway) -> Result<OwnedSemaphorePermit, ApiError> {
    Arc::clone(&gateway.bulks).try_acquire_owned().map_err(|_| {
        let detail = format!(
            "{BULKS_MAX} bulk streams are open on this node, which is its limit; try again in a second, or at another node"
        );
        ApiError::new(Code::ResourceExhausted, detail)
    })
}

/// Answers the numbers of the input. The stream must be kept: dropping it ends the work.
pub fn answer<F: Form>(
    gateway: &Arc<Gateway>,
    place: OwnedSemaphorePermit,
    terms: Terms,
    form: F,
    input: impl Stream<Item = Result<F::Piece, ApiError>> + Send + Unpin + 'static,
) -> impl Stream<Item = F::Chunk> + Send + 'static {
    let (out, chunks) = mpsc::channel(BULK_CHUNKS_MAX);
    let gateway = Arc::clone(gateway);
    let bulk = Bulk {
        form,
        input,
        input_ended: false,
        window: Window::new(Arc::clone(&gateway), terms),
        out,
        stopping: gateway.cluster.stopping(),
        is_stopped: false,
    };
    let running = AbortOnDropHandle::new(tokio::spawn(async move {
        let _place = place;
        // That of the request ends with its head. If the node has filled up since, this one goes on all the same.
        let _pass = gateway.enter().ok();
        bulk.run().await;
    }));
    ReceiverStream::new(chunks).map(move |chunk| {
        let _ = &running;
        chunk
    })
}

impl<F: Form, S: Stream<Item = Result<F::Piece, ApiError>> + Unpin> Bulk<F, S> {
    async fn run(mut self) {
        let ended = match self.answer_all().await {
            Ok(()) => Ok(()),
            Err(Ended::Unread) => return,
            Err(Ended::Early(error)) => Err(error),
            Err(Ended::Stopping) => {
                self.stop_reading();
                if let Ok(Err(Ended::Unread)) = timeout(BULK_STOP_TIMEOUT, self.answer_all()).await {
                    return;
                }
                Err(stopping())
            }
        };
        let is_early = ended.is_err();
        let last = self.form.close(ended);
        if let Some(last) = last
            && self.send(last).await.is_err()
        {
            return;
        }
        if is_early && !self.input_ended {
            // It may go on sending until it has read why not.
            let _ =
                timeout(BULK_LINGER, self.input.by_ref().take_while(|piece| ready(piece.is_ok())).count())
                    .await;
        }
    }

    fn stop_reading(&mut self) {
        self.is_stopped = true;
        self.form.forget();
        self.window.flush();
    }

    /// Reads and answers until all is answered.
    async fn answer_all(&mut self) -> Result<(), Ended> {
        loop {
            self.read_what_is_ready()?;
            while !self.form.is_full()
                && let Some(answered) = self.window.next_ready().map_err(Ended::Early)?
            {
                self.form.write(answered);
            }
            if let Some(chunk) = self.form.chunk() {
                self.send(chunk).await?;
            } else if self.window.is_empty() && !self.reads() && !self.form.has_more() {
                return Ok(());
            } else {
                self.wait().await?;
            }
        }
    }

    /// Fills the window. When nothing more is ready, what there is leaves.
    fn read_what_is_ready(&mut self) -> Result<(), Ended> {
        if !self.is_stopped && self.stopping.is_cancelled() {
            return Err(Ended::Stopping);
        }
        self.form.take(&mut self.window);
        while self.reads() && self.has_room() {
            let Some(piece) = self.input.next().now_or_never() else {
                self.window.flush();
                return Ok(());
            };
            self.feed(piece)?;
        }
        if !self.reads() && !self.form.has_more() {
            self.window.flush();
        }
        Ok(())
    }

    fn feed(&mut self, piece: Option<Result<F::Piece, ApiError>>) -> Result<(), Ended> {
        match piece {
            Some(piece) => self.form.feed(piece.map_err(Ended::Early)?),
            None => {
                self.input_ended = true;
                self.form.end_input();
            }
        }
        self.form.take(&mut self.window);
        Ok(())
    }

    fn reads(&self) -> bool {
        !self.input_ended && !self.is_stopped
    }

    fn has_room(&self) -> bool {
        self.window.has_room() && !self.form.has_more()
    }

    /// Waits for whatever comes first.
    async fn wait(&mut self) -> Result<(), Ended> {
        let (reads, has_room, is_idle) = (self.reads(), self.has_room(), self.window.is_empty());
        tokio::select! {
            () = self.window.front_done(), if !is_idle => Ok(()),
            piece = self.input.next(), if reads && has_room => self.feed(piece),
            () = self.stopping.cancelled(), if !self.is_stopped => Err(Ended::Stopping),
            () = sleep(BULK_IDLE_TIMEOUT), if is_idle => Err(Ended::Early(idle())),
        }
    }

    async fn send(&mut self, chunk: F::Chunk) -> Result<(), Ended> {
        match timeout(BULK_IDLE_TIMEOUT, self.out.send(chunk)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Ended::Unread),
        }
    }
}

fn stopping() -> ApiError {
    ApiError::new(Code::Unavailable, "this node is stopping; go on at another one with what is not answered")
}

fn idle() -> ApiError {
    let detail =
        format!("nothing came for {} s; send the rest in a new request", BULK_IDLE_TIMEOUT.as_secs());
    ApiError::new(Code::DeadlineExceeded, detail)
}
