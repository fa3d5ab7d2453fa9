//! How far `primacy check -` is: by the bytes read where standard input is a file, else by what is answered.

use std::{
    fmt::{self, Write},
    fs::File,
    io::{self, Seek},
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use indicatif::{HumanCount, ProgressBar, ProgressState, ProgressStyle};

pub(super) struct Progress {
    bar: ProgressBar,
    answered: Arc<AtomicU64>,
}

impl Progress {
    /// Shown, or kept for itself.
    pub(super) fn new(is_shown: bool) -> Self {
        let answered = Arc::<AtomicU64>::default();
        let bar = match is_shown {
            false => ProgressBar::hidden(),
            true => shown(file_bytes(), &answered),
        };
        Self { bar, answered }
    }

    pub(super) fn answered(&self) {
        self.answered.fetch_add(1, Relaxed);
    }

    pub(super) fn read(&self, bytes: u64) {
        self.bar.set_position(bytes);
    }

    /// Prints something beside it.
    pub(super) fn suspend<T>(&self, print: impl FnOnce() -> T) -> T {
        self.bar.suspend(print)
    }

    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

fn shown(bytes: Option<u64>, answered: &Arc<AtomicU64>) -> ProgressBar {
    let (bar, template) = match bytes {
        Some(bytes) => (ProgressBar::new(bytes), "{bar:30} {percent}%, {answered}, {eta} left"),
        None => (ProgressBar::new_spinner(), "{spinner} {answered}, {elapsed}"),
    };
    let (answered, started) = (Arc::clone(answered), Instant::now());
    let show = move |_: &ProgressState, out: &mut dyn Write| {
        // It is drawn again in a moment.
        let _ = show(out, answered.load(Relaxed), started.elapsed());
    };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner());
    bar.set_style(style.with_key("answered", show));
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

fn show(out: &mut dyn Write, answered: u64, elapsed: Duration) -> fmt::Result {
    let rate = answered * 1000 / (elapsed.as_millis() as u64).max(1);
    write!(out, "{} answered, {}/s", HumanCount(answered), HumanCount(rate))
}

/// How much is left to read, if standard input is a file.
fn file_bytes() -> Option<u64> {
    let mut file = File::from(io::stdin().as_fd().try_clone_to_owned().ok()?);
    let metadata = file.metadata().ok()?;
    let read = file.stream_position().ok()?;
    metadata.is_file().then(|| metadata.len().saturating_sub(read))
}
