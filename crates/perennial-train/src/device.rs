//! Choosing a device at run time.

use std::fmt;
use std::str::FromStr;

use burn::tensor::Device;
#[cfg(feature = "gpu")]
use burn::tensor::DeviceType;

use crate::TrainError;

/// Where tensors live: `auto`, `cpu`, `vulkan:N`, `wgpu:N` or `cuda:N`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The first GPU of a backend that is compiled in; the CPU where there is none.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// A GPU through Vulkan.
    Vulkan(usize),
    /// A GPU through WebGPU.
    Wgpu(usize),
    /// A GPU through CUDA.
    Cuda(usize),
}

impl FromStr for DeviceChoice {
    type Err = TrainError;

    fn from_str(text: &str) -> Result<Self, TrainError> {
        let unknown = |problem: &str| TrainError::Device {
            name: text.to_owned(),
            problem: problem.to_owned(),
        };
        let (kind, index) = match text.split_once(':') {
            Some((kind, index)) => (
                kind,
                index.parse().map_err(|_| {
                    unknown("expected a GPU index after the colon, such as vulkan:0")
                })?,
            ),
            None => (text, 0),
        };
        match kind {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "vulkan" => Ok(Self::Vulkan(index)),
            "wgpu" => Ok(Self::Wgpu(index)),
            "cuda" => Ok(Self::Cuda(index)),
            _ => Err(unknown("use auto, cpu, vulkan:0, wgpu:0 or cuda:0")),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Vulkan(index) => write!(f, "vulkan:{index}"),
            Self::Wgpu(index) => write!(f, "wgpu:{index}"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

impl DeviceChoice {
    /// The device, without gradient tracking.
    ///
    /// # Errors
    ///
    /// A backend that this binary was built without, a GPU that is not there, or an environment that names unknown instructions for the CPU.
    pub fn open(self) -> Result<Device, TrainError> {
        match self {
            Self::Cpu => cpu(),
            Self::Auto => first_gpu().map_or_else(cpu, Ok),
            #[cfg(feature = "vulkan")]
            Self::Vulkan(index) => self.gpu(DeviceType::Vulkan, index),
            #[cfg(feature = "wgpu")]
            Self::Wgpu(index) => self.gpu(DeviceType::Wgpu, index),
            #[cfg(feature = "cuda")]
            Self::Cuda(index) => self.gpu(DeviceType::Cuda, index),
            #[allow(unreachable_patterns, reason = "reachable only where a feature is off")]
            other => Err(TrainError::Device {
                name: other.to_string(),
                problem: format!(
                    "this binary was built without this backend; rebuild with `--features {}`",
                    other.to_string().split(':').next().unwrap_or_default()
                ),
            }),
        }
    }

    #[cfg(feature = "gpu")]
    fn gpu(self, backend: DeviceType, index: usize) -> Result<Device, TrainError> {
        let (mut gpus, renderers): (Vec<Device>, Vec<Device>) =
            Device::enumerate(backend).into_iter().partition(is_card);
        if gpus.is_empty() {
            // Asked for by name, a software renderer serves to check results without a card.
            gpus = renderers;
        }
        if index < gpus.len() {
            return Ok(gpus.swap_remove(index));
        }
        Err(TrainError::Device {
            name: self.to_string(),
            problem: format!(
                "this backend finds {} GPUs on this machine; indices start at 0. Use cpu to run without a GPU",
                gpus.len()
            ),
        })
    }
}

/// Fused layers choose their instructions when they are first used, so what the environment says of them is looked at before.
fn cpu() -> Result<Device, TrainError> {
    perennial_core::instructions::check()?;
    Ok(Device::flex())
}

/// Whether a device is a card; software renderers are none.
#[cfg(feature = "gpu")]
fn is_card(device: &Device) -> bool {
    let identity = device.identity();
    identity.is_some_and(|identity| identity.physical.is_some())
}

/// The first GPU of the fastest compiled-in backend, if one is there.
fn first_gpu() -> Option<Device> {
    #[cfg(feature = "gpu")]
    {
        let backends = [
            #[cfg(feature = "cuda")]
            DeviceType::Cuda,
            #[cfg(feature = "vulkan")]
            DeviceType::Vulkan,
            #[cfg(feature = "wgpu")]
            DeviceType::Wgpu,
        ];
        backends
            .into_iter()
            .find_map(|backend| Device::enumerate(backend).into_iter().find(is_card))
    }
    #[cfg(not(feature = "gpu"))]
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for name in ["auto", "cpu", "vulkan:0", "wgpu:1", "cuda:2"] {
            assert_eq!(name.parse::<DeviceChoice>().unwrap().to_string(), name);
        }
        for wrong in ["gpu", "cuda:x", ""] {
            assert!(wrong.parse::<DeviceChoice>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_gpu_that_is_not_there_is_an_error() {
        for choice in ["vulkan:99", "wgpu:99", "cuda:99"] {
            let error = choice.parse::<DeviceChoice>().unwrap().open().unwrap_err();
            assert!(error.to_string().contains(choice), "{error}");
        }
    }
}
