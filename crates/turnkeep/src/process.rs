//! What the operating system says of this process, as metrics.

use std::fmt::{Display, Write as _};
use std::time::{SystemTime, UNIX_EPOCH};

/// Which program it is, since when it runs, and what it takes, in the Prometheus text format;
/// without what can't be read.
pub(crate) fn metrics(started: SystemTime) -> String {
    let mut text = String::new();
    let version = env!("CARGO_PKG_VERSION");
    let name = format!("turnkeep_build_info{{version=\"{version}\"}}");
    write(&mut text, &name, "gauge", "1, for the version of the program", Some(1));
    let started = started.duration_since(UNIX_EPOCH).map(|since| since.as_secs_f64());
    let about = "When the process began, in seconds of Unix time";
    write(&mut text, "process_start_time_seconds", "gauge", about, started.ok());
    let about = "User and system time of all threads";
    write(&mut text, "process_cpu_seconds_total", "counter", about, cpu_seconds());
    let about = "Memory that is in use";
    write(&mut text, "process_resident_memory_bytes", "gauge", about, resident_bytes());
    write(&mut text, "process_open_fds", "gauge", "Open files and connections", open_files());
    let about = "Files and connections that may be open";
    write(&mut text, "process_max_fds", "gauge", about, open_files_max());
    text
}

/// One number; its name with its labels.
fn write(text: &mut String, name: &str, kind: &str, about: &str, value: Option<impl Display>) {
    let Some(value) = value else { return };
    let family = name.split('{').next().unwrap_or(name);
    let _ = writeln!(text, "# HELP {family} {about}\n# TYPE {family} {kind}\n{name} {value}");
}

/// User and system time of all threads.
fn cpu_seconds() -> Option<f64> {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::uninit();
    #[expect(unsafe_code, reason = "the standard library has no getrusage")]
    // SAFETY: the pointer is to a whole rusage, which the call fills in when it returns 0.
    let usage = unsafe {
        if libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) != 0 {
            return None;
        }
        usage.assume_init()
    };
    #[expect(clippy::cast_precision_loss, reason = "seconds of CPU time are small numbers")]
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    Some(seconds(usage.ru_utime) + seconds(usage.ru_stime))
}

fn open_files() -> Option<usize> {
    // The folder that is being read is one of them.
    Some(std::fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1))
}

/// None where there is no limit.
fn open_files_max() -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes * 1024)
}
