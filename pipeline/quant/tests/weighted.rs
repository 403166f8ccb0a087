//! Blocks for the least weighted error.

use limbeck_quant::{Grid, QuantError};
use proptest::prelude::*;

const ROW: usize = 512;
const WEIGHTED: [Grid; 4] = [Grid::Q4_0, Grid::Q4K, Grid::Q5K, Grid::Q6K];

/// Two rows and an importance of their columns, over eight orders of magnitude; some columns do not matter at all.
fn rows() -> impl Strategy<Value = (Vec<f32>, Vec<f32>)> {
    let importance = prop_oneof![9 => (-4.0_f32..4.0).prop_map(|exponent| 10.0_f32.powf(exponent)), 1 => Just(0.0)];
    (prop::collection::vec(-1.0_f32..1.0, 2 * ROW), prop::collection::vec(importance, ROW))
}

/// `Σ importance · (value − decoded)²` of each block.
fn errors(grid: Grid, values: &[f32], bytes: &[u8], importance: &[f32]) -> Vec<f64> {
    let decoded = grid.decode(bytes, ROW).expect("own bytes");
    let square = |(index, (value, decoded)): (usize, (&f32, &f32))| {
        f64::from(importance[index % ROW]) * f64::from(value - decoded).powi(2)
    };
    let squares: Vec<f64> = values.iter().zip(&decoded).enumerate().map(square).collect();
    squares.chunks(grid.block_size()).map(|block| block.iter().sum()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn no_block_is_worse_for_what_matters((values, importance) in rows()) {
        for grid in WEIGHTED {
            let plain = grid.encode(&values, ROW).expect("finite values");
            let weighted = grid.encode_for(&values, ROW, &importance).expect("finite values");
            prop_assert_eq!(plain.len(), weighted.len());
            let (plain, weighted) =
                (errors(grid, &values, &plain, &importance), errors(grid, &values, &weighted, &importance));
            prop_assert!(plain.iter().zip(&weighted).all(|(plain, weighted)| weighted <= plain), "{}", grid);
            // A third less at least, with columns as different as these.
            let sum = |errors: &[f64]| errors.iter().sum::<f64>();
            prop_assert!(grid != Grid::Q4_0 || sum(&weighted) < 0.67 * sum(&plain), "{:?} {:?}", plain, weighted);
        }
    }

    #[test]
    fn what_matters_is_a_matter_of_shares((values, importance) in rows()) {
        // A power of two, so that nothing is rounded otherwise.
        let doubled: Vec<f32> = importance.iter().map(|weight| 1024.0 * weight).collect();
        let encoded = |importance: &[f32]| Grid::Q4_0.encode_for(&values, ROW, importance).expect("finite values");
        prop_assert_eq!(encoded(&importance), encoded(&doubled));
    }
}

/// Equal weights are the mean squared error. The plain scale of Q4_0 is chosen by the largest value alone: for normal values
/// the best one has an eighth less error or so, and not half as much.
#[test]
fn equal_weights_give_the_least_squared_error() {
    let mut state = 20_261_128_u64;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32
    };
    let values: Vec<f32> = (0..32 * ROW).map(|_| (0..12).map(|_| uniform()).sum::<f32>() - 6.0).collect();
    let equal = vec![1.0; ROW];
    let error = |bytes: &[u8]| errors(Grid::Q4_0, &values, bytes, &equal).iter().sum::<f64>();
    let plain = error(&Grid::Q4_0.encode(&values, ROW).expect("finite values"));
    let best = error(&Grid::Q4_0.encode_for(&values, ROW, &equal).expect("finite values"));
    assert!(best < 0.95 * plain && best > 0.5 * plain, "{best} {plain}");
}

#[test]
fn grids_without_use_for_it_stay_as_they_are() {
    let values: Vec<f32> = (0..ROW).map(|index| (index as f32 * 0.37).sin()).collect();
    let importance: Vec<f32> = (0..ROW).map(|index| index as f32).collect();
    for grid in Grid::ALL.into_iter().filter(|grid| !WEIGHTED.contains(grid)) {
        assert_eq!(grid.encode_for(&values, ROW, &importance), grid.encode(&values, ROW), "{grid}");
    }
}

#[test]
fn an_importance_that_is_none_is_refused() {
    let values = vec![0.5; ROW];
    for wrong in [vec![1.0; ROW - 1], vec![-1.0; ROW], vec![f32::NAN; ROW], vec![f32::INFINITY; ROW]] {
        let refused = Grid::Q4K.encode_for(&values, ROW, &wrong);
        assert_eq!(refused, Err(QuantError::Importance { row_size: ROW }));
    }
    let nothing = Grid::Q4_0.encode_for(&values, ROW, &vec![0.0; ROW]);
    assert_eq!(nothing, Grid::Q4_0.encode(&values, ROW));
}
