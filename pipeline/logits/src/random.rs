//! Randomness as a function of a place, the same on every machine and in every version of every dependency.

/// `2^64 / φ`, the step of SplitMix64.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// The output function of SplitMix64 (Steele, Lea, Flood 2014, doi:10.1145/2660193.2660195, variant of Vigna's
/// `splitmix64.c`): a bijection of 64 bits.
fn scramble(state: u64) -> u64 {
    let state = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let state = (state ^ (state >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    state ^ (state >> 31)
}

/// 64 bits that depend on every word and its place.
pub(crate) fn mix(words: &[u64]) -> u64 {
    words.iter().fold(0, |state, word| scramble(state.wrapping_add(STEP) ^ scramble(word.wrapping_add(STEP))))
}

/// Numbers of \[0, 1), multiples of `2^-53`: the n-th is a function of the seed and n.
pub(crate) fn uniforms(seed: u64) -> impl Iterator<Item = f64> {
    let bits = (1u64..).map(move |n| scramble(seed.wrapping_add(n.wrapping_mul(STEP))));
    bits.map(|bits| (bits >> 11) as f64 * (1.0 / (1u64 << 53) as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_splitmix64() {
        // The first outputs for seed 1234567 of the reference implementation, as Rosetta Code lists them.
        let expected = [6_457_827_717_110_365_317u64, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        let expected = expected.map(|bits| (bits >> 11) as f64 / 2f64.powi(53));
        assert_eq!(uniforms(1_234_567).take(3).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn every_word_and_its_place_counts() {
        let places =
            [mix(&[1, 2, 3]), mix(&[1, 3, 2]), mix(&[1, 2, 4]), mix(&[0, 2, 3]), mix(&[1, 2]), mix(&[1, 2, 0])];
        for (index, one) in places.iter().enumerate() {
            assert!(places[..index].iter().all(|other| other != one));
        }
    }
}
