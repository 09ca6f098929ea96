//! Reasons that everybody may read, also those who have no key: where files lie on this machine is for the log.

use std::path::Path;

use perennial_core::Registry;

/// A text in which files of a registry are named by their paths in it.
pub(crate) fn in_registry(text: &str, registry: &Registry) -> String {
    without_folder(text, registry.root(), "the registry")
}

/// A text in which files of a folder are named by their paths in it, and the folder itself by a name. A folder that is given relative to the current one is left
/// as it is.
pub fn without_folder(text: &str, folder: &Path, name: &str) -> String {
    let path = folder.display().to_string();
    let path = path.trim_end_matches('/');
    match folder.is_absolute() && !path.is_empty() {
        true => text.replace(&format!("{path}/"), "").replace(path, name),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_by_their_paths_in_the_folder() {
        let text =
            |text: &str, folder: &str| without_folder(text, Path::new(folder), "the registry");
        let said = "no version v9 in /srv/reg; /srv/reg/versions/v0001/model.toml: it is no TOML";
        let expected = "no version v9 in the registry; versions/v0001/model.toml: it is no TOML";
        assert_eq!(text(said, "/srv/reg"), expected);
        assert_eq!(text(said, "/srv/reg/"), expected);
        assert_eq!(text(said, "/elsewhere"), said);
        assert_eq!(text(said, "/"), said);
        assert_eq!(text(said, "."), said);
        assert_eq!(text(said, ""), said);
    }
}
