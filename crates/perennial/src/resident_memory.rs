//! The memory that a service holds while it waits.

use std::ffi::{c_int, c_long};
use std::time::Duration;

/// Between two looks. Memory that requests go on using is fetched again page by page, which takes less than a hundredth of this.
const PAUSE: Duration = Duration::from_secs(5);

unsafe extern "C" {
    /// Of the allocator, mimalloc: gives back what is free, with `force` also what has been free for less than a second.
    fn mi_collect(force: bool);
    /// Of the allocator: the value of an option.
    fn mi_option_get(option: c_int) -> c_long;
    /// Of the allocator: sets an option.
    fn mi_option_set(option: c_int, value: c_long);
}

/// `mi_option_purge_delay` of the allocator: the milliseconds for which freed memory is kept.
const PURGE_DELAY: c_int = 15;

/// While it lives, freed memory is given back at once.
///
/// What is freed while an encoder is loaded would otherwise be used again by what stays, which seldom fills it: 16 MB beside an encoder of 65 MB. A service
/// that answers keeps freed memory for a moment, since searches free and take large pieces again and again.
#[must_use]
pub struct GivenBackAtOnce {
    /// What was before, in milliseconds.
    delay: c_long,
}

impl GivenBackAtOnce {
    /// From now on.
    pub fn new() -> Self {
        // SAFETY: The allocator's library is linked, since the program allocates with it; both functions may be called by any thread at any time, and take
        // one number out of an array of options or put one there.
        let delay = unsafe { mi_option_get(PURGE_DELAY) };
        unsafe { mi_option_set(PURGE_DELAY, 0) };
        Self { delay }
    }
}

impl Drop for GivenBackAtOnce {
    fn drop(&mut self) {
        // SAFETY: As in `new`.
        unsafe { mi_option_set(PURGE_DELAY, self.delay) };
    }
}

/// Lets all memory from now on be had in small pages.
///
/// The allocator asks for pages of 2 MB, of which a program with many tensors of a few hundred kB holds a third without using it: 40 MB beside an encoder of
/// 65 MB. Encoders are no slower without, walks through a large gallery's graph are (`docs/performance.md`). Where the system has no such switch, nothing
/// changes.
pub fn use_small_pages() {
    #[cfg(target_os = "linux")]
    {
        use std::ffi::{c_int, c_ulong};

        unsafe extern "C" {
            /// Of the C library.
            fn prctl(option: c_int, ...) -> c_int;
        }
        /// `PR_SET_THP_DISABLE` of `linux/prctl.h`.
        const SET_THP_DISABLE: c_int = 41;
        let (on, unused): (c_ulong, c_ulong) = (1, 0);
        // SAFETY: This option takes numbers alone, all four of them, and changes only how the system backs memory.
        let refused = unsafe { prctl(SET_THP_DISABLE, on, unused, unused, unused) } != 0;
        if refused {
            tracing::debug!("the system goes on with large pages");
        }
    }
}

/// Gives back what is free, of this thread and of all that have ended.
pub fn give_back() {
    // The allocator does nothing for a thread that has never allocated.
    std::hint::black_box(Box::new(0_u8));
    // SAFETY: The allocator's library is linked, since the program allocates with it, and the function may be called by any thread at any time; it
    // touches nothing that is in use.
    unsafe { mi_collect(true) };
}

/// Gives back what is free, from now on until the program ends.
///
/// The allocator gives freed memory back only while it looks for more. A service that has loaded an encoder and waits looks for none, and would keep
/// what reading the files took.
///
/// # Errors
/// No more threads can be had.
pub fn give_back_from_now_on() -> std::io::Result<()> {
    std::thread::Builder::new()
        .name("freed memory".to_owned())
        .spawn(|| {
            loop {
                give_back();
                std::thread::sleep(PAUSE);
            }
        })
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_given_back_at_once_for_a_while() {
        // The allocator's default, by which another numbering of its options would show; an environment that sets it would too.
        let get = || unsafe { mi_option_get(PURGE_DELAY) };
        assert_eq!(get(), 1000);
        let guard = GivenBackAtOnce::new();
        assert_eq!(get(), 0);
        drop(guard);
        assert_eq!(get(), 1000);
    }
}
