//! A bridge for mapped copies, with the certificate that allows them.

use std::path::PathBuf;

use clap::ValueEnum;
use perennial_bridge::Bridge;
use perennial_upgrade::{Certificate, MappedPermission, Policy, Task, Undecided};

use super::super::bridge::find_bridge;
use crate::arguments::GlobalArguments;
use crate::exit_status::gate_missed;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Mapped copies")]
pub struct MappedArguments {
    /// Map the old vectors by this bridge, from the old space to the new one: its folder, or its name in the registry
    #[arg(long, value_name = "BRIDGE")]
    pub mapped: Option<String>,
    /// Certificate of route mapped for exactly this bridge (`perennial certify --route mapped --bridge`)
    #[arg(long, value_name = "FILE", requires = "mapped")]
    certificate: Option<PathBuf>,
    /// What the index is searched for, which the certificate must have measured
    #[arg(long, value_enum, default_value_t, requires = "mapped")]
    task: TaskArgument,
    /// Whether an undecided measurement is enough
    #[arg(long, value_enum, default_value = "refuse", requires = "mapped")]
    undecided: UndecidedArgument,
}

/// [`Task`] on the command line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum TaskArgument {
    /// Items of the query's class
    #[default]
    ClassLike,
    /// The one item that belongs to the query
    ItemLike,
}

/// [`Undecided`] on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum UndecidedArgument {
    /// It is, with a warning
    Warn,
    /// It is not
    Refuse,
}

impl MappedArguments {
    /// The bridge.
    pub fn bridge(&self, global: &GlobalArguments) -> anyhow::Result<Option<Bridge>> {
        self.mapped
            .as_deref()
            .map(|name| find_bridge(name, global))
            .transpose()
    }

    /// What allows mapping by the bridge; nothing without a certificate.
    pub fn permission(&self, bridge: &Bridge) -> anyhow::Result<Option<MappedPermission>> {
        let Some(path) = &self.certificate else {
            return Ok(None);
        };
        let policy = Policy {
            task: match self.task {
                TaskArgument::ClassLike => Task::ClassLike,
                TaskArgument::ItemLike => Task::ItemLike,
            },
            undecided: match self.undecided {
                UndecidedArgument::Warn => Undecided::Warn,
                UndecidedArgument::Refuse => Undecided::Refuse,
            },
            ..Policy::default()
        };
        let certificate = Certificate::read(path)?;
        let permission = MappedPermission::of(&certificate, bridge, &policy);
        permission
            .map(Some)
            .map_err(|refused| gate_missed(format!("{}: {refused}", path.display())))
    }
}
