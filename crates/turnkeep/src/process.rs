//! What the operating system says of this process, as metrics.

use std::fmt::Write as _;

/// CPU time and memory in the Prometheus text format; empty where they can't be read.
pub(crate) fn metrics() -> String {
    let mut text = String::new();
    if let Some(seconds) = cpu_seconds() {
        let _ = writeln!(text, "# TYPE process_cpu_seconds_total counter");
        let _ = writeln!(text, "process_cpu_seconds_total {seconds}");
    }
    if let Some(bytes) = resident_bytes() {
        let _ = writeln!(text, "# TYPE process_resident_memory_bytes gauge");
        let _ = writeln!(text, "process_resident_memory_bytes {bytes}");
    }
    text
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

fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes * 1024)
}
