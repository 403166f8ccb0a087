//! Which entry, and which of its rows, comes at each place of an endless run.

use limbeck_config::DataEntry;
use limbeck_random::{Stream, mix};

use crate::error::DataError;

/// Rows in a block: within each, every entry has exactly its share.
pub(super) const BLOCK: usize = 1024;

/// Rows of each entry in every block: the shares of `BLOCK`, the largest remainders rounded up.
///
/// # Errors
/// A weight that is not positive, or too small to get a row in a block.
pub(super) fn counts(entries: &[DataEntry]) -> Result<Vec<usize>, DataError> {
    let refuse = |entry: &DataEntry, rule, hint| DataError::Weight {
        path: entry.path.clone(),
        weight: entry.weight,
        rule,
        hint,
    };
    if let Some(entry) = entries.iter().find(|entry| !(entry.weight.is_finite() && entry.weight > 0.0)) {
        return Err(refuse(entry, "be a positive number", "remove the entry to leave its data out"));
    }
    let total: f64 = entries.iter().map(|entry| entry.weight).sum();
    let shares: Vec<f64> = entries.iter().map(|entry| entry.weight / total * BLOCK as f64).collect();
    let mut counts: Vec<usize> = shares.iter().map(|share| share.floor() as usize).collect();
    let mut by_remainder: Vec<usize> = (0..entries.len()).collect();
    by_remainder.sort_by(|one, other| shares[*other].fract().total_cmp(&shares[*one].fract()));
    let missing = BLOCK.saturating_sub(counts.iter().sum());
    for entry in by_remainder.into_iter().take(missing) {
        counts[entry] += 1;
    }
    match counts.iter().zip(entries).find(|(count, _)| **count == 0) {
        Some((_, entry)) => {
            let rule = "give at least one row in 1024, relative to the other entries' weights";
            Err(refuse(entry, rule, "raise it, or remove the entry"))
        }
        None => Ok(counts),
    }
}

/// One block: the entry at each of its places.
pub(super) struct Block {
    number: u64,
    entries: Vec<u16>,
}

impl Block {
    /// The block that holds the row at `place`.
    pub(super) fn around(place: u64, counts: &[usize], seed: u64) -> Block {
        let number = place / BLOCK as u64;
        let mut entries: Vec<u16> =
            (0..).zip(counts).flat_map(|(entry, count)| std::iter::repeat_n(entry, *count)).collect();
        Stream::new(mix(&[seed, ORDER_OF_ENTRIES, number])).shuffle(&mut entries);
        Block { number, entries }
    }

    pub(super) fn holds(&self, place: u64) -> bool {
        place / BLOCK as u64 == self.number
    }

    /// The entry at `place`, and how many of its rows came before, from the start of the run.
    pub(super) fn at(&self, place: u64, counts: &[usize]) -> (usize, u64) {
        let within = (place % BLOCK as u64) as usize;
        let entry = self.entries[within];
        let before = self.entries[..within].iter().filter(|other| **other == entry).count() as u64;
        (usize::from(entry), self.number * counts[usize::from(entry)] as u64 + before)
    }
}

/// Tell apart what is drawn from one seed.
const ORDER_OF_ENTRIES: u64 = 1;
const ORDER_OF_ROWS: u64 = 2;

/// Seed of the order of an entry's rows in an epoch.
pub(super) fn epoch_seed(seed: u64, entry: usize, epoch: u64) -> u64 {
    mix(&[seed, ORDER_OF_ROWS, entry as u64, epoch])
}

#[cfg(test)]
mod tests {
    use limbeck_config::DataKind;

    use super::*;

    fn entries(weights: &[f64]) -> Vec<DataEntry> {
        let entry = |weight: &f64| DataEntry {
            path: format!("x{weight}.txt"),
            kind: DataKind::Documents,
            column: None,
            prompt_column: None,
            completion_column: None,
            weight: *weight,
        };
        weights.iter().map(entry).collect()
    }

    #[test]
    fn counts_are_the_largest_remainders() {
        // 1024 / 3 = 341.33…: the one left over goes to the first of equals. 0.7 and 0.2 of 1024 are 716.8 and 204.8.
        assert_eq!(counts(&entries(&[1.0, 1.0, 1.0])).expect("shares"), [342, 341, 341]);
        assert_eq!(counts(&entries(&[0.7, 0.2, 0.1])).expect("shares"), [717, 205, 102]);
        assert_eq!(counts(&entries(&[5.0])).expect("shares"), [1024]);
    }

    #[test]
    fn every_block_has_exactly_the_counts_in_another_order() {
        let counts = counts(&entries(&[3.0, 2.0, 0.5])).expect("shares");
        let orders: Vec<Vec<u16>> = (0..3).map(|block| Block::around(block * 1024 + 7, &counts, 11).entries).collect();
        for order in &orders {
            let found: Vec<usize> = (0..3).map(|entry| order.iter().filter(|other| **other == entry).count()).collect();
            assert_eq!(found, counts);
        }
        assert_ne!(orders[0], orders[1]);
        assert_ne!(orders[0], Block::around(0, &counts, 12).entries);
    }

    #[test]
    fn an_entrys_rows_are_counted_without_gap_over_blocks() {
        let counts = counts(&entries(&[3.0, 2.0])).expect("shares");
        let mut next = [0, 0];
        for place in 0..3000 {
            let (entry, index) = Block::around(place, &counts, 5).at(place, &counts);
            assert_eq!(index, next[entry]);
            next[entry] += 1;
        }
    }

    #[test]
    fn weights_without_a_share_are_refused() {
        let message = counts(&entries(&[1.0, 0.0])).expect_err("refused").to_string();
        assert_eq!(
            message,
            "data weight of `x0.txt` is `0`, must be a positive number; hint: remove the entry to leave its data out"
        );
        let message = counts(&entries(&[10_000.0, 1.0])).expect_err("refused").to_string();
        assert!(message.starts_with("data weight of `x1.txt` is `1`, must give at least one row in 1024"), "{message}");
    }
}
