//! Whole numbers on the command line.

/// A whole number within limits, so that a typing error does not ask for all memory.
pub fn within<const LEAST: usize, const MOST: usize>(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(value) if (LEAST..=MOST).contains(&value) => Ok(value),
        _ => Err(format!("not a whole number from {LEAST} to {MOST}")),
    }
}
