//! The bridges that certificates name, each loaded once.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use perennial_bridge::{BRIDGE_FILE, Bridge, WEIGHTS_FILE};

use crate::bridges::BridgeRegistry;

/// Digits of a hash in a message.
const SHOWN_DIGITS: usize = 16;

/// Change when one of a bridge's files is replaced.
type Stamps = [Option<(SystemTime, u64)>; 2];

/// Bridges of one registry.
pub(super) struct KnownBridges {
    registry: BridgeRegistry,
    /// By the hash of their content.
    loaded: HashMap<String, Arc<Bridge>>,
    /// The hashes of bridges that were read, by name: a bridge never changes.
    hashes: HashMap<String, String>,
    /// Bridges that could not be read, with the reason. They are read again when their files have changed: searches wait meanwhile.
    damaged: HashMap<String, (Stamps, String)>,
    /// Hashes that were not found.
    missing: bool,
}

impl KnownBridges {
    pub(super) fn of(registry: BridgeRegistry) -> Self {
        Self {
            registry,
            loaded: HashMap::new(),
            hashes: HashMap::new(),
            damaged: HashMap::new(),
            missing: false,
        }
    }

    /// Whether a bridge was asked for that is not there; and from now on, looks for it again.
    pub(super) fn look_again(&mut self) -> bool {
        let folder = self.registry.folder();
        self.damaged
            .retain(|name, (before, _)| *before == stamps(&folder.join(name)));
        std::mem::take(&mut self.missing)
    }

    /// Lets go what is no longer needed.
    pub(super) fn keep<'a>(&mut self, hashes: impl IntoIterator<Item = &'a str>) {
        let mut kept = HashMap::new();
        for hash in hashes {
            if let Some((hash, bridge)) = self.loaded.remove_entry(hash) {
                kept.insert(hash, bridge);
            }
        }
        self.loaded = kept;
    }

    /// The bridge of this content.
    ///
    /// # Errors
    /// Which bridge is missing, and what to do.
    pub(super) fn get(&mut self, sha256: &str) -> Result<Arc<Bridge>, String> {
        if let Some(bridge) = self.loaded.get(sha256) {
            return Ok(Arc::clone(bridge));
        }
        let shown = sha256.get(..SHOWN_DIGITS).unwrap_or(sha256);
        match self.find(sha256) {
            Ok(Some(bridge)) => Ok(bridge),
            Ok(None) => {
                self.missing = true;
                let mut damaged: Vec<&String> =
                    self.damaged.values().map(|(_, problem)| problem).collect();
                damaged.sort();
                let damaged: String = damaged
                    .iter()
                    .map(|problem| format!("; {problem}"))
                    .collect();
                Err(format!(
                    "its bridge, sha256 {shown}, is not in {}{damaged}; put the bridge's folder back, or certify again with --record, which \
                     stores the bridge as well",
                    self.registry.folder().display()
                ))
            }
            Err(problem) => {
                self.missing = true;
                Err(format!(
                    "its bridge, sha256 {shown}, was not found: {problem}"
                ))
            }
        }
    }

    fn find(&mut self, sha256: &str) -> Result<Option<Arc<Bridge>>, String> {
        let names = self.registry.names().map_err(|error| error.to_string())?;
        // The newest first: that is the likely one.
        for name in names.into_iter().rev() {
            let known = self.hashes.get(&name);
            if known.is_some_and(|known| known != sha256) || self.damaged.contains_key(&name) {
                continue;
            }
            match self.registry.get(&name) {
                Ok(bridge) => {
                    let hash = bridge.sha256();
                    let found = hash == sha256;
                    self.hashes.insert(name, hash);
                    if found {
                        let bridge = Arc::new(bridge);
                        self.loaded.insert(sha256.to_owned(), Arc::clone(&bridge));
                        return Ok(Some(bridge));
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "bridge {name} cannot be read");
                    let problem = format!("bridge {name} cannot be read: {error}");
                    let files = stamps(&self.registry.folder().join(&name));
                    self.damaged.insert(name, (files, problem));
                }
            }
        }
        Ok(None)
    }
}

fn stamps(folder: &Path) -> Stamps {
    [BRIDGE_FILE, WEIGHTS_FILE].map(|file| {
        let metadata = fs_err::metadata(folder.join(file)).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    })
}
