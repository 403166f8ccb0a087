//! Normal numbers as functions of their names.

use limbeck_random::Stream;

/// Standard normal numbers, a stream of its own for every seed and name.
pub(crate) struct Normals(Stream);

impl Normals {
    /// The stream of `name`, which FNV-1a hashes.
    pub(crate) fn new(seed: u64, name: &str) -> Self {
        let hash = name
            .bytes()
            .fold(0xCBF2_9CE4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3));
        Self(Stream::new(Stream::new(hash ^ Stream::new(seed).next()).next()))
    }

    /// Box and Muller 1958, one of the two values.
    pub(crate) fn next(&mut self) -> f64 {
        // 1 - u is in (0, 1]: the logarithm is finite.
        let radius = (-2.0 * (1.0 - self.0.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.0.uniform()).cos()
    }
}
