//! A temporary folder to run the program in, with small configurations.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// Three tasks of two generated classes: a second or two of training.
pub const EXPERIMENT: &str = r#"
name = "toy"
seed = 1

[data]
set = "generated"
generated = { classes = 6, images_per_class = 24 }

[network]
backbone = "small"
width = 4

[method]
kind = "hoc"
vertices = 16

[scenario]
initial_classes = 2
increment = 2

[memory]
images_per_class = 4

[training]
epochs = 3
batch_size = 8
learning_rate = 0.01

[evaluation.queries]
set = "generated"
generated = { classes = 3, images_per_class = 12, first_class = 50, seed = 1 }

[evaluation.gallery]
set = "generated"
generated = { classes = 3, images_per_class = 8, first_class = 50, seed = 2 }
"#;

/// The smallest run that there is.
pub const TINY: &str = r#"
name = "tiny"
seed = 1
[data]
set = "generated"
generated = { classes = 4, images_per_class = 8 }
[network]
backbone = "small"
width = 4
[method]
kind = "er"
[training]
epochs = 1
batch_size = 8
"#;

pub struct Bench(TempDir);

impl Bench {
    /// A folder with [`EXPERIMENT`] as `toy.toml`.
    pub fn new() -> Self {
        let bench = Self(tempfile::tempdir().unwrap());
        bench.write("toy.toml", EXPERIMENT);
        bench
    }

    /// A folder with the version of [`TINY`].
    pub fn with_version() -> Self {
        let bench = Self::new();
        bench.write("tiny.toml", TINY);
        bench.succeed(&["pretrain", "tiny.toml"]);
        bench
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    pub fn json(&self, name: &str) -> Value {
        serde_json::from_str(&self.read(name)).unwrap()
    }

    /// The program with arguments, on the CPU, free of the caller's settings.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_perennial"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PERENNIAL_") {
                command.env_remove(name);
            }
        }
        command
            .current_dir(self.0.path())
            .env("PERENNIAL_DEVICE", "cpu")
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Ended {
        Ended::from(self.command(arguments).output().unwrap())
    }

    /// Runs to success and gives stdout.
    pub fn succeed(&self, arguments: &[&str]) -> String {
        let ended = self.run(arguments);
        assert_eq!(ended.code, Some(0), "{arguments:?}: {}", ended.stderr);
        ended.stdout
    }

    /// Runs with `--json` to success, and checks what every JSON answer has.
    pub fn answer(&self, arguments: &[&str]) -> Value {
        let text = self.succeed(&[arguments, &["--json"]].concat());
        let value: Value = serde_json::from_str(&text).unwrap();
        // Reports of `evaluate` are files of their own, with a schema of their own.
        let schema = if arguments[0] == "evaluate" { 2 } else { 1 };
        assert_eq!(value["schema_version"], schema, "{text}");
        value
    }

    /// The weights of every version in a registry, in order.
    pub fn weights(&self, registry: &str) -> Vec<String> {
        let answer = self.answer(&["models", "list", "--registry", registry]);
        let versions = answer["versions"].as_array().unwrap();
        versions
            .iter()
            .map(|version| version["weights_sha256"].as_str().unwrap().to_owned())
            .collect()
    }
}

#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Ended {
    /// The program ended with exit code 2 and one line that holds all of `parts`.
    pub fn assert_wrong_usage(&self, parts: &[&str]) {
        self.assert_one_line(2, parts);
    }

    /// The same with exit code 3.
    pub fn assert_gate_missed(&self, parts: &[&str]) {
        self.assert_one_line(3, parts);
    }

    fn assert_one_line(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "{}", self.stderr);
        assert_eq!(self.stderr.lines().count(), 1, "{}", self.stderr);
        for part in parts {
            assert!(self.stderr.contains(part), "{part:?} in {}", self.stderr);
        }
        assert!(self.stdout.is_empty(), "{}", self.stdout);
    }
}

/// The repository's root.
pub fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}
