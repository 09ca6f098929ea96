//! What a benchmark consists of: pre-trainings and runs with their folders and configurations, and how each run is measured.

use std::collections::BTreeSet;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use perennial_bridge::Recipe;
use perennial_core::{ProbeSet, Registry};
use perennial_train::config::EvaluationConfig;
use perennial_train::{ExperimentConfig, PretrainConfig, SetConfig};
use perennial_upgrade::{Demands, Task};
use serde::{Deserialize, Serialize};

use super::description::Read;
use super::difference;
use crate::arguments::GlobalArguments;
use crate::commands::evaluate::routes::{Document, RouteName};
use crate::configuration::Layers;
use crate::exit_status::usage;
use crate::run_folder::RunFolder;
use crate::run_record::{RunRecord, Status};
use crate::set_argument::SetArgument;
use crate::training_run::{Runnable, key_of};

/// The seed of measurements that are not told another.
pub const DEFAULT_SEED: u64 = 0;

/// A whole benchmark.
#[derive(Debug)]
pub struct Plan {
    /// Its name.
    pub name: String,
    /// Where its runs, logs and locks are.
    pub folder: PathBuf,
    /// Where records of finished runs are kept beside the runs' folders.
    pub records: Option<PathBuf>,
    /// Models that runs start from.
    pub pretrainings: Vec<Work<PretrainConfig>>,
    /// Places of pre-trainings whose models the registry has.
    pub registered: BTreeSet<usize>,
    /// The runs: scenario by scenario, and in it seed by seed, so that every method soon has one.
    pub runs: Vec<Run>,
    /// Name and title of the scenarios.
    pub scenarios: Vec<[String; 2]>,
}

/// A training: a configuration and the folder of its run.
#[derive(Debug)]
pub struct Work<C> {
    /// The configuration with all settings.
    pub config: C,
    /// The run's folder.
    pub folder: PathBuf,
    /// The file that a process which trains or measures it holds locked.
    lock: PathBuf,
}

/// A run of a method with a seed in a scenario.
#[derive(Debug)]
pub struct Run {
    /// Its training.
    pub work: Work<ExperimentConfig>,
    /// The scenario, by its place in [`Plan::scenarios`].
    pub scenario: usize,
    /// The method's name.
    pub method: String,
    /// What tables call it.
    pub title: String,
    /// The seed.
    pub seed: u64,
    /// How it is measured beside its matrix.
    pub tests: Vec<RouteTest>,
    /// The pre-trainings that it starts from, by their places in [`Plan::pretrainings`].
    pub needs: Vec<usize>,
}

/// One call of `perennial evaluate --routes`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteTest {
    /// The routes.
    pub routes: Vec<RouteName>,
    /// What bridges are fitted on, as `SET:SPLIT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fit_set: Option<String>,
    /// How many images of it; all without a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fit_pairs: Option<usize>,
    /// Kind of the bridges.
    pub kind: Recipe,
    /// Kind of those that map stored vectors, where it is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mapped_kind: Option<Recipe>,
    /// Share of the old query in dual queries.
    pub weight: f64,
    /// Copies that look for their originals, instead of the evaluation set's queries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub altered: Option<usize>,
}

/// How far a training got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Training {
    /// Nothing was done yet.
    Missing,
    /// There is a checkpoint to go on from.
    Begun,
    /// Finished.
    Finished,
}

impl RouteTest {
    /// The folder of its result within a run's.
    pub fn folder(&self, run: &Path) -> PathBuf {
        let fit = match (&self.fit_set, self.fit_pairs) {
            (None, _) => "own".to_owned(),
            (Some(_), None) => "all".to_owned(),
            (Some(_), Some(pairs)) => pairs.to_string(),
        };
        let task = if self.altered.is_some() {
            "altered"
        } else {
            "classes"
        };
        run.join("routes").join(format!("{task}-{fit}"))
    }

    /// Whether a result is of this test, on these versions and this evaluation set.
    pub fn is_of(
        &self,
        found: &Document,
        versions: &[String],
        evaluation: &EvaluationConfig,
    ) -> bool {
        let task = match self.altered {
            Some(_) => Task::ItemLike,
            None => Task::ClassLike,
        };
        let routes = self.routes.iter();
        let mapped = self.mapped_kind.unwrap_or(self.kind);
        let routes = routes.map(|name| name.route(self.kind, mapped, self.weight));
        let measured = found.routes.iter().map(|result| result.route);
        let queries = match self.altered {
            Some(copies) => copies == found.queries.count,
            None => is_set(&found.queries, &evaluation.queries),
        };
        // The call of `evaluate` sets none of them.
        found.demands == Demands::new(DEFAULT_SEED)
            && found.task == task
            && found.versions == versions
            && queries
            && is_set(&found.gallery, &evaluation.gallery)
            && is_fit_set(found, self.fit_set.as_deref())
            && self.fit_pairs.is_none_or(|pairs| pairs == found.fit_pairs)
            && routes.eq(measured)
    }
}

