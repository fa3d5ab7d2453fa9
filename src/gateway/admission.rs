//! What a caller may make this node hold, read, compute or write, before it is known who that is. The same for HTTP and
//! gRPC: a connection has turns, callers wait for one another in a fair queue ([`fair`]), an address has a share of the
//! places ([`places`], [`shares`]) and waits for more than that ([`pending`]), a request has one when it is whole
//! ([`gate`]), and what all callers make the node hold together has a bound ([`memory`]).

pub mod address;
mod body;
pub mod fair;
pub mod gate;
pub mod memory;
pub mod pending;
pub mod places;
pub mod shares;
pub(super) mod stream;
pub mod turn;

pub(super) use body::Kept;
pub(super) use stream::Metered;
