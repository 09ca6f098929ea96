//! Vectors, ids, labels and relevance judgements that other tools wrote.

use std::path::Path;

use perennial_core::{ItemId, Output};
use perennial_formats::{
    Format, Header, Label, TextColumns, VectorSet, create, detect, open_texts, read,
    read_embeddings, read_ids, read_judgements, read_labels, write_embeddings,
};

use crate::Target;
use crate::scratch::Scratch;

/// Reads a file of vectors; what was read and written again must be the same.
fn vectors(path: &Path, format: Format) -> bool {
    // Another format has a target of its own.
    if !detect(path).is_ok_and(|found| found == format) {
        return false;
    }
    let Ok(set) = read(path) else {
        return false;
    };
    assert_eq!(set.vectors().len(), set.len() * set.dim());
    if set.is_empty() && matches!(format, Format::Csv | Format::Jsonl) {
        return true;
    }
    write(path, format, &set);
    let again = read(path).unwrap();
    assert_eq!(again.vectors(), set.vectors());
    assert_eq!((again.ids(), again.labels()), (set.ids(), set.labels()));
    // Doubles of the payload may change in their last digit, so its values are not compared.
    assert_eq!(again.payload().is_some(), set.payload().is_some());
    assert_eq!(again.space(), set.space());
    true
}

pub(crate) fn write(path: &Path, format: Format, set: &VectorSet) {
    let header = Header {
        dim: set.dim(),
        rows: None,
        space: set.space().cloned(),
        format,
    };
    let output = Output::prepare(path).unwrap();
    let mut writer = create(output, format, &header).unwrap();
    writer.write(set).unwrap();
    writer.finish().unwrap();
}

macro_rules! vector_targets {
    ($($(#[$doc:meta])* $name:ident: $format:ident,)*) => {
        $(
            $(#[$doc])*
            pub struct $name(Scratch);

            impl Target for $name {
                fn new() -> Self {
                    Self(Scratch::new())
                }

                fn run(&mut self, bytes: &[u8]) -> bool {
                    vectors(&self.0.write("vectors", bytes), Format::$format)
                }
            }
        )*
    };
}

vector_targets! {
    /// npy files.
    Npy: Npy,
    /// npz files.
    Npz: Npz,
    /// Any safetensors file of vectors.
    Safetensors: Safetensors,
    /// JSONL files.
    Jsonl: Jsonl,
    /// CSV files.
    Csv: Csv,
}

/// Parquet files, of vectors and of texts.
pub struct Parquet(Scratch);

impl Target for Parquet {
    fn new() -> Self {
        Self(Scratch::new())
    }

    fn run(&mut self, bytes: &[u8]) -> bool {
        let path = self.0.write("vectors", bytes);
        if !bytes.starts_with(b"PAR1") {
            return false;
        }
        for (text, id) in [("id", None), ("t", Some("_id"))] {
            let columns = TextColumns {
                text: text.to_owned(),
                id: id.map(str::to_owned),
            };
            if let Ok(mut texts) = open_texts(&path, &columns) {
                while let Ok(Some(rows)) = texts.next(100) {
                    assert!((1..=100).contains(&rows.len()));
                }
            }
        }
        vectors(&path, Format::Parquet)
    }
}

/// Labels and ids alone: arrays, tables, lines.
pub struct Columns(Scratch);

impl Target for Columns {
    fn new() -> Self {
        Self(Scratch::new())
    }

    fn run(&mut self, bytes: &[u8]) -> bool {
        let path = self.0.write("column", bytes);
        let (ids, labels) = (read_ids(&path), read_labels(&path));
        for id in ids.iter().flatten() {
            assert_eq!(id.to_string().parse::<ItemId>().as_ref(), Ok(id));
        }
        for label in labels.iter().flatten() {
            assert_eq!(label.to_string().parse::<Label>().as_ref(), Ok(label));
        }
        ids.is_ok() || labels.is_ok()
    }
}

/// Relevance judgements.
pub struct RelevanceJudgements(Scratch);

impl Target for RelevanceJudgements {
    fn new() -> Self {
        Self(Scratch::new())
    }

    fn run(&mut self, bytes: &[u8]) -> bool {
        let path = self.0.write("judgements", bytes);
        let Ok(judgements) = read_judgements(&path) else {
            return false;
        };
        let pairs: usize = judgements
            .queries()
            .map(|query| judgements.of(query).len())
            .sum();
        assert_eq!(pairs, judgements.len());
        true
    }
}

/// The embeddings file of model versions.
pub struct EmbeddingsFile(Scratch);

impl Target for EmbeddingsFile {
    fn new() -> Self {
        Self(Scratch::new())
    }

    fn run(&mut self, bytes: &[u8]) -> bool {
        let path = self.0.write("e.safetensors", bytes);
        let Ok(embeddings) = read_embeddings(&path) else {
            return false;
        };
        let write = |embeddings| {
            write_embeddings(embeddings, Output::prepare(&path).unwrap()).unwrap();
            std::fs::read(&path).unwrap()
        };
        let written = write(&embeddings);
        let again = read_embeddings(&path).unwrap();
        assert_eq!(again, embeddings);
        assert_eq!(write(&again), written);
        true
    }
}
