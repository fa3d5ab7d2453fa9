//! When the next request is due.

use std::{
    cell::Cell,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tokio::sync::Semaphore;

/// The longest nap between two looks at the schedule: a request leaves no more than this and a wake-up too late, and
/// counts as late as it is.
const NAP: Duration = Duration::from_micros(50);

/// A request's turn to be sent.
#[derive(Clone, Copy)]
pub struct Turn {
    /// When it was due; its latency counts from then.
    pub due: Instant,
    /// Whether somebody was free and waiting for it: if it leaves late then, that is the fault of the load program.
    pub waited: bool,
}

/// Closed: a request is due when its place is free. Open: at fixed times, come what may.
pub struct Pace {
    began: Instant,
    lasts: Duration,
    open: Option<Open>,
}

/// The schedule of an open loop.
struct Open {
    rate: f64,
    total: u64,
    taken: Cell<u64>,
    /// As many as are due and not taken.
    due: Arc<Semaphore>,
}

impl Pace {
    /// The clock starts now. With a rate, a thread of its own keeps the schedule: timers of the runtime have whole
    /// milliseconds.
    pub fn begin(lasts: Duration, rate: Option<f64>) -> Self {
        let began = Instant::now();
        let open = rate.map(|rate| {
            let total = (rate * lasts.as_secs_f64()) as u64;
            let due = Arc::new(Semaphore::new(0));
            let released = Arc::clone(&due);
            thread::spawn(move || keep_schedule(&released, began, rate, total));
            Open { rate, total, taken: Cell::new(0), due }
        });
        Self { began, lasts, open }
    }

    /// Waits until the next request is due; `None` when there are no more.
    pub async fn next(&self) -> Option<Turn> {
        let Some(open) = &self.open else {
            let now = Instant::now();
            return (now < self.began + self.lasts).then_some(Turn { due: now, waited: false });
        };
        let place = open.taken.replace(open.taken.get() + 1);
        if place >= open.total {
            return None;
        }
        let waited = match open.due.try_acquire() {
            Ok(permit) => {
                permit.forget();
                false
            }
            Err(_) => {
                open.due.acquire().await.ok()?.forget();
                true
            }
        };
        Some(Turn { due: self.began + Duration::from_secs_f64(place as f64 / open.rate), waited })
    }
}

fn keep_schedule(due: &Semaphore, began: Instant, rate: f64, total: u64) {
    let mut released = 0;
    while released < total {
        let now_due = ((began.elapsed().as_secs_f64() * rate) as u64 + 1).min(total);
        if now_due > released {
            due.add_permits((now_due - released) as usize);
            released = now_due;
        }
        thread::sleep(NAP);
    }
}
