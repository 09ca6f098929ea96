//! Limits that clients meet.

use perennial_encode::DecodeLimits;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Limits that clients meet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Bytes of a request body, after decompression where it is gzip; more is 413.
    pub body_bytes: usize,
    /// Bytes of an uploaded model version.
    pub model_bytes: usize,
    /// Bytes of one encoded image.
    pub image_bytes: usize,
    /// Images per request; more is 422.
    pub images: usize,
    /// Texts per request for embeddings; more is 422.
    pub inputs: usize,
    /// Items per batch.
    pub items: usize,
    /// Results per search and items per page.
    pub results: usize,
    /// Hits of one search that are embedded again and ranked anew; more is 422.
    pub rerank: usize,
    /// Clients connected at once; more are refused with 503. Keep it well below the process's limit of open files.
    pub connections: usize,
    /// Concurrent requests; more are refused with 429.
    pub in_flight: usize,
    /// Concurrent requests from one client, an IPv4 address or an IPv6 network of 64 bits; more are refused with 429. 0 for
    /// no limit.
    pub per_client_concurrent: usize,
    /// Requests per second from one client, in the long run; more are refused with 429. 0 for no limit.
    pub per_client_per_second: f64,
    /// Requests that an idle client may send at once before `per_client_per_second` holds.
    pub per_client_burst: usize,
    /// Whether the limits per client hold for loopback addresses as well.
    pub per_client_on_loopback: bool,
    /// Bytes of all request bodies in memory at once; more are refused with 429.
    pub body_budget_bytes: usize,
    /// Images decoded at once.
    pub decoders: usize,
    /// Longest side of an image, in pixels.
    pub image_side: u32,
    /// Width times height of an image, in pixels.
    pub image_pixels: u64,
    /// Memory for decoding one image, in bytes.
    pub decoder_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        let untrusted = DecodeLimits::UNTRUSTED;
        Self {
            body_bytes: 32 << 20,
            model_bytes: 512 << 20,
            image_bytes: 16 << 20,
            images: 128,
            inputs: 2048,
            items: 1_000,
            results: perennial_gallery::MAX_LIMIT,
            rerank: 64,
            connections: 512,
            in_flight: 256,
            per_client_concurrent: 64,
            per_client_per_second: 500.0,
            per_client_burst: 1_000,
            per_client_on_loopback: false,
            body_budget_bytes: 1 << 30,
            decoders: std::thread::available_parallelism()
                .map_or(1, |threads| threads.get().min(4)),
            image_side: untrusted.side,
            image_pixels: untrusted.pixels,
            decoder_bytes: untrusted.bytes,
        }
    }
}
