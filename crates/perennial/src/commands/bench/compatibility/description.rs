//! The description of a benchmark: scenarios, methods, seeds and pre-trained models, a TOML file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use perennial_bridge::Recipe;
use perennial_train::{ExperimentConfig, PretrainConfig};
use perennial_upgrade::DEFAULT_WEIGHT;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use crate::commands::evaluate::routes::RouteName;
use crate::configuration::Layers;
use crate::exit_status::usage;
use crate::set_argument::SetArgument;
use crate::suggestion;
use crate::training_run::{Runnable, key_of};

/// The file's content. Tables named `set` hold configuration keys as an experiment's file does; they are laid over its values in the order
/// description, scenario, method, method in the scenario.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// Names the folder below `--runs`, and the section of a document.
    pub name: String,
    /// Every method is trained with each of them.
    pub seeds: Vec<u64>,
    /// Folder of the records of finished runs, from the description's folder on.
    #[serde(default)]
    records: Option<PathBuf>,
    /// Settings of all runs.
    #[serde(default)]
    pub set: Table,
    /// Models that runs start from, each made once.
    #[serde(default)]
    pub pretrained: Vec<Pretrained>,
    /// How routes through bridges are measured.
    #[serde(default)]
    pub routes: RouteSettings,
    /// Altered copies of so many gallery images look for their originals.
    #[serde(default)]
    pub altered: Option<usize>,
    /// What is compared.
    pub methods: Vec<Method>,
    /// On what.
    pub scenarios: Vec<Scenario>,
}

/// A pre-training.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pretrained {
    /// Its configuration, from the description's folder on.
    config: PathBuf,
    #[serde(default)]
    set: Table,
}

/// Bridges of the routes that methods ask for.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RouteSettings {
    /// Images to fit bridges and means on, as `SET:SPLIT`.
    pub fit_set: Option<String>,
    /// The routes are measured once for each of these numbers of images; with all images if it is empty.
    pub fit_pairs: Vec<usize>,
    /// Kind of the bridges.
    pub kind: Recipe,
    /// Kind of the bridges that map stored vectors; `kind` without it.
    pub mapped_kind: Option<Recipe>,
    /// Share of the old query in dual queries.
    pub weight: f64,
}

impl Default for RouteSettings {
    fn default() -> Self {
        Self {
            fit_set: None,
            fit_pairs: Vec::new(),
            kind: Recipe::Orthogonal,
            mapped_kind: None,
            weight: DEFAULT_WEIGHT,
        }
    }
}

/// A method.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Method {
    /// Part of the names of its runs.
    pub name: String,
    /// What tables call it [default: its name].
    #[serde(default)]
    title: Option<String>,
    /// The configuration of an experiment, from the description's folder on.
    config: PathBuf,
    #[serde(default)]
    set: Table,
    /// Routes that are measured beside the method's own.
    #[serde(default)]
    pub routes: Vec<RouteName>,
}

impl Method {
    /// What tables call it.
    pub fn title(&self) -> &str {
        self.title.as_deref().unwrap_or(&self.name)
    }
}

/// A scenario.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Part of the names of its runs.
    pub name: String,
    /// The heading of its tables [default: its name].
    #[serde(default)]
    title: Option<String>,
    /// The names of its methods [default: all].
    #[serde(default)]
    methods: Option<Vec<String>>,
    /// Its seeds [default: those of the description].
    #[serde(default)]
    seeds: Option<Vec<u64>>,
    #[serde(default)]
    set: Table,
    /// Settings of single methods, by their names.
    #[serde(default)]
    method: BTreeMap<String, Table>,
}

impl Scenario {
    /// The heading of its tables.
    pub fn title(&self) -> &str {
        self.title.as_deref().unwrap_or(&self.name)
    }
}

/// A description, and where it was read from.
#[derive(Debug)]
pub struct Read {
    /// Its content.
    pub description: Description,
    path: PathBuf,
}

