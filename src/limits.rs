//! The named limits, each with its reason. What operators really turn is a flag of `primacy node` instead.

use std::time::Duration;

// ── Connections ────────────────────────────────────────────────────────────────────────────────────────────────

/// Connections that each of the two listeners holds. When all places are taken, a new one closes an idle one. Each
/// costs a descriptor and some 10 to 50 KiB. HTTP clients, however many, leave the places of the peers alone.
pub const CONNECTIONS_MAX: usize = 4096;
/// A listener with so many connections, or with half of its places taken if that is less, is crowded: the address with
/// most connections loses its idlest one for each new connection. While 12,000 connections a second came and went, a
/// node had up to 113 MiB.
pub const CONNECTIONS_CROWDED: usize = 1024;
/// The time between two pending connections that a crowded listener begins to serve: a thousand a second instead of as
/// many as the node can open and close.
pub const PENDING_INTERVAL: Duration = Duration::from_millis(1);
/// How long such a connection waits to be served. Then it is closed, at most one in each [`PENDING_INTERVAL`]: an
/// honest client asks elsewhere by then, and without a bound an attacker's connections would hold their places for
/// ever.
pub const PENDING_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections that are accepted in a row before other tasks run. With 32, a client that connected without a pause kept
/// thousands waiting to be accepted, and other clients waited 0.4 s behind them.
pub const ACCEPTS_AT_ONCE_MAX: u32 = 128;
/// Connections that wait to be accepted. The system ignores a client that comes beyond them, and the client tries again
/// after a second. Linux takes `net.core.somaxconn` if that is less.
pub const ACCEPT_BACKLOG: u32 = 4096;
/// Connections beyond [`CONNECTIONS_MAX`] that a listener takes while an idle one ends. If none ends, they are answered
/// only to probes and peers. More are closed at once.
pub const CONNECTIONS_RESERVED: usize = 64;
/// How long a connection waits for an idle one to go: a client that is there answers its GOAWAY within a round trip.
pub const PLACE_TIMEOUT: Duration = Duration::from_millis(500);
/// How long an idle connection that makes room may take to end: less than [`PLACE_TIMEOUT`], for which the next one
/// waits.
pub const GOODBYE_TIMEOUT: Duration = Duration::from_millis(250);
/// How long a connection beyond all places may stay silent: probes speak at once.
pub const FIRST_BYTE_RESERVED_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a new connection may stay silent: nobody who speaks first needs longer, and a silent one holds a place.
pub const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(3);
/// Connections an address may have that have not completed a first head: enough for a burst behind a proxy, too few
/// to starve the others by trickling heads.
pub const UNPROVEN_CONNECTIONS_PER_ADDRESS_MAX: usize = 256;
/// Time for a handshake of TLS, waiting for turns included: a client that is there answers each round trip at once.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(3);
/// Bytes that a caller may send in it, which the node may have to hold: a certificate with those of some CAs has 8 KiB.
pub const HANDSHAKE_BYTES_MAX: usize = 16 * 1024;
/// Bytes of an answer that wait, encrypted, for a client to read what was sent before: without it they would be 64 KiB
/// on each connection whose client does not read.
pub const TLS_UNREAD_BYTES_MAX: usize = 8 * 1024;
/// Time for an HTTP/1 head, and for idling between two: hyper has one timer for both, and proxies pool for 60 s.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(75);
/// HTTP/1 head or HTTP/2 header list: a path of 10,000 digits fits.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Streams at once on an HTTP/2 connection (tonic's own default is no limit).
pub const STREAMS_PER_CONNECTION_MAX: u32 = 256;
/// Bytes that a client may send ahead on a stream of HTTP/2.
pub const STREAM_WINDOW_BYTES: u32 = 32 * 1024;
/// The same for all streams of a connection: more than they may hold together, so that one that waits does not stop the
/// others. h2 closes a connection whose unread small frames count for half of this, a frame with one number for some
/// 250 bytes: 14 streams full of such frames fit.
pub const CONNECTION_WINDOW_BYTES: u32 = 32 * 1024 * 1024;
/// Streams that the client resets before they are accepted (rapid reset, CVE-2023-44487).
pub const PENDING_RESETS_MAX: usize = 20;
/// The same over gRPC, where a peer resets all batches and long calls of a client that goes away.
pub const PEER_PENDING_RESETS_MAX: usize = 1024;
/// How long a client may leave unread what it is sent.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// Streams that we reset for the peer's errors (tonic's own default is no limit).
pub const LOCAL_RESETS_MAX: usize = 1024;
/// Bytes of a body that are read and dropped when it is answered without being read, so that the connection can go on:
/// as many as nginx lets through to us by default.
pub const UNREAD_BYTES_MAX: u64 = 1024 * 1024;
/// How long the answer waits for them: they are there already, or on their way from a proxy; who is slower is answered,
/// and told that the connection ends.
pub const UNREAD_TIMEOUT: Duration = Duration::from_millis(250);
/// How long a connection that ends waits for more input, which it drops: the client needs a round trip to read the
/// answer and to stop.
pub const LINGER: Duration = Duration::from_secs(2);
/// How long it, or a stream of HTTP/2, drops input altogether: as long as a body that is read may take.
pub const LINGER_MAX: Duration = BODY_TIMEOUT;
/// Bytes that are dropped then: a JSON body of twice the allowed size is taken as a whole, for clients that read only
/// when they have sent everything. It costs some milliseconds.
pub const LINGER_BYTES_MAX: u64 = 2 * JSON_BULK_BYTES_MAX as u64;
/// How long a check goes on over HTTP/1 when its client has ended its input. A half-close, after which the client waits
/// for the answer, looks the same as a client that is gone.
pub const HALF_CLOSED_MAX: Duration = Duration::from_secs(5);
/// The time between two looks for the end of the input behind something that is not read yet.
pub const INPUT_END_INTERVAL: Duration = Duration::from_secs(1);
/// A pause after `accept` fails for want of descriptors: without it the loop would spin.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long `accept` must not fail to count as working again. If this were shorter, repeated failures would flood the
/// log.
pub const ACCEPT_RECOVERED: Duration = Duration::from_secs(10);
/// Descriptors that a node needs beside connections: its listeners, the runtime's, the log, look-ups of names, calls to
/// etcd. Measured: 19 of a leader with three peers, their lanes included.
pub const DESCRIPTORS_OWN: usize = 64;
/// With less a node does not start: each listener would have a place for two dozen connections.
pub const DESCRIPTORS_MIN: usize = 128;
/// Descriptors that each node costs `primacy up`: two held ports and two pipes.
pub const DESCRIPTORS_PER_CHILD: usize = 4;
/// HTTP/2 pings on quiet connections, so that vanished clients are noticed.
pub const PING_INTERVAL: Duration = Duration::from_secs(30);
/// How long a ping may stay unanswered.
pub const PING_TIMEOUT: Duration = Duration::from_secs(20);

