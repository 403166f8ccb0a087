//! The definition in loops, and one implementation against the other.

use proptest::prelude::*;

use super::*;
use crate::drawn::drawn;

const THETA: f64 = 700.0;

/// Queries, keys and values, `[rows, sequence_length, heads, head_dim]`, and the positions of packed segments.
struct Case {
    layout: HeadLayout,
    rows: usize,
    sequence_length: usize,
    positions: Vec<u32>,
    window: Option<usize>,
}

/// Segments of every length from one up, rows cut at different places; query heads per key head from one to four.
fn cases() -> Vec<Case> {
    let positions = [0, 1, 2, 3, 4, 5, 6, 0, 1, 2, 3, /* row */ 0, 0, 1, 0, 1, 2, 3, 4, 5, 0, 0];
    let layout = |group: usize| HeadLayout { num_attention_heads: 3 * group, num_key_value_heads: 3, head_dim: 10 };
    let case = |(group, window)| {
        let positions = positions.to_vec();
        Case { layout: layout(group), rows: 2, sequence_length: 11, positions, window }
    };
    [(1, None), (2, None), (3, None), (4, None), (1, Some(1)), (2, Some(3)), (3, Some(7))].map(case).into()
}

fn at([_, tokens, heads, width]: [usize; 4], values: &[f32], row: usize, token: usize, head: usize) -> Vec<f64> {
    let start = ((row * tokens + token) * heads + head) * width;
    values[start..start + width].iter().map(|value| f64::from(*value)).collect()
}

/// The pairs `(i, i + head_dim / 2)` as complex numbers, turned.
fn turned(head: &[f64], position: u32) -> Vec<f64> {
    let half = head.len() / 2;
    let angle = |i: usize| f64::from(position) / THETA.powf(2.0 * (i % half) as f64 / head.len() as f64);
    let partner = |i: usize| if i < half { -head[i + half] } else { head[i - half] };
    (0..head.len()).map(|i| head[i] * angle(i).cos() + partner(i) * angle(i).sin()).collect()
}

/// The definition, in loops over 64-bit floats: `[rows, sequence_length, num_attention_heads * head_dim]`.
fn naive(case: &Case, [queries, keys, values]: &[Vec<f32>; 3]) -> Vec<f64> {
    let HeadLayout { num_attention_heads, num_key_value_heads, head_dim } = case.layout;
    let shape = |heads| [case.rows, case.sequence_length, heads, head_dim];
    let (query_shape, key_shape) = (shape(num_attention_heads), shape(num_key_value_heads));
    let mut output = Vec::new();
    for row in 0..case.rows {
        for token in 0..case.sequence_length {
            for head in 0..num_attention_heads {
                let key_head = head / (num_attention_heads / num_key_value_heads);
                let position = |token: usize| case.positions[row * case.sequence_length + token];
                let query = turned(&at(query_shape, queries, row, token, head), position(token));
                let reach = (position(token) as usize).min(case.window.unwrap_or(usize::MAX) - 1);
                let visible = token - reach..=token;
                let weight = |key: usize| {
                    let key = turned(&at(key_shape, keys, row, key, key_head), position(key));
                    let score: f64 = query.iter().zip(key).map(|(query, key)| query * key).sum();
                    (score / (head_dim as f64).sqrt()).exp()
                };
                let total: f64 = visible.clone().map(weight).sum();
                let value = |key: usize, i: usize| at(key_shape, values, row, key, key_head)[i];
                let mixed = |i| visible.clone().map(|key| weight(key) * value(key, i)).sum::<f64>() / total;
                output.extend((0..head_dim).map(mixed));
            }
        }
    }
    output
}

fn random(case: &Case, seed: u64, heads: usize) -> Tensor<4> {
    drawn(seed, [case.rows, case.sequence_length, heads, case.layout.head_dim], -2.0..2.0)
}

/// The heads of queries, keys and values side by side.
fn projected(heads: [Tensor<4>; 3]) -> Tensor<3> {
    let flat = heads.map(|heads| {
        let [rows, tokens, heads_, width] = heads.dims();
        heads.reshape([rows, tokens, heads_ * width])
    });
    Tensor::cat(flat.to_vec(), 2)
}

