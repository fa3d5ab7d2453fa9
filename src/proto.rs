//! Generated from `proto/scheduler.proto`; a conversion stands beside its domain type, not here.

#![allow(missing_docs, clippy::all, clippy::pedantic)]

tonic::include_proto!("scheduler");

/// The descriptors of the file and of all that it imports, for reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/scheduler.bin"));
