//! Image sets on the command line: `SET`, `SET:SPLIT` or `folder:PATH`.

use std::path::Path;
use std::str::FromStr;

use perennial_train::SetConfig;
use perennial_train::config::GeneratedTable;

/// A set named on the command line.
#[derive(Clone, Debug, PartialEq)]
pub struct SetArgument(pub SetConfig);

impl SetArgument {
    /// The path of `folder:PATH`.
    pub fn folder(&self) -> Option<&Path> {
        self.0.set.strip_prefix("folder:").map(Path::new)
    }
}

impl FromStr for SetArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (set, split) = match text.split_once(':') {
            Some(("folder", "")) | Some(("", _)) => {
                return Err("write SET:SPLIT, such as cifar10:test, or folder:PATH".to_owned());
            }
            Some(("folder", _)) => (text, "all"),
            Some(named) => named,
            None => (text, "train"),
        };
        Ok(Self(SetConfig {
            set: set.to_owned(),
            split: split.to_owned(),
            classes: None,
            images_per_class: None,
            generated: generated_table(set, split)?,
        }))
    }
}

/// The generated set needs no files, so its two splits are described here: the same classes, other images.
fn generated_table(set: &str, split: &str) -> Result<Option<GeneratedTable>, String> {
    let seed = match (set, split) {
        ("generated", "train") => 0,
        ("generated", "test") => 1,
        ("generated", other) => {
            return Err(format!(
                "set `generated` has the splits train and test, no `{other}`"
            ));
        }
        _ => return Ok(None),
    };
    Ok(Some(GeneratedTable {
        classes: 20,
        images_per_class: 100,
        first_class: 0,
        seed,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> Result<(String, String), String> {
        text.parse::<SetArgument>()
            .map(|SetArgument(config)| (config.set, config.split))
    }

    #[test]
    fn split_and_folder_are_told_apart() {
        let pair = |set: &str, split: &str| Ok((set.to_owned(), split.to_owned()));
        assert_eq!(parts("cifar10:test"), pair("cifar10", "test"));
        assert_eq!(parts("cifar10"), pair("cifar10", "train"));
        assert_eq!(parts("folder:/a:b"), pair("folder:/a:b", "all"));
        assert!(parts("folder:").is_err() && parts(":test").is_err());
        assert!(parts("generated:batch1").is_err());
    }
}
