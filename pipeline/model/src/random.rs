//! Random numbers as functions of their names: no state that has to be saved.

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// SplitMix64's output for the state `bits` (Steele, Lea and Flood 2014).
pub(crate) fn mix(bits: u64) -> u64 {
    let mut bits = bits.wrapping_add(GOLDEN);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

/// In [0, 1), from the upper 53 bits.
pub(crate) fn fraction(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

/// Standard normal numbers, a stream of its own for every seed and name.
pub(crate) struct Normals {
    state: u64,
}

impl Normals {
    /// The stream of `name`, which FNV-1a hashes.
    pub(crate) fn new(seed: u64, name: &str) -> Self {
        let hash = name
            .bytes()
            .fold(0xCBF2_9CE4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3));
        Self { state: mix(hash ^ mix(seed)) }
    }

    /// Box and Muller 1958, one of the two values.
    pub(crate) fn next(&mut self) -> f64 {
        // 1 - u is in (0, 1]: the logarithm is finite.
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    fn uniform(&mut self) -> f64 {
        let bits = mix(self.state);
        self.state = self.state.wrapping_add(GOLDEN);
        fraction(bits)
    }
}
