//! The page of the documentation about configurations.

use std::collections::BTreeSet;
use std::path::Path;

use perennial_train::config::{
    AugmentationConfig, EmbeddingConfig, EvaluationConfig, GeneratedTable, MemoryConfig,
    PreprocessingConfig, ReplacementConfig, ScenarioConfig, TrainingConfig,
};
use perennial_train::{ExperimentConfig, PretrainConfig, SetConfig};
use serde::de::DeserializeOwned;

fn page() -> String {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    std::fs::read_to_string(docs.join("configurations.md")).unwrap()
}

/// The keys of a table, which the error about one that it has not names.
fn keys<T: DeserializeOwned>() -> Vec<String> {
    let error = toml::from_str::<T>("not_a_key = 1").err().unwrap();
    let text = error.to_string();
    let named = text.split('`').skip(1).step_by(2);
    let keys: Vec<String> = named
        .filter(|&name| name != "not_a_key")
        .map(str::to_owned)
        .collect();
    assert!(!keys.is_empty(), "{text}");
    keys
}

#[test]
fn the_documentation_lists_every_key() {
    let page = page();
    // Between an odd mark and the next one is code; a fence of three marks counts as one.
    let words: BTreeSet<&str> = page
        .split('`')
        .skip(1)
        .step_by(2)
        .flat_map(|code| code.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')))
        .collect();
    let all = [
        keys::<ExperimentConfig>(),
        keys::<PretrainConfig>(),
        keys::<SetConfig>(),
        keys::<GeneratedTable>(),
        keys::<ScenarioConfig>(),
        keys::<MemoryConfig>(),
        keys::<TrainingConfig>(),
        keys::<AugmentationConfig>(),
        keys::<PreprocessingConfig>(),
        keys::<EmbeddingConfig>(),
        keys::<ReplacementConfig>(),
        keys::<EvaluationConfig>(),
    ];
    assert!(all.iter().flatten().any(|key| key == "checkpoint_epochs"));
    for key in all.iter().flatten() {
        assert!(
            words.contains(key.as_str()),
            "docs/configurations.md does not tell of the key {key}"
        );
    }
}

#[test]
fn the_example_of_the_documentation_is_a_configuration() {
    let page = page();
    let example = page.split("```toml\n").nth(1).unwrap();
    let example = example.split("```").next().unwrap();
    let config: ExperimentConfig = toml::from_str(example).unwrap();
    config.completed().check().unwrap();
}
