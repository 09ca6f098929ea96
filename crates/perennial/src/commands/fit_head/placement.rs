//! Which vertices of the simplex the classes take.

use perennial_core::{Classifier, ModelVersion, Registry, VertexEnd};
use perennial_train::objective::DEFAULT_VERTICES;
use perennial_train::skipped_vertices;
use serde::Serialize;

use super::inputs::Inputs;
use crate::exit_status::usage;

/// What was asked for.
pub struct Asked<'a> {
    pub vertices: Option<usize>,
    pub end: Option<VertexEnd>,
    pub slot: Option<&'a str>,
}

/// Where class 0 is, and which way the others go.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Placement {
    pub vertices: usize,
    pub vertex_end: VertexEnd,
    pub skipped_vertices: usize,
}

impl Placement {
    /// As asked for; otherwise where the older version has its classes, which have the same numbers.
    pub fn find(
        asked: &Asked<'_>,
        registry: Option<&Registry>,
        older: Option<&ModelVersion>,
        inputs: &Inputs,
    ) -> anyhow::Result<Self> {
        let of_reference = inputs.reference.as_ref().map(|rows| rows.dim + 1);
        let vertices = asked.vertices.or(of_reference).unwrap_or(DEFAULT_VERTICES);
        let classes = inputs.class_count;
        let places = |end, slot: Option<&str>| -> anyhow::Result<Self> {
            let skipped_vertices = match registry {
                Some(registry) => skipped_vertices(registry, vertices, classes, end, slot)?,
                None => 0,
            };
            Ok(Self {
                vertices,
                vertex_end: end,
                skipped_vertices,
            })
        };
        if let Some(owner) = asked.slot {
            if registry.is_none() {
                return Err(usage(format!(
                    "--slot {owner}: there is no registry with slots; name it with --registry"
                )));
            }
            return places(VertexEnd::Back, Some(owner));
        }
        if let Some(end) = asked.end {
            return places(end, None);
        }
        match older.and_then(ModelVersion::classifier) {
            Some(classifier) if classifier.vertices == Some(vertices) => {
                Self::as_reference(classifier, vertices, classes, places)
            }
            _ => places(VertexEnd::Front, None),
        }
    }

    /// The older version's own place, as far as its classes reach; beyond them the slots decide.
    fn as_reference(
        classifier: &Classifier,
        vertices: usize,
        classes: usize,
        places: impl Fn(VertexEnd, Option<&str>) -> anyhow::Result<Self>,
    ) -> anyhow::Result<Self> {
        let end = classifier.vertex_end.unwrap_or(VertexEnd::Front);
        let skipped = classifier.skipped_vertices;
        if classes <= classifier.classes {
            return Ok(Self {
                vertices,
                vertex_end: end,
                skipped_vertices: skipped,
            });
        }
        if skipped > 0 {
            return Err(usage(format!(
                "the version of --reference has {} classes below {skipped} vertices of others, but the labels name {classes}; pass --slot OWNER",
                classifier.classes
            )));
        }
        places(end, None)
    }

    /// In words.
    pub fn describe(&self) -> String {
        match (self.vertex_end, self.skipped_vertices) {
            (VertexEnd::Front, _) => "from the front".to_owned(),
            (VertexEnd::Back, 0) => "from the back".to_owned(),
            (VertexEnd::Back, skipped) => format!("from the back, below {skipped} of others"),
        }
    }
}
