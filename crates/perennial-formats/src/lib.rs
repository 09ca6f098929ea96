#![doc = include_str!("../docs/README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod columns;
mod delimited;
mod embeddings_file;
mod error;
mod format;
mod input;
mod jsonl;
mod judgements;
mod label;
mod lines;
mod npy;
mod npz;
mod numbers;
mod parquet;
mod rows;
mod safetensors;
mod spool;
mod stream;
mod table;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod text_row;
mod texts;
mod vector_file;
mod vector_set;

/// The formats, one page each.
pub mod specification {
    #[doc = include_str!("../docs/csv.md")]
    pub mod csv {}
    #[doc = include_str!("../docs/jsonl.md")]
    pub mod jsonl {}
    #[doc = include_str!("../docs/judgements.md")]
    pub mod judgements {}
    #[doc = include_str!("../docs/labels.md")]
    pub mod labels {}
    #[doc = include_str!("../docs/npy.md")]
    pub mod npy {}
    #[doc = include_str!("../docs/npz.md")]
    pub mod npz {}
    #[doc = include_str!("../docs/parquet.md")]
    pub mod parquet {}
    #[doc = include_str!("../docs/safetensors.md")]
    pub mod safetensors {}
}

pub use columns::{read_ids, read_labels};
pub use embeddings_file::{
    EMBEDDINGS_FILE_KIND, read_embeddings, read_embeddings_with_missing, write_embeddings,
};
pub use error::FormatError;
pub use format::Format;
pub use judgements::{Judgements, read_judgements};
pub use label::{Label, LabelError, MAX_LABEL_BYTES};
pub use stream::{Header, VectorReader, VectorWriter};
pub use table::{FORMATS, FormatEntry};
pub use text_row::{TextColumns, TextReader, TextRow};
pub use texts::open_texts;
pub use vector_file::{create, detect, open, prepare, read};
pub use vector_set::{Parts, Payload, VectorSet, VectorSetError};
