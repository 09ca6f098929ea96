//! Hardware and program of a run, for its record.

use serde::{Deserialize, Serialize};

/// A machine; unknown values are absent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Name of the processor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<String>,
    /// Threads that this process may use at once.
    pub cores: usize,
    /// Main memory in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Operating system and architecture, such as `linux x86_64`.
    pub system: String,
}

/// The program that ran.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Program {
    /// Version of Perennial.
    pub perennial: String,
    /// The commit it was built from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The compiler it was built with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rustc: Option<String>,
}

impl Machine {
    pub fn this() -> Self {
        let cpu_info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let memory_info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        Self {
            cpu: field(&cpu_info, "model name").map(str::to_owned),
            cores: std::thread::available_parallelism().map_or(1, Into::into),
            memory_bytes: field(&memory_info, "MemTotal").and_then(kibibytes),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        }
    }
}

impl Program {
    pub fn this() -> Self {
        Self {
            perennial: env!("CARGO_PKG_VERSION").to_owned(),
            commit: option_env!("PERENNIAL_COMMIT").map(str::to_owned),
            rustc: option_env!("PERENNIAL_RUSTC").map(str::to_owned),
        }
    }
}

/// The most memory that this process has held so far, in bytes.
pub fn peak_memory_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    field(&status, "VmHWM").and_then(kibibytes)
}

/// The value of `name: value` lines as the kernel writes them.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim())
    })
}

fn kibibytes(text: &str) -> Option<u64> {
    text.strip_suffix("kB")?
        .trim()
        .parse::<u64>()
        .ok()?
        .checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_tables_are_read() {
        let text = "processor\t: 0\nmodel name\t: Example CPU\nMemTotal:       2048 kB\n";
        assert_eq!(field(text, "model name"), Some("Example CPU"));
        assert_eq!(field(text, "MemTotal").and_then(kibibytes), Some(2 << 20));
        assert_eq!(field(text, "absent"), None);
        assert!(Machine::this().cores >= 1);
    }
}
