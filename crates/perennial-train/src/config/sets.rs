//! Which images: the sets of training and evaluation.

use std::ops::RangeInclusive;
use std::path::Path;

use perennial_data::catalogue::{NAMES, is_of_pictures};
use perennial_data::{DataError, GeneratedConfig, ImageSet};
use serde::{Deserialize, Serialize};

use crate::TrainError;

/// Pixels on a side that pictures may be scaled to.
const SIDES: RangeInclusive<usize> = 8..=512;

/// An image set, or a part of one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetConfig {
    /// `cifar10`, `cifar100`, `tinyimagenet`, `tinyimagenet32`, `cub200`, `celeba`, `fashion-mnist`, `generated` or `folder:PATH`.
    pub set: String,
    /// Which part of the set, such as `train`, `test` or `batch1`. Generated images have no parts: which ones they are, `generated` says, and
    /// two names of one table are the same images.
    #[serde(default = "default_split")]
    pub split: String,
    /// Only classes `[first, end)`, in label order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<[u32; 2]>,
    /// Without so many of the first images of each class. With the same number as [`images_per_class`](Self::images_per_class) in another set,
    /// the two share no image: a gallery and its queries, or training and validation, from one split.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub skip_images_per_class: usize,
    /// Only the first images of each class, of those that are not skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images_per_class: Option<usize>,
    /// Rows and columns of an image in pixels, 8 to 512, for sets of pictures (`tinyimagenet`, `cub200`, `celeba`, `folder:PATH`). Without it
    /// 32, or in an evaluation the most that one of the versions takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<usize>,
    /// What to draw, for `set = "generated"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generated: Option<GeneratedTable>,
}

/// The `generated` table of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GeneratedTable {
    /// Classes to draw.
    pub classes: usize,
    /// Images of each.
    pub images_per_class: usize,
    /// The first class; disjoint ranges are disjoint classes.
    #[serde(default)]
    pub first_class: u32,
    /// Which images of the classes.
    #[serde(default)]
    pub seed: u64,
    /// Rows and columns of an image in pixels, 8 to 256.
    #[serde(default = "default_size", skip_serializing_if = "is_default_size")]
    pub size: usize,
}

fn default_size() -> usize {
    GeneratedConfig::default().size
}

