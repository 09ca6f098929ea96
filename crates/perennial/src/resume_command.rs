//! The command line that takes up an interrupted run, ready to paste.

use std::path::Path;

use perennial_train::DeviceChoice;

use crate::arguments::GlobalArguments;

/// The command: this program, the run's folder, and every global option that is not at its default.
pub fn resume_command(command: &str, folder: &Path, global: &GlobalArguments) -> String {
    let program = std::env::args()
        .next()
        .unwrap_or_else(|| "perennial".to_owned());
    let mut words = vec![program, command.to_owned(), "--resume".to_owned()];
    words.push(folder.display().to_string());
    for (option, value, default) in [
        ("--registry", &global.registry, "registry"),
        ("--data", &global.data, "data"),
    ] {
        if value != Path::new(default) {
            words.extend([option.to_owned(), value.display().to_string()]);
        }
    }
    if global.device != DeviceChoice::default() {
        words.extend(["--device".to_owned(), global.device.to_string()]);
    }
    let quoted: Vec<String> = words.iter().map(|word| quote(word)).collect();
    quoted.join(" ")
}

/// The command that was given, for work that goes on when it is begun again.
pub fn same_command() -> String {
    let words = std::env::args_os();
    let quoted: Vec<String> = words.map(|word| quote(&word.to_string_lossy())).collect();
    quoted.join(" ")
}

/// A word as a POSIX shell reads it back.
fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=+,@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_repeats_what_is_not_default() {
        let global = GlobalArguments {
            quiet: true,
            json: false,
            device: DeviceChoice::Cpu,
            onnxruntime: None,
            registry: "my models".into(),
            data: "data".into(),
            runs: "runs".into(),
        };
        let command = resume_command("train", Path::new("runs/toy"), &global);
        assert!(
            command.ends_with(" train --resume runs/toy --registry 'my models' --device cpu"),
            "{command}"
        );
    }

    #[test]
    fn quotes_survive_a_shell() {
        assert_eq!(quote("a-b_c.d/e"), "a-b_c.d/e");
        assert_eq!(quote("it's"), r"'it'\''s'");
        assert_eq!(quote(""), "''");
    }
}
