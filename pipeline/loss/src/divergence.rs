//! Choosing a divergence, and mixing it with cross-entropy.

use burn::tensor::Tensor;
use limbeck_config::Divergence;
use limbeck_kernels::ChunkLoss;

use crate::forward_kl::forward_kl;

/// The divergence that the configuration names.
///
/// # Shapes
/// - `student`, `teacher`: `[rows, vocab_size]`
pub fn divergence(kind: Divergence, student: Tensor<2>, teacher: Tensor<2>, temperature: f64) -> ChunkLoss {
    match kind {
        Divergence::ForwardKl {} => forward_kl(student, teacher, temperature),
    }
}

/// `weight * first + (1 - weight) * second`; the weights 1 and 0 give the one or the other exactly, and make only that.
pub fn mix(weight: f64, first: impl FnOnce() -> ChunkLoss, second: impl FnOnce() -> ChunkLoss) -> ChunkLoss {
    if weight == 1.0 {
        return first();
    }
    if weight == 0.0 {
        return second();
    }
    let (first, second) = (first(), second());
    ChunkLoss {
        loss_sum: first.loss_sum * weight + second.loss_sum * (1.0 - weight),
        logit_gradient: first.logit_gradient * weight + second.logit_gradient * (1.0 - weight),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cross_entropy::cross_entropy;
    use burn::tensor::{Device, TensorData};

    /// What a loss says of `[2, 5]` logits, in 64-bit host arithmetic around the tensor code.
    fn value(loss: &dyn Fn(Tensor<2>) -> ChunkLoss, logits: &[f32]) -> (f32, Vec<f32>) {
        let data = TensorData::new(logits.to_vec(), [2, 5]);
        let loss = loss(Tensor::from_data(data, &Device::flex()));
        let gradient = loss.logit_gradient.into_data().try_to_vec().expect("32-bit floats");
        (loss.loss_sum.into_scalar(), gradient)
    }

    fn teacher() -> Tensor<2> {
        Tensor::from_floats([[0.3, -1.0, 2.0, 0.7, -0.2], [1.5, 0.1, -0.4, 0.0, 0.9]], &Device::flex())
    }

    #[test]
    fn every_loss_has_the_gradient_of_its_finite_differences() {
        let targets = || Tensor::from_ints([3, 0], &Device::flex());
        let losses: [(&str, &dyn Fn(Tensor<2>) -> ChunkLoss); 4] = [
            ("cross entropy", &|logits| cross_entropy(logits, targets())),
            ("forward KL", &|logits| divergence(Divergence::ForwardKl {}, logits, teacher(), 1.0)),
            ("forward KL at 2", &|logits| divergence(Divergence::ForwardKl {}, logits, teacher(), 2.0)),
            ("mixture", &|logits| {
                let kl = || forward_kl(logits.clone(), teacher(), 1.5);
                mix(0.3, || cross_entropy(logits.clone(), targets()), kl)
            }),
        ];
        let logits = [0.5f32, -0.3, 1.1, 0.2, -0.9, 0.4, 0.8, -1.2, 0.6, 0.05];
        for (name, loss) in losses {
            let (_, gradient) = value(loss, &logits);
            for i in 0..logits.len() {
                let nudged = |by: f32| {
                    let mut nudged = logits;
                    nudged[i] += by;
                    value(loss, &nudged).0
                };
                let difference = (nudged(0.01) - nudged(-0.01)) / 0.02;
                assert!((difference - gradient[i]).abs() < 2e-3, "{name} {i}: {difference} against {}", gradient[i]);
            }
        }
    }

    #[test]
    fn a_perfect_student_has_no_loss_and_no_gradient() {
        let logits: Vec<f32> = teacher().into_data().try_to_vec().expect("32-bit floats");
        let (loss, gradient) = value(&|logits| forward_kl(logits, teacher(), 2.0), &logits);
        assert!(loss.abs() < 1e-6, "{loss}");
        assert!(gradient.iter().all(|value| value.abs() < 1e-6), "{gradient:?}");
    }

    #[test]
    fn weights_one_and_zero_are_the_pure_losses() {
        let pure = |loss: f32| ChunkLoss {
            loss_sum: Tensor::from_floats([loss], &Device::flex()),
            logit_gradient: Tensor::zeros([1, 1], &Device::flex()),
        };
        let mixed = |weight| mix(weight, || pure(f32::NAN), || pure(0.1)).loss_sum.into_scalar::<f32>();
        assert_eq!(mixed(0.0), 0.1);
        assert!(mixed(1.0).is_nan());
    }

    #[test]
    fn forward_kl_has_the_value_of_the_definition() {
        // p = (0.8, 0.2), q = (0.5, 0.5): 0.8 ln 1.6 + 0.2 ln 0.4.
        let teacher = Tensor::<2>::from_floats([[4f32.ln(), 0.0]], &Device::flex());
        let loss = forward_kl(Tensor::zeros([1, 2], &Device::flex()), teacher, 1.0).loss_sum.into_scalar::<f32>();
        assert!((loss - (0.8 * 1.6f32.ln() + 0.2 * 0.4f32.ln())).abs() < 1e-6, "{loss}");
    }
}