fn is_default_size(size: &usize) -> bool {
    *size == default_size()
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

fn default_split() -> String {
    "train".into()
}

impl SetConfig {
    /// Reads (or draws) the set. `root` is the folder that holds the downloaded sets. A set with fewer images than were
    /// published is read with a warning; [`ImageSet::completeness`] has the numbers.
    ///
    /// # Errors
    ///
    /// A missing or malformed file, or a selection that leaves nothing.
    pub fn load(&self, root: &Path) -> Result<ImageSet, TrainError> {
        self.load_sized(root, perennial_data::catalogue::FOLDER_SIZE)
    }

    /// The same, with pictures scaled to squares of `folder_size` pixels a side where [`size`](Self::size) does not say otherwise; sets that
    /// are no pictures have a size of their own.
    /// What a folder holds besides usable pictures is logged.
    ///
    /// # Errors
    ///
    /// Those of [`load`](Self::load).
    pub fn load_sized(&self, root: &Path, folder_size: usize) -> Result<ImageSet, TrainError> {
        self.check()?;
        let folder_size = self.picture_size(folder_size)?;
        let mut set = match &self.generated {
            Some(table) => perennial_data::generate(&GeneratedConfig {
                classes: table.classes,
                images_per_class: table.images_per_class,
                size: table.size,
                seed: table.seed,
                first_class: table.first_class,
            })
            .map_err(|error| TrainError::config("data.generated", &error.to_string()))?,
            None => match self.set.strip_prefix("folder:") {
                Some(path) => self.load_folder(Path::new(path), folder_size)?,
                None => perennial_data::open_sized(root, &self.set, &self.split, folder_size)?,
            },
        };
        if let Some(completeness) = set.completeness().filter(|found| found.is_partial()) {
            tracing::warn!(
                "{} {} is a partial set: {completeness}",
                self.set,
                self.split
            );
        }
        if set.channels() == 1 {
            set = set.into_rgb()?;
        }
        if let Some([first, end]) = self.classes {
            if end as usize > set.classes() {
                return Err(TrainError::config(
                    "data.classes",
                    &format!(
                        "[{first}, {end}) is not a range within the set's {} classes",
                        set.classes()
                    ),
                ));
            }
            set = set.filter_classes(first..end);
        }
        if self.skip_images_per_class > 0 {
            set = set.after_first_per_class(self.skip_images_per_class);
        }
        if let Some(count) = self.images_per_class {
            set = set.first_per_class(count);
        }
        if set.is_empty() {
            return Err(nothing_left());
        }
        Ok(set)
    }

    /// Checks what can be told without the images.
    ///
    /// # Errors
    ///
    /// The first key with an invalid value, as a key of `data`; [`TrainError::of_set`] renames it.
    pub(crate) fn check(&self) -> Result<(), TrainError> {
        self.picture_size(perennial_data::catalogue::FOLDER_SIZE)?;
        let problem = match (&self.generated, self.set == "generated") {
            (Some(_), false) => Some("is only allowed with set = \"generated\"; remove it"),
            (None, true) => {
                Some("set = \"generated\" needs it: { classes = 20, images_per_class = 100 }")
            }
            _ => None,
        };
        if let Some(problem) = problem {
            return Err(TrainError::config("data.generated", problem));
        }
        if let Some([first, end]) = self.classes.filter(|[first, end]| first >= end) {
            return Err(TrainError::config(
                "data.classes",
                &format!(
                    "[{first}, {end}) holds no class; the second number is one beyond the last class"
                ),
            ));
        }
        match self.images_per_class {
            Some(0) => Err(nothing_left()),
            _ => Ok(()),
        }
    }

    /// The side that pictures are scaled to: [`size`](Self::size), or `otherwise`.
    ///
    /// # Errors
    ///
    /// A size for a set that has its own, and sizes that no network takes.
    pub fn picture_size(&self, otherwise: usize) -> Result<usize, TrainError> {
        let Some(size) = self.size else {
            return Ok(otherwise);
        };
        let problem = if self.set == "generated" {
            "generated images have the size of generated.size; set that one".to_owned()
        } else if !is_of_pictures(&self.set) {
            format!(
                "only sets of pictures are scaled, and {} is none; remove it, or correct the set's name",
                self.set
            )
        } else if !SIDES.contains(&size) {
            format!(
                "must be within [{}, {}], got {size}",
                SIDES.start(),
                SIDES.end()
            )
        } else {
            return Ok(size);
        };
        Err(TrainError::config("data.size", &problem))
    }

    fn load_folder(&self, path: &Path, size: usize) -> Result<ImageSet, TrainError> {
        if self.split != "all" && self.split != default_split() {
            return Err(perennial_data::DataError::UnknownSplit {
                set: self.set.clone(),
                split: self.split.clone(),
                known: "all".to_owned(),
            }
            .into());
        }
        let read = perennial_data::folder::read(path, size)?;
        if let Some(summary) = read.left_out.summary() {
            tracing::warn!("{}: {summary}", path.display());
        }
        Ok(read.images)
    }

    /// A short text that names the selection, for `model.toml`.
    pub fn describe(&self) -> String {
        let mut text = format!("{}/{}", self.set, self.split);
        if let Some([first, end]) = self.classes {
            text.push_str(&format!(" classes {first}..{end}"));
        }
        if self.skip_images_per_class > 0 {
            text.push_str(&format!(
                " without the first {} per class",
                self.skip_images_per_class
            ));
        }
        if let Some(count) = self.images_per_class {
            text.push_str(&format!(" first {count} per class"));
        }
        if let Some(size) = self.size {
            text.push_str(&format!(" {size}x{size}"));
        }
        if let Some(table) = &self.generated {
            let end = table.first_class as usize + table.classes;
            text.push_str(&format!(
                " classes {}..{end} x {}",
                table.first_class, table.images_per_class
            ));
        }
        text
    }
}

fn nothing_left() -> TrainError {
    TrainError::config(
        "data",
        "the selection leaves no images; change classes, skip_images_per_class or images_per_class",
    )
}

/// The probe sets of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluationConfig {
    /// Images that are searched for.
    pub queries: SetConfig,
    /// Images that are searched in.
    pub gallery: SetConfig,
}

impl EvaluationConfig {
    /// Checks what can be told without the images, before a training whose versions could then not be measured.
    ///
    /// # Errors
    ///
    /// The first key with an invalid value.
    pub(crate) fn check(&self) -> Result<(), TrainError> {
        for (place, set) in [
            ("evaluation.queries", &self.queries),
            ("evaluation.gallery", &self.gallery),
        ] {
            set.check().map_err(|error| error.of_set(place))?;
            let name = set.set.as_str();
            if !name.starts_with("folder:") && !NAMES.contains(&name) {
                let unknown = DataError::UnknownSet {
                    name: name.to_owned(),
                    known: NAMES.join(", "),
                };
                return Err(TrainError::config(
                    &format!("{place}.set"),
                    &unknown.to_string(),
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images(selection: &str) -> Result<(ImageSet, String), TrainError> {
        let text = format!(
            "set = 'generated'\ngenerated = {{ classes = 3, images_per_class = 5, size = 8 }}\n{selection}"
        );
        let config: SetConfig = toml::from_str(&text).unwrap();
        Ok((config.load(Path::new("."))?, config.describe()))
    }

    #[test]
    fn one_split_gives_two_sets_without_common_images() {
        let (all, _) = images("").unwrap();
        let (first, _) = images("images_per_class = 2").unwrap();
        let (rest, text) = images("skip_images_per_class = 2").unwrap();
        assert_eq!((first.len(), rest.len()), (6, 9));
        assert!(text.contains("without the first 2 per class"), "{text}");
        let of = |set: &ImageSet| -> Vec<Vec<u8>> {
            (0..set.len()).map(|at| set.image(at).to_vec()).collect()
        };
        let mut both = [of(&first), of(&rest)].concat();
        let mut whole = of(&all);
        both.sort();
        whole.sort();
        assert_eq!(both, whole);
        // Both keys: the first of those that are not skipped.
        let (middle, _) = images("skip_images_per_class = 2\nimages_per_class = 1").unwrap();
        assert_eq!(of(&middle)[0], of(&rest)[0]);
        assert_eq!(middle.len(), 3);
        let error = images("skip_images_per_class = 5").unwrap_err().to_string();
        assert!(error.contains("leaves no images"), "{error}");
    }
}
