//! Which class owns which simplex vertex.
//!
//! Pre-trained models and local tasks share one simplex: pre-training places its classes from the front, local
//! fine-tuning from the back, so that a replacement's classes and the local ones never share a vertex.

use serde::{Deserialize, Serialize};

use crate::simplex::SimplexError;

/// The end of the simplex from which classes are placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VertexEnd {
    /// Class `y` at vertex `y`: pre-training.
    Front,
    /// Class `y` at vertex `K - 1 - y`, below skipped vertices: local fine-tuning.
    Back,
}

/// The assignment of classes to vertices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VertexMap {
    /// Vertices of the simplex, `K`.
    pub vertices: usize,
    /// The end of the simplex at which class 0 is placed.
    pub end: VertexEnd,
    /// Vertices at that end that belong to others: class 0 is placed next to them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub skipped: usize,
}

/// Left out of files then, whose text stays that from before the key existed.
pub(crate) fn is_zero(number: &usize) -> bool {
    *number == 0
}

impl VertexMap {
    /// The vertex of a class, or `None` when the simplex has no vertex left for it.
    pub fn vertex(&self, class: usize) -> Option<usize> {
        let place = self.skipped.checked_add(class)?;
        let mirrored = self.vertices.checked_sub(1)?.checked_sub(place)?;
        Some(match self.end {
            VertexEnd::Front => place,
            VertexEnd::Back => mirrored,
        })
    }
}

/// Checks that pre-trained classes (from the front) and local classes (from the back) claim no vertex twice.
///
/// # Errors
/// [`SimplexError::Collision`], which names both vertex ranges and the number of vertices that would do.
pub fn check_disjoint(
    vertices: usize,
    pretrained_classes: usize,
    local_classes: usize,
) -> Result<(), SimplexError> {
    match pretrained_classes.checked_add(local_classes) {
        Some(needed) if needed <= vertices => Ok(()),
        _ => Err(SimplexError::Collision {
            vertices,
            pretrained: pretrained_classes,
            local: local_classes,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_start_at_their_end() {
        let front = VertexMap {
            vertices: 1024,
            end: VertexEnd::Front,
            skipped: 0,
        };
        let back = VertexMap {
            vertices: 1024,
            end: VertexEnd::Back,
            skipped: 0,
        };
        assert_eq!(
            (front.vertex(0), front.vertex(1023), front.vertex(1024)),
            (Some(0), Some(1023), None)
        );
        assert_eq!(
            (back.vertex(0), back.vertex(1023), back.vertex(1024)),
            (Some(1023), Some(0), None)
        );
        assert_eq!(
            VertexMap {
                vertices: 0,
                end: VertexEnd::Back,
                skipped: 0,
            }
            .vertex(0),
            None
        );
    }

    #[test]
    fn skipped_vertices_are_next_to_the_end() {
        let map = |end| VertexMap {
            vertices: 10,
            end,
            skipped: 3,
        };
        let (front, back) = (map(VertexEnd::Front), map(VertexEnd::Back));
        assert_eq!(
            (front.vertex(0), front.vertex(6), front.vertex(7)),
            (Some(3), Some(9), None)
        );
        assert_eq!(
            (back.vertex(0), back.vertex(6), back.vertex(7)),
            (Some(6), Some(0), None)
        );
        assert_eq!(back.vertex(usize::MAX), None);
    }

    #[test]
    fn disjoint_up_to_the_last_vertex() {
        assert_eq!(check_disjoint(1024, 924, 100), Ok(()));
        assert_eq!(check_disjoint(1024, 0, 0), Ok(()));
        let error = check_disjoint(1024, 1000, 100).unwrap_err().to_string();
        assert!(
            error.contains("0..1000") && error.contains("924..1024"),
            "{error}"
        );
        assert!(error.contains("at least 1100"), "{error}");
    }

    #[test]
    fn counts_beyond_the_simplex_are_collisions() {
        let error = check_disjoint(10, 3, 12).unwrap_err().to_string();
        assert!(
            error.contains("0..3") && error.contains("0..10 and 2 more"),
            "{error}"
        );
        check_disjoint(10, usize::MAX, usize::MAX)
            .unwrap_err()
            .to_string();
    }

    #[test]
    fn a_disjoint_split_maps_no_vertex_twice() {
        let (pretrained, local, vertices) = (7, 5, 12);
        check_disjoint(vertices, pretrained, local).unwrap();
        let map = |end| VertexMap {
            vertices,
            end,
            skipped: 0,
        };
        let mut taken: Vec<usize> = (0..pretrained)
            .filter_map(|class| map(VertexEnd::Front).vertex(class))
            .chain((0..local).filter_map(|class| map(VertexEnd::Back).vertex(class)))
            .collect();
        taken.sort_unstable();
        assert_eq!(taken, (0..vertices).collect::<Vec<_>>());
    }

    #[test]
    fn serialises_in_lower_case() {
        let map = VertexMap {
            vertices: 8,
            end: VertexEnd::Back,
            skipped: 0,
        };
        let text = serde_json::to_string(&map).unwrap();
        assert_eq!(text, r#"{"vertices":8,"end":"back"}"#);
        assert_eq!(serde_json::from_str::<VertexMap>(&text).unwrap(), map);
    }
}
