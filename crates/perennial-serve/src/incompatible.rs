//! The refusal of versions that are not certified for one another.

use perennial_upgrade::{NotCertified, Remedy};
use serde_json::json;

use crate::error::{ApiError, Code};

/// 409 that names every refused pair.
pub(crate) fn incompatible(refused: &[NotCertified]) -> ApiError {
    let pairs: Vec<_> = refused
        .iter()
        .map(|pair| {
            json!({
                "query_version": pair.query_version,
                "gallery_version": pair.gallery_version,
                "reason": pair.reason,
                "remedy": pair.remedy.as_ref().map(Remedy::public),
            })
        })
        .collect();
    let all: Vec<String> = refused.iter().map(ToString::to_string).collect();
    let message = all.join("; ");
    ApiError::new(Code::IncompatibleVersion, message).with_details(json!({ "pairs": pairs }))
}
