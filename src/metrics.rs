//! What operators count: plain atomics on the way of a request, gathered when somebody asks.

pub mod text;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use text::{Exposition, Format};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn inc(&self) {
        self.inc_by(1);
    }

    /// So many more.
    pub fn inc_by(&self, more: u64) {
        self.0.fetch_add(more, Relaxed);
    }

    /// How many there were.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Lines of the log that were dropped because nobody read it; the log is the process's.
pub static LOG_LINES_DROPPED: Counter = Counter(AtomicU64::new(0));

/// The counters of a node.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Requests answered well, over HTTP and gRPC; a bulk stream counts when its answer begins.
    pub requests_ok: Counter,
    /// Requests refused for what the client sent (4xx).
    pub requests_refused: Counter,
    /// Requests that failed for reasons of ours (5xx).
    pub requests_failed: Counter,
    /// Requests refused because too many were in flight, or every queue was full.
    pub requests_shed: Counter,
    /// How long requests took; a bulk stream until its answer began.
    pub latency: Latency,
    /// Numbers given back by a lane that closed, and sent elsewhere.
    pub given_back: Counter,
    /// Numbers tried on another worker after an error; one that was only busy does not count.
    pub retries: Counter,
    /// Numbers that this node checked itself because nobody else could.
    pub fallbacks: Counter,
    /// Numbers answered in batches, of those that this node scheduled.
    pub batch_numbers: Counter,
    /// Segments of ranges that are done, of those that this node scheduled.
    pub segments: Counter,
    /// Bulk streams that ended early: broken or idle input, answers that were not read, a node that stops, a defect.
    pub bulks_broken: Counter,
    /// Connections accepted.
    pub connections: Counter,
    /// Connections closed at once because there were too many.
    pub connections_refused: Counter,
    /// Idle connections closed to make room for others.
    pub connections_evicted: Counter,
    /// Connections that ended, or were closed, before their first head was complete.
    pub connections_silent: Counter,
    /// Peer calls refused because they came without the cluster's token, or without a certificate of its CA.
    pub strangers: Counter,
    /// Handshakes of TLS that agreed.
    pub handshakes: Counter,
    /// Those that did not, or were not over in time.
    pub handshakes_failed: Counter,
    /// Times that changed files of certificates or tokens were taken.
    pub reloads: Counter,
    /// Times that they could not be, and what they held before stayed.
    pub reloads_failed: Counter,
}

/// What is read off at the moment of asking.
#[derive(Debug, Clone, Copy, Default)]
pub struct Gauges {
    /// Requests in flight.
    pub in_flight: u64,
    /// Long checks that wait for a thread here.
    pub pool_queued: u64,
    /// Checks answered by this node as a worker.
    pub completed: u64,
    /// Members that are alive, this node included.
    pub members_alive: u64,
    /// Members known.
    pub members: u64,
    /// Whether this node leads.
    pub leads: bool,
    /// When its certificate expires, in seconds since the Unix epoch, if it has one.
    pub certificate_expires: Option<u64>,
}

impl Metrics {
    /// All of it.
    pub fn render(&self, gauges: Gauges, format: Format) -> String {
        let mut exposition = Exposition::new(format);
        self.write(&mut exposition);
        gauges.write(&mut exposition);
        exposition.end()
    }