// ── What a caller may take ─────────────────────────────────────────────────────────────────────────────────────

/// What a connection may cost in a turn. The unit of all costs is a byte read or written; the constants below give the
/// cost of other work in it.
pub const TURN_COST_MAX: usize = 32 * 1024;
/// The same while no other address waits: the runtime polls for events after each turn, and a lone bulk has thousands
/// of turns a second.
pub const TURN_ALONE_COST_MAX: usize = 4 * TURN_COST_MAX;
/// What a poll of a connection costs, even if there is nothing to read or write.
pub const POLL_COST: usize = 256;
/// What a poll of a stream's task costs, which answers a request of HTTP/2: two connections that wake all of their
/// streams use up a thread's round.
pub const STREAM_POLL_COST: usize = 128;
/// What a frame of HTTP/2 costs beside its bytes: without it a turn would be thousands of empty frames.
pub const FRAME_COST: usize = 256;
/// What a request costs beside its bytes and frames: some thirty requests are a turn.
pub const REQUEST_COST: usize = 512;
/// What a number of a bulk costs. Each group costs as much as a request beside, so that some seven batches are a turn.
pub const BULK_NUMBER_COST: usize = 4;
/// What a new connection costs, as much as eight requests. At the cost of one request, thousands of new connections
/// kept others waiting for a second.
pub const CONNECTION_COST: usize = 4096;
/// What a handshake of TLS costs beside its bytes: as much as some thirty requests.
pub const HANDSHAKE_COST: usize = 16 * 1024;
/// Bytes that are read at once from a connection whose last ones were mostly heads of frames: 113 frames at most.
pub const DENSE_READ_BYTES_MAX: usize = 1024;
/// The cost, for each thread, after which connections must wait in the queue, so that the cluster's own tasks run
/// between them: some fifty requests.
pub const ROUND_COST_MAX: usize = 2 * TURN_COST_MAX;
/// Bytes that are written at once: more would copy for as long as the socket takes them. The answers to a batch of a
/// bulk, some 90 KiB, leave together.
pub const WRITE_BYTES_MAX: usize = 128 * 1024;
/// Connections of an address among which the one that is idle for longest is looked for: the oldest ones.
pub const IDLE_LOOKED_AT_MAX: usize = 64;
/// Bytes that all callers together make a node hold: bodies, messages, bulks, answers to them. With it
/// no attack of `tests/hostile` took a node beyond 128 MiB.
pub const HELD_BYTES_MAX: usize = 48 * 1024 * 1024;
/// A body or message up to this is not counted among them: a stream costs more by itself.
pub const SMALL_BYTES_MAX: usize = 4 * 1024;

