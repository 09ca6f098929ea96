//! What identifies a bridge: a hash of everything that its map depends on.

use perennial_core::sha256_hex;

use crate::bridge::{Bridge, Step};
use crate::error::Side;
use crate::weights;

impl Bridge {
    /// The SHA-256 of the map, as 64 lower-case hexadecimal digits: both spaces, the recipes, the order of the steps, every weight, and the
    /// inputs that it was fitted on where they are recorded. The fit record is not covered. Certificates are bound to it.
    pub fn sha256(&self) -> String {
        let mut text = String::from("perennial-bridge 1\n");
        for (side, space) in [(Side::From, &self.from), (Side::To, &self.to)] {
            text += &format!("{side} {}", space.dim);
            let id = space.id.as_ref().map(|id| id.as_str());
            for known in [id, space.fingerprint.as_deref()] {
                // With its length, so that no two spaces give one text.
                text += &known.map_or(" -".to_owned(), |known| format!(" {}:{known}", known.len()));
            }
            text.push('\n');
        }
        text += &self.describe();
        for step in &self.steps {
            text += match step {
                Step::Centre(_) => "\ncentre",
                Step::Linear(_) => "\nlinear",
            };
        }
        text += &format!("\n{}\n", sha256_hex(&weights::to_bytes(self)));
        sha256_hex(text.as_bytes())
    }
}
