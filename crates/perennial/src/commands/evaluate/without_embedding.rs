//! Images of which a version has no embedding, counted.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Images of which a version has no embedding, since its network's output for them is all zeros.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WithoutEmbedding {
    /// The version.
    pub version: String,
    /// Queries, which count as missed.
    pub queries: usize,
    /// Gallery images, which count as never found.
    pub gallery: usize,
    /// Images to fit on, which are left out.
    pub fit: usize,
}

impl fmt::Display for WithoutEmbedding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            version,
            queries,
            gallery,
            fit,
        } = self;
        write!(
            f,
            "{version} has no embedding (all zeros) of {queries} queries and {gallery} gallery images, which count as missed and never found"
        )?;
        if *fit > 0 {
            write!(f, ", and of {fit} images to fit on, which are left out")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_to_fit_on_are_named_where_there_are_any() {
        let of = |fit| WithoutEmbedding {
            version: "v0002".to_owned(),
            queries: 1,
            gallery: 2,
            fit,
        };
        let found = "v0002 has no embedding (all zeros) of 1 queries and 2 gallery images, which count as missed and never found";
        assert_eq!(of(0).to_string(), found);
        let both = format!("{found}, and of 3 images to fit on, which are left out");
        assert_eq!(of(3).to_string(), both);
    }
}
