//! How far a value moves, and what is refused.

use limbeck_quant::{BLOCK_SIZE, Grid, QuantError};
use proptest::prelude::*;

/// Relative step of binary16, and its smallest subnormal: half of either is the rounding error of a scale.
const F16_EPSILON: f32 = 1.0 / 1024.0;
const F16_SUBNORMAL: f32 = 5.960_464_5e-8;

/// Grids whose blocks are this crate's code, or candle's with blocks as long.
const SHORT: [Grid; 6] = [Grid::F32, Grid::F16, Grid::BF16, Grid::Q8_0, Grid::Q4_0, Grid::Q4_1];

/// Two rows of three blocks, every block with its own magnitude between 1e-12 and 1e4.
fn rows() -> impl Strategy<Value = Vec<f32>> {
    let block = (-12.0_f32..4.0, prop::collection::vec(-1.0_f32..1.0, BLOCK_SIZE))
        .prop_map(|(exponent, unit)| unit.into_iter().map(|value| value * 10.0_f32.powf(exponent)).collect::<Vec<_>>());
    prop::collection::vec(block, 6).prop_map(|blocks| blocks.concat())
}

fn round_trip(grid: Grid, values: &[f32]) -> Vec<f32> {
    let bytes = grid.encode(values, 96).expect("finite values");
    assert_eq!(bytes.len(), 2 * grid.row_bytes(96).expect("three blocks"));
    grid.decode(&bytes, 96).expect("own bytes")
}

/// Largest |value − round trip| over the error allowed to it, given the block's largest magnitude.
fn worst_error(grid: Grid, values: &[f32], allowed: impl Fn(f32, f32) -> f32) -> f32 {
    let decoded = round_trip(grid, values);
    let blocks = values.chunks(BLOCK_SIZE).zip(decoded.chunks(BLOCK_SIZE));
    let errors = blocks.flat_map(|(block, decoded)| {
        let largest = block.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        block
            .iter()
            .zip(decoded)
            .map(|(value, on_grid)| (value - on_grid).abs() / allowed(*value, largest))
            .collect::<Vec<_>>()
    });
    errors.fold(0.0, f32::max)
}

/// Error of `steps` steps of a scale that was rounded to binary16.
fn scale_error(scale: f32, steps: f32) -> f32 {
    steps * (scale * F16_EPSILON / 2.0).max(F16_SUBNORMAL / 2.0)
}

proptest! {
    #[test]
    fn f16_moves_a_value_by_at_most_half_a_step(values in rows()) {
        let allowed = |value: f32, _| (value.abs() * F16_EPSILON / 2.0).max(F16_SUBNORMAL / 2.0);
        prop_assert!(worst_error(Grid::F16, &values, allowed) <= 1.0);
    }

    #[test]
    fn bf16_moves_a_value_by_at_most_half_a_step(values in rows()) {
        prop_assert!(worst_error(Grid::BF16, &values, |value, _| value.abs() / 256.0 + f32::MIN_POSITIVE) <= 1.0);
    }

    #[test]
    fn q8_0_moves_a_value_by_at_most_half_a_step_and_the_rounding_of_the_scale(values in rows()) {
        // 1e-6: the division, the inverse and the product round in binary32, at codes up to 127.
        let allowed = |_, largest: f32| largest / 127.0 * 0.5 + scale_error(largest / 127.0, 127.0) + largest * 1e-6;
        prop_assert!(worst_error(Grid::Q8_0, &values, allowed) <= 1.0);
    }

    #[test]
    fn q4_0_moves_a_value_by_at_most_one_step_and_the_rounding_of_the_scale(values in rows()) {
        let allowed = |_, largest: f32| largest / 8.0 + scale_error(largest / 8.0, 8.0) + largest * 1e-6;
        prop_assert!(worst_error(Grid::Q4_0, &values, allowed) <= 1.0);
    }

    #[test]
    fn q4_1_moves_a_value_by_at_most_half_a_step_and_the_rounding_of_scale_and_minimum(values in rows()) {
        // Largest less smallest is at most twice the largest magnitude.
        let allowed = |_, largest: f32| {
            let scale = 2.0 * largest / 15.0;
            0.5 * scale + scale_error(scale, 15.0) + scale_error(largest, 1.0) + largest * 1e-6
        };
        prop_assert!(worst_error(Grid::Q4_1, &values, allowed) <= 1.0);
    }

    #[test]
    fn values_on_a_grid_stay_where_they_are(values in rows()) {
        // candle's encoders look for the scale of the least error, and may find another one.
        for grid in [Grid::F32, Grid::F16, Grid::BF16, Grid::Q8_0, Grid::Q4_0] {
            let on_grid = round_trip(grid, &values);
            prop_assert_eq!(round_trip(grid, &on_grid), on_grid, "{}", grid);
        }
    }

    #[test]
    fn any_bytes_decode_or_are_refused(
        bytes in prop::collection::vec(any::<u8>(), 0..600),
        row_size in prop_oneof![0_usize..100, Just(256), Just(512)],
    ) {
        for grid in Grid::ALL {
            if let Ok(values) = grid.decode(&bytes, row_size) {
                prop_assert_eq!(values.len() % row_size, 0);
            }
        }
    }
}

