//! The memory of this process.

/// The most that was resident at a time, in bytes: `VmHWM` of Linux. `None` on other systems.
pub(crate) fn peak_resident_bytes() -> Option<u64> {
    high_water_mark(&std::fs::read_to_string("/proc/self/status").ok()?)
}

fn high_water_mark(status: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    // The kernel's kB are of 1,024 bytes.
    value.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_is_read_in_bytes() {
        assert_eq!(high_water_mark("Name:\tbench\nVmPeak:\t 9 kB\nVmHWM:\t  2048 kB\nVmRSS:\t 7 kB\n"), Some(2 << 20));
        assert_eq!(high_water_mark("VmRSS:\t 7 kB\n"), None);
        assert_eq!(high_water_mark("VmHWM:\t many kB\n"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn touched_pages_raise_the_mark() {
        const BYTES: usize = 256 << 20;
        let before = peak_resident_bytes().unwrap();
        let touched = std::hint::black_box(vec![1u8; BYTES]);
        let now = peak_resident_bytes().unwrap();
        assert!(now >= before && now >= touched.len() as u64, "{before} {now}");
    }
}
