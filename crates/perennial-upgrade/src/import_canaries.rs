//! Canaries of imported encoders: embeddings of fixed inputs, recorded at import among the version's own files, which every load on every
//! machine must reproduce. They notice what no checksum does: another build of the runtime, another execution provider, a processor that
//! saturates 8-bit products.

use perennial_core::outside_encoder::CANARY_FILE;
use perennial_core::{Endpoint, ModelVersion, Registry, read_at_most};

use crate::loaded_model::{EncoderLoader, LoadError, LoadedModel};
use crate::probe_file::{Compared, MAX_FILE_BYTES, Probes, metadata};

const FORMAT: &str = "perennial-canaries";

/// The file of canaries of a model, to be published with it.
///
/// **Errors**: why the fixed inputs have no embeddings.
pub fn canaries_of(model: &LoadedModel) -> Result<Vec<u8>, String> {
    let probes = Probes::generated(model).map_err(|error| error.to_string())?;
    let bytes = probes.to_bytes(FORMAT, model.version.dim, &[]);
    bytes.map_err(|error| error.to_string())
}

impl LoadedModel {
    /// Loads a version, checks that the encoder is the one that `model.toml` describes, and compares it with its canaries where it has some.
    ///
    /// # Errors
    /// [`LoadError`]: from the loader; a network that does not take square images of 1 or 3 channels; canaries that cannot be read;
    /// embeddings that differ from the recorded ones.
    pub fn load(
        loader: &dyn EncoderLoader,
        registry: &Registry,
        version: ModelVersion,
    ) -> Result<Self, LoadError> {
        let model = Self::without_canaries(loader, registry, version)?;
        let files = model.version.outside().map(|outside| &outside.files);
        let mut names = files.into_iter().flatten().map(|file| file.name.as_str());
        if names.any(|name| name == CANARY_FILE) {
            let refused = |problem: String| LoadError {
                version: model.name().to_owned(),
                problem,
            };
            let state = compare_canaries(registry, &model).map_err(refused)?;
            if let Some(problem) = state.problem {
                return Err(refused(problem));
            }
        }
        Ok(model)
    }
}

/// The canaries of a file for embeddings of `dim` values.
///
/// **Errors**: what is wrong with the file.
pub fn canaries_from(bytes: &[u8], dim: usize) -> Result<Probes, String> {
    metadata(bytes, FORMAT)?;
    Probes::from_bytes(bytes, dim)
}

/// Embeds the canaries of a model again that has some. Says how far they are from the recorded embeddings at most, as the length of a difference;
/// beyond what the version allows, which of them differs, and by how much.
///
/// **Errors**: what is wrong with the file, and why the canaries have no embeddings.
pub fn compare_canaries(registry: &Registry, model: &LoadedModel) -> Result<CanaryState, String> {
    let path = registry.file_path(&model.version, CANARY_FILE);
    let bytes = read_at_most(path, MAX_FILE_BYTES)
        .map_err(|error| format!("{CANARY_FILE} cannot be read: {}", error.kind()))?;
    let damaged = |problem: String| format!("{CANARY_FILE} {problem}");
    let canaries = canaries_from(&bytes, model.version.dim).map_err(damaged)?;
    let compared = canaries.compare(model).map_err(|error| {
        let url = endpoint_of(&model.version).map(|endpoint| endpoint.url.as_str());
        url.map_or(error.to_string(), |url| format!("{url}: {error}"))
    })?;
    Ok(match compared {
        Compared::Same(distance) => CanaryState {
            distance,
            problem: None,
        },
        Compared::Changed {
            probe,
            distance,
            tolerance,
        } => CanaryState {
            distance,
            problem: Some(format!(
                "canary {probe}: the embedding differs by {distance:.1e} from the one recorded at import (limit {tolerance:.0e}); {}",
                reason(&model.version)
            )),
        },
    })
}

/// What the embeddings of a model's canaries are now.
#[derive(Debug, Clone, PartialEq)]
pub struct CanaryState {
    /// The largest length of a difference, or that of the first one beyond the limit.
    pub distance: f64,
    /// What is wrong, if the limit is exceeded.
    pub problem: Option<String>,
}

fn endpoint_of(version: &ModelVersion) -> Option<&Endpoint> {
    version.outside()?.endpoint.as_deref()
}

