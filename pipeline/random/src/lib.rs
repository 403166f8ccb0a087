//! Randomness as a function of a seed and a place: the same on every machine and in every version of every dependency, and
//! no state that has to be saved.
//!
//! ```
//! use limbeck_random::{Stream, mix};
//!
//! let place = mix(&[7, 3, 1]);
//! assert_eq!(Stream::new(place).next(), Stream::new(place).next());
//! assert_ne!(place, mix(&[7, 1, 3]));
//! ```

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
pub fn mix(words: &[u64]) -> u64 {
    words.iter().fold(0, |state, word| scramble(state.wrapping_add(STEP) ^ scramble(word.wrapping_add(STEP))))
}

/// SplitMix64: the n-th number is a function of the seed and n.
#[derive(Clone, Debug)]
pub struct Stream {
    seed: u64,
    drawn: u64,
}

impl Stream {
    /// The numbers of `seed`, from the first on.
    pub fn new(seed: u64) -> Stream {
        Stream { seed, drawn: 0 }
    }

    /// 64 random bits.
    #[expect(clippy::should_implement_trait, reason = "it never ends: an Option would have to be unwrapped everywhere")]
    pub fn next(&mut self) -> u64 {
        self.drawn += 1;
        scramble(self.seed.wrapping_add(self.drawn.wrapping_mul(STEP)))
    }

    /// A number of \[0, 1), a multiple of `2^-53`.
    pub fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// A number under `bound`, which is not 0; uneven by at most `bound / 2^64` (Lemire 2019, arXiv:1805.10941).
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// Fisher-Yates.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}

/// A permutation of `0..length` that needs no memory and is computed at any place.
///
/// # Source
/// A balanced Feistel network over the smallest power of 4 that holds the length, walked until it lands within (Black
/// and Rogaway 2002, doi:10.1007/3-540-45760-7_9: cycle walking). It takes fewer than 4 steps on average.
#[derive(Clone, Debug)]
pub struct Permutation {
    length: u64,
    half_bits: u32,
    keys: [u64; Permutation::ROUNDS],
}

impl Permutation {
    const ROUNDS: usize = 8;

    /// One of `0..length` for every seed.
    pub fn new(length: u64, seed: u64) -> Permutation {
        let bits = u64::BITS - length.saturating_sub(1).leading_zeros();
        let mut stream = Stream::new(seed);
        let keys = std::array::from_fn(|_| stream.next());
        Permutation { length, half_bits: bits.div_ceil(2).max(1), keys }
    }

    /// Where `index`, under the length, goes.
    pub fn apply(&self, index: u64) -> u64 {
        let mut place = self.encrypt(index);
        while place >= self.length {
            place = self.encrypt(place);
        }
        place
    }

    fn encrypt(&self, value: u64) -> u64 {
        let mask = (1u64 << self.half_bits) - 1;
        let (mut left, mut right) = (value >> self.half_bits, value & mask);
        for key in self.keys {
            (left, right) = (right, left ^ (scramble(right.wrapping_add(key)) & mask));
        }
        left << self.half_bits | right
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_splitmix64() {
        // The first outputs for seed 1234567 of the reference implementation, as Rosetta Code lists them.
        let mut stream = Stream::new(1_234_567);
        let expected = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
            4_593_380_528_125_082_431,
            16_408_922_859_458_223_821,
        ];
        assert_eq!(std::array::from_fn(|_| stream.next()), expected);
        let mut stream = Stream::new(1_234_567);
        assert_eq!(expected.map(|bits| (bits >> 11) as f64 / 2f64.powi(53)), std::array::from_fn(|_| stream.uniform()));
    }

    #[test]
    fn every_length_is_permuted() {
        for length in [1, 2, 3, 4, 5, 63, 64, 65, 1000] {
            let permutation = Permutation::new(length, 7);
            let mut places: Vec<u64> = (0..length).map(|index| permutation.apply(index)).collect();
            if length > 10 {
                assert!(places.iter().enumerate().filter(|(index, place)| *index as u64 == **place).count() < 8);
            }
            places.sort_unstable();
            assert!(places.into_iter().eq(0..length));
        }
    }

    #[test]
    fn seeds_and_places_give_other_orders() {
        let order = |seed| (0..101).map(|index| Permutation::new(101, seed).apply(index)).collect::<Vec<_>>();
        assert_ne!(order(mix(&[1, 2])), order(mix(&[2, 1])));
        assert_ne!(order(mix(&[0])), order(mix(&[0, 0])));
    }

    #[test]
    fn a_shuffle_puts_everything_everywhere() {
        let mut seen = [[0u32; 5]; 5];
        for seed in 0..5000 {
            let mut items = [0, 1, 2, 3, 4];
            Stream::new(mix(&[seed])).shuffle(&mut items);
            items.iter().enumerate().for_each(|(place, item)| seen[place][*item] += 1);
        }
        // 1000 expected; 5 standard deviations of a binomial with p = 1/5 are 141.
        assert!(seen.iter().flatten().all(|count| count.abs_diff(1000) < 141), "{seen:?}");
    }
}
