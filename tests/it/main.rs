//! The tests, by topic, over real servers and real sockets.

mod bulk;
mod command_line;
mod etcd;
mod etcd_access;
mod events;
mod faults;
mod harness;
mod http;
mod joining;
mod lanes;
mod layers;
mod limits;
mod load;
mod long;
mod many;
mod membership;
mod mixed;
mod prime;
mod python;
mod readme;
mod rounds;
mod smoke;
mod status;
mod token;