#[test]
fn values_that_are_not_finite_are_refused_by_place() {
    for grid in SHORT {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut values = vec![0.5; 192];
            values[96 + 37] = value;
            let error = grid.encode(&values, 96).expect_err("not finite");
            assert!(matches!(error, QuantError::NotFinite { row: 1, column: 37, .. }), "{grid}: {error}");
        }
    }
}

#[test]
fn the_first_value_that_does_not_fit_is_refused_and_the_one_below_is_not() {
    for grid in [Grid::F16, Grid::BF16, Grid::Q8_0, Grid::Q4_0, Grid::Q4_1] {
        for sign in [1.0, -1.0] {
            let mut values = vec![0.0; 64];
            values[33] = sign * grid.limit();
            let error = grid.encode(&values, 64).expect_err("too large");
            assert!(matches!(error, QuantError::TooLarge { row: 0, column: 33, .. }), "{grid}: {error}");
            values[33] = sign * grid.limit().next_down();
            let bytes = grid.encode(&values, 64).expect("fits");
            assert!(grid.decode(&bytes, 64).is_ok(), "{grid}");
        }
    }
}

#[test]
fn rows_that_are_not_whole_blocks_are_refused() {
    let error = Grid::Q8_0.encode(&[0.0; 33], 33).expect_err("33 is no multiple of 32");
    assert_eq!(
        error.to_string(),
        "a row has `33` values, must be a positive multiple of `32` for Q8_0; hint: use F16 for this tensor"
    );
    assert!(matches!(Grid::F32.row_bytes(0), Err(QuantError::RowSize { .. })));
    assert!(matches!(Grid::F32.row_bytes(usize::MAX), Err(QuantError::RowSize { .. })));
    assert!(matches!(Grid::F16.encode(&[0.0; 7], 3), Err(QuantError::PartialRow { unit: "values", found: 7, row: 3 })));
    assert!(matches!(
        Grid::Q4_0.decode(&[0; 17], 32),
        Err(QuantError::PartialRow { unit: "bytes", found: 17, row: 18 })
    ));
}

#[test]
fn a_stored_scale_of_infinity_is_refused() {
    let mut bytes = vec![1; 34];
    bytes[..2].copy_from_slice(&[0x00, 0x7C]);
    assert!(matches!(Grid::Q8_0.decode(&bytes, 32), Err(QuantError::NotFinite { row: 0, column: 0, .. })));
}

/// Drawn from a normal distribution, near enough: the sum of twelve uniform numbers.
fn normals(count: usize) -> Vec<f32> {
    let mut state = 20_261_122_u64;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32
    };
    (0..count).map(|_| 0.02 * ((0..12).map(|_| uniform()).sum::<f32>() - 6.0)).collect()
}

#[test]
fn k_quants_move_normal_values_by_what_their_bits_allow() {
    let values = normals(64 * 512);
    let power: f32 = values.iter().map(|value| value * value).sum();
    let error = |grid: Grid| {
        let bytes = grid.encode(&values, 512).expect("finite values");
        assert_eq!(bytes.len(), 64 * grid.row_bytes(512).expect("two blocks"));
        let decoded = grid.decode(&bytes, 512).expect("own bytes");
        let error: f32 = values.iter().zip(&decoded).map(|(value, on_grid)| (value - on_grid).powi(2)).sum();
        (error / power).sqrt()
    };
    // A uniform grid of 2^b codes over ±2.5 deviations, about the largest of 32, errs by 5 / 2^b / √12.
    for (grid, bits) in [(Grid::Q4K, 4), (Grid::Q5K, 5), (Grid::Q6K, 6)] {
        let expected = 5.0 / (1 << bits) as f32 / 12.0_f32.sqrt();
        let found = error(grid);
        assert!(found > 0.6 * expected && found < 1.2 * expected, "{grid}: {found}, about {expected}");
    }
    assert!(error(Grid::Q4K) < error(Grid::Q4_0));
}
