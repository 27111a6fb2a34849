//! Metrics of this process from the operating system, with the names that Prometheus' client
//! libraries use.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What the operating system reports about this process; unknown values are `None`.
#[derive(Debug, Default)]
pub(super) struct ProcessStats {
    pub(super) cpu_seconds: Option<f64>,
    pub(super) resident_bytes: Option<u64>,
    pub(super) virtual_bytes: Option<u64>,
    pub(super) open_files: Option<u64>,
    pub(super) max_files: Option<u64>,
}

impl ProcessStats {
    /// Reads `/proc`; without it, nothing is known.
    pub(super) fn read() -> Self {
        let status = read("status");
        let limits = read("limits");
        Self {
            cpu_seconds: cpu_seconds(&read("stat")),
            resident_bytes: kibibytes(&status, "VmRSS:"),
            virtual_bytes: kibibytes(&status, "VmSize:"),
            open_files: std::fs::read_dir("/proc/self/fd")
                .ok()
                // The folder itself is one of them.
                .map(|files| files.count().saturating_sub(1) as u64),
            max_files: line(&limits, "Max open files").and_then(|soft| soft.parse().ok()),
        }
    }
}

/// Seconds since 1970, for gauges of times.
pub(super) fn unix_seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
        .as_secs_f64()
}

fn read(file: &str) -> String {
    std::fs::read_to_string(format!("/proc/self/{file}")).unwrap_or_default()
}

/// The first word after `label`.
fn line<'t>(text: &'t str, label: &str) -> Option<&'t str> {
    let line = text.lines().find_map(|line| line.strip_prefix(label))?;
    line.split_whitespace().next()
}

fn kibibytes(status: &str, label: &str) -> Option<u64> {
    Some(line(status, label)?.parse::<u64>().ok()? * 1024)
}

/// Fields 14 and 15 of `/proc/self/stat` ([proc_pid_stat(5)]), in hundredths of a second: Linux's
/// `USER_HZ` is 100 on every supported architecture.
///
/// [proc_pid_stat(5)]: https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html
fn cpu_seconds(stat: &str) -> Option<f64> {
    // The second field is the program's name, which may contain spaces and parentheses.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut ticks = fields.split(' ').skip(11).map(str::parse::<f64>);
    Some((ticks.next()?.ok()? + ticks.next()?.ok()?) / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_name_may_contain_spaces_and_parentheses() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 100 0 0 0 150 50 0 0 20 0 1 0 9 1 1 1";
        assert_eq!(cpu_seconds(stat), Some(2.0));
        assert_eq!(cpu_seconds(""), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn every_value_is_known_on_linux() {
        let process = ProcessStats::read();
        assert!(process.resident_bytes.is_some_and(|bytes| bytes > 4096));
        assert!(process.virtual_bytes >= process.resident_bytes);
        assert!(process.open_files.is_some_and(|files| files >= 3));
        assert!(process.max_files >= process.open_files);
        assert!(process.cpu_seconds.is_some());
    }
}
