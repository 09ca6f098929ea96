//! Which instructions of the processor inner loops use: the best that it has, or fewer where an environment variable says so.

use std::ffi::OsStr;
use std::sync::OnceLock;

use pulp::Arch;

/// Names the most that searches, networks and other inner loops may use.
pub const VARIABLE: &str = "PERENNIAL_INSTRUCTIONS";

/// Vector instructions, the fastest last. Where numbers are not bytes, AVX-VNNI has no others than AVX2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Instructions {
    /// AVX2: registers of 32 bytes; of bytes, pairs of products in 16 bits.
    Avx2,
    /// AVX-VNNI: of bytes, four products in 32 bits.
    AvxVnni,
    /// AVX-512, for bytes with VNNI: registers of 64 bytes.
    Avx512,
}

/// The environment variable names no instructions that are known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("environment variable {VARIABLE}: {problem}")]
pub struct InstructionsError {
    /// What it must be, and what it is.
    pub problem: String,
}

impl Instructions {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Avx2, Self::AvxVnni, Self::Avx512];

    /// What the environment variable calls them.
    pub fn name(self) -> &'static str {
        match self {
            Self::Avx2 => "avx2",
            Self::AvxVnni => "avx-vnni",
            Self::Avx512 => "avx512",
        }
    }

    /// Whether the processor has them, for products of bytes.
    #[cfg(target_arch = "x86_64")]
    pub fn present(self) -> bool {
        match self {
            Self::Avx2 => is_x86_feature_detected!("avx2"),
            Self::AvxVnni => {
                is_x86_feature_detected!("avx2") && is_x86_feature_detected!("avxvnni")
            }
            Self::Avx512 => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vnni")
            }
        }
    }

    /// Whether the processor has them, for products of bytes.
    #[cfg(not(target_arch = "x86_64"))]
    pub fn present(self) -> bool {
        false
    }

    /// Whether the processor has them, for products of bytes, and the environment allows them.
    pub fn usable(self) -> bool {
        self.present() && most().as_ref().is_ok_and(|&most| self <= most)
    }
}

/// The most that the environment allows, read once.
fn most() -> &'static Result<Instructions, InstructionsError> {
    static MOST: OnceLock<Result<Instructions, InstructionsError>> = OnceLock::new();
    MOST.get_or_init(|| parse(std::env::var_os(VARIABLE).as_deref()))
}

fn parse(value: Option<&OsStr>) -> Result<Instructions, InstructionsError> {
    let Some(value) = value.filter(|value| !value.is_empty()) else {
        return Ok(Instructions::Avx512);
    };
    let named = |instructions: &Instructions| value == instructions.name();
    let found = Instructions::ALL.into_iter().find(named);
    found.ok_or_else(|| {
        let names = Instructions::ALL.map(Instructions::name).join(", ");
        InstructionsError {
            problem: format!("must be one of {names}, got {}", value.display()),
        }
    })
}

/// Refuses a variable that names nothing known. Whoever begins work with inner loops asks for it once; without it, they take AVX2.
///
/// # Errors
///
/// An unknown name, with those that are known.
pub fn check() -> Result<(), InstructionsError> {
    most().as_ref().map(|_| ()).map_err(Clone::clone)
}

/// For loops that the compiler turns into vector instructions.
#[inline]
pub fn arch() -> Arch {
    static ARCH: OnceLock<Arch> = OnceLock::new();
    *ARCH.get_or_init(|| match most() {
        Ok(Instructions::Avx512) => Arch::new(),
        _ => without_avx512(),
    })
}

#[cfg(target_arch = "x86_64")]
fn without_avx512() -> Arch {
    pulp::x86::V3::try_new().map_or(Arch::Scalar, Arch::V3)
}

#[cfg(not(target_arch = "x86_64"))]
fn without_avx512() -> Arch {
    Arch::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_instructions_are_accepted() {
        let parse = |text: &str| parse(Some(OsStr::new(text)));
        for instructions in Instructions::ALL {
            assert_eq!(parse(instructions.name()), Ok(instructions));
        }
        assert_eq!(parse(""), Ok(Instructions::Avx512));
        assert_eq!(super::parse(None), Ok(Instructions::Avx512));
        let error = parse("avx3").unwrap_err();
        assert_eq!(
            error.to_string(),
            "environment variable PERENNIAL_INSTRUCTIONS: must be one of avx2, avx-vnni, avx512, got avx3"
        );
    }
}
