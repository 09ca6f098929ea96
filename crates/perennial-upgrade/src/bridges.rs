//! The bridges of a registry: numbered, immutable folders.
//!
//! ```text
//! registry/bridges/b0001/bridge.toml, weights.safetensors
//! ```

use std::path::{Path, PathBuf};

use perennial_bridge::{BRIDGE_FILE, Bridge, BridgeError};
use perennial_core::Registry;

const FOLDER: &str = "bridges";

/// A bridge of a registry cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BridgeRegistryError {
    /// No bridge of this name.
    #[error("there is no bridge {name:?} in {}; {}", folder.display(), known(names))]
    Unknown {
        /// The name given.
        name: String,
        /// Where bridges are.
        folder: PathBuf,
        /// The bridges that exist.
        names: Vec<String>,
    },
    /// The bridge itself.
    #[error(transparent)]
    Bridge(#[from] BridgeError),
    /// The folder could not be read or written; the message names it.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

fn known(names: &[String]) -> String {
    match names.is_empty() {
        true => "fit one with `perennial bridge fit`".to_owned(),
        false => format!("there are {}", names.join(", ")),
    }
}

/// The bridges of a registry.
pub struct BridgeRegistry {
    folder: PathBuf,
}

impl BridgeRegistry {
    /// The bridges of this registry.
    pub fn of(registry: &Registry) -> Self {
        Self {
            folder: registry.root().join(FOLDER),
        }
    }

    /// The folder of all bridges.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes sure that a bridge is in the registry: returns the name under which its content is there already, or stores it.
    ///
    /// # Errors
    /// A folder that cannot be read or written. Bridges that are damaged are passed over.
    pub fn keep(&self, bridge: &Bridge) -> Result<String, BridgeRegistryError> {
        let sha256 = bridge.sha256();
        for name in self.names()?.into_iter().rev() {
            if self.get(&name).is_ok_and(|known| known.sha256() == sha256) {
                return Ok(name);
            }
        }
        self.publish(bridge)
    }

    /// Stores a bridge under the next number and returns its name.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn publish(&self, bridge: &Bridge) -> Result<String, BridgeRegistryError> {
        fs_err::create_dir_all(&self.folder)?;
        loop {
            let highest = self.numbers()?.into_iter().max().unwrap_or(0);
            let name = bridge_name(highest + 1);
            // Claims the number: of two writers at once, one takes the next.
            match fs_err::create_dir(self.folder.join(&name)) {
                Ok(()) => {
                    bridge.write(self.folder.join(&name))?;
                    return Ok(name);
                }
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The bridge of a name such as `b0001`.
    ///
    /// # Errors
    /// An unknown name (the error lists what exists), or a bridge that is damaged.
    pub fn get(&self, name: &str) -> Result<Bridge, BridgeRegistryError> {
        if bridge_number(name).is_none() || !self.is_whole(name) {
            return Err(BridgeRegistryError::Unknown {
                name: name.to_owned(),
                folder: self.folder.clone(),
                names: self.names()?,
            });
        }
        Ok(Bridge::read(self.folder.join(name))?)
    }

    /// The names of all bridges, oldest first.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn names(&self) -> Result<Vec<String>, BridgeRegistryError> {
        let mut numbers = self.numbers()?;
        numbers.sort_unstable();
        let names = numbers.into_iter().map(bridge_name);
        Ok(names.filter(|name| self.is_whole(name)).collect())
    }

    fn is_whole(&self, name: &str) -> bool {
        Path::new(&self.folder)
            .join(name)
            .join(BRIDGE_FILE)
            .is_file()
    }

    fn numbers(&self) -> Result<Vec<u64>, BridgeRegistryError> {
        if !self.folder.is_dir() {
            return Ok(Vec::new());
        }
        let mut numbers = Vec::new();
        for entry in fs_err::read_dir(&self.folder)? {
            numbers.extend(entry?.file_name().to_str().and_then(bridge_number));
        }
        Ok(numbers)
    }
}

fn bridge_name(number: u64) -> String {
    format!("b{number:04}")
}

fn bridge_number(name: &str) -> Option<u64> {
    let number = name.strip_prefix('b')?.parse().ok()?;
    (bridge_name(number) == name).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use perennial_bridge::{Pairs, Recipe, fit};
    use perennial_core::SpaceRef;

    #[test]
    fn bridges_are_numbered_and_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let bridges = BridgeRegistry::of(&Registry::create(folder.path()).unwrap());
        assert!(bridges.names().unwrap().is_empty());
        let rows = [1.0, 0.0, 0.0, 1.0, -1.0, 0.2];
        let pairs = Pairs::new(&rows, 2, &rows, 2).unwrap();
        let space = || SpaceRef::unnamed(2);
        let bridge = fit(&pairs, &Recipe::Orthogonal, space(), space()).unwrap();
        assert_eq!(bridges.publish(&bridge).unwrap(), "b0001");
        assert_eq!(bridges.publish(&bridge).unwrap(), "b0002");
        assert_eq!(bridges.names().unwrap(), ["b0001", "b0002"]);
        assert_eq!(bridges.keep(&bridge).unwrap(), "b0002");
        std::fs::write(folder.path().join("bridges/b0002").join(BRIDGE_FILE), "").unwrap();
        assert_eq!(bridges.keep(&bridge).unwrap(), "b0001");
        std::fs::write(folder.path().join("bridges/b0001").join(BRIDGE_FILE), "").unwrap();
        assert_eq!(bridges.keep(&bridge).unwrap(), "b0003");
        assert_eq!(bridges.get("b0003").unwrap().sha256(), bridge.sha256());
        for name in ["b0004", "../x", "b1", ""] {
            let error = bridges.get(name).err().unwrap().to_string();
            assert!(error.contains("b0001, b0002, b0003"), "{error}");
        }
    }
}