/// The fused plan and the composed one.
fn plans(case: &Case) -> [AttentionPlan; 2] {
    let Case { layout: HeadLayout { head_dim, .. }, sequence_length, positions, window, .. } = case;
    let fused = AttentionPlan::with_window(positions, *sequence_length, *head_dim, THETA, *window, &Device::flex());
    assert!(fused.device.is_none());
    let device = Some(DevicePlan::new(&fused.host, *sequence_length, *head_dim, &Device::flex()));
    [fused.clone(), AttentionPlan { device, ..fused }]
}

/// Queries, keys and values.
fn random_inputs(case: &Case) -> [Tensor<4>; 3] {
    let HeadLayout { num_attention_heads, num_key_value_heads, .. } = case.layout;
    [(1, num_attention_heads), (2, num_key_value_heads), (3, num_key_value_heads)]
        .map(|(seed, heads)| random(case, seed, heads))
}

#[test]
fn rotary_attention_is_the_definition_for_packed_rows_and_grouped_heads() {
    for case in cases() {
        let HeadLayout { num_attention_heads, head_dim, .. } = case.layout;
        let inputs = random_inputs(&case);
        let expected = naive(&case, &inputs.clone().map(|input| input.into_data().try_to_vec().unwrap()));
        for plan in plans(&case) {
            let output = rotary_attention(projected(inputs.clone()), None, case.layout, &plan, Precision::Fp32);
            assert_eq!(output.dims(), [case.rows, case.sequence_length, num_attention_heads * head_dim]);
            let output: Vec<f32> = output.into_data().try_to_vec().unwrap();
            for (i, (actual, expected)) in output.iter().zip(&expected).enumerate() {
                // Means of values up to 2, in 32-bit floats.
                assert!((f64::from(*actual) - expected).abs() < 5e-6, "{:?} {i}: {actual} {expected}", case.layout);
            }
        }
    }
}

/// Wider than a vector register in every direction, with rests: two segments that fill the first row, many in the second.
fn wide_case(group: usize) -> Case {
    let row = |lengths: &[u32]| -> Vec<u32> { lengths.iter().flat_map(|length| 0..*length).collect() };
    Case {
        layout: HeadLayout { num_attention_heads: 2 * group, num_key_value_heads: 2, head_dim: 38 },
        rows: 2,
        sequence_length: 53,
        positions: [row(&[36, 17]), row(&[1, 20, 2, 15, 4, 11])].concat(),
        window: None,
    }
}

/// Heads of one, as wide as GPT-2's largest, with sixteen queries a key; documents that are empty but for one token.
fn odd_cases() -> Vec<Case> {
    let case = |heads: usize, key_heads, head_dim, lengths: &[u32]| {
        let positions: Vec<u32> = lengths.iter().flat_map(|length| 0..*length).collect();
        let layout = HeadLayout { num_attention_heads: heads, num_key_value_heads: key_heads, head_dim };
        Case { layout, rows: 1, sequence_length: positions.len(), positions, window: None }
    };
    let windowed = |window, case| Case { window: Some(window), ..case };
    vec![
        windowed(2, wide_case(1)),
        windowed(19, wide_case(3)),
        windowed(70, case(2, 1, 32, &[200, 3])),
        case(1, 1, 16, &[1]),
        case(8, 1, 128, &[1, 1, 1, 140]),
        case(4, 2, 64, &[64, 64, 5]),
        case(2, 2, 2, &[33]),
    ]
}