/// Whether a measurement was made on a configured set.
pub fn is_set(measured: &ProbeSet, configured: &SetConfig) -> bool {
    let argument = SetArgument(configured.clone()).to_string();
    measured.argument.as_deref() == Some(argument.as_str())
}

/// Whether bridges were fitted on the set that an argument names.
fn is_fit_set(found: &Document, asked: Option<&str>) -> bool {
    is_named_set(
        found.fit_set.as_deref(),
        found.fit_argument.as_deref(),
        asked,
    )
}

/// Whether a set of this description and this argument is the one asked for. Results of earlier programs have no argument, and the description,
/// which may end with how much of the set was there, does not tell generated sets apart.
fn is_named_set(description: Option<&str>, argument: Option<&str>, asked: Option<&str>) -> bool {
    match (description, asked) {
        (None, None) => true,
        (Some(found), Some(asked)) => asked.parse::<SetArgument>().is_ok_and(|set| {
            if let Some(argument) = argument {
                return argument == set.to_string();
            }
            if set.0.generated.is_some() {
                return false;
            }
            let rest = found.strip_prefix(set.0.describe().as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(" ("))
        }),
        _ => false,
    }
}

impl Plan {
    /// The plan of a description. `records` takes the place of its key of that name.
    ///
    /// # Errors
    /// Wrong usage that names the key: invalid settings, a model that no pre-training makes, a folder of a run with other settings.
    pub fn of(
        read: &Read,
        records: Option<&Path>,
        global: &GlobalArguments,
    ) -> anyhow::Result<Self> {
        let description = &read.description;
        let folder = global.runs.join(&description.name);
        let pretrainings: Vec<Work<PretrainConfig>> = read
            .pretrainings()?
            .into_iter()
            .map(|config| Work {
                // Benchmarks share them.
                folder: global.runs.join(&config.name),
                lock: global.runs.join(".locks").join(&config.name),
                config,
            })
            .collect();
        let mut aliases = BTreeSet::new();
        for made in &pretrainings {
            if !aliases.insert(made.config.alias()) {
                return Err(usage(format!(
                    "two of `pretrained` make the model {}; keep one",
                    made.config.alias()
                )));
            }
        }
        let registry = Registry::open(&global.registry).ok();
        let registered = |model: &str| {
            registry
                .as_ref()
                .is_some_and(|registry| registry.resolve(model).is_ok())
        };
        let mut runs = Vec::new();
        for (place, scenario) in description.scenarios.iter().enumerate() {
            let (methods, seeds) = read.of_scenario(scenario);
            for &seed in seeds {
                for method in &methods {
                    let name = format!("{}.{}.{seed}", scenario.name, method.name);
                    let config = read.experiment(scenario, method, seed, &name)?;
                    if config.evaluation.is_none() {
                        return Err(usage(format!(
                            "run {name}: its configuration has no [evaluation], so there is nothing to measure it on"
                        )));
                    }
                    let needs = needs(&config, &pretrainings, registered)?;
                    runs.push(Run {
                        scenario: place,
                        method: method.name.clone(),
                        title: method.title().to_owned(),
                        seed,
                        tests: tests(read, &method.routes),
                        needs,
                        work: Work {
                            lock: folder.join("locks").join(&name),
                            folder: folder.join(name),
                            config,
                        },
                    });
                }
            }
        }
        let plan = Self {
            name: description.name.clone(),
            records: records
                .map(Path::to_owned)
                .or_else(|| read.records())
                .map(|folder| folder.join(&description.name)),
            folder,
            registered: (0..pretrainings.len())
                .filter(|&place| registered(pretrainings[place].config.alias()))
                .collect(),
            pretrainings,
            runs,
            scenarios: description
                .scenarios
                .iter()
                .map(|scenario| [scenario.name.clone(), scenario.title().to_owned()])
                .collect(),
        };
        for made in &plan.pretrainings {
            made.check_unchanged()?;
        }
        for run in &plan.runs {
            run.work.check_unchanged()?;
        }
        Ok(plan)
    }
}

impl<C> Work<C> {
    /// Takes it for this process; none where another process has it.
    pub fn lock(&self) -> anyhow::Result<Option<File>> {
        if let Some(folder) = self.lock.parent() {
            fs_err::create_dir_all(folder)?;
        }
        let mut options = fs_err::OpenOptions::new();
        let file = options
            .write(true)
            .create(true)
            .truncate(false)
            .open(&self.lock)?;
        let file = file.into_file();
        // Whoever lists the state looks at the lock for a moment.
        for _ in 0..5 {
            match file.try_lock() {
                Ok(()) => return Ok(Some(file)),
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(20)),
                Err(TryLockError::Error(error)) => return Err(error.into()),
            }
        }
        Ok(None)
    }

    /// Whether a process works on it now.
    pub fn is_locked(&self) -> bool {
        is_held(&self.lock)
    }
}

