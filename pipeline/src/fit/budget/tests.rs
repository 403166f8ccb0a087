use limbeck_config::ExportFormat;

use super::*;
use crate::fit::tests::config;

fn refusal(text: &str) -> String {
    text.parse::<Budget>().expect_err(text).to_string()
}

#[test]
fn a_budget_is_read_in_its_units() {
    let budget: Budget = "memory=1GB, latency=50ms, context=4096, device=raspberry-pi-5".parse().expect("a budget");
    assert_eq!((budget.memory_bytes, budget.latency_s, budget.context), (Some(1_000_000_000), Some(0.05), Some(4096)));
    assert_eq!(budget.device.map(|device| device.title), Some("Raspberry Pi 5".to_owned()));
    let memory = |text: &str| text.parse::<Budget>().expect(text).memory_bytes;
    assert_eq!(memory("memory=1.5GiB"), Some(1_610_612_736));
    assert_eq!(memory("memory=512 MB"), Some(512_000_000));
    assert_eq!(memory("latency=2s"), None);
    assert_eq!("latency=700us".parse::<Budget>().expect("a budget").latency_s, Some(7e-4));
}

#[test]
fn what_is_no_budget_is_refused_with_a_way_out() {
    for (text, fragments) in [
        ("memroy=1GB", ["`memroy` is not a key of a budget", "did you mean `memory`"]),
        ("speed=1", ["`speed` is not a key", "there are `memory`, `latency`, `context`, `device`"]),
        ("1GB", ["`1GB` is not key=value", "write `memory=1GB,latency=50ms,context=4096`"]),
        ("", ["`` is not key=value", "write `memory="]),
        ("memory=1GB,", ["`` is not key=value", "write `memory="]),
        ("memory=1gb", ["memory is `1gb`, must have a unit of B, kB, MB", "did you mean `1GB`"]),
        ("memory=1024", ["must have a unit of B, kB, MB", "such as `memory=1GB`"]),
        ("memory=GB", ["memory is `GB`, must be a number with a unit", "such as `1GB`"]),
        ("memory=1.2.3GB", ["memory is `1.2.3GB`, must be a number", "such as `1GB`"]),
        ("memory=-1GB", ["memory is `-1GB`, must be a number", "such as `1GB`"]),
        ("memory=0GB", ["memory is `0GB`, must be over 0", "such as `1GB`"]),
        ("memory=99999999999GB", ["must be over 0 and not astronomical", "such as `1GB`"]),
        ("latency=50", ["latency is `50`, must have a unit of us, ms, s", "such as `latency=50ms`"]),
        ("latency=50MB", ["latency is `50MB`, must have a unit of us, ms, s", "hint: "]),
        ("context=4k", ["context is `4k`, must be a number of tokens", "such as `context=4096`"]),
        ("context=0", ["context is `0`", "at least 1"]),
        ("memory=1GB,memory=2GB", ["`memory` is given twice", "keep one"]),
        ("device=raspberry-pi5", ["device is `raspberry-pi5`", "did you mean `raspberry-pi-5`"]),
        ("device=toaster", ["device is `toaster`", "there are `raspberry-pi-5`, "]),
    ] {
        let refusal = refusal(text);
        assert!(fragments.iter().all(|fragment| refusal.contains(fragment)), "{text}: {refusal}");
        assert!(refusal.contains("; hint: "), "{text}: {refusal}");
    }
}

fn judged(budget: &str, context: usize) -> (Verdict, Option<&'static str>) {
    let footprint = Footprint::new(&config(), ExportFormat::GgufQ8_0, context);
    let device = &devices()[0];
    let judgement = budget.parse::<Budget>().expect(budget).judge(&config(), &footprint, device);
    (judgement.verdict, judgement.reason)
}

/// At 2,048 tokens 123.6 MB are resident with a cache of 16 bits, 115.7 with one of 8.5. A token reads 76.8 MB: 4.5 ms at the
/// peak of 17 GB/s, 7.7 expected.
#[test]
fn verdicts_are_those_of_the_worst_limit() {
    assert_eq!(judged("memory=160MB", 2048), (Verdict::Fits, None));
    assert_eq!(judged("memory=150MB", 2048), (Verdict::Tight, Some("memory")));
    assert_eq!(judged("memory=120MB", 2048), (Verdict::Tight, Some("memory")));
    assert_eq!(judged("memory=110MB", 2048), (Verdict::DoesNotFit, Some("memory")));
    assert_eq!(judged("latency=8ms", 2048), (Verdict::Fits, None));
    assert_eq!(judged("latency=5ms", 2048), (Verdict::Tight, Some("latency")));
    assert_eq!(judged("latency=4ms", 2048), (Verdict::DoesNotFit, Some("latency")));
    assert_eq!(judged("memory=110MB,latency=4ms", 2048), (Verdict::DoesNotFit, Some("memory")));
    assert_eq!(judged("memory=150MB,latency=4ms", 2048), (Verdict::DoesNotFit, Some("latency")));
    assert_eq!(judged("memory=1GB", 4097), (Verdict::DoesNotFit, Some("context")));
}

#[test]
fn without_a_memory_the_devices_own_counts() {
    let device = |memory_bytes| Device { memory_bytes, ..devices()[0].clone() };
    let footprint = Footprint::new(&config(), ExportFormat::GgufQ8_0, 2048);
    let verdict = |memory| Budget::default().judge(&config(), &footprint, &device(memory)).verdict;
    assert_eq!(verdict(250_000_000), Verdict::Fits);
    assert_eq!(verdict(210_000_000), Verdict::Tight);
    assert_eq!(verdict(150_000_000), Verdict::DoesNotFit);
}
