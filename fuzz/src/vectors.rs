//! Arrays and embeddings that other tools wrote.

use perennial_core::Embeddings;
use perennial_data::npy;

use crate::Target;
use crate::scratch::Scratch;

/// npy files; an odd first byte reads labels, an even one a matrix.
pub struct Npy(Scratch);

impl Target for Npy {
    fn new() -> Self {
        Self(Scratch::new())
    }

    fn run(&mut self, bytes: &[u8]) -> bool {
        let Some((&kind, file)) = bytes.split_first() else {
            return false;
        };
        let path = self.0.write("array.npy", file);
        if kind % 2 == 1 {
            return npy::read_labels(&path).is_ok();
        }
        let Ok(matrix) = npy::read(&path) else {
            return false;
        };
        let written = npy::to_bytes(&matrix.values, matrix.rows, matrix.columns).unwrap();
        std::fs::write(&path, written).unwrap();
        let again = npy::read(&path).unwrap();
        assert_eq!((again.rows, again.columns), (matrix.rows, matrix.columns));
        // As bits, because a NaN is a value here.
        let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
        assert_eq!(bits(again.values), bits(matrix.values));
        true
    }
}

/// The embeddings file.
pub struct EmbeddingsFile(Scratch);

impl Target for EmbeddingsFile {
    fn new() -> Self {
        Self(Scratch::new())
    }

    fn run(&mut self, bytes: &[u8]) -> bool {
        let path = self.0.write("e.safetensors", bytes);
        let Ok(embeddings) = Embeddings::read(&path) else {
            return false;
        };
        embeddings.write(&path).unwrap();
        let written = std::fs::read(&path).unwrap();
        let again = Embeddings::read(&path).unwrap();
        assert_eq!(again, embeddings);
        again.write(&path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), written);
        true
    }
}
