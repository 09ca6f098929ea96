//! Process statistics of the operating system. Everything is optional: not every system has a `/proc`.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// The kernel's clock ticks per second as user space sees them, the same on every architecture that Rust runs on.
const TICKS_PER_SECOND: u64 = 100;

/// Numbers of this moment.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub(crate) struct Process {
    pub(crate) resident_bytes: Option<u64>,
    pub(crate) open_files: Option<u64>,
    pub(crate) max_files: Option<u64>,
}

impl Process {
    pub(crate) fn now() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        // Reading the folder opens it: one more than there are.
        let open_files = fs::read_dir("/proc/self/fd")
            .ok()
            .map(|entries| (entries.count() as u64).saturating_sub(1));
        Self {
            resident_bytes: resident_bytes(&status),
            open_files,
            max_files: max_files(&limits),
        }
    }
}

fn resident_bytes(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

fn max_files(limits: &str) -> Option<u64> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// When this process was started; now, where the system does not say.
pub(crate) fn started() -> SystemTime {
    let read = |path: &str| fs::read_to_string(path).ok();
    read("/proc/self/stat")
        .zip(read("/proc/stat"))
        .and_then(|(own, system)| start_time(&own, &system))
        .unwrap_or_else(SystemTime::now)
}

fn start_time(own: &str, system: &str) -> Option<SystemTime> {
    // The program's name, in parentheses, may hold anything. The start is the 22nd field, the state behind the name the third.
    let (_, fields) = own.rsplit_once(')')?;
    let ticks: u64 = fields.split_whitespace().nth(22 - 3)?.parse().ok()?;
    let boot = system
        .lines()
        .find_map(|line| line.strip_prefix("btime "))?;
    let boot: u64 = boot.trim().parse().ok()?;
    let since_boot = Duration::from_millis(ticks * (1000 / TICKS_PER_SECOND));
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(boot) + since_boot)
}

/// Bytes of a file system that unprivileged processes may still use.
#[cfg(unix)]
pub(crate) fn free_bytes(folder: &Path) -> Option<u64> {
    let system = rustix::fs::statvfs(folder).ok()?;
    Some(system.f_bavail.saturating_mul(system.f_frsize))
}

#[cfg(not(unix))]
pub(crate) fn free_bytes(_folder: &Path) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_texts_are_read() {
        let status = "Name:\tperennial\nVmHWM:\t   99999 kB\nVmRSS:\t   81234 kB\nThreads:\t4\n";
        assert_eq!(resident_bytes(status), Some(81_234 * 1024));
        assert_eq!(resident_bytes("Name:\tkthread\n"), None);
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
            Max open files            1024                 524288               files\n";
        assert_eq!(max_files(limits), Some(1024));
        assert_eq!(
            max_files("Max open files   unlimited  unlimited  files"),
            None
        );
        let own = "71 (a) b (c) S 1 71 71 0 -1 4194560 1 0 0 0 5 6 7 8 20 0 9 0 123456 99 1 2";
        let system = "cpu  1 2 3\nbtime 1700000000\nprocesses 5\n";
        let start = start_time(own, system).unwrap();
        let since = start.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(since, Duration::from_millis(1_700_001_234_560));
        assert_eq!(start_time("71 (a", system), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_numbers() {
        let process = Process::now();
        assert!(process.resident_bytes.unwrap() > 1 << 20);
        let _file = fs::File::open("/proc/self/status").unwrap();
        assert!(process.open_files.unwrap() >= 3);
        assert!(process.max_files.is_none_or(|most| most > 3));
        let age = SystemTime::now()
            .duration_since(started())
            .unwrap_or_default();
        assert!(age < Duration::from_secs(86_400), "{age:?}");
        assert!(free_bytes(Path::new("/")).is_some());
        assert_eq!(free_bytes(Path::new("/no/such/folder")), None);
    }
}
