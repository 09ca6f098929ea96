//! The formats, in one table.

use std::path::Path;

use perennial_core::{FileKind, OutputFile};

use crate::error::FormatError;
use crate::format::Format;
use crate::input::text_start;
use crate::stream::{BatchReader, BatchWriter, Header};
use crate::vector_set::VectorSet;
use crate::{delimited, jsonl, npy, npz, parquet, safetensors};

/// What a format is, and who reads and writes it.
pub struct FormatEntry {
    /// The format.
    pub format: Format,
    /// Its name in messages and options.
    pub name: &'static str,
    /// Endings of file names, without the dot; the first is the usual one.
    pub endings: &'static [&'static str],
    /// Whether ids and labels are written.
    pub keeps_ids_and_labels: bool,
    /// Whether payload is written.
    pub keeps_payload: bool,
    /// Whether the name of the space is written.
    pub keeps_space: bool,
    kind: FileKind,
    pub(crate) open: fn(&Path) -> Result<Box<dyn BatchReader>, FormatError>,
    pub(crate) create: Create,
}

type Create = fn(OutputFile, &Header) -> Result<Box<dyn BatchWriter>, FormatError>;

/// All formats. They are recognised by content in this order; CSV comes last, because any text may be one.
pub static FORMATS: [FormatEntry; 6] = [
    FormatEntry {
        format: Format::Npy,
        name: "npy",
        endings: &["npy"],
        keeps_ids_and_labels: false,
        keeps_payload: false,
        keeps_space: false,
        kind: FileKind {
            name: "an npy file",
            recognise: |head| head.starts_with(b"\x93NUMPY"),
        },
        open: npy::open,
        create: npy::create,
    },
    FormatEntry {
        format: Format::Npz,
        name: "npz",
        endings: &["npz"],
        keeps_ids_and_labels: true,
        keeps_payload: false,
        keeps_space: true,
        kind: FileKind {
            name: "an npz file",
            // The second is the end of an archive of nothing, for which the reader has a better message.
            recognise: |head| head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06"),
        },
        open: npz::open,
        create: npz::create,
    },
    FormatEntry {
        format: Format::Parquet,
        name: "parquet",
        endings: &["parquet", "pq"],
        keeps_ids_and_labels: true,
        keeps_payload: true,
        keeps_space: true,
        kind: FileKind {
            name: "a Parquet file",
            recognise: |head| head.starts_with(b"PAR1"),
        },
        open: parquet::open,
        create: parquet::create,
    },
    FormatEntry {
        format: Format::Safetensors,
        name: "safetensors",
        endings: &["safetensors", "embeddings"],
        keeps_ids_and_labels: true,
        keeps_payload: false,
        keeps_space: true,
        kind: FileKind {
            name: "a safetensors file",
            recognise: safetensors::recognise,
        },
        open: safetensors::open,
        create: safetensors::create,
    },
    FormatEntry {
        format: Format::Jsonl,
        name: "jsonl",
        endings: &["jsonl", "ndjson"],
        keeps_ids_and_labels: true,
        keeps_payload: true,
        keeps_space: false,
        kind: FileKind {
            name: "a JSONL file",
            recognise: |head| text_start(head).is_some_and(|text| text.starts_with('{')),
        },
        open: jsonl::open,
        create: jsonl::create,
    },
    FormatEntry {
        format: Format::Csv,
        name: "csv",
        endings: &["csv", "tsv"],
        keeps_ids_and_labels: true,
        keeps_payload: true,
        keeps_space: false,
        kind: FileKind {
            name: "a CSV file with a header line",
            recognise: |head| text_start(head).is_some_and(delimited::is_header),
        },
        open: delimited::open,
        create: delimited::create,
    },
];

impl Format {
    /// What is known about the format.
    pub fn entry(self) -> &'static FormatEntry {
        FORMATS
            .iter()
            .find(|entry| entry.format == self)
            .expect("every format is in the table")
    }

    /// Its name in messages and options.
    pub fn name(self) -> &'static str {
        self.entry().name
    }

    /// Recognises a format by the start of a file, of which 4 KiB are enough.
    pub fn of_content(head: &[u8]) -> Option<Self> {
        let entry = FORMATS.iter().find(|entry| (entry.kind.recognise)(head))?;
        Some(entry.format)
    }

    /// The format that the ending of an output's name stands for.
    ///
    /// # Errors
    /// [`FormatError::Ending`], with all endings.
    pub fn of_ending(path: &Path) -> Result<Self, FormatError> {
        let ending = path.extension().and_then(|ending| ending.to_str());
        let ending = ending.map(str::to_ascii_lowercase).unwrap_or_default();
        FORMATS
            .iter()
            .find(|entry| entry.endings.contains(&ending.as_str()))
            .map(|entry| entry.format)
            .ok_or_else(|| FormatError::Ending {
                path: path.to_owned(),
                endings: endings(),
            })
    }

    /// How an existing file of the format is recognised before it is replaced.
    pub fn file_kind(self) -> FileKind {
        self.entry().kind
    }

    /// What of a set the format does not keep, such as `["payload"]`.
    pub fn left_out(self, set: &VectorSet) -> Vec<&'static str> {
        let entry = self.entry();
        [
            ("ids", set.ids().is_some() && !entry.keeps_ids_and_labels),
            (
                "labels",
                set.labels().is_some() && !entry.keeps_ids_and_labels,
            ),
            ("payload", set.payload().is_some() && !entry.keeps_payload),
            (
                "the name of the space",
                set.space().is_some() && !entry.keeps_space,
            ),
        ]
        .into_iter()
        .filter_map(|(what, lost)| lost.then_some(what))
        .collect()
    }
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// All endings, as a message lists them.
fn endings() -> String {
    let all: Vec<String> = FORMATS
        .iter()
        .flat_map(|entry| entry.endings)
        .map(|ending| format!(".{ending}"))
        .collect();
    all.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_decides_what_is_read() {
        let cases: [(&[u8], Option<Format>); 10] = [
            (b"\x93NUMPY\x01\x00", Some(Format::Npy)),
            (b"PK\x03\x04", Some(Format::Npz)),
            (b"PAR1", Some(Format::Parquet)),
            (b"\x20\0\0\0\0\0\0\0{\"", Some(Format::Safetensors)),
            (b"\xef\xbb\xbf {\"id\"", Some(Format::Jsonl)),
            // As a length, these eight bytes would be absurd.
            (b"{\"a\":1}\n{\"", Some(Format::Jsonl)),
            (b"id,embedding\n", Some(Format::Csv)),
            (b"", None),
            (b"\x00\x01\x02", None),
            (b"\xff\xfe\x00", None),
        ];
        for (head, format) in cases {
            assert_eq!(Format::of_content(head), format, "{head:?}");
        }
    }

    #[test]
    fn endings_decide_what_is_written() {
        for entry in &FORMATS {
            for ending in entry.endings {
                let path = format!("a.b.{}", ending.to_uppercase());
                assert_eq!(Format::of_ending(Path::new(&path)).unwrap(), entry.format);
            }
        }
        let error = Format::of_ending(Path::new("a.bin"))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("a.bin") && error.contains(".npy, .npz"),
            "{error}"
        );
    }
}
