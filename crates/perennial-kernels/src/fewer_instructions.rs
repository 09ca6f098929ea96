//! Runs the program that it is a test of once more, with fewer instructions than the processor has.

use std::process::Command;

use perennial_core::instructions::{Instructions, VARIABLE};
use pulp::{Arch, Simd, WithSimd};

struct Lanes;

impl WithSimd for Lanes {
    type Output = usize;

    fn with_simd<S: Simd>(self, _: S) -> usize {
        S::F32_LANES
    }
}

#[test]
fn all_tests_pass_with_avx2_too() {
    let lanes = perennial_core::instructions::arch().dispatch(Lanes);
    if std::env::var_os(VARIABLE).is_some_and(|value| !value.is_empty()) {
        // As the environment says, which is how this test runs the others.
        assert!(lanes <= 8 || std::env::var(VARIABLE).unwrap() == Instructions::Avx512.name());
        return;
    }
    assert_eq!(lanes, Arch::new().dispatch(Lanes));
    if lanes <= 8 {
        return;
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    let ended = command.env(VARIABLE, Instructions::Avx2.name()).output();
    let ended = ended.unwrap();
    let said = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success(), "{said}");
    assert!(
        said.contains("all_tests_pass_with_avx2_too ... ok"),
        "{said}"
    );
}