// ── Log ────────────────────────────────────────────────────────────────────────────────────────────────────────

/// Characters of a text from outside that is logged, shown or passed on, such as a name, an address or a reason: useful
/// ones fit, on one line.
pub const TEXT_CHARS_MAX: usize = 160;
/// The same of a whole message, such as an error's: the longest of ours has some 500.
pub const LINE_CHARS_MAX: usize = 2048;
/// The same of an entry of the log: a backtrace fits, and [`LOG_BYTES_MAX`] holds many.
pub const ENTRY_CHARS_MAX: usize = 16 * 1024;
/// Bytes of the log that wait for whoever reads it: some 10,000 lines. More are dropped and counted.
pub const LOG_BYTES_MAX: usize = 1024 * 1024;
/// How long a process that ends waits for whoever reads its log.
pub const LOG_FLUSH_TIMEOUT: Duration = Duration::from_secs(1);
/// The pause before another write to a standard error that is non-blocking and full.
pub const LOG_PAUSE: Duration = Duration::from_millis(10);

// ── Requests ───────────────────────────────────────────────────────────────────────────────────────────────────

/// Requests in flight on a node by default; more get 429 at once.
pub const IN_FLIGHT_MAX_DEFAULT: usize = 4096;
/// The most of them that can be set: as many as all connections over gRPC can have streams.
pub const IN_FLIGHT_MAX_MAX: usize = CONNECTIONS_MAX * STREAMS_PER_CONNECTION_MAX as usize;
/// Bytes of a REST body for one number by default: 10,000 digits and some blanks.
pub const BODY_BYTES_MAX_DEFAULT: usize = 16 * 1024;
/// The least that can be set: a number of 64 bits fits, with some blanks.
pub const BODY_BYTES_MAX_MIN: usize = 64;
/// The most: what a body of many numbers may have.
pub const BODY_BYTES_MAX_MAX: usize = JSON_BULK_BYTES_MAX;
/// Bytes of a body that are held together while it comes. In one piece of 8 MiB each, bodies that were given up left
/// holes in which no other one fitted.
pub const BODY_BLOCK_BYTES: usize = 64 * 1024;
/// How long a body may take to arrive, however long the client would wait for the answer: it holds a place meanwhile.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for a check whose client names none.
pub const DEADLINE_DEFAULT: Duration = Duration::from_secs(5);
/// The most that a client may ask for.
pub const DEADLINE_MAX: Duration = Duration::from_secs(300);
/// A decoded gRPC message from outside: a number of 10,000 digits fits six times.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// A decoded gRPC message from a peer: 1,024 members, or a page of results.
pub const PEER_MESSAGE_BYTES_MAX: usize = 1024 * 1024;
/// Characters of an `X-Request-Id`; a longer one is replaced.
pub const REQUEST_ID_CHARS_MAX: usize = 128;
/// Bytes of the members that the page's policy names: some 40 of them, and the head of the answer still fits the 4 KiB
/// that proxies keep for it.
pub const POLICY_MEMBERS_BYTES_MAX: usize = 2048;
/// An answer that is made gains nothing from compression below this.
pub const COMPRESSED_BYTES_MIN: u64 = 1024;
/// Above this it leaves as it is: whoever asks in a loop would take the processor from the others, at some 10 ns a byte.
pub const COMPRESSED_BYTES_MAX: u64 = 32 * 1024;
/// Clients that watch the cluster or its health, or ask for descriptors, at once, on a node.
pub const WATCHERS_MAX: usize = 256;
/// How long a reflection stream waits for its next question: it holds a place of those who watch meanwhile.
pub const REFLECTION_IDLE_TIMEOUT: Duration = Duration::from_secs(60);

