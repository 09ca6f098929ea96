//! `bridge.toml`: what a bridge is, without its weights. Its keys are described at [`BRIDGE_FILE`](crate::BRIDGE_FILE).

use perennial_core::SpaceRef;
use serde::{Deserialize, Serialize};

use crate::bridge::{Bridge, Part};
use crate::recipe::Recipe;
use crate::record::FitRecord;
use crate::weights::Shape;

const FORMAT: &str = "perennial-bridge";
/// Without a record of the inputs of the fit, as the first programs wrote every bridge.
const WITHOUT_INPUTS: i64 = 1;
/// With that record, in the file of weights.
const WITH_INPUTS: i64 = 2;
/// Bounds against hostile files: no encoder has wider embeddings, and no chain as many parts.
pub(crate) const MAX_DIM: usize = 1 << 16;
const MAX_STEPS: usize = 256;
const MAX_FINGERPRINT_BYTES: usize = 256;

/// The file's keys, in its order.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BridgeToml {
    format: String,
    format_version: i64,
    pub(crate) weights_sha256: String,
    pub(crate) to_centred: bool,
    pub(crate) from: SpaceRef,
    pub(crate) to: SpaceRef,
    parts: Vec<PartToml>,
    #[serde(default)]
    steps: Vec<StepToml>,
    pub(crate) fit: FitRecord,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PartToml {
    recipe: Recipe,
    #[serde(default)]
    inverted: bool,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case", deny_unknown_fields)]
enum StepToml {
    Centre { dim: usize },
    Linear { from: usize, to: usize },
}

impl BridgeToml {
    pub(crate) fn of(bridge: &Bridge, weights_sha256: String) -> Self {
        Self {
            format: FORMAT.to_owned(),
            format_version: match bridge.inputs {
                Some(_) => WITH_INPUTS,
                None => WITHOUT_INPUTS,
            },
            weights_sha256,
            to_centred: bridge.to_mean.is_some(),
            from: bridge.from.clone(),
            to: bridge.to.clone(),
            parts: bridge
                .parts
                .iter()
                .map(|part| PartToml {
                    recipe: part.recipe,
                    inverted: part.inverted,
                })
                .collect(),
            steps: bridge
                .steps
                .iter()
                .map(|step| match Shape::of(step) {
                    Shape::Centre { dim } => StepToml::Centre { dim },
                    Shape::Linear { from, to } => StepToml::Linear { from, to },
                })
                .collect(),
            fit: bridge.record.clone(),
        }
    }

    pub(crate) fn to_text(&self) -> String {
        toml::to_string(self).expect("numbers, texts and tables can be written as TOML")
    }

    /// Parses the file and checks everything that can be checked without the weights.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        // Read on its own first: a later format has unknown keys, and its version is the better explanation.
        #[derive(Deserialize)]
        struct Format {
            format: String,
            format_version: i64,
        }
        let syntax = |error: toml::de::Error| {
            let start = error.span().map_or(0, |span| span.start);
            let before = text.as_bytes().get(..start).unwrap_or_default();
            let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
            format!("line {line}: {}", error.message())
        };
        let Format {
            format,
            format_version,
        } = toml::from_str(text).map_err(syntax)?;
        if format != FORMAT {
            return Err(format!(
                "has format = {format:?}, expected {FORMAT:?}; name the folder of a bridge"
            ));
        }
        if !(WITHOUT_INPUTS..=WITH_INPUTS).contains(&format_version) {
            return Err(format!(
                "has format_version {format_version}, this program reads {WITHOUT_INPUTS} and {WITH_INPUTS}; use a newer Perennial"
            ));
        }
        let parsed: Self = toml::from_str(text).map_err(syntax)?;
        parsed.check()?;
        Ok(parsed)
    }

    fn check(&self) -> Result<(), String> {
        for (key, space) in [("from", &self.from), ("to", &self.to)] {
            if !(1..=MAX_DIM).contains(&space.dim) {
                return Err(format!(
                    "{key}.dim is {}, expected 1 to {MAX_DIM}",
                    space.dim
                ));
            }
            let strange = |text: &String| {
                text.len() > MAX_FINGERPRINT_BYTES || text.chars().any(char::is_control)
            };
            if space.fingerprint.as_ref().is_some_and(strange) {
                return Err(format!(
                    "{key}.fingerprint must be one line of at most {MAX_FINGERPRINT_BYTES} bytes"
                ));
            }
        }
        if self.parts.is_empty() || self.parts.len() > MAX_STEPS || self.steps.len() > MAX_STEPS {
            return Err(format!(
                "expected 1 to {MAX_STEPS} parts and at most {MAX_STEPS} steps"
            ));
        }
        // Each step takes what the one before it gives.
        let mut dim = self.from.dim;
        for (at, shape) in self.shapes().into_iter().enumerate() {
            let (takes, gives) = match shape {
                Shape::Centre { dim } => (dim, dim),
                Shape::Linear { from, to } => (from, to),
            };
            if takes != dim || !(1..=MAX_DIM).contains(&gives) {
                return Err(format!(
                    "steps[{at}] takes {takes} dimensions and gives {gives}, but it is given {dim} (at most {MAX_DIM} are possible)"
                ));
            }
            dim = gives;
        }
        if dim != self.to.dim {
            return Err(format!(
                "the steps give {dim} dimensions, but to.dim is {}",
                self.to.dim
            ));
        }
        self.fit.problem().map_or(Ok(()), Err)
    }

    /// Whether the file of weights records what was fitted on.
    pub(crate) fn has_inputs(&self) -> bool {
        self.format_version == WITH_INPUTS
    }

    pub(crate) fn parts(&self) -> Vec<Part> {
        let part = |part: &PartToml| Part {
            recipe: part.recipe,
            inverted: part.inverted,
        };
        self.parts.iter().map(part).collect()
    }

    pub(crate) fn shapes(&self) -> Vec<Shape> {
        let shape = |step: &StepToml| match *step {
            StepToml::Centre { dim } => Shape::Centre { dim },
            StepToml::Linear { from, to } => Shape::Linear { from, to },
        };
        self.steps.iter().map(shape).collect()
    }
}

