//! Metadata of a checkpoint and the files beside it: the network's input and classes.

use std::path::Path;

use perennial_core::{Classifier, EmbeddingSource, ModelVersion, sha256_hex};
use serde_json::{Map, Value};

use super::file::CheckpointFile;

/// The longest description that is read.
const MAX_BYTES: u64 = 1 << 20;

/// A value and where it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Found<T> {
    /// The value, not checked.
    pub value: T,
    /// A file's name, or the header of the checkpoint.
    pub source: String,
}

/// Metadata of a checkpoint beyond its tensors. Every value may be absent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Description {
    /// Channel means of the input.
    pub mean: Option<Found<Vec<f32>>>,
    /// Channel standard deviations of the input.
    pub std: Option<Found<Vec<f32>>>,
    /// Rows and columns of the input.
    pub size: Option<Found<usize>>,
    /// Classes that the model was trained on.
    pub classes: Option<Found<usize>>,
    /// The classifier, where the file is the weights of a registry's version.
    pub classifier: Option<Found<Classifier>>,
    /// What the embedding is, as for the classifier.
    pub embedding: Option<Found<EmbeddingSource>>,
}

impl Description {
    /// Collects what is said by the text entries in the header of a safetensors file, by a `model.toml` of Perennial that
    /// belongs to exactly these weights, and by a `config.json` (timm) or `preprocessor_config.json` (transformers) in the same
    /// folder. The first that names a value counts. Files that cannot be parsed are ignored.
    pub fn beside(path: &Path, file: &CheckpointFile) -> Self {
        let mut description = Self::default();
        if !file.metadata().is_empty() {
            let entries = file.metadata().iter().map(|(key, text)| {
                // Entries are text; numbers and lists are written as JSON in them.
                let value = serde_json::from_str(text).unwrap_or_else(|_| text.as_str().into());
                (key.clone(), value)
            });
            description.add(&entries.collect(), "the header of the file");
        }
        let Some(folder) = path.parent() else {
            return description;
        };
        let text = |name: &str| {
            let bytes = perennial_core::read_at_most(folder.join(name), MAX_BYTES).ok()?;
            String::from_utf8(bytes).ok()
        };
        if let Some(version) = text("model.toml").and_then(|text| own_version(&text, path)) {
            description.add_version(&version);
        }
        for name in ["config.json", "preprocessor_config.json"] {
            let value = text(name).and_then(|text| serde_json::from_str(&text).ok());
            if let Some(Value::Object(entries)) = value {
                description.add(&entries, name);
            }
        }
        description
    }

    fn add(&mut self, entries: &Map<String, Value>, source: &str) {
        let nested = ["pretrained_cfg", "config"];
        let tables = || {
            let nested = nested
                .iter()
                .filter_map(|key| entries.get(*key)?.as_object());
            nested.chain([entries])
        };
        let find =
            |keys: &[&str]| tables().find_map(|table| keys.iter().find_map(|key| table.get(*key)));
        set(
            &mut self.mean,
            find(&["mean", "image_mean"]).and_then(numbers),
            source,
        );
        set(
            &mut self.std,
            find(&["std", "image_std"]).and_then(numbers),
            source,
        );
        let size = find(&["input_size", "image_size", "crop_size", "size"]);
        set(&mut self.size, size.and_then(side), source);
        let classes = find(&["num_classes", "num_labels"]).and_then(whole);
        // Feature extractors have 0 here, meaning no classes.
        set(
            &mut self.classes,
            classes.filter(|classes| *classes > 0),
            source,
        );
    }

    fn add_version(&mut self, version: &ModelVersion) {
        let source = "model.toml";
        let Some(network) = version.network() else {
            return;
        };
        let [_, height, width] = network.architecture.input;
        set(
            &mut self.mean,
            Some(network.preprocessing.mean.clone()),
            source,
        );
        set(
            &mut self.std,
            Some(network.preprocessing.std.clone()),
            source,
        );
        set(&mut self.size, (height == width).then_some(height), source);
        let classes = network.classifier.classes;
        set(&mut self.classes, (classes > 0).then_some(classes), source);
        set(
            &mut self.classifier,
            Some(network.classifier.clone()),
            source,
        );
        set(
            &mut self.embedding,
            Some(network.architecture.embedding),
            source,
        );
    }
}

fn set<T>(slot: &mut Option<Found<T>>, value: Option<T>, source: &str) {
    if slot.is_none() {
        *slot = value.map(|value| Found {
            value,
            source: source.to_owned(),
        });
    }
}

/// The version that a `model.toml` describes, if the weights beside it are its own.
fn own_version(text: &str, path: &Path) -> Option<ModelVersion> {
    let version = ModelVersion::from_toml(text).ok()?;
    let weights = perennial_core::read_at_most(path, version.weights_bytes).ok()?;
    (sha256_hex(&weights) == version.weights_sha256).then_some(version)
}

fn numbers(value: &Value) -> Option<Vec<f32>> {
    let numbers = value.as_array()?.iter();
    numbers
        .map(|number| number.as_f64().map(|number| number as f32))
        .collect()
}

fn whole(value: &Value) -> Option<usize> {
    usize::try_from(value.as_u64()?).ok()
}

/// The side of a square: a number, `[channels, height, width]`, or a table of sides.
fn side(value: &Value) -> Option<usize> {
    let square =
        |height: &Value, width: &Value| whole(height).filter(|side| whole(width) == Some(*side));
    match value {
        Value::Array(sides) => match &sides[..] {
            [_, height, width] | [height, width] => square(height, width),
            _ => None,
        },
        Value::Object(table) => match (table.get("height"), table.get("width")) {
            (Some(height), Some(width)) => square(height, width),
            _ => None,
        },
        number => whole(number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Description {
        let mut description = Description::default();
        let value: Value = serde_json::from_str(text).unwrap();
        description.add(value.as_object().unwrap(), "x");
        description
    }

    #[test]
    fn other_tools_configurations_are_understood() {
        let timm = read(
            r#"{"architecture": "resnet18", "num_classes": 10, "pretrained_cfg":
               {"input_size": [3, 224, 224], "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}}"#,
        );
        assert_eq!(timm.size.unwrap().value, 224);
        assert_eq!(timm.classes.unwrap().value, 10);
        assert_eq!(timm.mean.unwrap().value, [0.485, 0.456, 0.406]);
        let transformers = read(
            r#"{"size": {"height": 32, "width": 32}, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}"#,
        );
        assert_eq!(transformers.size.unwrap().value, 32);
        assert_eq!(transformers.std.unwrap().value, [0.5; 3]);
        assert_eq!(transformers.classes, None);
    }

    #[test]
    fn what_is_no_value_says_nothing() {
        for text in [
            r#"{"size": {"shortest_edge": 224}}"#,
            r#"{"input_size": [3, 224, 192], "mean": "imagenet", "num_classes": 0}"#,
            r#"{"mean": [0.5, "x", 0.5], "num_classes": -3, "image_size": 1.5}"#,
        ] {
            assert_eq!(read(text), Description::default(), "{text}");
        }
    }
}
