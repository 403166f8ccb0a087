use burn::tensor::{Device, Tolerance};

use super::*;
use crate::drawn::drawn;

/// `[batch, rows, input_size, output_size]`: more than a tile in every dimension, a multiple of nothing.
const SIZES: [usize; 4] = [3, 31, 37, 53];

fn input() -> Tensor<3> {
    drawn(1, [SIZES[0], SIZES[1], SIZES[2]], -1.0..1.0)
}

fn weight(seed: u64, output_size: usize) -> Tensor<2> {
    drawn(seed, [output_size, SIZES[2]], -1.0..1.0)
}

#[test]
fn rows_meet_the_rows_of_the_weight() {
    let output = linear(input(), weight(2, SIZES[3]), Precision::Fp32);
    assert_eq!(output.dims(), [SIZES[0], SIZES[1], SIZES[3]]);
    let [input, weight] = [input().flatten::<1>(0, 2), weight(2, SIZES[3]).flatten(0, 1)];
    let [input, weight, output] =
        [input, weight, output.flatten(0, 2)].map(|tensor| tensor.into_data().try_to_vec::<f32>().unwrap());
    for (i, actual) in output.iter().enumerate() {
        let row = &input[i / SIZES[3] * SIZES[2]..][..SIZES[2]];
        let column = &weight[i % SIZES[3] * SIZES[2]..][..SIZES[2]];
        let expected: f64 = row.iter().zip(column).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
        assert!((f64::from(*actual) - expected).abs() < 1e-5, "{i}: {actual} {expected}");
    }
}

/// Values and the gradients of three weights, an input and a residual.
fn gradients(fused: bool, precision: Precision) -> Vec<burn::tensor::TensorData> {
    let track = |tensor: Tensor<2>| tensor.autodiff().require_grad();
    let weights = [weight(2, SIZES[3]), weight(3, 5), weight(4, 16)].map(track);
    let back = track(drawn(5, [SIZES[2], SIZES[3] + 5 + 16], -1.0..1.0));
    let input = input().autodiff().require_grad();
    let output = if fused {
        let inner = linears(input.clone(), weights.clone(), precision);
        linear_add(input.clone(), inner, back.clone(), precision)
    } else {
        let inner = weights.clone().map(|weight| linear_composed(input.clone(), weight, precision));
        input.clone() + linear_composed(Tensor::cat(inner.to_vec(), 2), back.clone(), precision)
    };
    let upstream = drawn(6, [SIZES[0], SIZES[1], SIZES[2]], -1.0..1.0).autodiff();
    let gradients = (output.clone() * upstream).sum().backward();
    let mut results = vec![output.into_data(), input.grad(&gradients).unwrap().into_data()];
    results.extend(weights.iter().chain([&back]).map(|weight| weight.grad(&gradients).unwrap().into_data()));
    results
}

#[test]
fn values_and_gradients_are_those_of_the_composed_layers() {
    for (fused, composed) in gradients(true, Precision::Fp32).iter().zip(gradients(false, Precision::Fp32)) {
        // Sums of up to 93 products of values of up to about 20, in another order.
        fused.assert_approx_eq::<f32>(&composed, Tolerance::absolute(2e-4));
    }
}

#[test]
fn rounded_inputs_stay_within_their_precision() {
    let exact = gradients(false, Precision::Fp32);
    let rounded = [(true, 6e-3), (false, 9e-3)].map(|(fused, most)| (gradients(fused, Precision::Bf16), most));
    let pairs = rounded.iter().flat_map(|(results, most)| results.iter().zip(&exact).zip(std::iter::repeat(*most)));
    for ((fused, composed), most) in pairs {
        let values = |data: &burn::tensor::TensorData| data.clone().try_to_vec::<f32>().unwrap();
        let (fused, composed) = (values(fused), values(composed));
        let norm =
            |values: &mut dyn Iterator<Item = f32>| values.map(|value| f64::from(value).powi(2)).sum::<f64>().sqrt();
        let distance = norm(&mut fused.iter().zip(&composed).map(|(a, b)| a - b)) / norm(&mut composed.iter().copied());
        // Two inputs with 8 bits each, twice: about 2⁻⁹ · √2 · √2 for random roundings. Burn's products are rounded too.
        assert!(distance > 1e-4 && distance < most, "{distance}");
    }
}

#[test]
fn no_rows_have_no_output() {
    let input = Tensor::<2>::zeros([0, 7], &Device::flex());
    assert_eq!(linear(input, Tensor::zeros([3, 7], &Device::flex()), Precision::Fp32).dims(), [0, 3]);
}