// ── Bulk ───────────────────────────────────────────────────────────────────────────────────────────────────────

/// Bulk streams at once on a node: each may hold a window of groups and two chunks of answers, up to 0.5 MiB together.
pub const BULKS_MAX: usize = 64;
/// What such a stream counts for among the bytes that callers make the node hold: 64 of them are half of
/// [`HELD_BYTES_MAX`].
pub const BULK_BYTES: usize = HELD_BYTES_MAX / 2 / BULKS_MAX;
/// Numbers in a batch: large enough to pay a call once (0.05 µs a number), small enough that a few thousand numbers
/// spread over all workers, and that a batch of primes takes 0.6 ms.
pub const BATCH_MAX: usize = 1024;
/// Groups of a bulk stream that are worked on or wait for the one before them: batches, and long numbers by themselves.
pub const BULK_WINDOW: usize = 32;
/// Long numbers of all bulks of a node, above [`QUICK_COST_MAX_US`], that are checked at once: enough to keep some
/// workers busy, too few to fill the pools' queues, whose places are for those who ask for one number.
pub const BULK_LONGS_MAX: usize = 16;
/// Other groups of all bulks of a node that are worked on at once: more than the window of one bulk, and less than the
/// batches that a peer takes and the quick checks that a pool queues, so that others find places there.
pub const BULK_GROUPS_MAX: usize = 48;
/// Pieces of input that a bulk takes before it yields: some 0.5 ms of lines that need no work, such as blank ones.
pub const BULK_PIECES_BEFORE_YIELD: usize = 8;
/// Bytes of answers that leave together, if they are ready together.
pub const BULK_CHUNK_BYTES: usize = 64 * 1024;
/// Chunks of answers between a bulk and its connection.
pub const BULK_CHUNKS_MAX: usize = 2;
/// Bytes of a line of a bulk, its number of at most 10,000 digits included.
pub const LINE_BYTES_MAX: usize = 64 * 1024;
/// How long a bulk waits for its client to send when nothing is left to answer, or to read what was answered: it holds a
/// place meanwhile. Also how long a group waits for its own place, which comes within a second while workers work.
pub const BULK_IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// The pause before a part of a bulk asks again when every worker is full: a bulk would rather wait than fail.
pub const BULK_PAUSE: Duration = Duration::from_millis(10);
/// How long a bulk of a node that stops may still wait for what it has in flight; below the drain time.
pub const BULK_STOP_TIMEOUT: Duration = Duration::from_secs(4);
/// Bytes of a JSON body of many numbers.
pub const JSON_BULK_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Numbers in a JSON body: their answers take some 10 MiB. More of them go as NDJSON, which has no such bound.
pub const JSON_BULK_NUMBERS_MAX: usize = 100_000;

// ── Ranges ─────────────────────────────────────────────────────────────────────────────────────────────────────

/// Ranges that are counted or listed at once on a node.
pub const RANGES_MAX: usize = 16;
/// What such a range counts for among the bytes that callers make the node hold: the segments of a list that are done and not
/// read yet.
pub const RANGE_BYTES: usize = HELD_BYTES_MAX / 2 / RANGES_MAX;
/// Segments of a count that are worked on or wait for the one before them.
pub const COUNT_WINDOW: usize = SEGMENTS_PER_PEER_MAX;
/// The same of a list, whose segments hold primes.
pub const LIST_WINDOW: usize = 4;
/// Numbers of a segment of a list: with a bit for each that may be prime it fits a peer's message, and a list's
/// [`RANGE_BYTES`] hold two more than the window.
pub const LIST_SEGMENT_NUMBERS_MAX: u64 = 30 * 256 * 1024;
/// Primes in a page of JSON by default.
pub const PAGE_PRIMES_DEFAULT: usize = 1000;
/// The most primes in a page of JSON; a stream of lines has no such bound.
pub const PAGE_PRIMES_MAX: usize = 100_000;
/// Primes in a message of gRPC: some 64 KiB.
pub const MESSAGE_PRIMES_MAX: usize = 8 * 1024;
/// Candidates for the next prime that are checked at once: enough for some workers, and what is beyond the prime is in vain.
pub const NEXT_WINDOW: usize = 8;
/// Candidates that are sieved together.
pub const NEXT_CANDIDATES_TOGETHER: usize = 64;
/// The time between two lines of progress.
pub const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);
/// A stream without progress ends after this.
pub const PROGRESS_TIMEOUT: Duration = Duration::from_secs(60);

