//! The devices of the card.

use std::sync::OnceLock;

use limbeck_kernels::measured_bandwidth;
use serde::Deserialize;

/// What is read to measure this machine's memory: more than any cache holds.
const MEASURED_BYTES: usize = 1 << 30;

/// A device.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// As `--budget device=` takes it.
    pub name: String,
    /// For people.
    pub title: String,
    /// Memory of the whole device, in bytes.
    pub memory_bytes: u64,
    /// Of its memory, at most.
    pub peak_gb_per_s: f64,
    /// What decoding reaches.
    pub sustained_gb_per_s: f64,
    /// Of a bit from memory.
    pub memory_pj_per_bit: f64,
    /// Where the numbers are from.
    pub source: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    device: Vec<Device>,
}

/// The devices of `devices.toml`.
pub fn devices() -> &'static [Device] {
    static DEVICES: OnceLock<Vec<Device>> = OnceLock::new();
    DEVICES.get_or_init(|| toml::from_str::<File>(include_str!("devices.toml")).expect("a test reads it").device)
}

/// This machine, its memory's bandwidth measured now, in about a second.
pub fn this_machine() -> Device {
    let gb_per_s = measured_bandwidth(MEASURED_BYTES).bytes_per_s / 1e9;
    Device {
        name: "this-machine".to_owned(),
        title: "this machine".to_owned(),
        memory_bytes: memory_bytes().unwrap_or(u64::MAX),
        peak_gb_per_s: gb_per_s,
        sustained_gb_per_s: gb_per_s,
        memory_pj_per_bit: devices()[0].memory_pj_per_bit,
        source: "memory bandwidth as measured: all threads read a gigabyte".to_owned(),
    }
}

/// `None` where the system does not say.
fn memory_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    // The kernel's kB are of 1,024 bytes.
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read_and_makes_sense() {
        let names: Vec<&str> = devices().iter().map(|device| device.name.as_str()).collect();
        assert_eq!(names, ["raspberry-pi-5", "mid-range-phone", "flagship-phone", "laptop"]);
        for device in devices() {
            assert!(device.sustained_gb_per_s > 0.0 && device.sustained_gb_per_s <= device.peak_gb_per_s, "{device:?}");
            assert!(device.memory_bytes >= 1 << 30 && device.memory_pj_per_bit > 0.0 && !device.source.is_empty());
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_machine_has_memory() {
        let bytes = memory_bytes().expect("Linux says it");
        assert!(bytes > 1 << 29, "{bytes}");
    }
}
