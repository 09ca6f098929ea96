//! The options that every command shares.

use std::path::PathBuf;

use clap::Args;
use perennial_core::{Registry, RegistryError};
use perennial_train::DeviceChoice;

/// Options of every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct GlobalArguments {
    /// Print no progress, only results and errors
    #[arg(long, global = true)]
    pub quiet: bool,
    /// Print the result as JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// Compute device: auto, cpu, vulkan:0, wgpu:0 or cuda:0
    #[arg(
        long,
        global = true,
        env = "PERENNIAL_DEVICE",
        default_value = "auto",
        value_name = "DEVICE"
    )]
    pub device: DeviceChoice,
    /// Folder of the model registry
    #[arg(
        long,
        global = true,
        env = "PERENNIAL_REGISTRY",
        default_value = "registry",
        value_name = "DIR"
    )]
    pub registry: PathBuf,
    /// Folder of data sets
    #[arg(
        long,
        global = true,
        env = "PERENNIAL_DATA",
        default_value = "data",
        value_name = "DIR"
    )]
    pub data: PathBuf,
    /// Folder of runs
    #[arg(long, global = true, default_value = "runs", value_name = "DIR")]
    pub runs: PathBuf,
}

impl GlobalArguments {
    /// The registry, which must exist.
    pub fn open_registry(&self) -> Result<Registry, RegistryError> {
        Registry::open(&self.registry)
    }

    /// The registry, made where it does not exist.
    pub fn create_registry(&self) -> Result<Registry, RegistryError> {
        Registry::create(&self.registry)
    }
}
