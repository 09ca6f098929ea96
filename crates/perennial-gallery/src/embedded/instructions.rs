//! Which instructions of the processor searches use: the best that it has, or fewer where an environment variable says so.

use std::ffi::OsStr;
use std::sync::OnceLock;

use pulp::Arch;

use crate::error::GalleryError;

/// Names the most that searches may use.
const VARIABLE: &str = "PERENNIAL_INSTRUCTIONS";

/// What products of bytes need, the fastest last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Instructions {
    /// AVX2: pairs of products in 16 bits.
    Avx2,
    /// AVX-VNNI: four products in 32 bits, in registers of 32 bytes.
    AvxVnni,
    /// AVX-512 VNNI: the same in registers of 64 bytes.
    Avx512,
}

impl Instructions {
    pub(super) const ALL: [Self; 3] = [Self::Avx2, Self::AvxVnni, Self::Avx512];

    fn name(self) -> &'static str {
        match self {
            Self::Avx2 => "avx2",
            Self::AvxVnni => "avx-vnni",
            Self::Avx512 => "avx512",
        }
    }

    /// Whether the processor has them.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn present(self) -> bool {
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

    /// Whether the processor has them.
    #[cfg(not(target_arch = "x86_64"))]
    pub(super) fn present(self) -> bool {
        false
    }

    /// Whether the processor has them and the environment allows them.
    pub(super) fn usable(self) -> bool {
        self.present() && most().as_ref().is_ok_and(|&most| self <= most)
    }
}

/// The most that the environment allows, read once.
fn most() -> &'static Result<Instructions, String> {
    static MOST: OnceLock<Result<Instructions, String>> = OnceLock::new();
    MOST.get_or_init(|| parse(std::env::var_os(VARIABLE).as_deref()))
}

fn parse(value: Option<&OsStr>) -> Result<Instructions, String> {
    let Some(value) = value.filter(|value| !value.is_empty()) else {
        return Ok(Instructions::Avx512);
    };
    let named = |instructions: &Instructions| value == instructions.name();
    Instructions::ALL.into_iter().find(named).ok_or_else(|| {
        let names = Instructions::ALL.map(Instructions::name).join(", ");
        format!("must be one of {names}, got {}", value.display())
    })
}

/// Refuses a variable that names nothing known.
pub(super) fn check() -> Result<(), GalleryError> {
    let refuse = |problem: &String| GalleryError::InvalidConfig {
        key: VARIABLE,
        problem: problem.clone(),
    };
    most().as_ref().map(|_| ()).map_err(refuse)
}

/// For loops that the compiler turns into vector instructions.
#[inline(always)]
pub(super) fn arch() -> Arch {
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
        assert_eq!(error, "must be one of avx2, avx-vnni, avx512, got avx3");
    }
}
