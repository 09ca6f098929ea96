//! Bytes of request bodies: counted against a limit and a shared budget while they arrive and while gzip is undone.

use std::future::poll_fn;
use std::io::{self, Write};
use std::pin::Pin;
use std::sync::Arc;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderMap, header};
use flate2::write::MultiGzDecoder;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{ApiError, Code};

/// The budget counts in these units, so that it fits a semaphore.
const BUDGET_UNIT: usize = 1024;

/// Memory for bodies that are being received, of all requests together.
#[derive(Clone)]
pub(crate) struct BodyBudget(Arc<Semaphore>);

impl BodyBudget {
    /// A budget of so many bytes.
    pub(crate) fn of(bytes: usize) -> Self {
        let units = (bytes / BUDGET_UNIT).min(Semaphore::MAX_PERMITS);
        Self(Arc::new(Semaphore::new(units)))
    }
}

/// Room for the first bytes of a body.
const FIRST_BYTES: usize = 16 << 10;

/// The window and tables of one decompressor.
const DECOMPRESSOR_BYTES: usize = 96 << 10;

/// How many compressed bytes are decompressed before other requests get their turn. They become at most a thousand times as many.
const COMPRESSED_PIECE: usize = 2 << 10;

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ContentEncoding {
    Identity,
    Gzip,
}

impl ContentEncoding {
    /// Reads `content-encoding`.
    ///
    /// # Errors
    /// 415 for anything but gzip, and for several encodings on top of each other.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, ApiError> {
        let mut found = Self::Identity;
        for value in headers.get_all(header::CONTENT_ENCODING) {
            let text = String::from_utf8_lossy(value.as_bytes());
            for name in text.split(',').map(str::trim) {
                let is = |known: &str| name.eq_ignore_ascii_case(known);
                if name.is_empty() || is("identity") {
                    continue;
                }
                if !(is("gzip") || is("x-gzip")) {
                    let name: String = name.chars().take(40).collect();
                    return Err(unsupported(format!(
                        "content encoding {name:?} is not supported; send the body as gzip or uncompressed"
                    )));
                }
                if found == Self::Gzip {
                    return Err(unsupported(
                        "the body is compressed twice (content-encoding: gzip, gzip); compress it once",
                    ));
                }
                found = Self::Gzip;
            }
        }
        Ok(found)
    }
}

fn unsupported(message: impl Into<String>) -> ApiError {
    ApiError::new(Code::UnsupportedMediaType, message)
}

/// Reads a body and reserves memory budget as its bytes arrive, so that a large `Content-Length` alone reserves nothing. The
/// limit holds for the bytes on the wire and for the decompressed ones.
pub(crate) async fn receive(
    BodyBudget(budget): &BodyBudget,
    mut body: Body,
    encoding: ContentEncoding,
    limit: usize,
) -> Result<(Bytes, OwnedSemaphorePermit), ApiError> {
    let announced = body.size_hint();
    if announced.lower() > limit as u64 {
        return Err(too_large(limit, ContentEncoding::Identity));
    }
    // What certainly does not fit is refused before it is sent.
    if announced.lower().div_ceil(BUDGET_UNIT as u64) > budget.available_permits() as u64 {
        return Err(busy());
    }
    let most = match (encoding, announced.exact()) {
        (ContentEncoding::Identity, Some(length)) => length as usize,
        _ => limit,
    };
    let collected = Collected {
        budget: Arc::clone(budget),
        encoding,
        limit,
        most,
        bytes: Vec::new(),
        share: take(budget, 0)?,
        refused: None,
    };
    match encoding {
        ContentEncoding::Identity => {
            let mut collected = collected;
            while let Some(data) = next(&mut body).await? {
                collected.append(&data)?;
            }
            Ok((collected.bytes.into(), collected.share))
        }
        ContentEncoding::Gzip => {
            let _decompressor = take(budget, DECOMPRESSOR_BYTES.div_ceil(BUDGET_UNIT))?;
            decompress(&mut body, collected, limit).await
        }
    }
}