// ── Scheduling ─────────────────────────────────────────────────────────────────────────────────────────────────

/// Workers that one check is tried on when they answer with an error.
pub const ATTEMPTS_MAX: u32 = 3;
/// Asks that a lane has sent and that are not answered; as many more may wait in it. A full lane is not chosen.
pub const LANE_IN_FLIGHT_MAX: usize = 2048;
/// Asks in one message: large enough to pay the framing once, small enough to answer within some 0.1 ms.
pub const LANE_BATCH_MAX: usize = 256;
/// A lane whose next message has not left counts as so many requests less loaded: one more ask in it saves a message of
/// some 10 µs, and its answers wait for some µs more.
pub const LANE_GATHERING_LOAD: u64 = 32;
/// Long calls at once to a node: they share its connection with the heartbeats, which must always find a stream.
pub const LONG_CALLS_PER_PEER_MAX: usize = STREAMS_PER_CONNECTION_MAX as usize / 2;
/// Batches at once to a node, beside the long calls and the heartbeats on its connection.
pub const BATCHES_PER_PEER_MAX: usize = STREAMS_PER_CONNECTION_MAX as usize / 4;
/// Segments of ranges at once to a node, beside all these: with them, all calls to it have a stream.
pub const SEGMENTS_PER_PEER_MAX: usize = STREAMS_PER_CONNECTION_MAX as usize / 16 * 3;
/// Segments that a worker is sent at once for each of its threads: the next one is there when one is done.
pub const SEGMENTS_PER_THREAD: usize = 2;
/// For how long a failure counts as load: a fast failure must not attract work.
pub const FAILURE_PENALTY: Duration = Duration::from_secs(1);
/// As how many requests in flight a failure counts: more than a node can have, batches included.
pub const FAILURE_PENALTY_LOAD: u64 = (BATCHES_PER_PEER_MAX * BATCH_MAX + 2 * LANE_IN_FLIGHT_MAX) as u64;
/// The answers that a node remembers.
pub const RESULTS_KEPT: usize = 1000;
/// Bytes of numbers in one page of results, so that it fits a peer's message.
pub const RESULTS_BYTES_MAX: usize = 512 * 1024;
/// The time between two `stats` or `results` events: faster than that nobody can read.
pub const EVENTS_INTERVAL: Duration = Duration::from_millis(100);
/// An event stream that has nothing to tell says so this often: whoever hears nothing for some of these times knows that
/// the node hangs, or that something on the way holds the stream back.
pub const EVENTS_SILENCE_MAX: Duration = Duration::from_secs(1);
/// Answers in a `results` event.
pub const EVENT_RESULTS_MAX: usize = 20;
/// Bytes of numbers in a `results` event: two of the longest, ten times a second.
pub const EVENT_RESULTS_BYTES_MAX: usize = 20 * 1024;
/// How long a follower waits for the leader's results before it shows its own.
pub const RESULTS_TIMEOUT: Duration = Duration::from_secs(1);

// ── Work ───────────────────────────────────────────────────────────────────────────────────────────────────────

/// Short checks in a row before a task yields: some 30 µs.
pub const SHORT_CHECKS_BEFORE_YIELD: usize = 64;
/// Long checks that wait for a thread of the pool, and as many quick ones; more are shed.
pub const POOL_QUEUE_MAX: usize = 64;
/// How long a long check computes before it lets others have its core: a small part of a short check's time over the
/// network, and long enough that the system calls cost 2 %.
pub const POOL_TURN: Duration = Duration::from_micros(200);
/// The highest estimated cost, in microseconds, of a long check that counts as quick and has a thread of its own:
/// numbers of up to 1,024 bits. A full queue of them is done within 0.2 s, or 0.7 s if all are primes that are proven by
/// factors.
pub const QUICK_COST_MAX_US: u64 = 3000;

