//! Inputs of matrices in 8 bits.

use burn::tensor::{Tensor, TensorData};
use limbeck_config::{ActivationGrid, Architecture, FakeQuantSection, ModelConfig, WeightGrid};
use limbeck_kernels::int8_rounded;
use limbeck_model::{Generation, Sampling, Transformer, generate, load_parameters, parameters};
use limbeck_quant::Grid;

use crate::support::devices::{cpu, places};
use crate::support::models::small;
use crate::support::numbers::Numbers;

/// Q8_0 of the quantisers, whose bytes are those of the `gguf` package.
#[test]
fn inputs_are_rounded_as_q8_0_is() -> anyhow::Result<()> {
    let mut values = Numbers::new(3).uniform(7 * 96);
    values[96..128].fill(0.0);
    values[130] = 1e-42;
    values[200..232].iter_mut().for_each(|value| *value *= 1e5);
    let expected = Grid::Q8_0.round_trip(&values, 96)?;
    for place in places()? {
        let input = Tensor::<2>::from_data(TensorData::new(values.clone(), [7, 96]), &place.device);
        let found = int8_rounded(input).into_data().try_to_vec::<f32>()?;
        assert_eq!(found, expected, "{}", place.name);
    }
    Ok(())
}

fn model(activations: ActivationGrid) -> anyhow::Result<Transformer> {
    let shape = ModelConfig {
        hidden_size: 64,
        intermediate_size: 96,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 24,
        ..small(Architecture::Qwen3)
    };
    let section = FakeQuantSection { weights: WeightGrid::Q8_0, embeddings: None, activations };
    let model = Transformer::new(&shape, 4, &cpu());
    // Five times as large as they are initialised, so that every token matters.
    let mut weights = parameters(&model);
    let matrices = weights.values_mut().filter(|tensor| tensor.shape.len() == 2);
    matrices.for_each(|tensor| tensor.values.iter_mut().for_each(|value| *value *= 5.0));
    Ok(load_parameters(model, weights)?.with_fake_quant(Some(section)).on_grid()?)
}

/// Eight bits are close to exact numbers, but are not them; and a cache takes the same way.
#[test]
fn a_pass_with_rounded_inputs_is_close_to_the_exact_one_and_the_same_with_a_cache() -> anyhow::Result<()> {
    let (exact, rounded) = (model(ActivationGrid::None)?, model(ActivationGrid::Int8)?);
    let tokens = Numbers::new(8).tokens(20, exact.config().vocab_size);
    let positions: Vec<u32> = (0..20).collect();
    let logits = |model: &Transformer| model.logits(&tokens, &positions, 20).into_data().try_to_vec::<f32>();
    let (exact_logits, rounded_logits) = (logits(&exact)?, logits(&rounded)?);
    let norm = |values: &mut dyn Iterator<Item = f32>| values.map(|value| value * value).sum::<f32>().sqrt();
    let difference = norm(&mut exact_logits.iter().zip(&rounded_logits).map(|(one, other)| one - other));
    let relative = difference / norm(&mut exact_logits.iter().copied());
    // A rounding error of a code is 1 / (127 √12) of the largest of 32, 0.4 % of a typical value, in a dozen products.
    assert!(relative > 1e-3 && relative < 3e-2, "{relative}");

    let generation = Generation { max_new_tokens: 12, stop: Vec::new(), sampling: Sampling::default() };
    let mut text = tokens[..5].to_vec();
    let cached = generate(&rounded, &[text.clone()], &generation, |_, _| ())?.concat();
    for expected in cached {
        let positions: Vec<u32> = (0..text.len() as u32).collect();
        let logits = rounded.logits(&text, &positions, text.len()).into_data().try_to_vec::<f32>()?;
        let last = &logits[logits.len() - rounded.config().vocab_size..];
        let best = (0..last.len()).max_by(|one, other| last[*one].total_cmp(&last[*other])).unwrap_or_default() as u32;
        assert_eq!(best, expected, "after {text:?}");
        text.push(best);
    }
    Ok(())
}
