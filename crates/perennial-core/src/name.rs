//! Names of model versions and spaces: one limit, wherever a name is read or stored.

use thiserror::Error;

/// The longest name of a model version or a space, in bytes.
pub const MAX_NAME_BYTES: usize = 128;

/// A name that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("name {name:?} must be 1 to {MAX_NAME_BYTES} bytes without control characters")]
pub struct NameError {
    /// The start of the name.
    pub name: String,
}

/// Says whether a text can name a model version or a space.
///
/// # Errors
/// [`NameError`] for a text that is empty, longer than [`MAX_NAME_BYTES`], or holds a control character.
pub fn check_name(name: &str) -> Result<(), NameError> {
    if (1..=MAX_NAME_BYTES).contains(&name.len()) && !name.chars().any(char::is_control) {
        return Ok(());
    }
    Err(NameError {
        name: name.chars().take(MAX_NAME_BYTES).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_must_be_printable_and_short() {
        for name in [
            "v0001",
            "text-embedding-3-large",
            "ä b/c",
            &"v".repeat(MAX_NAME_BYTES),
        ] {
            assert_eq!(check_name(name), Ok(()));
        }
        for name in ["", "a\nb", &"v".repeat(MAX_NAME_BYTES + 1)] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
    }
}
