//! When something was measured.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The present moment in RFC 3339, whole seconds, UTC.
pub fn now() -> String {
    let now = OffsetDateTime::now_utc();
    let now = now.replace_nanosecond(0).unwrap_or(now);
    now.format(&Rfc3339)
        .unwrap_or_else(|_| "1970-01-01T00:00:00Z".to_owned())
}