async fn decompress(
    body: &mut Body,
    collected: Collected,
    limit: usize,
) -> Result<(Bytes, OwnedSemaphorePermit), ApiError> {
    let mut decoder = MultiGzDecoder::new(collected);
    let mut compressed = 0;
    let failed = |decoder: &mut MultiGzDecoder<Collected>, error: io::Error| {
        decoder.get_mut().refused.take().unwrap_or_else(|| {
            ApiError::bad_request(format!("the body's gzip data is damaged: {error}"))
        })
    };
    while let Some(data) = next(body).await? {
        compressed += data.len();
        // Empty members of a gzip file cost bytes on the wire and add none.
        if compressed > limit {
            return Err(too_large(limit, ContentEncoding::Identity));
        }
        for piece in data.chunks(COMPRESSED_PIECE) {
            if let Err(error) = decoder.write_all(piece) {
                return Err(failed(&mut decoder, error));
            }
            tokio::task::yield_now().await;
        }
    }
    if let Err(error) = decoder.try_finish() {
        return Err(failed(&mut decoder, error));
    }
    let collected = decoder
        .finish()
        .map_err(|error| ApiError::bad_request(error.to_string()))?;
    Ok((collected.bytes.into(), collected.share))
}

/// The next bytes of a body.
async fn next(body: &mut Body) -> Result<Option<Bytes>, ApiError> {
    while let Some(frame) = poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await {
        let frame = frame
            .map_err(|_| ApiError::bad_request("the body ended before its announced length"))?;
        // Trailers mean nothing here.
        if let Ok(data) = frame.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

fn too_large(limit: usize, encoding: ContentEncoding) -> ApiError {
    let after = match encoding {
        ContentEncoding::Identity => "",
        ContentEncoding::Gzip => " after decompression",
    };
    ApiError::too_large(format!(
        "the body has more than {limit} bytes{after}; send less at once"
    ))
}

fn busy() -> ApiError {
    ApiError::too_many("the service is busy with the bodies of other requests")
}

fn take(budget: &Arc<Semaphore>, units: usize) -> Result<OwnedSemaphorePermit, ApiError> {
    let units = u32::try_from(units).unwrap_or(u32::MAX);
    let share = Arc::clone(budget).try_acquire_many_owned(units);
    share.map_err(|_| busy())
}

/// The bytes so far, and their part of the budget.
struct Collected {
    budget: Arc<Semaphore>,
    encoding: ContentEncoding,
    limit: usize,
    /// More bytes than these are not expected.
    most: usize,
    bytes: Vec<u8>,
    share: OwnedSemaphorePermit,
    /// Why a write through [`Write`] failed.
    refused: Option<ApiError>,
}

impl Collected {
    fn append(&mut self, data: &[u8]) -> Result<(), ApiError> {
        let needed = self.bytes.len() + data.len();
        if needed > self.limit {
            return Err(too_large(self.limit, self.encoding));
        }
        if needed > self.bytes.capacity() {
            let doubled = (2 * self.bytes.capacity()).max(FIRST_BYTES).min(self.most);
            let capacity = needed.max(doubled);
            let units = capacity.div_ceil(BUDGET_UNIT);
            let more = units.saturating_sub(self.share.num_permits());
            self.share.merge(take(&self.budget, more)?);
            self.bytes
                .try_reserve_exact(capacity - self.bytes.len())
                .map_err(|_| busy())?;
        }
        self.bytes.extend_from_slice(data);
        Ok(())
    }
}

impl Write for Collected {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        // A decoder that is dropped after a failure tries once more.
        if self.refused.is_none() {
            match self.append(data) {
                Ok(()) => return Ok(data.len()),
                Err(error) => self.refused = Some(error),
            }
        }
        Err(io::Error::other("refused"))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    async fn read(body: Vec<u8>, limit: usize, budget: usize) -> Result<Vec<u8>, ApiError> {
        let budget = BodyBudget::of(budget);
        let before = budget.0.available_permits();
        let answer = receive(&budget, body.into(), ContentEncoding::Gzip, limit).await;
        let answer = answer.map(|(bytes, _share)| bytes.to_vec());
        assert_eq!(
            budget.0.available_permits(),
            before,
            "the budget is whole again"
        );
        answer
    }

    #[tokio::test]
    async fn gzip_is_undone_in_one_or_several_members() {
        let text: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
        assert_eq!(read(gzip(&text), 1 << 20, 4 << 20).await.unwrap(), text);
        let two = [gzip(b"one "), gzip(b"two")].concat();
        assert_eq!(read(two, 100, 4 << 20).await.unwrap(), b"one two");
        assert_eq!(read(gzip(b""), 100, 4 << 20).await.unwrap(), b"");
    }

    #[tokio::test]
    async fn decompressed_bytes_are_counted_against_limit_and_budget() {
        let bomb = gzip(&vec![b' '; 50 << 20]);
        assert!(bomb.len() < 100_000);
        let error = read(bomb.clone(), 1 << 20, 64 << 20).await.unwrap_err();
        assert_eq!(error.code, Code::PayloadTooLarge, "{error}");
        assert!(error.message.contains("after decompression"), "{error}");
        let error = read(bomb, 64 << 20, 1 << 20).await.unwrap_err();
        assert_eq!(error.code, Code::TooManyRequests, "{error}");
        let exact = gzip(&[7; 5000]);
        assert_eq!(
            read(exact.clone(), 5000, 1 << 20).await.unwrap().len(),
            5000
        );
        assert!(read(exact, 4999, 1 << 20).await.is_err());
        // Members that hold nothing.
        let empty = gzip(b"").repeat(1000);
        let error = read(empty, 5000, 1 << 20).await.unwrap_err();
        assert_eq!(error.code, Code::PayloadTooLarge, "{error}");
    }

    #[tokio::test]
    async fn damaged_data_is_400() {
        let whole = gzip(b"some text that is long enough to be cut");
        let mut wrong_sum = whole.clone();
        let sum = wrong_sum.len() - 6;
        wrong_sum[sum] ^= 1;
        let cases = [
            b"{}".to_vec(),
            Vec::new(),
            whole[..5].to_vec(),
            whole[..whole.len() / 2].to_vec(),
            whole[..whole.len() - 1].to_vec(),
            wrong_sum,
            [&whole[..], b"more"].concat(),
        ];
        for (number, body) in cases.into_iter().enumerate() {
            let answer = read(body, 1000, 1 << 20).await;
            let error = answer.expect_err(&format!("case {number}"));
            assert_eq!(error.code, Code::BadRequest, "case {number}: {error}");
        }
    }

    #[test]
    fn encodings_are_named() {
        let of = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::CONTENT_ENCODING, value.parse().unwrap());
            }
            ContentEncoding::of(&headers)
        };
        assert_eq!(of(&[]).unwrap(), ContentEncoding::Identity);
        assert_eq!(of(&["identity"]).unwrap(), ContentEncoding::Identity);
        assert_eq!(of(&["GZip"]).unwrap(), ContentEncoding::Gzip);
        assert_eq!(of(&["identity, x-gzip"]).unwrap(), ContentEncoding::Gzip);
        for (values, says) in [
            (&["br"][..], "\"br\""),
            (&["zstd, gzip"], "\"zstd\""),
            (&["gzip", "deflate"], "\"deflate\""),
            (&["gzip, gzip"], "twice"),
        ] {
            let error = of(values).unwrap_err();
            assert_eq!(error.code, Code::UnsupportedMediaType);
            assert!(error.message.contains(says), "{error}");
        }
    }
}
