//! What a token costs: bytes from memory, operations, seconds, joules.

use std::fmt;

use limbeck_config::ModelConfig;
use limbeck_export::StoredSize;

use super::device::Device;
use super::memory::{CacheType, cache_bytes, padded_context};

/// Of a token, whatever the model: starting and meeting of the threads at every operator. With some hundred operators of a
/// microsecond or two each it is what keeps a model of a few megabytes from thousands of tokens a second.
const TOKEN_OVERHEAD_S: f64 = 0.5e-3;

/// Of one operation: half of a 32-bit multiplication (3.7 pJ) and addition (0.9 pJ) in 45 nm.
///
/// # Source
/// Horowitz, "Computing's energy problem (and what we can do about it)", ISSCC 2014, figure 1.1.9.
pub const PJ_PER_FLOP: f64 = 2.3;

/// What a token reads and computes at the end of the context.
#[derive(Clone, Debug, PartialEq)]
pub struct Traffic {
    /// From memory: every weight but the embedding of an untied model, and the keys and values of the whole context, in 16 bits.
    pub bytes: u64,
    /// Multiplications and additions.
    pub flops: u64,
    /// Multiplications and additions of a prompt that fills the context.
    pub prefill_flops: u64,
}

/// Seconds of a token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Speed {
    /// At the peak of the device's memory: no program is faster.
    pub bound_s: f64,
    /// At what programs reach there.
    pub expected_s: f64,
}

/// An order of magnitude of joules a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EnergyClass {
    /// Under 1 mJ.
    A,
    /// Under 10 mJ.
    B,
    /// Under 100 mJ.
    C,
    /// Under 1 J.
    D,
    /// 1 J or more.
    E,
}

impl Traffic {
    /// Of a model whose file is `stored`.
    pub fn new(config: &ModelConfig, stored: &StoredSize, context: usize) -> Self {
        let tokens = context as u64;
        let cells = padded_context(context).max(1) as u64;
        // The cells that hold nothing are not read.
        let cache = cache_bytes(config, context, CacheType::F16) / cells * tokens;
        Self {
            bytes: stored.tensor_bytes - stored.lookup_bytes + cache,
            flops: config.forward_flops(1, tokens),
            prefill_flops: config.forward_flops(tokens, tokens * (tokens + 1) / 2),
        }
    }

    /// On `device`, one sequence at a time.
    ///
    /// Decoding reads every weight once for a token and computes little with it, so memory sets the pace.
    pub fn speed(&self, device: &Device) -> Speed {
        let seconds = |gb_per_s: f64| self.bytes as f64 / (gb_per_s * 1e9);
        Speed {
            bound_s: seconds(device.peak_gb_per_s),
            expected_s: seconds(device.sustained_gb_per_s) + TOKEN_OVERHEAD_S,
        }
    }

    /// Joules of a token in the device's memory and arithmetic units alone: bytes · 8 · pJ/bit + FLOP · pJ/FLOP. A whole device,
    /// with its caches, its other cores and its screen, takes several times as much.
    pub fn joules(&self, device: &Device) -> f64 {
        1e-12 * (8.0 * device.memory_pj_per_bit * self.bytes as f64 + PJ_PER_FLOP * self.flops as f64)
    }
}

impl EnergyClass {
    /// Of a token.
    pub fn of(joules: f64) -> Self {
        match joules {
            j if j < 1e-3 => Self::A,
            j if j < 1e-2 => Self::B,
            j if j < 1e-1 => Self::C,
            j if j < 1.0 => Self::D,
            _ => Self::E,
        }
    }
}

impl fmt::Display for EnergyClass {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fit::devices;
    use limbeck_export::{GgufType, gguf_size};

    fn traffic(context: usize, tied: bool) -> Traffic {
        let config = ModelConfig { tie_word_embeddings: tied, ..crate::fit::tests::config() };
        Traffic::new(&config, &gguf_size(&config, GgufType::Q4_0), context)
    }

    /// The weights are 33,927,680 bytes, a position of the cache 16 · 2 · 64 · 2 · 2 = 8,192.
    #[test]
    fn a_token_reads_the_weights_and_the_positions_before_it() {
        assert_eq!(traffic(1, true).bytes, 33_927_680 + 8192);
        assert_eq!(traffic(1000, true).bytes, 33_927_680 + 1000 * 8192);
        // Untied: the same output weights, and an embedding that is not read.
        assert_eq!(traffic(1000, false).bytes, traffic(1000, true).bytes);
        // 2 · 56,426,496 weights, 4 · 16 · 512 numbers for each position.
        assert_eq!(traffic(1000, true).flops, 112_852_992 + 32_768 * 1000);
    }

    #[test]
    fn seconds_and_joules_are_those_computed_by_hand() {
        let device =
            Device { peak_gb_per_s: 17.0, sustained_gb_per_s: 10.0, memory_pj_per_bit: 20.0, ..devices()[0].clone() };
        let traffic = Traffic { bytes: 34_000_000, flops: 100_000_000, prefill_flops: 0 };
        let speed = traffic.speed(&device);
        assert!((speed.bound_s - 2e-3).abs() < 1e-12 && (speed.expected_s - 3.9e-3).abs() < 1e-12);
        // 34 MB · 8 · 20 pJ = 5.44 mJ, 0.1 GFLOP · 2.3 pJ = 0.23 mJ.
        assert!((traffic.joules(&device) - 5.67e-3).abs() < 1e-9);
        assert_eq!(
            [9e-4, 1e-3, 5.67e-3, 0.5, 2.0].map(EnergyClass::of).map(|class| class.to_string()),
            ["A", "B", "B", "D", "E"]
        );
    }

    /// The tokens a second that were measured there: LFM2.5-350M in 8 bits, 355 MB.
    #[test]
    fn devices_are_as_fast_as_somebody_measured() {
        let traffic = Traffic { bytes: 355_000_000, flops: 0, prefill_flops: 0 };
        for (name, tokens_per_s) in [("raspberry-pi-5", 30.0), ("mid-range-phone", 24.0), ("flagship-phone", 100.0)] {
            let device = devices().iter().find(|device| device.name == name).expect("shipped");
            let expected = 1.0 / traffic.speed(device).expected_s;
            assert!((expected / tokens_per_s - 1.0).abs() < 0.06, "{name}: {expected}");
        }
    }
}
