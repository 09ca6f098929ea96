//! A bridge for mapped copies, with the certificate that allows them.

use std::path::PathBuf;

use clap::ValueEnum;
use perennial_bridge::Bridge;
use perennial_upgrade::{
    Certificate, MappedPermission, Policy, StoredCertificates, Task, Undecided,
};

use super::super::bridge::find_bridge;
use crate::arguments::GlobalArguments;
use crate::exit_status::gate_missed;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Mapped copies")]
pub struct MappedArguments {
    /// Map the old vectors by this bridge, from the old space to the new one: its folder, or its name in the registry
    #[arg(long, value_name = "BRIDGE")]
    pub mapped: Option<String>,
    /// Certificate of route mapped for exactly this bridge (`perennial certify --route mapped --bridge`) [default: the newest one in the registry, where
    /// `certify --record` puts it]
    #[arg(long, value_name = "FILE", requires = "mapped")]
    certificate: Option<PathBuf>,
    /// What the index is searched for, which the certificate must have measured
    #[arg(long, value_enum, default_value_t, requires = "mapped")]
    task: TaskArgument,
    /// Whether an undecided measurement is enough. `certify` and `migrate verify`, which only report, let it pass with a warning unless told otherwise
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
    /// What the index is searched for.
    pub fn task(&self) -> Task {
        match self.task {
            TaskArgument::ClassLike => Task::ClassLike,
            TaskArgument::ItemLike => Task::ItemLike,
        }
    }

    /// The bridge.
    pub fn bridge(&self, global: &GlobalArguments) -> anyhow::Result<Option<Bridge>> {
        self.mapped
            .as_deref()
            .map(|name| find_bridge(name, global))
            .transpose()
    }

    /// What allows mapping by the bridge, and the certificate that says so; nothing without a certificate.
    pub fn permission(
        &self,
        bridge: &Bridge,
        global: &GlobalArguments,
    ) -> anyhow::Result<Option<(Certificate, MappedPermission)>> {
        let policy = Policy {
            task: self.task(),
            undecided: match self.undecided {
                UndecidedArgument::Warn => Undecided::Warn,
                UndecidedArgument::Refuse => Undecided::Refuse,
            },
            ..Policy::default()
        };
        let Some(path) = &self.certificate else {
            return recorded(bridge, &policy, global);
        };
        let certificate = Certificate::read(path)?;
        match MappedPermission::of(&certificate, bridge, &policy) {
            Ok(permission) => Ok(Some((certificate, permission))),
            Err(refused) => Err(gate_missed(format!("{}: {refused}", path.display()))),
        }
    }
}

/// What the registry allows, where there is one.
fn recorded(
    bridge: &Bridge,
    policy: &Policy,
    global: &GlobalArguments,
) -> anyhow::Result<Option<(Certificate, MappedPermission)>> {
    let Ok(registry) = global.open_registry() else {
        return Ok(None);
    };
    let certificates = StoredCertificates::of(&registry)?;
    match MappedPermission::recorded(&certificates, bridge, policy) {
        None => Ok(None),
        Some((certificate, Ok(permission))) => Ok(Some((certificate.clone(), permission))),
        Some((_, Err(refused))) => Err(gate_missed(format!("in the registry: {refused}"))),
    }
}
