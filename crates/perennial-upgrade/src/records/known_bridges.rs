//! The bridges that certificates name, each loaded once and let go when its files change or go.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use perennial_bridge::{BRIDGE_FILE, Bridge, WEIGHTS_FILE};

use super::stamp::Stamp;
use crate::bridges::BridgeRegistry;
use crate::public_text::without_folder;

/// Digits of a hash in a message.
const SHOWN_DIGITS: usize = 16;

/// Change when one of a bridge's files is replaced or removed.
type Stamps = [Option<Stamp>; 2];

/// Bridges of one registry.
pub(super) struct KnownBridges {
    registry: BridgeRegistry,
    /// By the hash of their content.
    loaded: HashMap<String, Arc<Bridge>>,
    /// The hashes of bridges that were read, by name, as long as their files are those that were read.
    hashes: HashMap<String, (Stamps, String)>,
    /// Bridges that could not be read, with the reason. They are read again when their files have changed: searches wait meanwhile.
    damaged: HashMap<String, (Stamps, String)>,
    /// The names of bridges that were read and whose files changed or went, by the hash that they had.
    lost: HashMap<String, String>,
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
            lost: HashMap::new(),
            missing: false,
        }
    }

    /// Whether a bridge was asked for that is not there, or one that was there has changed or gone; and from now on, looks for it again. Bridges
    /// whose files are not those that were read are let go.
    pub(super) fn look_again(&mut self) -> bool {
        let folder = self.registry.folder();
        self.damaged
            .retain(|name, (before, _)| *before == stamps(&folder.join(name)));
        let mut changed = false;
        let (loaded, lost) = (&mut self.loaded, &mut self.lost);
        self.hashes.retain(|name, (before, hash)| {
            let stays = *before == stamps(&folder.join(name));
            if !stays {
                loaded.remove(hash);
                lost.insert(hash.clone(), name.clone());
                changed = true;
            }
            stays
        });
        std::mem::take(&mut self.missing) || changed
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
    /// Which bridge is missing, and what to do, as everybody may read it.
    pub(super) fn get(&mut self, sha256: &str) -> Result<Arc<Bridge>, String> {
        if let Some(bridge) = self.loaded.get(sha256) {
            return Ok(Arc::clone(bridge));
        }
        let shown = sha256.get(..SHOWN_DIGITS).unwrap_or(sha256);
        match self.find(sha256) {
            Ok(Some(bridge)) => {
                self.lost.remove(sha256);
                Ok(bridge)
            }
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
                    "its bridge, sha256 {shown}, is not in the registry{}{damaged}; put the bridge's folder back, or certify again with --record, which \
                     stores the bridge as well",
                    self.what_was_lost(sha256)
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

    /// What became of the files of a bridge that was read before.
    fn what_was_lost(&self, sha256: &str) -> String {
        let Some(name) = self.lost.get(sha256) else {
            return String::new();
        };
        let gone = [BRIDGE_FILE, WEIGHTS_FILE]
            .into_iter()
            .find(|file| !self.registry.folder().join(name).join(file).is_file());
        match gone {
            Some(file) => format!(" any more: {name}/{file} is gone"),
            None => {
                format!(
                    " any more: {name}/{BRIDGE_FILE} or {name}/{WEIGHTS_FILE} has other content now"
                )
            }
        }
    }

    /// What everybody may read.
    fn public(&self, problem: &str) -> String {
        without_folder(problem, self.registry.folder(), "the registry's bridges")
    }

    fn find(&mut self, sha256: &str) -> Result<Option<Arc<Bridge>>, String> {
        let names = self.registry.names();
        let names = names.map_err(|error| self.public(&error.to_string()))?;
        // The newest first: that is the likely one.
        for name in names.into_iter().rev() {
            let known = self.hashes.get(&name);
            if known.is_some_and(|(_, known)| known != sha256) || self.damaged.contains_key(&name) {
                continue;
            }
            // Before the files are read, so that a change in between is noticed.
            let files = stamps(&self.registry.folder().join(&name));
            match self.registry.get(&name) {
                Ok(bridge) => {
                    let hash = bridge.sha256();
                    let found = hash == sha256;
                    self.hashes.insert(name, (files, hash));
                    if found {
                        let bridge = Arc::new(bridge);
                        self.loaded.insert(sha256.to_owned(), Arc::clone(&bridge));
                        return Ok(Some(bridge));
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "bridge {name} cannot be read");
                    let error = self.public(&error.to_string());
                    let problem = format!("bridge {name} cannot be read: {error}");
                    self.damaged.insert(name, (files, problem));
                }
            }
        }
        Ok(None)
    }
}

fn stamps(folder: &Path) -> Stamps {
    [BRIDGE_FILE, WEIGHTS_FILE].map(|file| Stamp::of(&folder.join(file)))
}
