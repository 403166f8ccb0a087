//! Every kernel that this processor has against sums in 64 bits.

use proptest::prelude::*;

use super::*;
use crate::level::available;

fn random(length: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..length).map(next).collect()
}

/// A matrix of random values: contiguous, with values between its rows, or the transpose of such a one.
fn matrix(values: &[f32], rows: usize, columns: usize, gap: usize, transposed: bool) -> Matrix<'_> {
    if transposed {
        Matrix::new(values, columns, rows, rows + gap).transposed()
    } else {
        Matrix::new(values, rows, columns, columns + gap)
    }
}

/// A way to carry a product out.
type Multiply<'a> = &'a dyn Fn(Matrix<'_>, Matrix<'_>, &mut [f32], usize, Output);

fn check_level(level: Level, precision: Precision, sizes: [usize; 3], gap: usize, transposed: [bool; 2]) {
    let multiply = |left: Matrix<'_>, right: Matrix<'_>, output: &mut [f32], row_stride, mode| {
        with_kernel_of(level, precision, Blocks { left, right, output, row_stride, mode });
    };
    check(&multiply, precision, sizes, gap, transposed);
}

fn check(multiply: Multiply<'_>, precision: Precision, [m, n, k]: [usize; 3], gap: usize, transposed: [bool; 2]) {
    let room = |a: usize, b: usize| (a + gap) * (b + gap);
    let (left, right) = (random(room(m, k), 1), random(room(k, n), 2));
    let (left, right) = (matrix(&left, m, k, gap, transposed[0]), matrix(&right, k, n, gap, transposed[1]));
    // Poison: every value of the product must be written, and nothing between its rows.
    let mut output = vec![f32::NAN; m * (n + gap)];
    for mode in [Output::Replace, Output::Add] {
        multiply(left, right, &mut output, n + gap, mode);
    }
    let round = |value: f32| if precision == Precision::Bf16 { fp32::rounded(value) } else { value };
    for row in 0..m {
        for column in 0..n + gap {
            let actual = output[row * (n + gap) + column];
            if column >= n {
                assert!(actual.is_nan(), "written between the rows");
                continue;
            }
            let term = |i| f64::from(round(left.value(row, i))) * f64::from(round(right.value(i, column)));
            let expected = 2.0 * (0..k).map(term).sum::<f64>();
            // Sums of k products up to 1 in 32 bits.
            let tolerance = 3e-7 * (k as f64 + 4.0);
            assert!(
                (f64::from(actual) - expected).abs() <= tolerance,
                "{precision:?} {row} {column}: {actual} {expected}"
            );
        }
    }
}

/// Every level, and what this process takes.
fn check_all(sizes: [usize; 3], gap: usize, transposed: [bool; 2]) {
    for level in available() {
        for precision in [Precision::Fp32, Precision::Bf16] {
            check_level(level, precision, sizes, gap, transposed);
        }
    }
    let taken = |left: Matrix<'_>, right: Matrix<'_>, output: &mut [f32], row_stride, mode| {
        multiply(Precision::Fp32, left, right, output, row_stride, mode);
    };
    check(&taken, Precision::Fp32, sizes, gap, transposed);
    check(&taken, Precision::Fp32, [sizes[0].min(few_rows::ROWS), sizes[1], sizes[2]], gap, [transposed[0], true]);
}

#[test]
fn blocks_of_every_dimension_add_up() {
    // More than a block deep at every kernel, more panels than a task has, and rests everywhere.
    check_all([341, 37, 5], 0, [false, true]);
    check_all([3, 4103, 2], 1, [false, false]);
    check_all([15, 33, 1061], 2, [true, true]);
    check_all([2, 3, 33_000], 0, [false, true]);
}

#[test]
fn a_row_of_few_has_the_bits_that_it_has_alone() {
    let (k, n) = (67, 21);
    let (left, right) = (random(few_rows::ROWS * k, 1), random(n * k, 2));
    let right = Matrix::new(&right, n, k, k).transposed();
    let product = |first: usize, rows: usize| {
        let left = Matrix::new(&left[first * k..], rows, k, k);
        let mut output = vec![f32::NAN; rows * n];
        multiply(Precision::Fp32, left, right, &mut output, n, Output::Replace);
        output
    };
    let alone: Vec<Vec<f32>> = (0..few_rows::ROWS).map(|row| product(row, 1)).collect();
    for rows in 1..=few_rows::ROWS {
        assert_eq!(product(0, rows), alone[..rows].concat(), "{rows} rows");
    }
}

#[test]
fn products_side_by_side_have_the_bits_of_each_alone() {
    let k = 67;
    for rows in [1, few_rows::ROWS, few_rows::ROWS + 1] {
        let left = random(rows * k, 1);
        let left = Matrix::new(&left, rows, k, k);
        let rights = [21, 1, 700].map(|n| (n, random(n * k, n as u64)));
        let rights = rights.each_ref().map(|(n, values)| Matrix::new(values, *n, k, k).transposed());
        let width = rights.iter().map(|right| right.columns).sum();
        let mut output = vec![f32::NAN; rows * width];
        multiply_side_by_side(Precision::Fp32, left, &rights, &mut output, width, Output::Replace);
        let mut column = 0;
        for right in rights {
            let mut alone = vec![f32::NAN; rows * right.columns];
            multiply(Precision::Fp32, left, right, &mut alone, right.columns, Output::Replace);
            for (row, alone) in alone.chunks(right.columns).enumerate() {
                assert_eq!(output[row * width + column..][..right.columns], *alone, "{rows} rows, column {column}");
            }
            column += right.columns;
        }
    }
}

#[test]
fn nothing_times_nothing_is_zero() {
    for level in available() {
        let mut output = [f32::NAN; 6];
        let (left, right) = (Matrix::new(&[], 2, 0, 0), Matrix::new(&[], 0, 3, 3));
        let blocks = Blocks { left, right, output: &mut output, row_stride: 3, mode: Output::Replace };
        with_kernel_of(level, Precision::Fp32, blocks);
        assert_eq!(output, [0.0; 6]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn products_of_any_size_and_layout_are_sums(
        m in 1usize..70, n in 1usize..70, k in 1usize..70, gap in 0usize..3, left: bool, right: bool
    ) {
        check_all([m, n, k], gap, [left, right]);
    }
}
