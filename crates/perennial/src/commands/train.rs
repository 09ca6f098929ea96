//! `perennial train`: successive versions by tasks, updates and replacements.

use perennial_train::{ExperimentConfig, Observer, Outcome, RunPlaces, TrainError};

use crate::arguments::GlobalArguments;
use crate::exit_status::ExitStatus;
use crate::terminal::Terminal;
use crate::training_run::{self, Runnable};

pub use crate::training_run::Arguments;

pub fn run(
    arguments: &Arguments,
    global: &GlobalArguments,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    training_run::run::<ExperimentConfig>(arguments, global, terminal)
}

impl Runnable for ExperimentConfig {
    const COMMAND: &'static str = "train";

    fn name(&self) -> &str {
        &self.name
    }

    fn seed(&self) -> u64 {
        self.seed
    }

    fn completed(self) -> Self {
        self.completed()
    }

    fn epochs(&self) -> usize {
        self.training.epochs
    }

    fn alias(&self) -> Option<&str> {
        None
    }

    fn images(&self) -> String {
        self.data.describe()
    }

    fn check(&self) -> Result<(), TrainError> {
        self.check()
    }

    fn execute(
        &self,
        places: &RunPlaces<'_>,
        resume: bool,
        observer: &mut dyn Observer,
    ) -> Result<Outcome, TrainError> {
        perennial_train::train(self, places, resume, observer)
    }
}
