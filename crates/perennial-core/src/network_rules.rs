//! What `model.toml` may say of a network that was trained here, and the checks of single values.

use crate::classifier::{Classifier, ClassifierKind};
use crate::simplex::Simplex;
use crate::version::{EmbeddingSource, Preprocessing, TrainedNetwork, VersionError};
use crate::vertex_map::{VertexEnd, check_disjoint};

/// Bounds against hostile files: no network has wider layers or larger images than these.
const MAX_WIDTH: usize = 1 << 16;
const MAX_INPUT: usize = 1 << 14;
const MAX_CLASSES: usize = u32::MAX as usize;
const MAX_TEXT_BYTES: usize = 4096;

pub(crate) fn check_line(key: &'static str, text: &str) -> Result<(), VersionError> {
    if text.len() > MAX_TEXT_BYTES || text.chars().any(char::is_control) {
        let problem = format!("expected one line of at most {MAX_TEXT_BYTES} bytes");
        return Err(value(key, problem));
    }
    Ok(())
}

pub(crate) fn check_network(network: &TrainedNetwork, dim: usize) -> Result<(), VersionError> {
    let architecture = &network.architecture;
    check_range("architecture.width", architecture.width, MAX_WIDTH)?;
    for size in architecture.input {
        check_range("architecture.input", size, MAX_INPUT)?;
    }
    if architecture.backbone.is_empty() {
        return Err(value("architecture.backbone", "is empty"));
    }
    check_line("architecture.backbone", &architecture.backbone)?;
    check_line("architecture.stem", &architecture.stem)?;
    check_preprocessing(&network.preprocessing, architecture.input[0])?;
    let layer = match (architecture.embedding, network.classifier.vertices) {
        (EmbeddingSource::Layer, _) => dim,
        // The embedding is something else than what the simplex needs.
        (EmbeddingSource::Features, Some(vertices)) => vertices.saturating_sub(1),
        (EmbeddingSource::Features, None) => {
            let problem = "features is for networks with a simplex, behind whose features there is a layer; remove it";
            return Err(value("architecture.embedding", problem));
        }
    };
    check_classifier(&network.classifier, layer)
}

fn check_preprocessing(preprocessing: &Preprocessing, channels: usize) -> Result<(), VersionError> {
    for (key, values) in [
        ("preprocessing.mean", &preprocessing.mean),
        ("preprocessing.std", &preprocessing.std),
    ] {
        if values.len() != channels {
            let problem = format!("has {} values for {channels} input channels", values.len());
            return Err(value(key, problem));
        }
    }
    check_mean("preprocessing.mean", &preprocessing.mean)?;
    check_std("preprocessing.std", &preprocessing.std)
}

pub(crate) fn check_mean(key: &'static str, mean: &[f32]) -> Result<(), VersionError> {
    if mean.iter().all(|mean| mean.is_finite()) {
        return Ok(());
    }
    Err(value(key, "holds a value that is not finite"))
}

pub(crate) fn check_std(key: &'static str, std: &[f32]) -> Result<(), VersionError> {
    if std.iter().all(|std| std.is_normal() && *std > 0.0) {
        return Ok(());
    }
    Err(value(key, "holds a value that is not positive and finite"))
}

pub(crate) fn check_classifier(classifier: &Classifier, dim: usize) -> Result<(), VersionError> {
    // An imported encoder may have been trained without classes.
    if classifier.classes > MAX_CLASSES {
        return Err(value(
            "classifier.classes",
            format!("exceeds {MAX_CLASSES}"),
        ));
    }
    match (classifier.kind, classifier.vertices, classifier.vertex_end) {
        (ClassifierKind::Linear, None, None) if classifier.skipped_vertices == 0 => Ok(()),
        (ClassifierKind::Linear, ..) => Err(value(
            "classifier.vertices",
            "a linear classifier has neither vertices nor vertex_end nor skipped_vertices; remove them",
        )),
        (ClassifierKind::Simplex, Some(vertices), Some(end)) => {
            let simplex = Simplex::new(vertices)?;
            if simplex.dim() != dim {
                let problem = format!(
                    "a simplex of {vertices} vertices needs dim {}, not {dim}",
                    simplex.dim()
                );
                return Err(value("classifier.vertices", problem));
            }
            let skipped = classifier.skipped_vertices;
            let local = match end {
                VertexEnd::Front if skipped > 0 => {
                    let problem = "classes at the front skip no vertices; remove it";
                    return Err(value("classifier.skipped_vertices", problem));
                }
                VertexEnd::Front => 0,
                VertexEnd::Back => classifier.classes.saturating_add(skipped),
            };
            let front = match end {
                VertexEnd::Front => classifier.classes.max(classifier.pretrained_classes),
                VertexEnd::Back => classifier.pretrained_classes,
            };
            Ok(check_disjoint(vertices, front, local)?)
        }
        (ClassifierKind::Simplex, ..) => Err(value(
            "classifier.vertices",
            "a simplex classifier needs both vertices and vertex_end",
        )),
    }
}

pub(crate) fn check_range(
    key: &'static str,
    number: usize,
    max: usize,
) -> Result<(), VersionError> {
    if (1..=max).contains(&number) {
        return Ok(());
    }
    Err(value(key, format!("{number} is not between 1 and {max}")))
}

pub(crate) fn value(key: &'static str, problem: impl Into<String>) -> VersionError {
    VersionError::Value {
        key,
        problem: problem.into(),
    }
}
