//! Configuration in layers: the file, then `PERENNIAL__A__B` in the environment, then `--set a.b=value`, then options of
//! their own such as `--name`. Later layers win, and every mistake is one line that names the key and its layer.

mod assignment;
mod fault;
mod file;

use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use self::assignment::assign;
use self::fault::{Fault, read};
use self::file::{File, line_of, similar_file};
use crate::exit_status::usage;

pub use self::assignment::parse_value;

/// Environment variables with this prefix are configuration keys, with `__` between the parts of a key.
const ENVIRONMENT_PREFIX: &str = "PERENNIAL__";
/// Far above the size of any configuration.
const MAX_BYTES: u64 = 1 << 20;

/// Configuration values on their way to a checked configuration.
#[derive(Debug)]
pub struct Layers {
    file: File,
    table: Table,
    overrides: Vec<Override>,
}

/// One value of a later layer.
#[derive(Debug)]
struct Override {
    key: String,
    value: Value,
    origin: String,
}

impl Layers {
    /// The first layer.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let source = path.display().to_string();
        let bytes =
            perennial_core::read_at_most(path, MAX_BYTES).map_err(|error| match error.kind() {
                std::io::ErrorKind::NotFound => {
                    usage(format!("{source} does not exist{}", similar_file(path)))
                }
                _ => usage(error.to_string()),
            })?;
        let text =
            String::from_utf8(bytes).map_err(|_| usage(format!("{source} is not UTF-8 text")))?;
        Self::parse(source, &text)
    }

    /// The first layer, from text.
    pub fn parse(source: impl Into<String>, text: &str) -> anyhow::Result<Self> {
        let source = source.into();
        let table = text.parse::<Table>().map_err(|error| {
            let start = error.span().map_or(0, |span| span.start);
            let before = text.get(..start).unwrap_or_default();
            let line = 1 + before.matches('\n').count();
            usage(format!("{source}, line {line}: {}", error.message()))
        })?;
        Ok(Self {
            file: File {
                source,
                text: text.to_owned(),
                table: table.clone(),
            },
            table,
            overrides: Vec::new(),
        })
    }

    /// The layer of the environment.
    pub fn environment(
        mut self,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> anyhow::Result<Self> {
        let mut variables: Vec<_> = variables
            .into_iter()
            .filter(|(name, _)| name.starts_with(ENVIRONMENT_PREFIX))
            .collect();
        // A table comes before the keys in it, whatever the order in which the system lists them.
        variables.sort();
        for (name, value) in variables {
            let key = name[ENVIRONMENT_PREFIX.len()..]
                .to_lowercase()
                .replace("__", ".");
            self.put(
                &key,
                parse_value(&value),
                format!("environment variable {name}"),
            )?;
        }
        Ok(self)
    }

    /// The layer of `--set key=value`.
    pub fn set(mut self, assignments: &[String]) -> anyhow::Result<Self> {
        for assignment in assignments {
            let Some((key, value)) = assignment.split_once('=') else {
                return Err(usage(format!(
                    "--set {assignment}: write key=value, such as training.epochs=5"
                )));
            };
            self.put(
                key.trim(),
                parse_value(value),
                format!("--set {assignment}"),
            )?;
        }
        Ok(self)
    }

    /// One value from an option of its own.
    pub fn option(mut self, key: &str, value: Option<impl Into<Value>>) -> anyhow::Result<Self> {
        if let Some(value) = value {
            self.put(key, value.into(), format!("--{key}"))?;
        }
        Ok(self)
    }

    /// One value from elsewhere, with the words that name its layer.
    pub fn value(
        mut self,
        key: &str,
        value: Value,
        origin: impl Into<String>,
    ) -> anyhow::Result<Self> {
        self.put(key, value, origin.into())?;
        Ok(self)
    }

    fn put(&mut self, key: &str, value: Value, origin: String) -> anyhow::Result<()> {
        let parts: Vec<&str> = key.split('.').collect();
        if parts.iter().any(|part| part.is_empty()) {
            return Err(usage(format!("{origin}: `{key}` is not a valid key")));
        }
        assign(&mut self.table, &parts, value.clone())
            .map_err(|problem| usage(format!("{origin}: {problem}")))?;
        self.overrides.push(Override {
            key: key.to_owned(),
            value,
            origin,
        });
        Ok(())
    }

    /// The configuration that the layers make.
    pub fn resolve<T: DeserializeOwned>(self) -> anyhow::Result<T> {
        self.resolve_checked(|_| Ok::<_, std::convert::Infallible>(()), |_| None)
    }

    /// The configuration that the layers make, validated by `check`. Where the key of a failed check is known, the error names
    /// the layer that set it.
    pub fn resolve_checked<T: DeserializeOwned, E>(
        self,
        check: impl FnOnce(&T) -> Result<(), E>,
        key_of: impl FnOnce(&E) -> Option<String>,
    ) -> anyhow::Result<T>
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        let config: T = read(&self.table)
            .map_err(|fault| usage(format!("{}: {}", self.origin::<T>(&fault), fault.problem)))?;
        check(&config).map_err(|error| match key_of(&error).map(|key| self.setter(&key)) {
            Some(Some(origin)) => anyhow::Error::new(error).context(origin),
            _ => anyhow::Error::new(error),
        })?;
        Ok(config)
    }

    /// The layer that a key or value that cannot be read came from.
    fn origin<T: DeserializeOwned>(&self, fault: &Fault) -> String {
        if let Some(layer) = self.last_over(&fault.key) {
            return layer.origin.clone();
        }
        // Nothing set the key itself, so it came with a key inside it, or the fault is only known for the table around the
        // key: the layer to blame is the one since which the fault is there.
        let mut table = self.file.table.clone();
        let mut blamed = None;
        let faulty = |table: &Table| read::<T>(table).is_err_and(|other| other == *fault);
        if !faulty(&table) {
            for layer in &self.overrides {
                let parts: Vec<&str> = layer.key.split('.').collect();
                let assigned = assign(&mut table, &parts, layer.value.clone());
                match (assigned.is_ok() && faulty(&table), blamed) {
                    (true, None) => blamed = Some(layer),
                    (true, Some(_)) => {}
                    (false, _) => blamed = None,
                }
            }
        }
        blamed.map_or_else(|| self.file.place(&fault.key), |layer| layer.origin.clone())
    }

    /// Which layer set a key, or a part of it; none where it has its default.
    fn setter(&self, key: &str) -> Option<String> {
        let inside = |layer: &&Override| is_inside(&layer.key, key);
        self.last_over(key)
            .or_else(|| self.overrides.iter().rev().find(inside))
            .map(|layer| layer.origin.clone())
            .or_else(|| line_of(&self.file.text, key).map(|_| self.file.place(key)))
    }

    /// The last value of a later layer that a key's value is part of.
    fn last_over(&self, key: &str) -> Option<&Override> {
        let over = |layer: &&Override| is_inside(key, &layer.key);
        self.overrides.iter().rev().find(over)
    }
}

