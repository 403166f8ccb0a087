//! Operators at sizes that are drawn, against the composed ones: forward and every gradient.

use burn::tensor::{Device, Int, Tensor, TensorData};
use proptest::prelude::*;

use crate::drawn::drawn;
use crate::{
    ChunkLoss, Precision, cross_entropy_rows, cross_entropy_sum_rows, embedding, embedding_composed, linear,
    linear_add, linear_composed, linears, loss_head, loss_head_composed, normed_linears, rms_norm, rms_norm_composed,
    swiglu_linear_add, swiglu_linear_add_composed,
};

/// 32-bit sums of up to 200 terms in another order, relative to the length of the tensor.
const TOLERANCE: f64 = 5e-6;

fn tracked<const D: usize>(seed: u64, shape: [usize; D]) -> Tensor<D> {
    drawn(seed, shape, -1.5..2.0).autodiff().require_grad()
}

/// The output, and its gradients by what was tracked, under a drawn gradient of its own.
fn results(output: Tensor<2>, matrices: &[&Tensor<2>], vectors: &[&Tensor<1>]) -> Vec<Vec<f32>> {
    let upstream = drawn(99, output.dims(), -1.0..1.0).autodiff();
    let gradients = (output.clone() * upstream).sum().backward();
    let mut results = vec![output.into_data()];
    results.extend(matrices.iter().map(|matrix| matrix.grad(&gradients).unwrap().into_data()));
    results.extend(vectors.iter().map(|vector| vector.grad(&gradients).unwrap().into_data()));
    results.into_iter().map(|data| data.try_into_vec().unwrap()).collect()
}