    fn write(&self, exposition: &mut Exposition) {
        let of_requests: [(&str, &str, &Counter); 10] = [
            (
                "requests_ok",
                "Requests answered well, bulk streams when their answer begins",
                &self.requests_ok,
            ),
            ("requests_refused", "Requests refused for what the client sent", &self.requests_refused),
            ("requests_failed", "Requests that failed for reasons of the cluster", &self.requests_failed),
            ("requests_shed", "Requests refused because of overload", &self.requests_shed),
            ("given_back", "Numbers given back by a closed lane and sent elsewhere", &self.given_back),
            (
                "retries",
                "Numbers tried on another worker after an error, other than being busy",
                &self.retries,
            ),
            ("fallbacks", "Numbers checked by this node because nobody else could", &self.fallbacks),
            ("batch_numbers", "Numbers answered in batches", &self.batch_numbers),
            ("segments", "Segments of ranges that are done", &self.segments),
            (
                "bulks_broken",
                "Bulk streams that ended early: input broken or idle, answers unread, node stopping, defect",
                &self.bulks_broken,
            ),
        ];
        for (name, help, counter) in of_requests.into_iter().chain(self.of_connections()) {
            exposition.counter(name, help, counter.get());
        }
        self.latency.write(exposition);
    }

    /// What connections did, and what was not about requests.
    fn of_connections(&self) -> [(&'static str, &'static str, &Counter); 10] {
        [
            ("connections", "Connections accepted", &self.connections),
            (
                "connections_refused",
                "Connections closed because there were too many",
                &self.connections_refused,
            ),
            (
                "connections_evicted",
                "Idle connections closed to make room for others",
                &self.connections_evicted,
            ),
            (
                "connections_silent",
                "Connections that ended before their first head was complete",
                &self.connections_silent,
            ),
            (
                "strangers",
                "Peer calls refused for want of the cluster's token or certificate",
                &self.strangers,
            ),
            ("tls_handshakes", "TLS handshakes that agreed", &self.handshakes),
            ("tls_handshakes_failed", "TLS handshakes that did not agree in time", &self.handshakes_failed),
            ("reloads", "Times that changed certificates or tokens were taken", &self.reloads),
            (
                "reloads_failed",
                "Times that changed certificates or tokens could not be taken",
                &self.reloads_failed,
            ),
            (
                "log_lines_dropped",
                "Lines of this process's log dropped because nobody read it",
                &LOG_LINES_DROPPED,
            ),
        ]
    }
}

impl Gauges {
    fn write(self, exposition: &mut Exposition) {
        let gauges = [
            ("in_flight", "Requests in flight", self.in_flight),
            ("pool_queued", "Long checks that wait for a thread", self.pool_queued),
            ("checks_completed", "Checks answered by this node as a worker", self.completed),
            ("members_alive", "Members that are alive, this node included", self.members_alive),
            ("members", "Members known, this node included", self.members),
            ("leads", "1 if this node leads", u64::from(self.leads)),
        ];
        for (name, help, value) in gauges {
            exposition.gauge(name, help, value);
        }
        if let Some(seconds) = self.certificate_expires {
            let help = "When the certificate of new connections expires, since the Unix epoch";
            exposition.gauge("certificate_expiry_timestamp_seconds", help, seconds);
        }
    }
}

/// Upper bounds of the buckets in seconds: a short check takes some 0.1 ms, a long one up to the 300 s of a deadline.
const BOUNDS_SECONDS: [f64; 14] =
    [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 5.0, 30.0, 300.0];

/// A histogram of atomics.
#[derive(Debug, Default)]
pub struct Latency {
    buckets: [AtomicU64; BOUNDS_SECONDS.len() + 1],
    sum_ns: AtomicU64,
}

impl Latency {
    /// Counts a request that took so long.
    pub fn observe(&self, took: std::time::Duration) {
        let seconds = took.as_secs_f64();
        let bucket = BOUNDS_SECONDS.partition_point(|bound| *bound < seconds);
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.sum_ns.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    fn write(&self, exposition: &mut Exposition) {
        let counts = self.buckets.iter().map(|bucket| bucket.load(Relaxed));
        let bounds = BOUNDS_SECONDS.into_iter().chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
        #[expect(clippy::cast_precision_loss, reason = "a sum of times for people")]
        let sum = self.sum_ns.load(Relaxed) as f64 / 1e9;
        let help = "How long requests took, bulk streams until their answer began";
        exposition.histogram_seconds("request_seconds", help, &buckets, sum);
    }
}