/// The settings among the variables of this process.
///
/// # Errors
/// A setting that is not text.
pub fn process_environment() -> anyhow::Result<Vec<(String, String)>> {
    let settings = std::env::vars_os().filter_map(|(name, value)| {
        let shown = name.to_string_lossy().into_owned();
        shown.starts_with(ENVIRONMENT_PREFIX).then(|| {
            match (name.into_string(), value.into_string()) {
                (Ok(name), Ok(value)) => Ok((name, value)),
                _ => Err(usage(format!(
                    "environment variable {shown}: is not UTF-8 text"
                ))),
            }
        })
    });
    settings.collect()
}

/// A configuration as TOML, with every key.
pub fn to_toml(configuration: &impl Serialize) -> anyhow::Result<String> {
    Ok(toml::to_string(configuration)?)
}

fn is_inside(key: &str, outer: &str) -> bool {
    key.strip_prefix(outer)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use perennial_train::ExperimentConfig;

    const TEXT: &str = r#"
        name = "toy"
        [data]
        set = "generated"
        generated = { classes = 4, images_per_class = 8 }
        [network]
        backbone = "small"
        width = 4
        [method]
        kind = "hoc"
        vertices = 16
        [scenario]
        initial_classes = 2
        increment = 1
        [[replacements]]
        before_task = 1
        model = "better"
    "#;

    fn layers() -> Layers {
        Layers::parse("toy.toml", TEXT).unwrap()
    }

    fn set(assignments: &[&str]) -> anyhow::Result<ExperimentConfig> {
        let assignments: Vec<String> = assignments.iter().map(|text| (*text).to_owned()).collect();
        layers().set(&assignments)?.resolve()
    }

    fn message(assignments: &[&str]) -> String {
        set(assignments).unwrap_err().to_string()
    }

    #[test]
    fn later_layers_win() {
        let environment = [
            ("PERENNIAL__TRAINING__EPOCHS", "3"),
            ("PERENNIAL__TRAINING__BATCH_SIZE", "8"),
            ("PERENNIAL__SEED", "5"),
            ("PERENNIAL_DATA", "elsewhere"),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let config: ExperimentConfig = layers()
            .environment(environment)
            .unwrap()
            .set(&["training.epochs=4".to_owned(), "seed=6".to_owned()])
            .unwrap()
            .option("seed", Some(7_i64))
            .unwrap()
            .option("name", None::<String>)
            .unwrap()
            .resolve()
            .unwrap();
        assert_eq!((config.training.epochs, config.training.batch_size), (4, 8));
        assert_eq!((config.seed, config.name.as_str()), (7, "toy"));
    }

    #[test]
    fn values_are_toml_or_bare_strings() {
        let config = set(&[
            "replacements.0.model=v0007",
            "method={kind=\"er\"}",
            "name=2026-11-22",
            "training.learning_rate=5e-2",
            "preprocessing.mean=[0.5, 0.4, 0.3]",
        ])
        .unwrap();
        assert_eq!(config.replacements[0].model, "v0007");
        assert_eq!(config.method.name(), "er");
        assert_eq!(config.name, "2026-11-22");
        assert_eq!(config.training.learning_rate, 0.05);
        assert_eq!(config.preprocessing.mean, [0.5, 0.4, 0.3]);
        assert_eq!(set(&["scenario.tasks=2"]).unwrap().scenario.tasks, Some(2));
    }

    #[test]
    fn mistakes_name_layer_key_and_remedy() {
        for (assignment, expected) in [
            (
                "training.epoch=3",
                "--set training.epoch=3: unknown key `training.epoch`; did you mean `epochs`?",
            ),
            (
                "metod.kind=er",
                "unknown key `metod`; did you mean `method`?",
            ),
            (
                "method.lamda=0.5",
                "unknown key `method.lamda`; did you mean `lambda`?",
            ),
            ("method.kind=hocc", "cannot be `hocc`; did you mean `hoc`?"),
            ("method.kind=er", "unknown key `method.vertices`"),
            (
                "replacements.0.modl=x",
                "unknown key `replacements.0.modl`; did you mean `model`?",
            ),
            (
                "training.epochs=ten",
                "key `training.epochs`: invalid type: string \"ten\", expected a whole number of at least 0",
            ),
            (
                "data.set=7",
                "key `data.set`: invalid type: integer `7`, expected a string",
            ),
            ("replacements.3.model=x", "`replacements` has 1 elements"),
            ("name.first=x", "`name` is a single value"),
            ("training.epochs", "write key=value"),
            ("a..b=1", "is not a valid key"),
        ] {
            let found = message(&[assignment]);
            assert!(found.contains(expected), "{assignment}: {found}");
            assert!(!found.contains('\n'), "{found}");
        }
    }

    #[test]
    fn mistakes_in_the_environment_name_the_variable() {
        let with = |name: &str, value: &str, text: &str| {
            let found: anyhow::Result<ExperimentConfig> = Layers::parse("toy.toml", text)
                .unwrap()
                .environment([(name.to_owned(), value.to_owned())])
                .and_then(|layers| layers.set(&["seed=3".to_owned()])?.resolve());
            found.unwrap_err().to_string()
        };
        for (name, value, says) in [
            ("PERENNIAL__FOO__BAR", "1", "unknown key `foo`"),
            ("PERENNIAL__FOO__BAR__BAZ", "1", "unknown key `foo`"),
            ("PERENNIAL__FOO", "1", "unknown key `foo`"),
            (
                "PERENNIAL__TRAINING__EPOCH",
                "1",
                "unknown key `training.epoch`",
            ),
            (
                "PERENNIAL__TRAINING__EPOCHS",
                "many",
                "key `training.epochs`",
            ),
            (
                "PERENNIAL__TRAINING__EPOCHS__MAX",
                "3",
                "key `training.epochs`",
            ),
            ("PERENNIAL__TRAINING", "3", "key `training`"),
            ("PERENNIAL__METHOD__KIND", "hocc", "cannot be `hocc`"),
            ("PERENNIAL__METHOD__LAMDA", "1", "`method.lamda`"),
            ("PERENNIAL__METHOD__VERTICES", "many", "key `method"),
            ("PERENNIAL__DATA__GENERATED__CLASSES", "-1", "key `data"),
            (
                "PERENNIAL__REPLACEMENTS__0__MODL",
                "x",
                "`replacements.0.modl`",
            ),
            (
                "PERENNIAL__EVALUATION__QUERIES__SET",
                "x",
                "key `evaluation.gallery` is missing",
            ),
            ("PERENNIAL__NAME__FIRST", "x", "`name` is a single value"),
            ("PERENNIAL__", "x", "is not a valid key"),
            ("PERENNIAL__A____B", "x", "is not a valid key"),
        ] {
            let found = with(name, value, TEXT);
            let start = format!("environment variable {name}: ");
            assert!(
                found.starts_with(&start) && found.contains(says),
                "{name}: {found}"
            );
        }
        // A mistake of the file's stays the file's, whatever else is set.
        let typo = format!("metod = 1\n{TEXT}");
        let found = with("PERENNIAL__TRAINING__EPOCHS", "3", &typo);
        assert!(
            found.starts_with("toy.toml, line 1: unknown key `metod`"),
            "{found}"
        );
    }

    #[test]
    fn a_failed_check_names_the_layer_of_its_key() {
        let check = |assignments: &[&str], key: &str| {
            let assignments: Vec<String> =
                assignments.iter().map(|text| (*text).to_owned()).collect();
            let found: anyhow::Result<ExperimentConfig> =
                layers().set(&assignments).unwrap().resolve_checked(
                    |_| Err(std::io::Error::other("wrong")),
                    |_| Some(key.to_owned()),
                );
            format!("{:#}", found.unwrap_err())
        };
        assert_eq!(
            check(&["training.epochs=0"], "training.epochs"),
            "--set training.epochs=0: wrong"
        );
        assert_eq!(check(&[], "network.width"), "toy.toml, line 8: wrong");
        assert_eq!(check(&[], "training.epochs"), "wrong");
    }

    #[test]
    fn mistakes_in_the_file_name_the_file() {
        let resolve = |text: &str| {
            Layers::parse("toy.toml", text).and_then(Layers::resolve::<ExperimentConfig>)
        };
        let missing = resolve("name = \"x\"").unwrap_err().to_string();
        assert_eq!(missing, "toy.toml: key `data` is missing");
        for (wrong, line, says) in [
            ("metod = 1", 2, "unknown key `metod`"),
            ("[training]\nepoch = 3", 3, "unknown key `training.epoch`"),
            ("training.epochs = 'x'", 2, "key `training.epochs`"),
            (
                "[data]\nset = 'generated'\nsplit = 3",
                4,
                "key `data.split`",
            ),
            (
                "\n[[replacements]]\nbefore_task = 1\nmodl = 'x'",
                5,
                "`replacements.0.modl`",
            ),
            ("[method]\nkind = 'hocc'", 3, "cannot be `hocc`"),
        ] {
            let found = resolve(&format!("name = \"x\"\n{wrong}"))
                .unwrap_err()
                .to_string();
            assert!(
                found.starts_with(&format!("toy.toml, line {line}: ")) && found.contains(says),
                "{wrong}: {found}"
            );
        }
        let syntax = resolve("name = \"x\"\nseed = = 3").unwrap_err().to_string();
        assert!(syntax.starts_with("toy.toml, line 2: "), "{syntax}");
        let absent = Layers::read(Path::new("no-such-file.toml")).unwrap_err();
        assert_eq!(absent.to_string(), "no-such-file.toml does not exist");
    }

    #[test]
    fn what_is_printed_reads_back_equal() {
        let config = set(&[]).unwrap();
        let text = to_toml(&config).unwrap();
        let again: ExperimentConfig = Layers::parse("again", &text).unwrap().resolve().unwrap();
        assert_eq!(again, config);
        assert!(text.contains("momentum = 0.9"), "{text}");
    }
}
