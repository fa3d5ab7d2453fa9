//! What is said, a file for each concept: the shape in which the node holds it, that on the wire, and that in JSON,
//! side by side. What turns one into another stands here and nowhere else.

pub mod cluster;
pub mod election;
pub mod error;
pub mod evidence;
pub mod next;
pub mod prime;
pub mod primes;
pub mod ranges;
pub mod results;
