//! The words are those of the `mlx` package; `tests/reference/affine_groups.py` made the files.

use limbeck_quant::{AffineGrid, QuantError};
use proptest::prelude::*;

const ROW_SIZE: usize = 128;
const VALUES: &[u8] = include_bytes!("golden/affine.f32");

/// Bits, group size, words with scales and biases, decoded values.
const GOLDEN: [(u64, u64, &[u8], &[u8]); 4] = [
    (4, 64, include_bytes!("golden/affine-4-64.bytes"), include_bytes!("golden/affine-4-64.decoded.f32")),
    (8, 64, include_bytes!("golden/affine-8-64.bytes"), include_bytes!("golden/affine-8-64.decoded.f32")),
    (2, 32, include_bytes!("golden/affine-2-32.bytes"), include_bytes!("golden/affine-2-32.decoded.f32")),
    (8, 128, include_bytes!("golden/affine-8-128.bytes"), include_bytes!("golden/affine-8-128.decoded.f32")),
];

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|word| f32::from_le_bytes(*word)).collect()
}

/// How `grid` decodes what it encoded.
fn round_trip(grid: AffineGrid, values: &[f32], row_size: usize) -> Vec<f32> {
    let rows = grid.encode(values, row_size).expect("whole groups of finite values");
    let [scales, biases] =
        [&rows.scales, &rows.biases].map(|parts| parts.iter().map(|x| x.to_f32()).collect::<Vec<_>>());
    grid.decode(&rows.words, &scales, &biases, row_size).expect("own rows")
}

#[test]
fn words_scales_and_biases_are_those_of_mlx() {
    for (bits, group_size, encoded, _) in GOLDEN {
        let grid = AffineGrid::new(bits, group_size).expect("a grid that is read");
        let rows = grid.encode(&floats(VALUES), ROW_SIZE).expect("finite values");
        let (words, rest) = encoded.split_at(VALUES.len() / 4 * bits as usize / 8);
        let (scales, biases) = rest.split_at(rest.len() / 2);
        let bytes = |parts: &[half::f16]| parts.iter().flat_map(|part| part.to_le_bytes()).collect::<Vec<_>>();
        assert_eq!(bytes(&rows.scales), scales, "scales of {bits} bits");
        assert_eq!(bytes(&rows.biases), biases, "biases of {bits} bits");
        let expected: Vec<u32> = words.as_chunks().0.iter().map(|word| u32::from_le_bytes(*word)).collect();
        let different = rows.words.iter().zip(&expected).position(|(ours, theirs)| ours != theirs);
        assert_eq!((different, rows.words.len()), (None, expected.len()), "words of {bits} bits");
    }
}

#[test]
fn words_decode_as_in_mlx() {
    for (bits, group_size, encoded, decoded) in GOLDEN {
        let grid = AffineGrid::new(bits, group_size).expect("a grid that is read");
        let (words, rest) = encoded.split_at(VALUES.len() / 4 * bits as usize / 8);
        let words: Vec<u32> = words.as_chunks().0.iter().map(|word| u32::from_le_bytes(*word)).collect();
        let halves: Vec<f32> = rest.as_chunks().0.iter().map(|half| half::f16::from_le_bytes(*half).to_f32()).collect();
        let (scales, biases) = halves.split_at(halves.len() / 2);
        let values = grid.decode(&words, scales, biases, ROW_SIZE).expect("whole rows");
        let expected = floats(decoded);
        assert_eq!(values.len(), expected.len());
        for (index, (value, expected)) in values.iter().zip(&expected).enumerate() {
            assert_eq!(value.to_bits(), expected.to_bits(), "{bits} bits, value {index}: {value} and {expected}");
        }
    }
}

proptest! {
    #[test]
    fn a_value_moves_by_at_most_a_step_and_the_rounding_to_sixteen_bits(
        unit in prop::collection::vec(-1.0_f32..1.0, 256),
        exponent in -3.0_f32..3.0,
    ) {
        let values: Vec<f32> = unit.into_iter().map(|value| value * 10.0_f32.powf(exponent)).collect();
        for grid in [AffineGrid::Q4, AffineGrid::Q8] {
            let decoded = round_trip(grid, &values, 128);
            let codes = ((1 << grid.bits()) - 1) as f32;
            for (group, decoded) in values.chunks(64).zip(decoded.chunks(64)) {
                let least = group.iter().copied().fold(f32::INFINITY, f32::min);
                let largest = group.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let magnitude = largest.max(-least);
                // Shrunk until zero has a code, the grid may end a step before the other end. A scale in 16 bits is off by
                // 2^-11 of itself or by half of the smallest subnormal, 2^-25; so is a value in 16 bits.
                let scale_error = (magnitude * 2.0 / 2048.0).max(codes * 2.0_f32.powi(-25));
                let allowed = 1.1 * (largest - least) / codes + scale_error + magnitude / 2048.0 + 1e-6;
                for (value, on_grid) in group.iter().zip(decoded) {
                    prop_assert!((value - on_grid).abs() <= allowed, "{value} became {on_grid}, allowed {allowed}");
                }
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let refused = |values: &[f32], row_size: usize| AffineGrid::Q4.encode(values, row_size).expect_err("does not fit");
    assert_eq!(
        refused(&[0.0; 96], 96).to_string(),
        "a row has `96` values, must be a positive multiple of the group's `64`; hint: use F16 for this tensor"
    );
    assert!(matches!(refused(&[], 0), QuantError::Groups { .. }));
    assert!(matches!(refused(&[0.0; 96], 64), QuantError::PartialRow { unit: "values", found: 96, row: 64 }));
    let mut values = [0.5; 128];
    values[64 + 7] = f32::NAN;
    assert!(matches!(refused(&values, 64), QuantError::NotFinite { row: 1, column: 7, .. }));
    values[64 + 7] = -65520.0;
    assert!(matches!(refused(&values, 64), QuantError::TooLarge { row: 1, column: 7, .. }));

    let decode = |words: usize, scales: usize, scale: f32| {
        AffineGrid::Q4.decode(&vec![u32::MAX; words], &vec![scale; scales], &[0.0; 2], 128).expect_err("does not fit")
    };
    assert!(matches!(decode(17, 2, 1.0), QuantError::PartialRow { unit: "words", found: 17, row: 16 }));
    assert!(matches!(decode(16, 1, 1.0), QuantError::GroupParts { groups: 2, scales: 1, biases: 2 }));
    assert!(matches!(decode(16, 2, f32::INFINITY), QuantError::NotFinite { row: 0, column: 0, .. }));

    let grids = [(3, 64), (6, 64), (4, 0), (4, 12), (4, 1 << 40), (0, 64), (u64::MAX, 64)];
    assert_eq!(
        grids.map(|(bits, group_size)| AffineGrid::new(bits, group_size).is_some()),
        [false, false, false, false, true, false, false]
    );
}
