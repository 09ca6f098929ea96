//! Work behind the searches: indexes are built in threads that searches go before.

/// Added to the niceness of a thread: with all of the processor wanted, it gets about a third of what a thread of a search gets.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 5;

/// Lets other threads of this process go first where the processor is short. Linux only: elsewhere priorities are those of whole processes.
pub(super) fn step_back() {
    #[cfg(target_os = "linux")]
    {
        let lowered = rustix::process::getpriority_process(None)
            .and_then(|now| rustix::process::setpriority_process(None, now + NICENESS));
        if let Err(error) = lowered {
            tracing::debug!(%error, "the priority of a thread that builds indexes stays as it is");
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn only_the_thread_steps_back() {
        let priority = || rustix::process::getpriority_process(None).unwrap();
        let before = priority();
        let of_another = std::thread::spawn(move || {
            step_back();
            priority()
        });
        assert_eq!(of_another.join().unwrap(), (before + NICENESS).min(19));
        assert_eq!(priority(), before);
    }
}
