//! Files that are no ONNX graphs.

use super::error::GraphError;

/// Files that are often given in place of ONNX, by their first bytes.
pub(super) fn refuse_other_formats(file: &str, content: &[u8]) -> Result<(), GraphError> {
    let found = match content {
        [] => "an empty file",
        [b'P', b'K', 3, 4, ..] | [0x80, 2..=5, ..] => {
            return Err(GraphError::Pickle {
                file: file.to_owned(),
            });
        }
        [
            b'v',
            b'e',
            b'r',
            b's',
            b'i',
            b'o',
            b'n',
            b' ',
            b'h',
            b't',
            b't',
            b'p',
            ..,
        ] => "a Git LFS pointer in place of the file; fetch the file itself (git lfs pull)",
        [_, _, _, _, b'T', b'F', b'L', b'3', ..] => "a TensorFlow Lite file",
        [0x89, b'H', b'D', b'F', ..] => "an HDF5 file",
        [b'{' | b'<', ..] => "a text file",
        [_, _, _, _, _, _, 0, 0, b'{', ..] => "a safetensors file: weights without a graph",
        _ => return Ok(()),
    };
    Err(GraphError::NotOnnx {
        file: file.to_owned(),
        found,
    })
}