/// Relative L2 distances of tensors, absolute where these are shorter than 1.
fn close(fused: &[Vec<f32>], composed: &[Vec<f32>]) -> Result<(), TestCaseError> {
    prop_assert_eq!(fused.len(), composed.len());
    for (i, (fused, composed)) in fused.iter().zip(composed).enumerate() {
        prop_assert_eq!(fused.len(), composed.len());
        let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
        let difference = norm(&mut fused.iter().zip(composed).map(|(a, b)| f64::from(*a) - f64::from(*b)));
        let distance = difference / norm(&mut composed.iter().map(|value| f64::from(*value))).max(1.0);
        // In this order, so that what is not a number fails.
        prop_assert!(distance < TOLERANCE, "result {}: {}", i, distance);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn linear_layers(rows in 1usize..70, input_size in 1usize..70, sizes in prop::array::uniform3(1usize..70)) {
        let input = tracked(1, [rows, input_size]);
        let weights = [0, 1, 2].map(|i| tracked(2 + i as u64, [sizes[i], input_size]));
        let residual = tracked(5, [rows, sizes[0]]);
        let matrices = [&[&input][..], &weights.each_ref()].concat();
        let composed = |weight: &Tensor<2>| linear_composed(input.clone(), weight.clone(), Precision::Fp32);
        close(
            &results(linears(input.clone(), weights.clone(), Precision::Fp32), &matrices, &[]),
            &results(Tensor::cat(weights.iter().map(composed).collect(), 1), &matrices, &[]),
        )?;
        let [weight, ..] = &weights;
        close(
            &results(linear(input.clone(), weight.clone(), Precision::Fp32), &[&input, weight], &[]),
            &results(composed(weight), &[&input, weight], &[]),
        )?;
        let added = linear_add(residual.clone(), input.clone(), weight.clone(), Precision::Fp32);
        close(
            &results(added, &[&residual, &input, weight], &[]),
            &results(residual.clone() + composed(weight), &[&residual, &input, weight], &[]),
        )?;
    }

    #[test]
    fn norms_and_layers_behind_them(rows in 1usize..140, size in 2usize..140, sizes in prop::array::uniform2(1usize..40)) {
        let (input, norm) = (tracked(1, [rows, size]), tracked(2, [size]));
        let composed = || rms_norm_composed(input.clone(), norm.clone(), 1e-3);
        close(
            &results(rms_norm(input.clone(), norm.clone(), 1e-3), &[&input], &[&norm]),
            &results(composed(), &[&input], &[&norm]),
        )?;
        let weights = [0, 1].map(|i| tracked(3 + i as u64, [sizes[i], size]));
        let matrices = [&[&input][..], &weights.each_ref()].concat();
        let layers = weights.iter().map(|weight| linear_composed(composed(), weight.clone(), Precision::Fp32));
        let layers = Tensor::cat(layers.collect(), 1);
        let together = normed_linears(input.clone(), norm.clone(), 1e-3, weights.clone(), Precision::Fp32);
        close(&results(together, &matrices, &[&norm]), &results(layers, &matrices, &[&norm]))?;
    }

    #[test]
    fn feed_forward_layers(rows in 1usize..70, intermediate_size in 1usize..70, hidden_size in 1usize..70) {
        let residual = tracked(1, [rows, hidden_size]);
        let gate_up = tracked(2, [rows, 2 * intermediate_size]);
        let weight = tracked(3, [hidden_size, intermediate_size]);
        let run = |layer: fn(Tensor<2>, Tensor<2>, Tensor<2>, Precision) -> Tensor<2>| {
            let output = layer(residual.clone(), gate_up.clone(), weight.clone(), Precision::Fp32);
            results(output, &[&residual, &gate_up, &weight], &[])
        };
        close(&run(swiglu_linear_add), &run(swiglu_linear_add_composed))?;
    }

    #[test]
    fn embeddings(ids in prop::collection::vec(0u32..300, 1..60), size in 1usize..40) {
        let weight = tracked(1, [300, size]);
        let run = |embedding: fn(Tensor<2>, &[u32], usize) -> Tensor<3>| {
            let output = embedding(weight.clone(), &ids, ids.len());
            results(output.reshape([ids.len(), size]), &[&weight], &[])
        };
        close(&run(embedding), &run(embedding_composed))?;
    }

    /// With the definition of cross-entropy in 64 bits as the composed row loss.
    #[test]
    fn loss_heads_and_cross_entropy(rows in 1usize..50, hidden_size in 1usize..50, targets in prop::collection::vec(0i32..9, 50), more in 0usize..200) {
        let vocab_size = 9 + more;
        let (hidden, weight) = (tracked(1, [rows, hidden_size]), tracked(2, [vocab_size, hidden_size]));
        let targets = &targets[..rows];
        let chosen = |range: std::ops::Range<usize>| {
            Tensor::<1, Int>::from_data(TensorData::from(&targets[range]), &Device::flex())
        };
        let fused = |logits: Tensor<2>, range: std::ops::Range<usize>| {
            let alone = cross_entropy_sum_rows(logits.clone(), chosen(range.clone())).into_scalar::<f32>();
            let loss = cross_entropy_rows(logits, chosen(range));
            assert_eq!(alone, loss.loss_sum.clone().into_scalar::<f32>());
            loss
        };
        let defined = |logits: Tensor<2>, range: std::ops::Range<usize>| {
            let values: Vec<f32> = logits.into_data().try_into_vec().unwrap();
            let (mut loss, mut gradient) = (0.0, Vec::new());
            for (row, target) in values.chunks(vocab_size).zip(&targets[range.clone()]) {
                let sum: f64 = row.iter().map(|logit| f64::from(*logit).exp()).sum();
                loss += sum.ln() - f64::from(row[*target as usize]);
                let share = |(id, logit): (usize, &f32)| f64::from(*logit).exp() / sum - f64::from(u8::from(id as i32 == *target));
                gradient.extend(row.iter().enumerate().map(|entry| share(entry) as f32));
            }
            ChunkLoss {
                loss_sum: Tensor::from_floats([loss as f32], &Device::flex()),
                logit_gradient: Tensor::from_data(TensorData::new(gradient, [range.len(), vocab_size]), &Device::flex()),
            }
        };
        let of = |head: crate::HeadLoss| {
            let gradients = head.surrogate.backward();
            let mut results: Vec<Vec<f32>> = vec![head.loss_sum.into_data().try_into_vec().unwrap()];
            results.extend([&hidden, &weight].map(|matrix| matrix.grad(&gradients).unwrap().into_data().try_into_vec().unwrap()));
            results
        };
        close(
            &of(loss_head(hidden.clone(), weight.clone(), Precision::Fp32, fused)),
            &of(loss_head_composed(hidden.clone(), weight.clone(), Precision::Fp32, defined)),
        )?;
    }
}