/// Whether the start of a file is that of a `bridge.toml`.
pub(crate) fn recognise(head: &[u8]) -> bool {
    String::from_utf8_lossy(head).contains(&format!("format = \"{FORMAT}\""))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = r#"
format = "perennial-bridge"
format_version = 1
weights_sha256 = "0000"
to_centred = true
from = { dim = 3 }
to = { dim = 2, id = "old" }
parts = [{ recipe = "ridge:0.001" }]
steps = [{ step = "centre", dim = 3 }, { step = "linear", from = 3, to = 2 }]
fit = { pairs = 10 }
"#;

    #[test]
    fn values_that_do_not_fit_together_are_named() {
        assert!(BridgeToml::parse(TEXT).is_ok());
        for (change, to, problem) in [
            (
                "format_version = 1",
                "format_version = 3\nnew = 1",
                "format_version 3",
            ),
            ("perennial-bridge", "other", "format = \"other\""),
            ("to_centred", "centred", "unknown field `centred`"),
            ("dim = 3 }\n", "dim = 0 }\n", "from.dim is 0"),
            ("from = 3", "from = 4", "steps[1]"),
            ("to = 2 }]", "to = 4 }]", "to.dim is 2"),
            ("to = 2 }]", "to = 9000000 }]", "steps[1]"),
            ("ridge:0.001", "ridge:-1", "penalty"),
            ("[{ recipe = \"ridge:0.001\" }]", "[]", "1 to 256 parts"),
            ("\"old\"", "\"o\\nld\"", "name"),
            ("pairs = 10", "pairs = 10, dual_weight = nan", "dual_weight"),
            ("pairs = 10", "pairs = -10", "line 10"),
            (
                "pairs = 10",
                "pairs = 10, from_sha256 = \"x\"",
                "from_sha256",
            ),
        ] {
            let text = TEXT.replace(change, to);
            assert_ne!(text, TEXT, "{change}");
            let error = BridgeToml::parse(&text).unwrap_err();
            assert!(error.contains(problem), "{change} -> {to}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_change_of_a_byte_panics(at in 0usize..TEXT.len(), byte: u8) {
            let mut bytes = TEXT.as_bytes().to_vec();
            bytes[at] = byte;
            let _ = BridgeToml::parse(&String::from_utf8_lossy(&bytes));
        }
    }
}
