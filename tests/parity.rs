//! The decoder, the loss, the gradients and the optimizer against transformers and PyTorch.

use limbeck_kernels::{Precision, multiplies};
use limbeck_model::{Generation, HostTensor, NamedTensors, Sampling, generate, parameters};
use limbeck_train::{AdamW, NextToken, StepGradients, Trainer};

use crate::support::devices::{Place, cpu, places};
use crate::support::distance::{farthest, max_abs, named, values};
use crate::support::fixture::{Fixture, fixtures};

/// How far we may be from float64 that was rounded once. PyTorch in float32 is off by 1.2e-5 in the logits, 5e-7 in the
/// loss, 4e-6 in the gradients, 3e-5 in ten losses and 2e-5 in the weights after them (`float32_differs_by`).
struct Tolerance {
    /// Largest absolute difference.
    logits: f64,
    /// Absolute.
    loss: f64,
    /// Relative L2 of each tensor.
    gradient: f64,
    /// Absolute, of each step.
    losses: f64,
    /// Relative L2 of each tensor. Ten steps of Adam move every entry by the sign of its gradient, more or less, and an
    /// entry whose gradient is rounding alone moves as far as any other: the float32 reference is 20 times as far off in
    /// the weights as in one gradient, and so may we be.
    weights: f64,
}

const ON_THE_CPU: Tolerance = Tolerance { logits: 1e-4, loss: 1e-5, gradient: 1e-4, losses: 1e-4, weights: 1e-4 };

/// Shaders reorder sums and may use fast `exp`, `sin` and division.
const ELSEWHERE: Tolerance = Tolerance { logits: 1e-3, loss: 1e-3, gradient: 1e-3, losses: 1e-3, weights: 1e-3 };

/// Runs `test` with each fixture on each device of the build.
fn everywhere(test: impl Fn(&Fixture, &Place, &Tolerance) -> anyhow::Result<()>) -> anyhow::Result<()> {
    for place in places()? {
        let tolerance = if place.is_cpu { &ON_THE_CPU } else { &ELSEWHERE };
        fixtures()?.iter().try_for_each(|fixture| test(fixture, &place, tolerance))?;
    }
    Ok(())
}

fn trainer(fixture: &Fixture, place: &Place) -> anyhow::Result<Trainer> {
    let model = fixture.model(&place.device.clone().autodiff())?;
    Ok(Trainer::new(model, AdamW::new(&fixture.facts.optimizer)?))
}

#[test]
fn logits_are_those_of_transformers() -> anyhow::Result<()> {
    everywhere(|fixture, place, tolerance| {
        let batch = fixture.batch();
        let logits = fixture.model(&place.device)?.logits(&batch.inputs, &batch.positions, batch.sequence_length);
        let distance = max_abs(&values(logits), &fixture.tensor("logits").values);
        assert!(distance < tolerance.logits, "{}: {distance}", place.name);
        Ok(())
    })
}

#[test]
fn loss_and_gradients_are_those_of_pytorch() -> anyhow::Result<()> {
    everywhere(|fixture, place, tolerance| {
        let trainer = trainer(fixture, place)?;
        let StepGradients { model: gradients, loss_sum, target_tokens, .. } =
            trainer.gradients(&NextToken, &[fixture.batch()])?;
        assert_eq!(target_tokens, fixture.facts.target_tokens);
        let loss = f64::from(values(loss_sum.expect("there are targets"))[0]) / target_tokens as f64;
        assert!((loss - fixture.facts.loss).abs() < tolerance.loss, "{}: loss {loss}", place.name);
        let (name, distance) = farthest(&named(&trainer.model, &gradients), &fixture.group("gradient"));
        assert!(distance < tolerance.gradient, "{}: {name} {distance}", place.name);
        Ok(())
    })
}

#[test]
fn ten_steps_are_those_of_pytorch_adamw() -> anyhow::Result<()> {
    everywhere(|fixture, place, tolerance| {
        let mut trainer = trainer(fixture, place)?;
        for (i, (loss, norm)) in fixture.facts.losses.iter().zip(&fixture.facts.grad_norms).enumerate() {
            let report;
            (trainer, report) = trainer.step(&NextToken, &[fixture.batch()], i as u64 + 1, 1.0)?;
            let distance = (f64::from(report.loss_nats) - loss).abs();
            assert!(distance < tolerance.losses, "{}, step {}: {distance}", place.name, i + 1);
            let distance = (f64::from(report.grad_norm) / norm - 1.0).abs();
            // The norm of all tensors strays no farther than the farthest weight.
            assert!(distance < 10.0 * tolerance.weights, "{}, step {}: norm {distance}", place.name, i + 1);
        }
        let (name, distance) = farthest(&parameters(&trainer.model), &fixture.group("trained"));
        assert!(distance < tolerance.weights, "{}: {name} {distance}", place.name);
        Ok(())
    })
}

