//! The names of the formats.

/// A format of files of vectors. [`FORMATS`](crate::FORMATS) says what each of them is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// One array of NumPy.
    Npy,
    /// Several arrays of NumPy in a zip archive.
    Npz,
    /// Tensors with a JSON header.
    Safetensors,
    /// One JSON object a line.
    Jsonl,
    /// Comma-separated values.
    Csv,
    /// Columns of Apache Arrow's types, compressed; needs the feature `parquet`.
    Parquet,
}
