//! Panics of libraries that are errors of a file, and so no news for the reader of standard error.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    /// How many calls of [`catch_quietly`] this thread is in.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// Calls a library that panics on some damaged inputs; `None` if it did. Such a panic says nothing on standard error, while panics of
/// other threads, and of this one outside the call, are reported as before.
pub fn catch_quietly<T>(call: impl FnOnce() -> T) -> Option<T> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = take_hook();
        set_hook(Box::new(move |panic| {
            if DEPTH.try_with(Cell::get).unwrap_or(0) == 0 {
                usual(panic);
            }
        }));
    });
    DEPTH.set(DEPTH.get() + 1);
    let result = catch_unwind(AssertUnwindSafe(call));
    DEPTH.set(DEPTH.get() - 1);
    result.ok()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const INNER: &str = "PERENNIAL_TEST_QUIET_PANIC";

    /// Runs itself in a process of its own, whose standard error can be looked at.
    #[test]
    fn only_panics_of_the_call_are_silent() {
        if std::env::var_os(INNER).is_some() {
            let caught = catch_quietly(|| {
                let other = std::thread::spawn(|| panic!("of another thread"));
                assert!(other.join().is_err());
                assert_eq!(catch_quietly(|| panic!("of an inner call")), None::<()>);
                panic!("of the call")
            });
            assert_eq!(caught, None::<()>);
            assert_eq!(catch_quietly(|| 7), Some(7));
            assert!(catch_unwind(|| panic!("after the call")).is_err());
            return;
        }
        let run = Command::new(std::env::current_exe().unwrap())
            .args(["only_panics_of_the_call_are_silent", "--nocapture"])
            .env(INNER, "1")
            .output()
            .unwrap();
        let text = String::from_utf8(run.stderr).unwrap();
        assert!(run.status.success(), "{text}");
        for (says, reported) in [
            ("of another thread", true),
            ("after the call", true),
            ("of the call", false),
            ("of an inner call", false),
        ] {
            assert_eq!(text.contains(says), reported, "{says}: {text}");
        }
    }
}