/// The precisions of 16 bits, on the devices that multiply them: brain floats are off by no more than twice what PyTorch's
/// are (`bfloat16_differs_by`: roundings at random, in other places), IEEE 754's, with three bits more, by a quarter of that.
#[test]
fn sixteen_bit_products_stay_as_near_as_pytorchs_own() -> anyhow::Result<()> {
    let mut compared = 0;
    for place in places()? {
        for (precision, times) in [(Precision::Bf16, 2.0), (Precision::Fp16, 0.5)] {
            if !multiplies(&place.device, precision) {
                continue;
            }
            for fixture in fixtures()? {
                let (case, theirs) = (format!("{}, {precision:?}", place.name), &fixture.facts.bfloat16_differs_by);
                let mut trainer = trainer(&fixture, &place)?;
                trainer.model = trainer.model.with_precision(precision);
                let gradients = trainer.gradients(&NextToken, &[fixture.batch()])?;
                let mut of_mean = named(&trainer.model, &gradients.model);
                for tensor in of_mean.values_mut() {
                    tensor.values.iter_mut().for_each(|value| *value /= gradients.multiple);
                }
                let (name, distance) = farthest(&of_mean, &fixture.group("gradient"));
                assert!(distance < times * theirs.gradient_relative_l2, "{case}: {name} {distance}");
                // The control: something was rounded.
                assert!(distance > 1e-3, "{case}: {name} {distance}");
                for (i, loss) in fixture.facts.losses.iter().enumerate() {
                    let report;
                    (trainer, report) = trainer.step(&NextToken, &[fixture.batch()], i as u64 + 1, 1.0)?;
                    let distance = (f64::from(report.loss_nats) - loss).abs();
                    assert!(distance < times * theirs.adamw_losses_max_abs, "{case}, step {}: {distance}", i + 1);
                }
                compared += 1;
            }
        }
    }
    assert!(compared >= 3, "{compared} comparisons: the processor multiplies brain floats in every build");
    Ok(())
}

/// On the CPU, which rounds nothing to IEEE 754's 16 bits, that precision leaves what it does to the gradients' scale: nothing
/// is to be seen of it behind the norm.
#[test]
fn gradients_of_a_sum_make_the_step_of_the_mean() -> anyhow::Result<()> {
    for fixture in fixtures()? {
        let place = Place { name: "cpu", device: cpu(), is_cpu: true };
        let mut trainers = [trainer(&fixture, &place)?, trainer(&fixture, &place)?];
        trainers[1].model = trainers[1].model.clone().with_precision(Precision::Fp16);
        let multiple = trainers[1].gradients(&NextToken, &[fixture.batch()])?.multiple;
        assert_eq!(multiple, fixture.facts.target_tokens as f32);
        let [mean, sum] = trainers.map(|trainer| trainer.step(&NextToken, &[fixture.batch()], 1, 1.0));
        let ((mean, mean_report), (sum, sum_report)) = (mean?, sum?);
        assert!((sum_report.grad_norm / mean_report.grad_norm - 1.0).abs() < 1e-5, "{sum_report:?} {mean_report:?}");
        let (name, distance) = farthest(&parameters(&sum.model), &parameters(&mean.model));
        assert!(distance < 1e-5, "{name} {distance}");
    }
    Ok(())
}

#[test]
fn the_greedy_continuation_is_that_of_transformers() -> anyhow::Result<()> {
    everywhere(|fixture, place, _| {
        let greedy = &fixture.facts.greedy;
        let generation =
            Generation { max_new_tokens: greedy.continuation.len(), stop: Vec::new(), sampling: Sampling::default() };
        let prompts = [greedy.prompt.clone()];
        let answers = generate(&fixture.model(&place.device)?, &prompts, &generation, |_, _| ())?;
        assert_eq!(answers[0], greedy.continuation, "{}", place.name);
        Ok(())
    })
}

#[test]
fn with_swapped_rotary_halves_the_comparison_fails() -> anyhow::Result<()> {
    for fixture in fixtures()? {
        let (config, batch) = (fixture.config()?, fixture.batch());
        let weights = with_swapped_halves(fixture.group("weight"), config.head_dim);
        let model = fixture.model_with(&config, weights, &cpu())?;
        let logits = values(model.logits(&batch.inputs, &batch.positions, batch.sequence_length));
        let distance = max_abs(&logits, &fixture.tensor("logits").values);
        assert!(distance > 1e4 * ON_THE_CPU.logits, "{distance}");
        // For this reason and no other: these are transformers' logits with the halves swapped.
        let expected = &fixture.tensor("swapped_halves.logits").values;
        let distance = max_abs(&logits[..expected.len()], expected);
        assert!(distance < ON_THE_CPU.logits, "{distance}");
    }
    Ok(())
}

/// The same weights for a rotation that pairs the halves the other way round.
fn with_swapped_halves(weights: NamedTensors, head_dim: usize) -> NamedTensors {
    let swapped = |(name, tensor): (String, HostTensor)| {
        let turned = ["q_proj", "k_proj", "q_norm", "k_norm"].iter().any(|part| name.contains(part));
        let row_size = tensor.shape.get(1).copied().unwrap_or(1);
        let swap = |head: &[f32]| [&head[head.len() / 2..], &head[..head.len() / 2]].concat();
        let values = tensor.values.chunks(head_dim * row_size);
        let values = if turned { values.flat_map(swap).collect() } else { tensor.values };
        (name, HostTensor { shape: tensor.shape, values })
    };
    weights.into_iter().map(swapped).collect()
}
