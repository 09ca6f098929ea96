//! What a client is told where an embedding service gave no embeddings: an upstream, or the one behind a version.

use std::time::Duration;

use perennial_encode::ServiceFailure;

use crate::error::{ApiError, Code};

impl ApiError {
    /// 502 for a service that fails, 504 for one that hangs, 429 for one that is busy, 422 for inputs that it refuses, 401 for a client's key that it
    /// refuses.
    pub(crate) fn of_service(
        failure: ServiceFailure,
        message: String,
        retry_after: Option<Duration>,
    ) -> Self {
        let code = match failure {
            ServiceFailure::Failed => Code::UpstreamFailed,
            ServiceFailure::TimedOut => Code::UpstreamTimeout,
            ServiceFailure::Busy => Code::TooManyRequests,
            ServiceFailure::Inputs => Code::Unprocessable,
            ServiceFailure::ClientKey => Code::Unauthorized,
        };
        let error = Self::new(code, message);
        match (failure, retry_after) {
            (ServiceFailure::Busy, Some(time)) => error.retry_after(time),
            _ => error,
        }
    }
}
