//! The named limits of membership and election, each with its reason. Times that are multiples of H stand in
//! [`timing`](crate::timing).

use std::time::Duration;

/// Members of a cluster.
pub const MEMBERS_MAX: usize = 1024;
/// Peers to which a node keeps lanes while etcd names no leader: enough to share its work, without a lane between every
/// two nodes.
pub const REACHED_WITHOUT_LEADER_MAX: usize = 32;
/// Lanes that all nodes together keep with Bully while there is no leader; each node has an equal share. They hold an
/// election meanwhile, perhaps all on one machine, and a lane costs some 1 ms of processor to open and 4 ms a second to
/// keep at H = 100 ms. Up to 12 nodes reach each other.
pub const LANES_WITHOUT_LEADER: usize = 128;
/// Questions that they ask together at first, if all of them ask at once. Up to 23 nodes ask each other.
pub const QUESTIONS_AT_FIRST: usize = 512;
/// The least share of both that a node has, however many nodes there are.
pub const SHARE_WITHOUT_LEADER_MIN: usize = 2;
/// Unanswered questions of a candidate at once, after its first ones were answered and nobody objected: few candidates
/// get so far.
pub const QUESTIONS_AT_ONCE_MAX: usize = 32;
/// Heartbeats that a node without a leader sends within H. With more peers each gets one less often; otherwise a large
/// cluster without a leader would be busy with heartbeats alone.
pub const HEARTBEATS_WITHOUT_LEADER_MAX: usize = 8;
/// How long a member that joined by itself is remembered when it is dead; configured ones are never forgotten.
pub const JOINED_KEPT: Duration = Duration::from_secs(3600);
/// Leaderships that a claim names as succeeded: a hand-over adds one, and older ones cannot be met any more.
pub const SUCCEEDS_MAX: usize = 16;
/// How far a ballot may be above all that were seen: more elections than that there cannot have been.
pub const COUNTER_STEP_MAX: u64 = 1 << 32;
/// The highest counter of a ballot, so that every JSON reader gets it exact.
pub const COUNTER_MAX: u64 = 1 << 53;
/// Changes that `recent` keeps.
pub const CHANGES_KEPT: usize = 50;

// ── A lease in etcd ────────────────────────────────────────────────────────────────────────────────────────────

/// The lease that a node asks of etcd, which may grant a longer one: a dead leader loses its key after so long at most,
/// by etcd's judgement. Twice as long as an election inside etcd by default, so that a change of etcd's leader costs no
/// lease.
pub const LEASE_TTL: Duration = Duration::from_secs(3);
/// Time for one renewal of a lease: half of the time between two renewals, so that a silent endpoint leaves time for
/// others.
pub const RENEW_TIMEOUT: Duration = Duration::from_millis(500);
/// Time for any other call to etcd, which waits for its disks.
pub const ETCD_TIMEOUT: Duration = Duration::from_secs(2);
/// A node relies on its lease for less than etcd grants, by this part of it: for clocks that do not run alike, and for
/// the time that stopping takes.
pub const LEASE_MARGIN_DIVISOR: u32 = 5;
/// Renewals within the duration of a lease: two may fail.
pub const LEASE_RENEWALS: u32 = 3;
/// The pause after a call to etcd that failed.
pub const ETCD_PAUSE: Duration = Duration::from_millis(100);
/// How much later each lower id tries to lead: a call to etcd takes some milliseconds.
pub const CAMPAIGN_DELAY: Duration = Duration::from_millis(50);
/// A node that has just registered waits so long: when all start at once, the highest id is to lead.
pub const CAMPAIGN_DELAY_FIRST: Duration = Duration::from_millis(500);
