//! `perennial pretrain`: one model on one set, under an alias that experiments refer to.

use perennial_train::{Observer, Outcome, PretrainConfig, RunPlaces, TrainError};

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
    training_run::run::<PretrainConfig>(arguments, global, terminal)
}

impl Runnable for PretrainConfig {
    const COMMAND: &'static str = "pretrain";

    fn name(&self) -> &str {
        &self.name
    }

    fn seed(&self) -> u64 {
        self.seed
    }

    fn epochs(&self) -> usize {
        self.training.epochs
    }

    fn alias(&self) -> Option<&str> {
        Some(self.alias())
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
        perennial_train::pretrain(self, places, resume, observer)
    }
}
