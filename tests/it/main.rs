//! The tests, by topic, over real servers and real sockets.

mod faults;
mod harness;
mod lanes;
mod layers;
mod long;
mod membership;
mod prime;
mod smoke;
