//! Image sets on the command line: `SET`, `SET:SPLIT`, `folder:PATH`, or the inline table of a configuration.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use perennial_train::SetConfig;
use perennial_train::config::GeneratedTable;

use crate::exit_status::usage;

/// A set named on the command line.
#[derive(Clone, Debug, PartialEq)]
pub struct SetArgument(pub SetConfig);

impl SetArgument {
    /// The path of `folder:PATH`.
    pub fn folder(&self) -> Option<&Path> {
        self.0.set.strip_prefix("folder:").map(Path::new)
    }

    /// The same for a command that scales the pictures to what a version takes.
    ///
    /// # Errors
    /// Wrong usage: a folder with a size of its own.
    pub fn folder_for_a_version(&self) -> anyhow::Result<Option<&Path>> {
        let folder = self.folder();
        if folder.is_some() && self.0.size.is_some() {
            return Err(usage(format!(
                "--set {self}: key `size`: pictures of a folder are scaled to what the version takes; remove it"
            )));
        }
        Ok(folder)
    }
}

impl FromStr for SetArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim_start().starts_with('{') {
            return inline_table(text).map(Self);
        }
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
            skip_images_per_class: 0,
            images_per_class: None,
            size: None,
            generated: generated_table(set, split)?,
        }))
    }
}

impl fmt::Display for SetArgument {
    /// A text that [`from_str`](Self::from_str) parses to the same set: the short form if there is one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(config) = self;
        let short = match config.set.starts_with("folder:") {
            true => config.set.clone(),
            false => format!("{}:{}", config.set, config.split),
        };
        if short.parse().as_ref() == Ok(self) {
            return f.write_str(&short);
        }
        match toml::Value::try_from(config) {
            Ok(table) => write!(f, "{table}"),
            Err(_) => f.write_str(&short),
        }
    }
}

/// A set as it stands in a configuration, such as `{ set = "cifar10", split = "test", classes = [0, 5] }`.
fn inline_table(text: &str) -> Result<SetConfig, String> {
    #[derive(serde::Deserialize)]
    struct Line {
        set: SetConfig,
    }
    toml::from_str::<Line>(&format!("set = {text}"))
        .map(|line| line.set)
        .map_err(|error| error.message().to_owned())
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
        size: 32,
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
    fn every_set_reads_back_from_its_argument() {
        for text in [
            "cifar10:test",
            "generated:test",
            "folder:/a:b",
            "folder:my pictures",
        ] {
            let argument: SetArgument = text.parse().unwrap();
            assert_eq!(argument.to_string(), text);
        }
        let partial = "{ set = \"generated\", split = \"test\", classes = [1, 3], generated = { classes = 6, images_per_class = 20, seed = 9 } }";
        let argument: SetArgument = partial.parse().unwrap();
        assert_eq!(argument.0.classes, Some([1, 3]));
        assert_eq!(
            argument.to_string().parse::<SetArgument>().unwrap(),
            argument
        );
        assert!(!argument.to_string().contains('\n'));
        let sized: SetArgument = "{ set = \"folder:a\", size = 64 }".parse().unwrap();
        assert_eq!(sized.to_string().parse::<SetArgument>().unwrap(), sized);
        let error = sized.folder_for_a_version().unwrap_err().to_string();
        assert!(error.contains("key `size`"), "{error}");
        let error = "{ sett = \"cifar10\" }".parse::<SetArgument>().unwrap_err();
        assert!(error.contains("sett"), "{error}");
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