impl Read {
    /// Reads and checks a description.
    ///
    /// # Errors
    /// Wrong usage that names the file and the key.
    pub fn file(path: &Path) -> anyhow::Result<Self> {
        let read = Self {
            description: Layers::read(path)?.resolve()?,
            path: path.to_owned(),
        };
        read.check()?;
        Ok(read)
    }

    /// Folder of the records that the description names.
    pub fn records(&self) -> Option<PathBuf> {
        let folder = self.description.records.as_ref()?;
        Some(self.folder().join(folder))
    }

    /// Where relative paths of the description start.
    fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }

    fn wrong(&self, key: &str, problem: &str) -> anyhow::Error {
        usage(format!("{}: key `{key}`: {problem}", self.path.display()))
    }

    fn check(&self) -> anyhow::Result<()> {
        let description = &self.description;
        self.check_name("name", &description.name)?;
        self.check_seeds("seeds", &description.seeds)?;
        let methods: Vec<&str> = description
            .methods
            .iter()
            .map(|method| method.name.as_str())
            .collect();
        let scenarios: Vec<&str> = description
            .scenarios
            .iter()
            .map(|scenario| scenario.name.as_str())
            .collect();
        for (key, names) in [("methods", &methods), ("scenarios", &scenarios)] {
            if names.is_empty() {
                return Err(self.wrong(key, "name at least one"));
            }
            for (place, name) in names.iter().enumerate() {
                self.check_name(&format!("{key}.{place}.name"), name)?;
                if names[..place].contains(name) {
                    let problem = format!("{name} appears twice; give each a name of its own");
                    return Err(self.wrong(&format!("{key}.{place}.name"), &problem));
                }
            }
        }
        // Tables show runs of one title as seeds of one method.
        let titles: Vec<&str> = description.methods.iter().map(Method::title).collect();
        for (place, title) in titles.iter().enumerate() {
            if titles[..place].contains(title) {
                let problem =
                    format!("an earlier method is called {title} as well; give each its own title");
                return Err(self.wrong(&format!("methods.{place}.title"), &problem));
            }
        }
        for (place, scenario) in description.scenarios.iter().enumerate() {
            if let Some(seeds) = &scenario.seeds {
                self.check_seeds(&format!("scenarios.{place}.seeds"), seeds)?;
            }
            let listed = scenario.methods.iter().flatten();
            let listed = listed.map(|name| ("methods", name));
            let set = scenario.method.keys().map(|name| ("method", name));
            for (key, name) in listed.chain(set) {
                if !methods.contains(&name.as_str()) {
                    let known = suggestion::describe(name, &methods);
                    let key = format!("scenarios.{place}.{key}");
                    return Err(self.wrong(&key, &format!("{name} is no method here; {known}")));
                }
            }
        }
        self.check_routes()
    }

    fn check_routes(&self) -> anyhow::Result<()> {
        let description = &self.description;
        let routes = &description.routes;
        if let Some(set) = &routes.fit_set {
            set.parse::<SetArgument>()
                .map_err(|problem| self.wrong("routes.fit_set", &problem))?;
        }
        for (place, pairs) in routes.fit_pairs.iter().enumerate() {
            if routes.fit_pairs[..place].contains(pairs) {
                return Err(self.wrong("routes.fit_pairs", &format!("{pairs} appears twice")));
            }
        }
        if routes.fit_pairs.contains(&0) {
            return Err(self.wrong("routes.fit_pairs", "0 images fit no bridge"));
        }
        if !(0.0..=1.0).contains(&routes.weight) {
            let problem = format!("{} is no share between 0 and 1", routes.weight);
            return Err(self.wrong("routes.weight", &problem));
        }
        if description.altered == Some(0) {
            let problem = "0 copies measure nothing; leave the key out";
            return Err(self.wrong("altered", problem));
        }
        for (place, method) in description.methods.iter().enumerate() {
            let key = format!("methods.{place}.routes");
            if method.routes.contains(&RouteName::Own) {
                let problem = "own is always measured; leave it out";
                return Err(self.wrong(&key, problem));
            }
            if !method.routes.is_empty() && routes.fit_set.is_none() {
                let problem =
                    "they need images to fit on; set routes.fit_set, such as \"cifar100:train\"";
                return Err(self.wrong(&key, problem));
            }
        }
        Ok(())
    }

    fn check_seeds(&self, key: &str, seeds: &[u64]) -> anyhow::Result<()> {
        if seeds.is_empty() {
            return Err(self.wrong(key, "name at least one seed"));
        }
        for (place, seed) in seeds.iter().enumerate() {
            if seeds[..place].contains(seed) {
                return Err(self.wrong(key, &format!("{seed} appears twice")));
            }
            // As a configuration's integers.
            if i64::try_from(*seed).is_err() {
                return Err(self.wrong(key, &format!("{seed} is above {}", i64::MAX)));
            }
        }
        Ok(())
    }

    /// No dots, which separate the parts of a run's name.
    fn check_name(&self, key: &str, name: &str) -> anyhow::Result<()> {
        let allowed = |letter: char| letter.is_ascii_alphanumeric() || "-_".contains(letter);
        if name.is_empty() || !name.chars().all(allowed) {
            let problem = format!("{name:?}: use letters, digits, '-' and '_'");
            return Err(self.wrong(key, &problem));
        }
        Ok(())
    }

    /// The methods and seeds of a scenario, in the description's order.
    pub fn of_scenario<'a>(&'a self, scenario: &'a Scenario) -> (Vec<&'a Method>, &'a [u64]) {
        let has = |method: &&Method| {
            let listed = scenario.methods.as_ref();
            listed.is_none_or(|names| names.contains(&method.name))
        };
        let methods = self.description.methods.iter().filter(has).collect();
        let seeds = scenario.seeds.as_ref();
        (methods, seeds.unwrap_or(&self.description.seeds))
    }

    /// The configuration of a run.
    pub fn experiment(
        &self,
        scenario: &Scenario,
        method: &Method,
        seed: u64,
        name: &str,
    ) -> anyhow::Result<ExperimentConfig> {
        let mut layers = vec![
            (&self.description.set, "set".to_owned()),
            (
                &scenario.set,
                format!("`set` of scenario {}", scenario.name),
            ),
            (&method.set, format!("`set` of method {}", method.name)),
        ];
        if let Some(table) = scenario.method.get(&method.name) {
            let place = format!("`method.{}` of scenario {}", method.name, scenario.name);
            layers.push((table, place));
        }
        self.configuration(&method.config, &layers, |layers| {
            layers
                .option("name", Some(name))?
                .option("seed", Some(seed as i64))
        })
    }

    /// The configurations of the pre-trainings.
    pub fn pretrainings(&self) -> anyhow::Result<Vec<PretrainConfig>> {
        let entries = self.description.pretrained.iter().enumerate();
        entries
            .map(|(place, entry)| {
                let layers = [(&entry.set, format!("`pretrained.{place}.set`"))];
                self.configuration(&entry.config, &layers, Ok)
            })
            .collect()
    }

    /// A configuration file under settings of the description, each of which an error can name.
    fn configuration<C: Runnable + DeserializeOwned>(
        &self,
        file: &Path,
        settings: &[(&Table, String)],
        last: impl FnOnce(Layers) -> anyhow::Result<Layers>,
    ) -> anyhow::Result<C> {
        let mut layers = Layers::read(&self.folder().join(file))?;
        for (table, place) in settings {
            for (key, value) in leaves(table) {
                let origin = format!("{}, {place}", self.path.display());
                layers = layers.value(&key, value, origin)?;
            }
        }
        let config = last(layers)?.resolve_checked(C::check, key_of)?;
        Ok(config.completed())
    }
}

/// The values of a table by their whole keys, such as `training.epochs`. Tables within are laid over those of the file key by key.
fn leaves(table: &Table) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for (key, value) in table {
        match value {
            Value::Table(inner) if !inner.is_empty() => found.extend(
                leaves(inner)
                    .into_iter()
                    .map(|(rest, value)| (format!("{key}.{rest}"), value)),
            ),
            other => found.push((key.clone(), other.clone())),
        }
    }
    found
}

#[cfg(test)]
mod tests;