impl<C: Runnable + PartialEq> Work<C> {
    /// How far it got.
    pub fn training(&self) -> anyhow::Result<Training> {
        let folder = RunFolder::at(self.folder.clone());
        if !folder.has_begun() {
            return Ok(Training::Missing);
        }
        let record = RunRecord::read(folder.path())?;
        Ok(match record.map(|record| record.status) {
            Some(Status::Finished) => Training::Finished,
            _ => Training::Begun,
        })
    }

    /// Whether a process trains it now, such as one whose benchmark was killed.
    pub fn is_training(&self) -> bool {
        is_held(&RunFolder::at(self.folder.clone()).lock_path())
    }

    /// Refuses a folder that holds a run with other settings: its result would stand under a name that says something else.
    fn check_unchanged(&self) -> anyhow::Result<()> {
        let folder = RunFolder::at(self.folder.clone());
        let path = folder.configuration_path();
        if !folder.has_begun() || !path.is_file() {
            return Ok(());
        }
        let found: C = Layers::read(&path)?.resolve_checked(C::check, key_of)?;
        match difference::of(&found, &self.config)? {
            None => Ok(()),
            Some(difference) => Err(usage(format!(
                "{} holds a run with other settings ({difference}); move that folder away, or change the name",
                self.folder.display()
            ))),
        }
    }
}

/// Whether a process holds a lock.
fn is_held(path: &Path) -> bool {
    let file = File::options().write(true).open(path);
    file.is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

/// The pre-trainings that make the models of a run; others must be in the registry.
fn needs(
    config: &ExperimentConfig,
    pretrainings: &[Work<PretrainConfig>],
    registered: impl Fn(&str) -> bool,
) -> anyhow::Result<Vec<usize>> {
    let replacements = config.replacements.iter();
    let models = config
        .initial_model
        .iter()
        .chain(replacements.map(|replacement| &replacement.model));
    let mut needs = Vec::new();
    for model in models {
        let made = pretrainings
            .iter()
            .position(|made| made.config.alias() == model);
        match made {
            Some(place) if needs.contains(&place) => {}
            Some(place) => needs.push(place),
            None if registered(model) => {}
            None => {
                return Err(usage(format!(
                    "run {} starts from the model {model}, which none of `pretrained` makes and the registry does not have; \
                     add its configuration to `pretrained`",
                    config.name
                )));
            }
        }
    }
    Ok(needs)
}

fn tests(read: &Read, routes: &[RouteName]) -> Vec<RouteTest> {
    let settings = &read.description.routes;
    let own = RouteTest {
        routes: vec![RouteName::Own],
        fit_set: None,
        fit_pairs: None,
        // Those that change nothing on this route.
        kind: Recipe::Orthogonal,
        mapped_kind: None,
        weight: perennial_upgrade::DEFAULT_WEIGHT,
        altered: None,
    };
    let mut tests = vec![own];
    if !routes.is_empty() {
        let numbers: Vec<Option<usize>> = match &settings.fit_pairs[..] {
            [] => vec![None],
            some => some.iter().copied().map(Some).collect(),
        };
        tests.extend(numbers.into_iter().map(|fit_pairs| {
            RouteTest {
                routes: routes.to_vec(),
                fit_set: settings.fit_set.clone(),
                fit_pairs,
                kind: settings.kind,
                // Only where it has a meaning, so that records without it stay those of their runs.
                mapped_kind: settings
                    .mapped_kind
                    .filter(|_| routes.contains(&RouteName::Mapped)),
                weight: settings.weight,
                altered: None,
            }
        }));
    }
    if let Some(copies) = read.description.altered {
        let altered = tests.iter().cloned().map(|test| RouteTest {
            altered: Some(copies),
            ..test
        });
        tests.extend(altered.collect::<Vec<_>>());
    }
    tests
}

#[cfg(test)]
mod tests {
    use super::is_named_set;

    #[test]
    fn bridges_of_another_fit_set_are_fitted_again() {
        let asked = Some("cifar100:train");
        let is_fit_set = |found, asked| is_named_set(found, None, asked);
        assert!(is_fit_set(Some("cifar100/train"), asked));
        assert!(is_fit_set(
            Some("cifar100/train (2 of 50,000 images)"),
            asked
        ));
        for found in ["cifar100/test", "cifar100/train classes 0..50"] {
            assert!(!is_fit_set(Some(found), asked), "{found}");
        }
        assert!(is_fit_set(None, None));
        assert!(!is_fit_set(None, asked) && !is_fit_set(asked, None));
        // Descriptions of generated sets leave out which images they are.
        let table = |seed: u64| {
            format!(
                "{{ set = \"generated\", generated = {{ classes = 3, images_per_class = 4, seed = {seed} }} }}"
            )
        };
        let set = |seed: u64| table(seed).parse::<super::SetArgument>().unwrap();
        let description = set(5).0.describe();
        assert_eq!(description, set(6).0.describe());
        let argument = set(5).to_string();
        let is_of = |argument: Option<&str>, seed| {
            is_named_set(Some(&description), argument, Some(&table(seed)))
        };
        assert!(is_of(Some(&argument), 5));
        assert!(!is_of(Some(&argument), 6));
        assert!(!is_of(None, 5));
    }
}
