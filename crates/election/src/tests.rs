//! Membership event by event; the election and the lease under seeded faults, in virtual time.

mod bully;
mod lease;
mod membership;
