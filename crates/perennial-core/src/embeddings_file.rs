//! The embeddings file: safetensors with a fixed set of tensors and metadata.

use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

use fs_err::File;
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use serde::Serialize;

use crate::bounded_read::{open_regular, reserve};
use crate::embeddings::{Embeddings, EmbeddingsError};
use crate::output::{FileKind, Output};

const FORMAT: &str = "perennial-embeddings";
const FORMAT_VERSION: &str = "1";

/// How an embeddings file is recognised.
pub(crate) const FILE_KIND: FileKind = FileKind {
    name: "an embeddings file",
    // Eight bytes of length, then the header, whose metadata come first.
    recognise: |head| {
        head.get(8) == Some(&b'{')
            && String::from_utf8_lossy(head).contains(&format!("\"{FORMAT}\""))
    },
};

const MAX_FILE_BYTES: u64 = 1 << 36;
/// The header describes a handful of tensors; anything larger is not an embeddings file.
const MAX_HEADER_BYTES: u64 = 1 << 20;
const HEADER_ALIGNMENT: usize = 8;
const CHUNK_BYTES: usize = 1 << 16;

/// Field order is file order: the safetensors crate would order the metadata at random, and equal embeddings would
/// not give equal files.
#[derive(Serialize)]
struct Header<'a> {
    #[serde(rename = "__metadata__")]
    metadata: HeaderMetadata<'a>,
    ids: TensorInfo,
    #[serde(skip_serializing_if = "Option::is_none")]
    labels: Option<TensorInfo>,
    embeddings: TensorInfo,
}

#[derive(Serialize)]
struct HeaderMetadata<'a> {
    format: &'static str,
    format_version: &'static str,
    model_version: &'a str,
}

pub(crate) fn write(embeddings: &Embeddings, output: Output) -> io::Result<()> {
    let count = embeddings.len();
    let mut end = 0;
    let mut tensor = |dtype: Dtype, shape: Vec<usize>, value_bytes: usize| {
        let start = end;
        end += shape.iter().product::<usize>() * value_bytes;
        TensorInfo {
            dtype,
            shape,
            data_offsets: (start, end),
        }
    };
    let header = Header {
        metadata: HeaderMetadata {
            format: FORMAT,
            format_version: FORMAT_VERSION,
            model_version: embeddings.model_version(),
        },
        ids: tensor(Dtype::U64, vec![count], 8),
        // Signed 64-bit is the label type that every framework can index with.
        labels: embeddings
            .labels()
            .map(|_| tensor(Dtype::I64, vec![count], 8)),
        embeddings: tensor(Dtype::F32, vec![count, embeddings.dim()], 4),
    };
    let mut header = serde_json::to_vec(&header)?;
    header.resize(header.len().next_multiple_of(HEADER_ALIGNMENT), b' ');

    output.commit_with(|file| {
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        write_values(file, embeddings.ids(), |id| id.to_le_bytes())?;
        if let Some(labels) = embeddings.labels() {
            write_values(file, labels, |label| i64::from(label).to_le_bytes())?;
        }
        write_values(file, embeddings.vectors(), f32::to_le_bytes)
    })
}

fn write_values<T: Copy, const N: usize>(
    file: &mut dyn Write,
    values: &[T],
    to_bytes: impl Fn(T) -> [u8; N],
) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(CHUNK_BYTES);
    for chunk in values.chunks(CHUNK_BYTES / N) {
        buffer.clear();
        buffer.extend(chunk.iter().flat_map(|&value| to_bytes(value)));
        file.write_all(&buffer)?;
    }
    Ok(())
}

pub(crate) fn read(path: &Path) -> Result<Embeddings, EmbeddingsError> {
    let (file, length) = open_regular(path, MAX_FILE_BYTES)?;
    let mut file = TensorFile {
        path,
        reader: BufReader::with_capacity(CHUNK_BYTES, file),
        data_start: 0,
    };
    let header = file.read_header(length)?;
    let model_version = file.check_metadata(&header)?.to_owned();

    let embeddings = file.tensor(&header, "embeddings")?;
    let &[count, dim] = embeddings.shape.as_slice() else {
        let problem = format!(
            "tensor `embeddings` has shape {:?}, expected [n, d]",
            embeddings.shape
        );
        return Err(file.error(problem));
    };
    if embeddings.dtype != Dtype::F32 {
        let problem = format!(
            "tensor `embeddings` is {}, expected F32; convert it to float32",
            embeddings.dtype
        );
        return Err(file.error(problem));
    }
    // Checked ahead of the values, because a tensor without columns may claim any number of rows for no bytes at all.
    if dim == 0 {
        return Err(file.error("tensor `embeddings` has 0 columns"));
    }
    let ids = file.tensor(&header, "ids")?;
    let ids = file.integers("ids", ids, count, u64::MAX, |id| id)?;
    let labels = match header.info("labels") {
        Some(info) => {
            let limit = u64::from(u32::MAX);
            Some(file.integers("labels", info, count, limit, |label| label as u32)?)
        }
        None => None,
    };
    let vectors = file.values(embeddings, f32::from_le_bytes)?;

    Embeddings::new(model_version, dim, vectors, ids, labels).map_err(|error| file.error(error))
}

