//! `primacy check -`: the numbers of standard input over one call, which goes on at the next endpoint, from the first
//! number without an answer, when the one that answers dies.

use std::{
    collections::VecDeque,
    io::{self, IsTerminal, Write},
    mem,
    process::ExitCode,
};

use futures_util::FutureExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Status, Streaming};

use super::{check, input::NumberInput, line, progress::Progress, short};
use crate::{
    api::prime::{Outcome, number_to_wire},
    cli::{FAILED, OutputFormat, client::Client, fail, written},
    limits::DEADLINE_MAX,
    prime::Number,
    proto::{self, checked_prime, scheduler_client::SchedulerClient},
};

/// Numbers without an answer, which are kept so that they can be sent again, and their bytes in decimal.
const UNANSWERED_MAX: usize = 4096;
const UNANSWERED_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of answers that are printed together, if they are there together.
const PRINTED_BYTES: usize = 64 * 1024;

struct BulkCheck<'a> {
    client: &'a Client,
    output: OutputFormat,
    input: NumberInput,
    /// What was read and is not answered, in order.
    waiting: VecDeque<Result<Number, String>>,
    waiting_bytes: usize,
    call: Option<OpenCall>,
    /// Calls that broke since the last answer.
    broken: usize,
    printed: Vec<u8>,
    has_failed: bool,
    progress: Progress,
}

struct OpenCall {
    requests: mpsc::Sender<proto::PrimeRequest>,
    answers: Streaming<proto::CheckedPrime>,
}

enum CallEvent {
    Answer(Result<Option<proto::CheckedPrime>, Status>),
    Read(io::Result<()>),
}

pub(super) async fn run(client: &Client, output: OutputFormat) -> ExitCode {
    let mut bulk = BulkCheck {
        client,
        output,
        input: NumberInput::new(),
        waiting: VecDeque::new(),
        waiting_bytes: 0,
        call: None,
        broken: 0,
        printed: Vec::new(),
        has_failed: false,
        progress: Progress::new(io::stderr().is_terminal() && !io::stdout().is_terminal()),
    };
    let ended = bulk.answer_all().await.and_then(|()| bulk.print());
    bulk.progress.finish();
    match ended {
        Err(code) => code,
        Ok(()) if bulk.has_failed => ExitCode::from(FAILED),
        Ok(()) => ExitCode::SUCCESS,
    }
}

