//! The log: a thread of its own writes it to standard error, because that may be a pipe that nobody reads, or the
//! terminal of a stopped job, and nothing but this thread may wait for it.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    collections::VecDeque,
    env,
    fmt::{self, Display},
    io::{self, ErrorKind, Write},
    panic::{self, PanicHookInfo},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

use tracing::{field::Field, level_filters::LevelFilter};
use tracing_subscriber::{
    EnvFilter,
    field::MakeExt,
    filter::Directive,
    fmt::{FormatFields, format},
};

use super::colours;
use crate::{
    config::list,
    limits::{ENTRY_CHARS_MAX, LOG_BYTES_MAX, LOG_FLUSH_TIMEOUT, LOG_PAUSE},
    metrics::LOG_LINES_DROPPED,
    text::{bounded, line},
};

static QUEUE: LogQueue =
    LogQueue { state: Mutex::new(LogState::new()), is_filled: Condvar::new(), is_empty: Condvar::new() };

/// The lines that wait to be written.
struct LogQueue {
    state: Mutex<LogState>,
    is_filled: Condvar,
    is_empty: Condvar,
}

struct LogState {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// A line was taken out, and may not be written yet.
    is_writing: bool,
}

impl LogState {
    const fn new() -> Self {
        Self { lines: VecDeque::new(), bytes: 0, is_writing: false }
    }

    fn is_idle(&self) -> bool {
        self.lines.is_empty() && !self.is_writing
    }
}

impl LogQueue {
    fn lock(&self) -> MutexGuard<'_, LogState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Never waits: a line for which there is no room is dropped, and counted.
    fn push(&self, line: Vec<u8>) {
        let mut state = self.lock();
        if state.bytes + line.len() > LOG_BYTES_MAX {
            LOG_LINES_DROPPED.inc();
            return;
        }
        state.bytes += line.len();
        state.lines.push_back(line);
        self.is_filled.notify_one();
    }

    /// The next line, if there is one.
    fn pop(&self) -> Option<Vec<u8>> {
        let mut state = self.lock();
        let line = state.lines.pop_front();
        state.bytes -= line.as_ref().map_or(0, Vec::len);
        state.is_writing = line.is_some();
        if line.is_none() {
            self.is_empty.notify_all();
        }
        line
    }

    fn wait(&self) {
        let wait = self.is_filled.wait_while(self.lock(), |state| state.lines.is_empty());
        drop(wait.unwrap_or_else(PoisonError::into_inner));
    }
}

/// What the log is written to, line by line; each is whole.
struct LogLines;

impl Write for LogLines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        QUEUE.push(line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes out what waits when it is dropped, also when the main thread panics.
pub(super) struct Flushed;

impl Drop for Flushed {
    fn drop(&mut self) {
        flush();
    }
}

/// Starts logging, by the levels of `PRIMACY_LOG`.
///
/// # Errors
/// When there is no thread for it.
pub(super) fn start() -> io::Result<Flushed> {
    thread::Builder::new().name("log".to_owned()).spawn(write_lines)?;
    panic::set_hook(Box::new(log_panic));
    let told = env::var_os("PRIMACY_LOG").unwrap_or_default();
    let (filter, wrong) = filter(&told.to_string_lossy());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| LogLines)
        .fmt_fields(fields())
        .with_ansi(colours(&io::stderr()))
        .with_target(false)
        // A line that cannot be formatted would be told of by a print that may wait.
        .log_internal_errors(false)
        .init();
    if let Some(wrong) = wrong {
        tracing::warn!(
            "PRIMACY_LOG has `{wrong}`, which is no level; the levels are off, error, warn, info, debug or trace, and \
             TARGET=LEVEL for a part of the program, with commas between them; logging at info"
        );
    }
    Ok(Flushed)
}

/// How the fields of an entry are written, its message among them. All of it goes through here, so that whatever others
/// say is harmless, and an entry is one line.
fn fields() -> impl for<'writer> FormatFields<'writer> + Send + Sync + 'static {
    format::debug_fn(write_field).delimited(" ")
}

