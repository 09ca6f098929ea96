//! Publishing a version with the encoder of another program: tried first, and with its canaries.

use std::path::PathBuf;

use perennial_core::outside_encoder::CANARY_FILE;
use perennial_core::{ModelVersion, Registry, VersionDraft};
use perennial_upgrade::{LoadedModel, canaries_of, self_check};

use crate::arguments::GlobalArguments;
use crate::model_loading::VersionLoader;

/// Publishes a draft with its files, each under the name given with it, after the encoder has embedded in a folder aside: a version that does
/// not work leaves nothing behind. `name` is that of the encoder in errors.
pub fn publish_outside(
    registry: &Registry,
    draft: VersionDraft,
    mut files: Vec<(String, PathBuf)>,
    name: &str,
    global: &GlobalArguments,
) -> anyhow::Result<ModelVersion> {
    let aside = registry.trial_folder()?;
    let trial = Registry::open(aside.path())?;
    let canaries = aside.path().join(CANARY_FILE);
    let mut tried = files.clone();
    if draft
        .encoder
        .outside()
        .is_some_and(|it| it.endpoint.is_some())
    {
        // The canaries are all that such a version has, and are made with it.
        fs_err::write(&canaries, "none yet")?;
        tried.push((CANARY_FILE.to_owned(), canaries.clone()));
    }
    let version = trial.publish_files(draft.clone(), &tried)?;
    let model = LoadedModel::without_canaries(&VersionLoader::of(global)?, &trial, version)
        .map_err(|error| anyhow::anyhow!("{name}: {}", error.problem))?;
    let not_working = |problem: String| anyhow::anyhow!("{name}: {problem}");
    self_check::run(&model).map_err(not_working)?;
    fs_err::write(&canaries, canaries_of(&model).map_err(not_working)?)?;
    drop(model);
    files.push((CANARY_FILE.to_owned(), canaries));
    Ok(registry.publish_files(draft, &files)?)
}

/// Publishes a version that is `parent` with another linear layer, whose file's content is given: all weights of a network that was trained here,
/// or the layer behind an encoder of another program, which keeps its files.
pub fn publish_layered(
    registry: &Registry,
    parent: &ModelVersion,
    draft: VersionDraft,
    content: &[u8],
    global: &GlobalArguments,
) -> anyhow::Result<ModelVersion> {
    let Some(outside) = draft.encoder.outside() else {
        return Ok(registry.publish(draft, content)?);
    };
    let head = outside.head.as_ref();
    let head = head.ok_or_else(|| anyhow::anyhow!("a layered version has a layer"))?;
    let aside = registry.trial_folder()?;
    let layer = aside.path().join("layer");
    fs_err::write(&layer, content)?;
    let own = outside.files.iter().map(|file| {
        let name = file.name.clone();
        (name, registry.file_path(parent, &file.name))
    });
    let files: Vec<(String, PathBuf)> = own.chain([(head.file.clone(), layer)]).collect();
    publish_outside(registry, draft, files, &parent.name, global)
}
