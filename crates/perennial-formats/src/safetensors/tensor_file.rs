//! A safetensors file, opened and checked.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use fs_err::File;
use perennial_core::bounded_read::reserve;
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

use crate::error::FormatError;
use crate::input::open_file;
use crate::numbers::{Float, Integer, Order};

/// A file of vectors has a handful of tensors; a header that is larger belongs to something else.
const MAX_HEADER_BYTES: u64 = 1 << 20;
const CHUNK_BYTES: usize = 1 << 16;

/// Errors name its path.
pub(crate) struct TensorFile {
    pub(crate) path: PathBuf,
    file: File,
    data_start: u64,
    header: Metadata,
}

impl TensorFile {
    /// Reads the header: tensors lie end to end, have the size of their shape, and fill the file.
    pub(crate) fn open(path: &Path) -> Result<Self, FormatError> {
        let (mut file, file_length) = open_file(path)?;
        let error = |problem: String| FormatError::file(path, problem);
        let no_safetensors =
            || error("is not a safetensors file, or is truncated; write it again".to_owned());
        let mut length = [0; 8];
        if file_length < 8 {
            return Err(no_safetensors());
        }
        file.read_exact(&mut length)
            .map_err(FormatError::reading(path))?;
        let header_length = u64::from_le_bytes(length);
        if header_length > MAX_HEADER_BYTES || header_length > file_length - 8 {
            return Err(no_safetensors());
        }
        let mut header = vec![0; header_length as usize];
        file.read_exact(&mut header)
            .map_err(FormatError::reading(path))?;
        let header: Metadata = serde_json::from_slice(&header)
            .map_err(|cause| error(format!("has a broken safetensors header: {cause}")))?;
        let data_start = 8 + header_length;
        let described = data_start.saturating_add(header.data_len() as u64);
        if described != file_length {
            return Err(error(format!(
                "holds {file_length} bytes, but its header describes {described}; it was cut off or extended, write it again"
            )));
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            data_start,
            header,
        })
    }

    pub(crate) fn error(&self, problem: impl std::fmt::Display) -> FormatError {
        FormatError::file(&self.path, problem)
    }

    pub(crate) fn metadata(&self, key: &str) -> Option<&str> {
        let metadata = self.header.metadata().as_ref()?;
        metadata.get(key).map(String::as_str)
    }

    /// Its tensors in words, such as `"ids" (I64 [3])`.
    pub(crate) fn described(&self) -> String {
        let mut words: Vec<String> = self
            .header
            .tensors()
            .iter()
            .map(|(name, info)| format!("{name:?} ({} {:?})", info.dtype, info.shape))
            .collect();
        words.sort_unstable();
        words.truncate(20);
        match words.is_empty() {
            true => "nothing".to_owned(),
            false => words.join(", "),
        }
    }

    pub(crate) fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.header.info(name)
    }

    /// All tensors, by name.
    pub(crate) fn tensors(&self) -> BTreeMap<String, &TensorInfo> {
        self.header.tensors().into_iter().collect()
    }

    /// Reads `count` elements of a tensor from element `first` on, `size` bytes each.
    ///
    /// The header's check has tied the tensor's size to the file's length, so what is asked for within it can be allocated.
    fn elements<T>(
        &mut self,
        info: &TensorInfo,
        (first, count): (usize, usize),
        size: usize,
        mut decode: impl FnMut(&[u8], &mut Vec<T>),
    ) -> Result<Vec<T>, FormatError> {
        let start = self.data_start + info.data_offsets.0 as u64 + first as u64 * size as u64;
        self.file.seek(SeekFrom::Start(start))?;
        let mut values = reserve(&self.path, count as u64)?;
        let mut buffer = vec![0; CHUNK_BYTES.min(count * size)];
        let at_once = CHUNK_BYTES / size;
        for done in (0..count).step_by(at_once) {
            let chunk = &mut buffer[..at_once.min(count - done) * size];
            self.file
                .read_exact(chunk)
                .map_err(FormatError::reading(&self.path))?;
            decode(chunk, &mut values);
        }
        Ok(values)
    }

    pub(crate) fn floats(
        &mut self,
        info: &TensorInfo,
        float: Float,
        range: (usize, usize),
    ) -> Result<Vec<f32>, FormatError> {
        self.elements(info, range, float.bytes(), |bytes, out| {
            float.decode(bytes, Order::Little, out);
        })
    }

    pub(crate) fn integers(
        &mut self,
        info: &TensorInfo,
        integer: Integer,
        range: (usize, usize),
    ) -> Result<Vec<i128>, FormatError> {
        self.elements(info, range, integer.bytes(), |bytes, out| {
            integer.decode(bytes, Order::Little, out);
        })
    }

    pub(crate) fn bytes(
        &mut self,
        info: &TensorInfo,
        range: (usize, usize),
    ) -> Result<Vec<u8>, FormatError> {
        self.elements(info, range, 1, |bytes, out| out.extend_from_slice(bytes))
    }
}

pub(crate) fn float(dtype: Dtype) -> Option<Float> {
    match dtype {
        Dtype::F16 => Some(Float::F16),
        Dtype::BF16 => Some(Float::Bf16),
        Dtype::F32 => Some(Float::F32),
        Dtype::F64 => Some(Float::F64),
        _ => None,
    }
}

pub(crate) fn integer(dtype: Dtype) -> Option<Integer> {
    match dtype {
        Dtype::BOOL | Dtype::U8 => Some(Integer::U8),
        Dtype::I8 => Some(Integer::I8),
        Dtype::I16 => Some(Integer::I16),
        Dtype::U16 => Some(Integer::U16),
        Dtype::I32 => Some(Integer::I32),
        Dtype::U32 => Some(Integer::U32),
        Dtype::I64 => Some(Integer::I64),
        Dtype::U64 => Some(Integer::U64),
        _ => None,
    }
}
