//! How the service fetches files from addresses: the binary brings the client.

use std::fmt;
use std::sync::Arc;

use perennial_upgrade::backfill::Download;

/// A client for files at addresses, or none: a backfill whose originals lie behind addresses is refused then.
#[derive(Clone, Default)]
pub struct Downloads(Option<Arc<dyn Download>>);

impl Downloads {
    /// With a client.
    pub fn with(client: Arc<dyn Download>) -> Self {
        Self(Some(client))
    }

    pub(crate) fn client(&self) -> Option<&Arc<dyn Download>> {
        self.0.as_ref()
    }
}

impl fmt::Debug for Downloads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Some(_) => "Downloads(a client)",
            None => "Downloads(none)",
        })
    }
}