/// Threads that parse large bodies and look up names: each keeps some memory of its largest work.
pub const BLOCKING_THREADS_MAX: usize = 4;

// ── Cluster ────────────────────────────────────────────────────────────────────────────────────────────────────

pub use primacy_election::limits::*;

/// The heartbeat interval, H, by default.
pub const HEARTBEAT_DEFAULT: Duration = Duration::from_millis(100);
/// The shortest H: below it the scheduling noise of a busy machine looks like death.
pub const HEARTBEAT_MIN: Duration = Duration::from_millis(10);
/// The longest H: beyond it nobody would notice a death within a minute.
pub const HEARTBEAT_MAX: Duration = Duration::from_secs(5);
/// The time between two looks at the files of certificates and tokens. A change is taken when it is the same at two.
pub const RELOAD_INTERVAL: Duration = Duration::from_secs(1);
/// How long before a certificate expires the log warns of it.
pub const EXPIRY_WARNED_BEFORE: Duration = Duration::from_secs(14 * 24 * 3600);
/// The time between two such warnings.
pub const EXPIRY_WARNING_INTERVAL: Duration = Duration::from_secs(24 * 3600);
/// Characters of the cluster's token: many more than chance can guess, and few beside the head that carries them.
pub const TOKEN_CHARS_MAX: usize = 256;
/// Tokens that a node accepts at once: the old and the new one, and some to spare. A header is compared with each.
pub const TOKENS_MAX: usize = 8;
/// Characters of the name of a stranger's call that are logged; the longest of ours has 29.
pub const STRANGERS_CALL_CHARS_MAX: usize = 64;
/// The time between two lines of the log about strangers: a flood of them must not flood it.
pub const STRANGERS_LOG_INTERVAL: Duration = Duration::from_secs(10);
/// Lanes to a peer that are not wanted any more and finish what they hold: more are closed at once.
pub const RETIRING_LANES_MAX: usize = 4;
/// Questions, victories and hand-overs on their way at once: one and a half to each member.
pub const CALLS_MAX: usize = 1536;
/// Events that may wait for the cluster's driver.
pub const CLUSTER_EVENTS_MAX: usize = 1024;

// ── etcd ───────────────────────────────────────────────────────────────────────────────────────────────────────

/// Time for a connection to an endpoint of etcd.
pub const ETCD_DIAL_TIMEOUT: Duration = Duration::from_millis(400);
/// Time for an endpoint of etcd to answer anything on a new connection: enough for a busy one, and a hung one is left
/// before it is shown a password.
pub const ETCD_PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// Time for a token: each password costs etcd some 0.1 s of a core, so that many nodes wait for each other.
pub const ETCD_AUTHENTICATE_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest pause before another round of all endpoints, when none has answered for longer than a lease: so long etcd
/// may be back unnoticed.
pub const ETCD_DIAL_PAUSE_MAX: Duration = Duration::from_secs(1);
/// The pause after a wrong name or password; doubled after each further one.
pub const ETCD_DENIED_PAUSE: Duration = Duration::from_secs(1);
/// To this at most.
pub const ETCD_DENIED_PAUSE_MAX: Duration = Duration::from_secs(16);
/// The time between two pings to etcd, which closes a connection that pings more often than every 5 s.
pub const ETCD_PING_INTERVAL: Duration = Duration::from_secs(6);
/// News of etcd that wait for the task that holds the lease.
pub const ETCD_NEWS_MAX: usize = 64;
/// Endpoints of an etcd: its largest clusters have seven.
pub const ETCD_ENDPOINTS_MAX: usize = 16;

// ── Stop ───────────────────────────────────────────────────────────────────────────────────────────────────────

/// A leader that stops waits so long for another one; a hand-over takes some milliseconds.
pub const HAND_OVER_TIMEOUT: Duration = Duration::from_millis(500);
/// Lame duck: still answering, no longer ready, `Connection: close`, so that clients move away.
pub const LAME_DUCK: Duration = Duration::from_secs(1);
/// What is in flight may end within this; then the node exits all the same.
pub const DRAIN: Duration = Duration::from_secs(8);
