//! The `process_*` metrics of Prometheus client libraries, read from `/proc/self` at each scrape.
//!
//! A value that cannot be read is left out, never made up. Names:
//! <https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics>; fields: `man 5 proc`.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// Kernel ticks per second in `/proc`: USER_HZ, fixed at 100 in the interface whatever the kernel's own rate is.
const TICKS_PER_SECOND: f64 = 100.0;

/// Reads the process's own figures at each scrape.
#[derive(Debug, Clone, Copy)]
pub struct ProcessCollector;

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut one =
            |name: &str, help: &str, value: Option<f64>| gauge(&mut encoder, name, help, value);
        let stat = Stat::read();
        let limits = fs::read_to_string("/proc/self/limits").ok();
        one(
            "process_resident_memory_bytes",
            "Memory in RAM",
            status_bytes("VmRSS:"),
        )?;
        one(
            "process_virtual_memory_bytes",
            "Address space",
            status_bytes("VmSize:"),
        )?;
        one("process_open_fds", "Open file descriptors", open_fds())?;
        one(
            "process_max_fds",
            "Most file descriptors that may be open",
            limits.as_deref().and_then(max_fds),
        )?;
        one(
            "process_threads",
            "Threads",
            stat.as_ref().map(|stat| stat.threads),
        )?;
        let start = stat
            .as_ref()
            .and_then(|stat| Some(boot_time()? + stat.start_ticks / TICKS_PER_SECOND));
        one(
            "process_start_time_seconds",
            "Start of the process, seconds since 1970",
            start,
        )?;
        let Some(stat) = stat else { return Ok(()) };
        let cpu = ConstCounter::new(stat.cpu_ticks / TICKS_PER_SECOND);
        let metric = encoder.encode_descriptor(
            "process_cpu_seconds",
            "CPU time used, user and system",
            None,
            cpu.metric_type(),
        )?;
        cpu.encode(metric)
    }
}

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: Option<f64>,
) -> fmt::Result {
    let Some(value) = value else { return Ok(()) };
    let gauge = ConstGauge::new(value);
    let metric = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
    gauge.encode(metric)
}

/// What is used of `/proc/self/stat`.
struct Stat {
    cpu_ticks: f64,
    threads: f64,
    start_ticks: f64,
}

impl Stat {
    fn read() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/self/stat").ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        // The second field is the program's name in parentheses, which may hold spaces and parentheses itself.
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        // `rest` begins with field 3 of the manual.
        let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        Some(Self {
            cpu_ticks: field(14)? + field(15)?,
            threads: field(20)?,
            start_ticks: field(22)?,
        })
    }
}

/// A line such as `VmRSS:     1234 kB` of `/proc/self/status`.
/// What the process has in RAM, in bytes, if that can be read.
pub fn resident_memory() -> Option<u64> {
    status_bytes("VmRSS:").map(|bytes| bytes as u64)
}

fn status_bytes(name: &str) -> Option<f64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024.0)
}

fn open_fds() -> Option<f64> {
    let count = fs::read_dir("/proc/self/fd").ok()?.count();
    // One of them is the directory that is being read.
    u32::try_from(count.saturating_sub(1)).ok().map(f64::from)
}

/// The soft limit; left out when there is none.
fn max_fds(limits: &str) -> Option<f64> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

fn boot_time() -> Option<f64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    text.lines()
        .find_map(|line| line.strip_prefix("btime "))?
        .trim()
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use prometheus_client::registry::Registry;

    #[test]
    fn a_program_name_with_parentheses_does_not_shift_the_fields() {
        let text = "42 (a) b (c) S 1 42 42 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 7 0 12345 1000 200 18446744073709551615";
        let stat = Stat::parse(text).unwrap();
        assert_eq!(
            (stat.cpu_ticks, stat.threads, stat.start_ticks),
            (300.0, 7.0, 12345.0)
        );
    }

    #[test]
    fn unlimited_is_left_out() {
        assert_eq!(
            max_fds("Max open files            1024                 4096                 files"),
            Some(1024.0)
        );
        assert_eq!(
            max_fds("Max open files            unlimited            unlimited            files"),
            None
        );
    }

    #[test]
    fn tells_this_process() {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(ProcessCollector));
        let text = super::super::text(&registry).unwrap();
        for name in [
            "process_cpu_seconds_total ",
            "process_resident_memory_bytes ",
            "process_virtual_memory_bytes ",
            "process_open_fds ",
            "process_threads ",
            "process_start_time_seconds ",
        ] {
            assert!(
                text.contains(&format!("\n{name}")),
                "{name} is missing in:\n{text}"
            );
        }
    }
}
