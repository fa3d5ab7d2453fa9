//! The tests, by topic, over real servers and real sockets.

mod harness;
mod layers;
mod prime;
mod smoke;
