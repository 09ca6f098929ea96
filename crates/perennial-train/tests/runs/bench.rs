//! A registry, and a place for runs.

use std::cell::Cell;
use std::path::Path;

use perennial_core::Registry;
use perennial_train::{
    DeviceChoice, ExperimentConfig, Observer, Outcome, PretrainConfig, RunPlaces, Silent,
    StepReport, TrainError, pretrain, train,
};
use tempfile::TempDir;

pub struct Bench {
    pub folder: TempDir,
    pub registry: Registry,
}

impl Bench {
    /// A registry without versions.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let registry = Registry::create(folder.path().join("registry")).unwrap();
        Self { folder, registry }
    }

    pub fn places<R>(&self, run: &str, each: impl FnOnce(&RunPlaces<'_>) -> R) -> R {
        let device = DeviceChoice::Cpu.open().unwrap();
        each(&RunPlaces {
            folder: &self.folder.path().join(run),
            registry: &self.registry,
            data_root: Path::new("nowhere"),
            device: &device,
        })
    }

    pub fn pretrain(&self, config: &PretrainConfig) -> Result<Outcome, TrainError> {
        self.places(&config.name, |places| {
            pretrain(config, places, false, &mut Silent)
        })
    }

    pub fn train(
        &self,
        config: &ExperimentConfig,
        resume: bool,
        observer: &mut dyn Observer,
    ) -> Result<Outcome, TrainError> {
        self.places(&config.name, |places| {
            train(config, places, resume, observer)
        })
    }

    /// Trains with interruptions, after the third step and then after every ninth.
    pub fn train_in_pieces(&self, config: &ExperimentConfig) -> Outcome {
        let first = self.train(config, false, &mut StopAfter(3.into()));
        let mut outcome = first.unwrap();
        while outcome == Outcome::Interrupted {
            outcome = self.train(config, true, &mut StopAfter(9.into())).unwrap();
        }
        outcome
    }

    /// The versions of a finished run, task by task.
    pub fn versions(&self, outcome: &Outcome) -> Vec<String> {
        let Outcome::Finished(versions) = outcome else {
            panic!("{outcome:?}")
        };
        versions.clone()
    }

    /// The bytes of a finished run's weights, task by task.
    pub fn weights(&self, outcome: &Outcome) -> Vec<Vec<u8>> {
        let load = |name: &String| {
            let version = self.registry.get(name).unwrap();
            self.registry.load_weights(&version).unwrap()
        };
        self.versions(outcome).iter().map(load).collect()
    }
}

/// Asks to stop after so many steps.
pub struct StopAfter(pub Cell<usize>);

impl Observer for StopAfter {
    fn interrupted(&self) -> bool {
        let left = self.0.get();
        self.0.set(left.saturating_sub(1));
        left == 0
    }

    fn step(&mut self, report: &StepReport) {
        assert!(report.done <= report.total);
    }
}
