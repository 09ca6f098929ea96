//! API keys and their scopes: read and write.

use std::fmt;
use std::path::Path;

use perennial_core::read_at_most;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use crate::error::ServeError;

/// The variables that [`Keys::from_environment`] reads, with their scopes.
pub const KEY_VARIABLES: [(&str, Scope); 2] = [
    ("PERENNIAL_READ_KEY", Scope::Read),
    ("PERENNIAL_WRITE_KEY", Scope::Write),
];

/// Shorter keys can be guessed.
const MIN_KEY_BYTES: usize = 16;
const MAX_KEY_BYTES: usize = 256;
const MAX_FILE_BYTES: u64 = 1 << 20;
/// Every request compares with all keys, so their number is bounded.
const MAX_KEYS: usize = 1000;

/// What a key allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Embedding, searching, looking.
    Read,
    /// All of that, and changing items, models and aliases.
    Write,
}

/// The keys that clients may show, kept as hashes.
#[derive(Clone, Default)]
pub struct Keys {
    entries: Vec<(Scope, [u8; 32])>,
}

impl Keys {
    /// Whether there are no keys, so that requests need none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds a key of 16 to 256 visible ASCII characters. `origin` names where it came from, for the error.
    ///
    /// # Errors
    /// [`ServeError::Keys`] for a key that is too short, too long, or cannot be sent in a header.
    pub fn add(&mut self, scope: Scope, key: &str, origin: &str) -> Result<(), ServeError> {
        let refused = |problem: String| {
            Err(ServeError::Keys {
                origin: origin.to_owned(),
                problem,
            })
        };
        if !(MIN_KEY_BYTES..=MAX_KEY_BYTES).contains(&key.len())
            || !key.bytes().all(|byte| byte.is_ascii_graphic())
        {
            return refused(format!(
                "a key needs {MIN_KEY_BYTES} to {MAX_KEY_BYTES} visible ASCII characters, such as the output of `openssl rand -hex 32`"
            ));
        }
        if self.entries.len() == MAX_KEYS {
            return refused(format!("more than {MAX_KEYS} keys"));
        }
        self.entries.push((scope, Sha256::digest(key).into()));
        Ok(())
    }

    /// Reads keys from a file with one `read KEY` or `write KEY` per line; empty lines and lines from `#` on are skipped.
    ///
    /// # Errors
    /// [`ServeError::Config`] for a file that cannot be read, [`ServeError::Keys`] for one that holds no key or has a line of another form.
    pub fn from_file(path: &Path) -> Result<Self, ServeError> {
        let origin = path.display().to_string();
        let refused = |problem: String| ServeError::Keys {
            origin: origin.clone(),
            problem,
        };
        let bytes = read_at_most(path, MAX_FILE_BYTES).map_err(|error| ServeError::Config {
            key: "keys".into(),
            problem: error.to_string(),
        })?;
        let text = String::from_utf8(bytes).map_err(|_| refused("is not UTF-8 text".to_owned()))?;
        let mut keys = Self::default();
        for (number, line) in (1..).zip(text.lines().map(str::trim)) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (scope, key) = match line.split_once(char::is_whitespace) {
                Some(("read", key)) => (Scope::Read, key.trim()),
                Some(("write", key)) => (Scope::Write, key.trim()),
                _ => {
                    let problem = format!("line {number}: expected `read KEY` or `write KEY`");
                    return Err(refused(problem));
                }
            };
            keys.add(scope, key, &format!("{origin}, line {number}"))?;
        }
        if keys.is_empty() {
            return Err(refused("holds no key; add a line `write KEY`".to_owned()));
        }
        warn_if_readable_by_others(path);
        Ok(keys)
    }

    /// Reads one key per scope from [`KEY_VARIABLES`]; none where no variable is set.
    ///
    /// # Errors
    /// [`ServeError::Keys`] for a variable that holds no usable key.
    pub fn from_environment() -> Result<Self, ServeError> {
        let mut keys = Self::default();
        for (variable, scope) in KEY_VARIABLES {
            if let Some(key) = std::env::var_os(variable) {
                keys.add(scope, &key.to_string_lossy(), variable)?;
            }
        }
        Ok(keys)
    }

    /// Joins two sets of keys.
    pub fn merge(&mut self, other: Self) {
        self.entries.extend(other.entries);
    }

    /// How many keys have a scope.
    pub fn count(&self, scope: Scope) -> usize {
        let of_scope = self.entries.iter().filter(|(of, _)| *of == scope);
        of_scope.count()
    }

    /// What a presented key allows. Takes the same time for every key, known or not.
    pub(crate) fn scope(&self, presented: &str) -> Option<Scope> {
        let digest: [u8; 32] = Sha256::digest(presented).into();
        let mut allowed = 0u8;
        for (scope, known) in &self.entries {
            let level = match scope {
                Scope::Read => 1,
                Scope::Write => 2,
            };
            let better = known.ct_eq(&digest) & Choice::from(u8::from(level > allowed));
            allowed = u8::conditional_select(&allowed, &level, better);
        }
        match allowed {
            0 => None,
            1 => Some(Scope::Read),
            _ => Some(Scope::Write),
        }
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({} of them)", self.entries.len())
    }
}

#[cfg(unix)]
fn warn_if_readable_by_others(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    if fs_err::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0) {
        tracing::warn!(
            path = %path.display(),
            "other users of this machine can read the key file; chmod 600 it"
        );
    }
}

#[cfg(not(unix))]
fn warn_if_readable_by_others(_: &Path) {}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: &str = "read-key-0123456789";
    const WRITE: &str = "write-key-0123456789";

    #[test]
    fn keys_have_scopes() {
        let mut keys = Keys::default();
        keys.add(Scope::Write, WRITE, "test").unwrap();
        keys.add(Scope::Read, READ, "test").unwrap();
        assert_eq!(keys.scope(READ), Some(Scope::Read));
        assert_eq!(keys.scope(WRITE), Some(Scope::Write));
        assert_eq!(keys.scope("write-key-012345678"), None);
        assert_eq!(keys.scope(""), None);
        // The same key with both scopes has the larger one.
        keys.add(Scope::Write, READ, "test").unwrap();
        assert_eq!(keys.scope(READ), Some(Scope::Write));
        assert!(!format!("{keys:?}").contains("0123"));
    }

    #[test]
    fn weak_keys_are_refused_without_being_repeated() {
        let mut keys = Keys::default();
        for key in ["", "short", "with space in it 123", &"k".repeat(257)] {
            let error = keys
                .add(Scope::Read, key, "PERENNIAL_READ_KEY")
                .unwrap_err();
            let text = error.to_string();
            assert!(text.starts_with("PERENNIAL_READ_KEY"), "{text}");
            assert!(key.len() < 2 || !text.contains(key), "{text}");
        }
    }

    #[test]
    fn files_are_read_line_by_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        std::fs::write(&path, format!("# team\nread {READ}\n\nwrite\t{WRITE}\n")).unwrap();
        assert_eq!(Keys::from_file(&path).unwrap().entries.len(), 2);
        for (content, says) in [
            ("", "holds no key"),
            ("admin 0123456789012345", "line 1"),
            ("read 0123456789012345\nwrite x", "line 2"),
        ] {
            std::fs::write(&path, content).unwrap();
            let error = Keys::from_file(&path).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
        assert!(Keys::from_file(&folder.path().join("missing")).is_err());
    }
}