fn write_field(out: &mut format::Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    let text = bounded(&format!("{value:?}"), ENTRY_CHARS_MAX);
    match (field.name(), out.has_ansi_escapes()) {
        ("message", _) => out.write_str(&text),
        (name, true) => write!(out, "\x1b[3m{name}\x1b[0m\x1b[2m=\x1b[0m{text}"),
        (name, false) => write!(out, "{name}={text}"),
    }
}

/// Puts a line of its own into the log, whatever the levels are.
pub(super) fn say(said: impl Display) {
    say_after("", said);
}

/// The same with something of ours before it, which may have a colour.
pub(super) fn say_after(prefix: &str, said: impl Display) {
    let said = bounded(&said.to_string(), ENTRY_CHARS_MAX);
    QUEUE.push(format!("{prefix}{said}\n").into_bytes());
}

/// Waits until all is written, but not for a reader that does not read.
pub(super) fn flush() {
    let waited = QUEUE.is_empty.wait_timeout_while(QUEUE.lock(), LOG_FLUSH_TIMEOUT, |state| !state.is_idle());
    drop(waited.unwrap_or_else(PoisonError::into_inner));
}

fn write_lines() {
    let (mut was_written, mut told) = (true, 0);
    loop {
        if let Some(line) = QUEUE.pop() {
            was_written = write(&line).is_ok();
            if !was_written {
                LOG_LINES_DROPPED.inc();
            }
            continue;
        }
        let dropped = LOG_LINES_DROPPED.get();
        // Only to those who read again: a line that fails must not cause another one.
        if was_written && dropped > told {
            tracing::warn!(
                "{} lines of the log were dropped before this one, because nobody read it",
                dropped - told
            );
            told = dropped;
        }
        QUEUE.wait();
    }
}

/// Writes to standard error, which another process may have made non-blocking.
fn write(mut line: &[u8]) -> io::Result<()> {
    let mut stderr = io::stderr();
    while !line.is_empty() {
        match stderr.write(line) {
            Ok(written) => line = &line[written..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(LOG_PAUSE),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// What the standard library would print, and wait for.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let thread = thread::current();
    let name = thread.name().unwrap_or("without a name");
    let trace = Backtrace::capture();
    match trace.status() {
        BacktraceStatus::Captured => say_lines(&format!("thread {name} {panic}\n{trace}")),
        _ => say_lines(&format!("thread {name} {panic}")),
    }
}

/// A text of several lines, which stay together.
fn say_lines(text: &str) {
    let lines: String = text.lines().map(|part| line(part) + "\n").collect();
    QUEUE.push(lines.into_bytes());
}

/// The filter that `PRIMACY_LOG` describes, or the default one and what is wrong.
fn filter(told: &str) -> (EnvFilter, Option<String>) {
    let directives: Vec<&str> = list(told).collect();
    let wrong = directives.iter().find(|directive| !is_directive(directive));
    let told = if wrong.is_some() { String::new() } else { directives.join(",") };
    let builder = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into());
    (builder.parse_lossy(told), wrong.map(ToString::to_string))
}

/// The library takes every single word that is no level for the name of a part of the program, and then logs nothing of
/// all the others.
fn is_directive(text: &str) -> bool {
    match text.contains(['=', '[', ':']) {
        true => text.parse::<Directive>().is_ok(),
        false => text.parse::<LevelFilter>().is_ok() || text == env!("CARGO_CRATE_NAME"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_targets_are_taken_and_other_words_are_not() {
        for good in [
            "",
            " ",
            "info",
            "WARN",
            "off",
            "0",
            "debug,h2=warn",
            " info , primacy::cluster=trace,",
            "primacy",
        ] {
            assert_eq!(filter(good).1, None, "{good}");
        }
        for (told, wrong) in [
            ("warning", "warning"),
            ("verbose", "verbose"),
            ("info,loud", "loud"),
            ("primacy=loud", "primacy=loud"),
            ("6", "6"),
        ] {
            let (filter, said) = filter(told);
            assert_eq!((filter.to_string(), said), ("info".to_owned(), Some(wrong.to_owned())));
        }
    }
}
