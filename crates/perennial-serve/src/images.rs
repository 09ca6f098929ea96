//! Image files of requests: bytes or base64, within limits.

use std::borrow::Cow;

use axum::body::Bytes;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::error::ApiError;

/// An image as it arrived.
#[derive(Clone)]
pub(crate) enum EncodedImage {
    /// The file's bytes.
    Bytes(Bytes),
    /// The same as base64, with or without line breaks, with or without `data:image/...;base64,` in front.
    Base64(String),
}

/// The bytes of an image's file.
///
/// # Errors
/// 413 for too many, 422 for text that is no base64.
pub(crate) fn file_of(image: &EncodedImage, image_bytes: usize) -> Result<Cow<'_, [u8]>, ApiError> {
    let file = match image {
        EncodedImage::Bytes(bytes) => Cow::Borrowed(bytes.as_ref()),
        EncodedImage::Base64(text) => Cow::Owned(from_base64(text, image_bytes)?),
    };
    if file.len() > image_bytes {
        return Err(too_large(file.len(), image_bytes));
    }
    Ok(file)
}

/// The file behind base64 as programs write it: in one line or wrapped as in MIME, alone or as a data URL.
fn from_base64(text: &str, image_bytes: usize) -> Result<Vec<u8>, ApiError> {
    let mut text = text.trim_ascii();
    let is_url = text
        .get(..5)
        .is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:"));
    if is_url {
        let (head, content) = text.split_once(',').unwrap_or_default();
        let is_base64 = head.rsplit(';').next().unwrap_or_default().trim_ascii();
        if !is_base64.eq_ignore_ascii_case("base64") {
            return Err(ApiError::unprocessable(
                "a data URL must continue with `;base64,` after its media type",
            ));
        }
        text = content;
    }
    let spaces = text.bytes().filter(u8::is_ascii_whitespace).count();
    let bytes = (text.len() - spaces) / 4 * 3;
    if bytes > image_bytes + 3 {
        return Err(too_large(bytes, image_bytes));
    }
    let decoded = if spaces == 0 {
        STANDARD.decode(text)
    } else {
        let dense: Vec<u8> = text
            .bytes()
            .filter(|byte| !byte.is_ascii_whitespace())
            .collect();
        STANDARD.decode(dense)
    };
    decoded.map_err(|error| ApiError::unprocessable(format!("is not base64: {error}")))
}

fn too_large(bytes: usize, image_bytes: usize) -> ApiError {
    ApiError::too_large(format!(
        "the file has {bytes} bytes; at most {image_bytes} are decoded"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_may_be_wrapped_and_be_a_data_url() {
        let bytes: Vec<u8> = (0..=255).collect();
        let text = STANDARD.encode(&bytes);
        let wrapped = |end: &str| {
            let lines: Vec<&str> = (0..text.len())
                .step_by(76)
                .map(|start| &text[start..text.len().min(start + 76)])
                .collect();
            lines.join(end) + end
        };
        for form in [
            text.clone(),
            wrapped("\n"),
            wrapped("\r\n"),
            wrapped("\r\n\t "),
            format!("  {text}\n\n"),
            format!("data:image/png;base64,{text}"),
            format!("\n data:image/jpeg;name=a;base64,\r\n{}", wrapped("\r\n")),
            format!("DATA:;BASE64,{text}"),
        ] {
            assert_eq!(from_base64(&form, 256).unwrap(), bytes, "{form}");
        }
        for form in [
            "data:image/png,abcd",
            "data:",
            "data:text/plain;charset=utf-8,abcd",
        ] {
            let error = from_base64(form, 256).unwrap_err();
            assert!(error.message.contains(";base64,"), "{error}");
        }
        for form in ["ab-_", "abc", "ab\u{a0}cd", "abcd=", "data"] {
            let error = from_base64(form, 256);
            assert!(form == "data" || error.unwrap_err().message.contains("base64"));
        }
    }

    #[test]
    fn line_breaks_do_not_count_as_bytes_of_the_file() {
        let text = STANDARD.encode([1; 300]);
        let sparse: String = text.chars().flat_map(|letter| [letter, '\n']).collect();
        assert_eq!(from_base64(&sparse, 300).unwrap(), [1; 300]);
        let error = from_base64(&sparse, 290).unwrap_err();
        assert!(error.message.contains("300 bytes"), "{error}");
    }
}
