//! The options that every command shares.

use std::path::PathBuf;

use clap::Args;
use perennial_core::{ModelVersion, Registry, RegistryError};
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
    /// Library of onnxruntime, libonnxruntime.so.1.x, that runs the graphs of encoders of other programs, instead of the runtime that is built in. It
    /// is code, and runs with all rights of this program
    #[cfg_attr(
        not(feature = "onnxruntime"),
        doc = "(this build has no onnxruntime; build with --features onnxruntime)"
    )]
    #[arg(
        long,
        global = true,
        env = "PERENNIAL_ONNXRUNTIME",
        value_name = "FILE"
    )]
    pub onnxruntime: Option<PathBuf>,
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
    /// Where a version computes, in words: numbers from another place differ by rounding.
    pub fn place(&self, version: &ModelVersion) -> String {
        let outside = version.outside();
        if let Some(endpoint) = outside.and_then(|outside| outside.endpoint.as_ref()) {
            return endpoint.url.clone();
        }
        match (&self.onnxruntime, outside) {
            (Some(library), Some(_)) => format!("{}, {}", self.device, library.display()),
            _ => self.device.to_string(),
        }
    }

    /// The registry, which must exist.
    pub fn open_registry(&self) -> Result<Registry, RegistryError> {
        Registry::open(&self.registry)
    }

    /// The registry, made where it does not exist.
    pub fn create_registry(&self) -> Result<Registry, RegistryError> {
        Registry::create(&self.registry)
    }
}
