//! Whether items of a version may be stored, and when what `--force` overruled counts.

use std::sync::Once;

use perennial_core::ModelVersion;
use perennial_gallery::{EmbeddedGallery, VectorStore};
use perennial_upgrade::{Certification, Insertion, NotCertified, Stored};

use super::super::rules::{BY_FORCE, require_certified};
use crate::exit_status::gate_missed;

/// Permission to store items of one version.
#[must_use = "pairs that are stored by force are accepted once they are written"]
pub struct Admission<'a> {
    rules: &'a Certification,
    overruled: Vec<NotCertified>,
    accepted: Once,
}

impl<'a> Admission<'a> {
    /// Checks, before minutes of embedding, whether items of a version may be stored. An empty gallery takes on its simplex.
    ///
    /// **Errors**: uncertified pairs and another simplex, unless `force` is given.
    pub fn check(
        rules: &'a Certification,
        gallery: &EmbeddedGallery,
        version: &ModelVersion,
        force: bool,
    ) -> anyhow::Result<Self> {
        let stored = Stored::of(gallery)?;
        // A registry may have several galleries, so its live version need not be the one that searches this one.
        let insertion = Insertion::check(rules, &[version], &stored, None);
        if !force {
            require_certified(&insertion.refused, BY_FORCE)?;
            if let Some(problem) = &insertion.other_simplex {
                return Err(gate_missed(format!(
                    "{problem}; use another gallery, or pass --force to store the items anyway"
                )));
            }
        }
        for space in &insertion.new_spaces {
            gallery.create_space(space)?;
        }
        Ok(Self {
            rules,
            overruled: insertion.refused,
            accepted: Once::new(),
        })
    }

    /// Items are stored. What force overruled is accepted only now: an addition that stores nothing accepts nothing. Where the process ends in between,
    /// the items are there and not searched, as every answer says, until they are added by force again, also where nothing is left to store.
    pub fn written(&self) {
        self.accepted
            .call_once(|| self.rules.accept(&self.overruled));
    }
}
