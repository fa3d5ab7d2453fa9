//! Generated from `proto/`; a conversion stands beside its domain type, not here.

#![allow(missing_docs, clippy::all, clippy::pedantic)]

tonic::include_proto!("scheduler");

/// The descriptors of the file and of all that it imports, for reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/scheduler.bin"));

/// The part of etcd's API that is used.
pub mod etcd {
    pub mod mvccpb {
        tonic::include_proto!("mvccpb");
    }
    pub mod etcdserverpb {
        tonic::include_proto!("etcdserverpb");
    }
}