/// Output and gradients of heads and norms.
fn results(case: &Case, plan: &AttentionPlan, normed: bool, precision: Precision) -> Vec<Tensor<1>> {
    let HeadLayout { num_attention_heads, head_dim, .. } = case.layout;
    let inputs = projected(random_inputs(case)).autodiff().require_grad();
    let weights = [5, 6].map(|seed| drawn(seed, [head_dim], 0.5..1.5).autodiff().require_grad());
    let [query_weight, key_weight] = weights.clone();
    let norms = normed.then_some(HeadNorms { query_weight, key_weight, epsilon: 1e-3 });
    let output = rotary_attention(inputs.clone(), norms, case.layout, plan, precision);
    let upstream = random(case, 4, num_attention_heads).reshape(output.dims()).autodiff();
    let gradients = (output.clone() * upstream).sum().backward();
    let mut results = vec![output.inner().flatten(0, 2), inputs.grad(&gradients).unwrap().flatten(0, 2)];
    results.extend(weights.iter().filter_map(|weight| weight.grad(&gradients)));
    assert_eq!(results.len(), if normed { 4 } else { 2 });
    results
}

/// Relative L2 distances of the fused results from the composed ones, absolute where these are small: one key alone has
/// no gradient.
fn distances(case: &Case, normed: bool) -> Vec<f32> {
    let [fused, _] = plans(case);
    distances_of(case, &fused, normed, Precision::Fp32)
}

/// [`distances`] of a plan's results at a precision.
fn distances_of(case: &Case, plan: &AttentionPlan, normed: bool, precision: Precision) -> Vec<f32> {
    let [_, composed] = plans(case);
    let fused = results(case, plan, normed, precision);
    let composed = results(case, &composed, normed, Precision::Fp32);
    let norm = |tensor: Tensor<1>| tensor.square().sum().sqrt().into_scalar::<f32>();
    fused.into_iter().zip(composed).map(|(a, b)| norm(a - b.clone()) / norm(b).max(1.0)).collect()
}

#[test]
fn fused_outputs_and_gradients_are_those_of_the_composed_attention() {
    for case in cases().into_iter().chain([wide_case(1), wide_case(3)]).chain(odd_cases()) {
        for normed in [false, true] {
            for distance in distances(&case, normed) {
                // 32-bit sums over at most 140 keys, the exponential within 2 units in the last place.
                assert!(distance < 4e-6, "{:?} {normed}: {distance}", case.layout);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]
    #[test]
    fn attention_of_any_size_is_that_of_the_composed_operators(
        lengths in prop::collection::vec(1u32..40, 1..5),
        rows in 1usize..3,
        group in 1usize..=8,
        key_heads in 1usize..=3,
        half_width in 8usize..=64,
        window in prop::option::of(2usize..50),
        normed: bool,
    ) {
        // One key alone has no gradient, so that the distance would be one of roundings.
        let row: Vec<u32> = lengths.iter().chain([&7]).flat_map(|length| 0..*length).collect();
        let layout = HeadLayout {
            num_attention_heads: group * key_heads,
            num_key_value_heads: key_heads,
            head_dim: 2 * half_width,
        };
        let case = Case { layout, rows, sequence_length: row.len(), positions: row.repeat(rows), window };
        for distance in distances(&case, normed) {
            prop_assert!(distance < 1e-5, "{distance}");
        }
    }
}

#[test]
fn rounded_inputs_stay_within_their_precision() {
    let case = wide_case(3);
    for plan in plans(&case) {
        for distance in distances_of(&case, &plan, true, Precision::Bf16) {
            assert!(distance > 1e-4 && distance < 2e-2, "{distance}");
        }
    }
}

#[test]
fn new_tokens_attend_to_cached_keys_as_in_a_whole_row() {
    let [rows, sequence_length, cached, head_dim] = [2, 9, 6, 4];
    let random = |seed, heads| drawn(seed, [rows, heads, sequence_length, head_dim], 0.0..1.0);
    let (queries, keys, values) = (random(1, 6), random(2, 2), random(3, 2));
    let mask = |first: usize| {
        let size = [rows, sequence_length - first, sequence_length];
        causal_mask(size, |_, query, key| key <= first + query, &Device::flex())
    };
    let whole = attention(queries.clone(), keys.clone(), values.clone(), mask(0), Precision::Fp32);
    let new =
        attention(queries.narrow(2, cached, sequence_length - cached), keys, values, mask(cached), Precision::Fp32);
    let expected = whole.narrow(1, cached, sequence_length - cached);
    new.into_data().assert_approx_eq::<f32>(&expected.into_data(), burn::tensor::Tolerance::absolute(1e-6));
}
