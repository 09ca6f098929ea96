//! Qdrant, over its REST interface: where it is, its collections, points and aliases, and migrations over them.
//!
//! # Why REST and not the client crate over gRPC
//! A copy of a collection must have the parameters of the original, and its points the payload of the original, also those that this program has
//! never heard of. Over REST both are JSON, and go from one collection to the other as they came; generated messages of gRPC
//! drop every field that a later server adds. And REST needs the HTTP client alone that the program has anyway, where
//! `qdrant-client` brings a second HTTP stack with its own TLS. The price is numbers as text: about three times the bytes of a vector.
//!
//! # Where new embeddings are kept
//! In a collection of their own, `COLLECTION_NAME`, with the same ids, payload, other vectors, parameters and payload indexes; only the size of the migrated
//! vector differs. Servers before 1.20 cannot add a named vector to a collection, and one that is added would make every point of the
//! collection be written again. So the migrated collection is only ever read, and `switch` moves an alias, in one call.
//!
//! # Writes that come during a migration
//! Qdrant has no triggers and no version of a point that clients can read. Each copy therefore carries a payload field of ours, `perennial_source`: a hash of
//! the old vector and one of everything else of its point (`mark`). A pass over the collection computes both anew and compares: it reads every
//! point with vectors and payload, and of the copies that field alone. So catching up costs a full read, without writes where nothing changed. Copies
//! without the field were written by the application itself, and are left alone.
//!
//! While the alias shows the copies, programs write there and no longer into the old collection. Nothing is copied then: it would bring back
//! what they deleted.
//!
//! # Progress
//! Qdrant has no transactions. Progress is a point of the collection `perennial_migrations`, written after the batch that it accounts for has been applied: what is
//! noted is written, and after a kill at most one batch is written once more, with the same result. The same point holds a lease, which keeps a second
//! process away; it runs out by itself half a minute after its holder is gone. Correctness does not hang on it: whatever two processes may write over each other,
//! the next pass compares and repairs.
//!
//! # Clusters
//! Copies get the shard number, replication factor and write consistency factor of the original. Writes wait until they are applied and go through
//! the leader of a shard (`ordering=medium`; notes and leases `strong`); reads ask a majority of the replicas (`consistency=majority`), since a replica that lags
//! would hide late writes.

mod address;
mod alias;
mod client;
mod collection;
mod copying;
mod disk;
mod engine;
mod failure;
mod label;
mod looking;
mod mark;
mod point;
mod point_id;
mod points_body;
mod record;
mod sampling;
mod searching;
mod showing;
mod strict;
mod upsert;

pub(crate) use address::QdrantAddress;
pub(crate) use client::{Client, collection_path};
pub(crate) use engine::Qdrant;
pub(crate) use failure::Failure as Unanswered;
pub(crate) use point_id::{PointId, hyphenated};
pub(crate) use points_body::Points;