impl BulkCheck<'_> {
    async fn answer_all(&mut self) -> Result<(), ExitCode> {
        loop {
            self.take_lines();
            self.tell_bad_lines()?;
            if self.waiting.is_empty() && self.input.has_ended() {
                return Ok(());
            }
            if self.call.is_none() && !self.waiting.is_empty() {
                self.open().await?;
                continue;
            }
            let event = match self.event().now_or_never() {
                Some(event) => event,
                None => {
                    // Nothing more is ready: what there is is shown.
                    self.print()?;
                    self.event().await
                }
            };
            match event {
                CallEvent::Answer(Ok(Some(checked))) => self.take(checked).await?,
                CallEvent::Answer(Ok(None)) => self.broke(&Status::unavailable("it ended the call")).await?,
                CallEvent::Answer(Err(status)) => self.broke(&status).await?,
                CallEvent::Read(Ok(())) => self.progress.read(self.input.bytes_read()),
                CallEvent::Read(Err(error)) => self.tell(format!("cannot read standard input: {error}"))?,
            }
        }
    }

    fn has_room(&self) -> bool {
        self.waiting.len() < UNANSWERED_MAX && self.waiting_bytes < UNANSWERED_BYTES_MAX
    }

    fn take_lines(&mut self) {
        while self.has_room()
            && let Some(number) = self.input.next()
        {
            if let Ok(number) = &number {
                self.waiting_bytes += number.text_len();
                if let Some(call) = &self.call {
                    // It has room for all that wait. If it has broken, its answers say so.
                    let _ = call.requests.try_send(number_to_wire(number));
                }
            }
            self.waiting.push_back(number);
        }
    }

    /// Lines that are no number are told of when all before them are answered.
    fn tell_bad_lines(&mut self) -> Result<(), ExitCode> {
        while let Some(Err(error)) = self.waiting.front_mut() {
            let error = mem::take(error);
            self.waiting.pop_front();
            self.tell(error)?;
        }
        Ok(())
    }

    /// Begins a call with all that has no answer.
    async fn open(&mut self) -> Result<(), ExitCode> {
        let (requests, stream) = mpsc::channel(UNANSWERED_MAX);
        for number in self.waiting.iter().flatten() {
            // The channel is new, and no more than it holds may wait.
            let _ = requests.try_send(number_to_wire(number));
        }
        let mut call = Request::new(ReceiverStream::new(stream));
        // The time for each number.
        call.set_timeout(DEADLINE_MAX);
        match SchedulerClient::new(self.client.channel()).check_primes(call).await {
            Ok(response) => {
                self.call = Some(OpenCall { requests, answers: response.into_inner() });
                Ok(())
            }
            Err(status) => self.broke(&status).await,
        }
    }

    async fn event(&mut self) -> CallEvent {
        let reads = self.has_room() && !self.input.has_ended();
        let Self { call, input, .. } = self;
        let answer = async {
            match call {
                Some(call) => call.answers.message().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            answer = answer => CallEvent::Answer(answer),
            read = input.fill(), if reads => CallEvent::Read(read),
        }
    }

    async fn take(&mut self, checked: proto::CheckedPrime) -> Result<(), ExitCode> {
        let Some(Ok(number)) = self.waiting.pop_front() else {
            return self.broke(&Status::internal("it answered what was not asked")).await;
        };
        self.waiting_bytes -= number.text_len();
        self.broken = 0;
        self.progress.answered();
        match checked.outcome {
            Some(checked_prime::Outcome::Answer(answer)) => self.put(&number, &answer.into()),
            // That node could not; another one may.
            Some(checked_prime::Outcome::Failure(proto::PrimeFailure { code, .. }))
                if Code::from(code) == Code::Unavailable =>
            {
                self.ask_elsewhere(&number).await
            }
            Some(checked_prime::Outcome::Failure(failure)) => {
                self.tell(format!("{}: {}", short(&number), failure.message))
            }
            None => self.tell(format!("{}: the answer is empty", short(&number))),
        }
    }

    async fn ask_elsewhere(&mut self, number: &Number) -> Result<(), ExitCode> {
        match self.client.call(|channel| check(channel, number)).await {
            Ok(outcome) => self.put(number, &outcome),
            Err(status) if status.code() == Code::Unavailable => self.give_up(number, status.message()),
            Err(status) => self.tell(format!("{}: {}", short(number), status.message())),
        }
    }

    /// The call has broken: the next endpoint goes on.
    async fn broke(&mut self, status: &Status) -> Result<(), ExitCode> {
        self.call = None;
        let Some(first) = self.waiting.iter().flatten().next() else {
            // Nothing is lost, as when nothing was written for a while.
            return Ok(());
        };
        let first = first.clone();
        match self.client.go_on(&mut self.broken, status).await {
            Ok(()) => Ok(()),
            Err(nobody) => self.give_up(&first, &nobody),
        }
    }

    fn give_up(&mut self, first: &Number, why: &str) -> Result<(), ExitCode> {
        self.tell(format!("{} and all numbers after it have no answer: {why}", short(first)))?;
        Err(ExitCode::from(FAILED))
    }

    fn put(&mut self, number: &Number, outcome: &Outcome) -> Result<(), ExitCode> {
        line(&mut self.printed, number, outcome, self.output);
        if self.printed.len() >= PRINTED_BYTES { self.print() } else { Ok(()) }
    }

    fn print(&mut self) -> Result<(), ExitCode> {
        if self.printed.is_empty() {
            return Ok(());
        }
        let mut out = io::stdout().lock();
        let printed = written(out.write_all(&self.printed).and_then(|()| out.flush()));
        self.printed.clear();
        printed
    }

    fn tell(&mut self, error: String) -> Result<(), ExitCode> {
        self.has_failed = true;
        self.print()?;
        self.progress.suspend(|| fail(error));
        Ok(())
    }
}
