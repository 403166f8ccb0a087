//! Random numbers that are the same on every machine.

/// SplitMix64 (Steele, Lea and Flood 2014).
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// In `0..end`.
    pub(crate) fn below(&mut self, end: usize) -> u32 {
        (self.bits() % end as u64) as u32
    }

    /// In `0..end`, `count` times.
    pub(crate) fn tokens(&mut self, count: usize, end: usize) -> Vec<u32> {
        (0..count).map(|_| self.below(end)).collect()
    }

    /// In [-1, 1), `count` times.
    pub(crate) fn uniform(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| ((self.bits() >> 40) as f64 / (1u64 << 23) as f64 - 1.0) as f32).collect()
    }

    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ (bits >> 31)
    }
}