fn reason(version: &ModelVersion) -> String {
    match endpoint_of(version) {
        Some(endpoint) => format!(
            "the model behind {} is another one now, or it answers less exactly than `tolerance` in model.toml allows; import it as a new version",
            endpoint.url
        ),
        None => "this build, processor or execution provider computes something else".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;

    use perennial_core::{
        EncoderKind, Graph, Modality, OutsideEncoder, Pooling, TextTower, VersionDraft,
        VersionEncoder,
    };
    use perennial_encode::{EncodeError, Encoder, Input, PrepareError, Prepared, Values};

    use super::*;
    use crate::records::tests::draft;
    use crate::stored_probes::{Checked, StoredProbes};

    /// The mean letter as an angle, turned.
    struct Letters {
        name: String,
        turn: f32,
    }

    impl Encoder for Letters {
        fn model_version(&self) -> &str {
            &self.name
        }

        fn dim(&self) -> usize {
            3
        }

        fn accepts(&self) -> &[Modality] {
            &[Modality::Text]
        }

        fn prepare(&self, input: Input<'_>) -> Result<Prepared, PrepareError> {
            self.check_modality(&input)?;
            let Input::Text { text, .. } = input else {
                return Err(PrepareError::Text("no text".to_owned()));
            };
            Ok(Prepared {
                values: Values::Tokens(text.chars().map(u32::from).collect()),
            })
        }

        fn encode(&self, batch: &[Prepared]) -> Result<Vec<f32>, EncodeError> {
            let rows = batch.iter().flat_map(|input| {
                let Values::Tokens(letters) = &input.values else {
                    panic!("texts only");
                };
                let sum: f32 = letters.iter().map(|&letter| letter as f32).sum();
                let angle = sum / letters.len() as f32 / 50.0 + self.turn;
                [angle.cos(), angle.sin(), 0.0]
            });
            Ok(rows.collect())
        }
    }

    struct Loader(f32);

    impl EncoderLoader for Loader {
        fn load(
            &self,
            registry: &Registry,
            version: ModelVersion,
        ) -> Result<Arc<dyn Encoder>, LoadError> {
            registry.verified_folder(&version).unwrap();
            Ok(Arc::new(Letters {
                name: version.name,
                turn: self.0,
            }))
        }
    }

    fn texts() -> VersionDraft {
        let text = TextTower {
            graph: Graph {
                file: "model.onnx".to_owned(),
                output: "embedding".to_owned(),
                pooling: Pooling::Mean,
            },
            tokenizer: "model.onnx".to_owned(),
            max_tokens: 16,
            query_prefix: String::new(),
            document_prefix: String::new(),
        };
        VersionDraft {
            encoder: VersionEncoder::Outside(OutsideEncoder {
                kind: EncoderKind::Onnx,
                image: None,
                text: Some(text),
                head: None,
                endpoint: None,
                files: Vec::new(),
            }),
            ..draft()
        }
    }

    #[test]
    fn a_load_that_computes_something_else_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let registry = Registry::create(folder.path().join("registry")).unwrap();
        let file = |name: &str, content: &[u8]| -> (String, PathBuf) {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            (name.to_owned(), path)
        };
        let mut files = vec![file("model.onnx", b"graph")];
        let first = registry.publish_files(texts(), &files).unwrap();
        // Without canaries, nothing is compared.
        let model = LoadedModel::load(&Loader(0.5), &registry, first.clone()).unwrap();
        drop(model);
        let model = LoadedModel::load(&Loader(0.0), &registry, first.clone()).unwrap();
        crate::self_check::run(&model).unwrap();
        assert_eq!(
            crate::self_check::warm_up(&model).unwrap(),
            "one short text encoded"
        );
        files.push(file(CANARY_FILE, &canaries_of(&model).unwrap()));

        let version = registry.publish_files(texts(), &files).unwrap();
        // What was measured is no part of what the encoder is.
        assert_eq!(version.weights_sha256, first.weights_sha256);
        assert_eq!(version.space().fingerprint, first.space().fingerprint);
        let load = |turn| LoadedModel::load(&Loader(turn), &registry, version.clone());
        assert_eq!(load(0.001).unwrap().name(), "v0002");
        let error = load(0.1).err().unwrap().to_string();
        assert!(
            error.contains("v0002") && error.contains("canary 0"),
            "{error}"
        );

        let damaged = [file("model.onnx", b"graph"), file(CANARY_FILE, b"noise")];
        let version = registry.publish_files(texts(), &damaged).unwrap();
        let error = LoadedModel::load(&Loader(0.0), &registry, version);
        let error = error.err().unwrap().to_string();
        assert!(error.contains(CANARY_FILE), "{error}");
    }

    #[test]
    fn probes_of_texts_are_stored_and_compared() {
        let folder = tempfile::tempdir().unwrap();
        let registry = Registry::create(folder.path().join("registry")).unwrap();
        let path = folder.path().join("graph");
        std::fs::write(&path, "graph").unwrap();
        let files = [("model.onnx".to_owned(), path)];
        let version = registry.publish_files(texts(), &files).unwrap();
        let load = |turn| LoadedModel::load(&Loader(turn), &registry, version.clone()).unwrap();
        let probes = StoredProbes::new(&folder.path().join("probes"));
        let model = load(0.0);
        let Checked::New(new) = probes.check(&model, false).unwrap() else {
            panic!("nothing is stored yet");
        };
        probes.keep(&model, &new).unwrap();
        let Checked::Same { distance } = probes.check(&model, true).unwrap() else {
            panic!("they are stored");
        };
        assert!(distance < 1e-6, "{distance}");
        let error = probes.check(&load(0.1), true).err().unwrap().to_string();
        assert!(error.contains("probe 0"), "{error}");
    }
}
