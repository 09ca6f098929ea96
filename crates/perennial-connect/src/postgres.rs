//! PostgreSQL: where it is, connections, names, tables with vectors, and vectors on the wire.

mod address;
mod connection;
mod identifier;
mod table;
#[cfg(feature = "tls")]
mod tls;
mod vector_type;
mod wire;

pub use address::Address;
pub(crate) use connection::{cancel, connect, wait};
pub use identifier::QualifiedName;
pub(crate) use identifier::{check_identifier, literal, quote};
pub(crate) use table::{Target, VectorIndex, VectorTable};
pub(crate) use vector_type::VectorType;
pub(crate) use wire::{
    CopyRows, KeyArray, Raw, RawValue, VectorValue, put_vector, read_vector, transaction_id,
};