/// An open safetensors file; errors name its path.
struct TensorFile<'a> {
    path: &'a Path,
    reader: BufReader<File>,
    data_start: u64,
}

impl TensorFile<'_> {
    fn error(&self, problem: impl ToString) -> EmbeddingsError {
        EmbeddingsError::File {
            path: self.path.to_owned(),
            problem: problem.to_string(),
        }
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), EmbeddingsError> {
        self.reader
            .read_exact(buffer)
            .map_err(|error| self.error(format!("could not be read: {error}")))
    }

    /// Reads and validates the header: tensors lie end to end, have the size of their shape, and fill the file.
    fn read_header(&mut self, file_length: u64) -> Result<Metadata, EmbeddingsError> {
        let no_safetensors = "is not a safetensors file, or is truncated; write it again";
        let mut length = [0; 8];
        if file_length < 8 {
            return Err(self.error(no_safetensors));
        }
        self.fill(&mut length)?;
        let header_length = u64::from_le_bytes(length);
        if header_length > MAX_HEADER_BYTES || header_length > file_length - 8 {
            return Err(self.error(no_safetensors));
        }
        let mut header = vec![0; header_length as usize];
        self.fill(&mut header)?;
        let header: Metadata = serde_json::from_slice(&header)
            .map_err(|error| self.error(format!("has a broken safetensors header: {error}")))?;

        self.data_start = 8 + header_length;
        let described = self.data_start.saturating_add(header.data_len() as u64);
        if described != file_length {
            let problem = format!(
                "holds {file_length} bytes, but its header describes {described}; it was cut off or extended, write \
                 it again"
            );
            return Err(self.error(problem));
        }
        Ok(header)
    }

    fn check_metadata<'h>(&self, header: &'h Metadata) -> Result<&'h str, EmbeddingsError> {
        let value = |key| {
            let metadata = header.metadata().as_ref();
            metadata
                .and_then(|metadata| metadata.get(key))
                .map(String::as_str)
        };
        if value("format") != Some(FORMAT) {
            let problem = format!(
                "is not marked as embeddings; save it with the metadata format = {FORMAT:?}, format_version = \
                 {FORMAT_VERSION:?} and model_version"
            );
            return Err(self.error(problem));
        }
        match value("format_version") {
            Some(FORMAT_VERSION) => {}
            other => {
                let problem = format!(
                    "has format_version {:?}, this program reads {FORMAT_VERSION:?}",
                    other.unwrap_or("(none)")
                );
                return Err(self.error(problem));
            }
        }
        value("model_version").ok_or_else(|| self.error("lacks the metadata key model_version"))
    }

    fn tensor<'h>(
        &self,
        header: &'h Metadata,
        name: &str,
    ) -> Result<&'h TensorInfo, EmbeddingsError> {
        header
            .info(name)
            .ok_or_else(|| self.error(format!("lacks the tensor `{name}`")))
    }

    fn integers<T>(
        &mut self,
        name: &str,
        info: &TensorInfo,
        count: usize,
        limit: u64,
        convert: impl Fn(u64) -> T,
    ) -> Result<Vec<T>, EmbeddingsError> {
        if info.shape != [count] {
            let problem = format!(
                "tensor `{name}` has shape {:?}, expected [{count}] for as many embeddings",
                info.shape
            );
            return Err(self.error(problem));
        }
        // Every accepted type fits in i128, so that range checks need no case per type.
        let values: Vec<i128> = match info.dtype {
            Dtype::U8 => self.values(info, |bytes: [u8; 1]| bytes[0].into())?,
            Dtype::I32 => self.values(info, |bytes| i32::from_le_bytes(bytes).into())?,
            Dtype::U32 => self.values(info, |bytes| u32::from_le_bytes(bytes).into())?,
            Dtype::I64 => self.values(info, |bytes| i64::from_le_bytes(bytes).into())?,
            Dtype::U64 => self.values(info, |bytes| u64::from_le_bytes(bytes).into())?,
            other => {
                let problem =
                    format!("tensor `{name}` is {other}, expected an integer type such as I64");
                return Err(self.error(problem));
            }
        };
        values
            .iter()
            .enumerate()
            .map(|(row, &value)| match u64::try_from(value) {
                Ok(value) if value <= limit => Ok(convert(value)),
                _ => Err(self.error(format!(
                    "`{name}` of row {row} is {value}, expected 0 to {limit}"
                ))),
            })
            .collect()
    }

    /// The values of a tensor, whose size the header's validation has already tied to the file's length.
    fn values<T, const N: usize>(
        &mut self,
        info: &TensorInfo,
        from_bytes: impl Fn([u8; N]) -> T,
    ) -> Result<Vec<T>, EmbeddingsError> {
        let (start, end) = info.data_offsets;
        self.reader
            .seek(SeekFrom::Start(self.data_start + start as u64))?;
        let count = (end - start) / N;
        let mut values = reserve(self.path, count as u64)?;
        let mut buffer = vec![0; CHUNK_BYTES.min(end - start)];
        for first in (0..count).step_by(CHUNK_BYTES / N) {
            let wanted = (count - first).min(CHUNK_BYTES / N) * N;
            let chunk = &mut buffer[..wanted];
            self.fill(chunk)?;
            let (numbers, _) = chunk.as_chunks::<N>();
            values.extend(numbers.iter().map(|&bytes| from_bytes(bytes)));
        }
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use safetensors::SafeTensors;

    use super::*;

    fn example(labels: bool) -> Embeddings {
        let labels = labels.then(|| vec![4, u32::MAX, 0]);
        let vectors = vec![0.6, 0.8, 1.0, 0.0, 0.0, -1.0];
        Embeddings::new("v0001 \"é\" \\", 2, vectors, vec![1, u64::MAX, 3], labels).unwrap()
    }

    fn written(embeddings: &Embeddings) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        embeddings.write(&path).unwrap();
        std::fs::read(&path).unwrap()
    }

    fn read_bytes(bytes: &[u8]) -> Result<Embeddings, EmbeddingsError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        std::fs::write(&path, bytes).unwrap();
        Embeddings::read(&path)
    }

    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        [
            &(header.len() as u64).to_le_bytes(),
            header.as_bytes(),
            data,
        ]
        .concat()
    }

    /// A file with one embedding of dimension 1, where `tensors` describes the given data.
    fn foreign(tensors: &str, data: &[u8]) -> Result<Embeddings, EmbeddingsError> {
        let metadata =
            r#"{"format":"perennial-embeddings","format_version":"1","model_version":"m"}"#;
        read_bytes(&file(
            &format!(r#"{{"__metadata__":{metadata},{tensors}}}"#),
            data,
        ))
    }

    fn problem(result: Result<Embeddings, EmbeddingsError>) -> String {
        let error = result.unwrap_err().to_string();
        assert!(error.contains("a.safetensors"), "{error}");
        error
    }

    #[test]
    fn what_was_written_is_read() {
        for set in [
            example(true),
            example(false),
            Embeddings::new("v", 3, vec![], vec![], Some(vec![])).unwrap(),
        ] {
            assert_eq!(read_bytes(&written(&set)).unwrap(), set);
        }
    }

    #[test]
    fn values_longer_than_one_chunk_survive() {
        let count = 2 * CHUNK_BYTES / 8 + 3;
        let vectors = (0..count)
            .map(|i| if i % 3 == 0 { 1.0 } else { -1.0 })
            .collect();
        let set = Embeddings::new("v", 1, vectors, (0..count as u64).collect(), None).unwrap();
        assert_eq!(read_bytes(&written(&set)).unwrap(), set);
    }

    #[test]
    fn the_safetensors_crate_reads_the_file() {
        let bytes = written(&example(true));
        assert_eq!(
            bytes,
            written(&example(true)),
            "equal embeddings, equal bytes"
        );
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(tensors.tensor("embeddings").unwrap().shape(), [3, 2]);
        assert_eq!(tensors.tensor("ids").unwrap().dtype(), Dtype::U64);
        assert_eq!(
            tensors.tensor("labels").unwrap().data()[..8],
            4i64.to_le_bytes()
        );
        assert_eq!(bytes[0] % 8, 0, "data starts aligned");
    }

    #[test]
    fn other_integer_types_and_tensors_are_accepted() {
        let tensors = r#""a":{"dtype":"F16","shape":[1],"data_offsets":[0,2]},
            "embeddings":{"dtype":"F32","shape":[1,1],"data_offsets":[2,6]},
            "ids":{"dtype":"I64","shape":[1],"data_offsets":[6,14]},
            "labels":{"dtype":"U8","shape":[1],"data_offsets":[14,15]}"#;
        let data = [
            &[0, 0][..],
            &1f32.to_le_bytes(),
            &9i64.to_le_bytes(),
            &[200],
        ]
        .concat();
        let set = foreign(tensors, &data).unwrap();
        assert_eq!(
            (set.ids(), set.labels(), set.row(0)),
            (&[9][..], Some(&[200][..]), &[1.0][..])
        );
        assert_eq!(set.model_version(), "m");
    }

    #[test]
    fn wrong_content_is_named() {
        let ids = r#""ids":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}"#;
        let one = |tensor: &str, value: f32, id: i64| {
            foreign(
                &format!("{ids},{tensor}"),
                &[&id.to_le_bytes()[..], &value.to_le_bytes()].concat(),
            )
        };
        let embeddings = r#""embeddings":{"dtype":"F32","shape":[1,1],"data_offsets":[8,12]}"#;
        assert!(one(embeddings, 1.0, 5).is_ok());
        assert!(problem(one(embeddings, 2.0, 5)).contains("row 0 has length 2"));
        assert!(problem(one(embeddings, 1.0, -5)).contains("`ids` of row 0 is -5"));
        for (from, to, says) in [
            ("F32", "I32", "expected F32"),
            ("[1,1]", "[1]", "expected [n, d]"),
            (
                "\"embeddings\"",
                "\"vectors\"",
                "lacks the tensor `embeddings`",
            ),
            ("[1,1]", "[2,1]", "header"),
            ("[1,1]", "[4611686018427387905,4]", "header"),
            ("[8,12]", "[0,4]", "header"),
        ] {
            let text = problem(one(&embeddings.replace(from, to), 1.0, 5));
            assert!(text.contains(says), "{to}: {text}");
        }
        let rows_for_free =
            r#""embeddings":{"dtype":"F32","shape":[1000000000000,0],"data_offsets":[0,0]}"#;
        assert!(problem(foreign(rows_for_free, &[])).contains("0 columns"));
        let two_ids = r#""embeddings":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]},
            "ids":{"dtype":"U64","shape":[2],"data_offsets":[4,20]}"#;
        assert!(problem(foreign(two_ids, &[0; 20])).contains("expected [1]"));
    }

    #[test]
    fn the_format_must_be_declared() {
        assert!(problem(read_bytes(&file("{}", &[]))).contains("not marked as embeddings"));
        for (from, to, says) in [
            (
                "\"format_version\":\"1\"",
                "\"format_version\":\"2\"",
                "format_version \"2\"",
            ),
            (
                "\"model_version\"",
                "\"model_versiom\"",
                "lacks the metadata key model_version",
            ),
        ] {
            let bytes = written(&Embeddings::new("v", 1, vec![], vec![], None).unwrap());
            let header = std::str::from_utf8(&bytes[8..]).unwrap().replace(from, to);
            assert!(
                problem(read_bytes(&file(&header, &[]))).contains(says),
                "{to}"
            );
        }
    }

    #[test]
    fn cut_off_and_absurd_files_are_errors() {
        let bytes = written(&example(true));
        for length in 0..bytes.len() {
            problem(read_bytes(&bytes[..length]));
        }
        problem(read_bytes(&[bytes.as_slice(), &[0]].concat()));
        problem(read_bytes(&u64::MAX.to_le_bytes()));
        let missing = Embeddings::read("/nonexistent/e.safetensors").unwrap_err();
        assert!(missing.to_string().contains("e.safetensors"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn damaged_files_never_panic(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        ) {
            let mut bytes = written(&example(true));
            for (position, value) in changes {
                let position = position.index(bytes.len());
                bytes[position] = value;
            }
            if let Ok(set) = read_bytes(&bytes) {
                prop_assert_eq!(set.vectors().len(), set.len() * set.dim());
            }
        }

        #[test]
        fn random_headers_are_errors(header in "\\PC{0,60}", data in any::<[u8; 12]>()) {
            prop_assert!(read_bytes(&file(&header, &data)).is_err());
        }
    }
}
