//! Shapes of models.

use crate::{Architecture, ModelConfig, ModelSection, Problem};

/// Odd, distinct sizes.
fn section() -> ModelSection {
    ModelSection {
        architecture: Architecture::Qwen3,
        vocab_size: None,
        hidden_size: 42,
        intermediate_size: 55,
        num_hidden_layers: 3,
        num_attention_heads: 6,
        num_key_value_heads: Some(2),
        head_dim: Some(10),
        rms_norm_eps: 1e-6,
        rope_theta: 10_000.0,
        tie_word_embeddings: true,
        max_position_embeddings: None,
    }
}

fn published(architecture: Architecture, tied: bool, sizes: [usize; 7]) -> ModelConfig {
    let [vocab_size, hidden_size, intermediate_size, layers, heads, key_value_heads, head_dim] = sizes;
    ModelConfig {
        architecture,
        vocab_size,
        hidden_size,
        intermediate_size,
        num_hidden_layers: layers,
        num_attention_heads: heads,
        num_key_value_heads: key_value_heads,
        head_dim,
        rms_norm_eps: 1e-6,
        rope_theta: 10_000.0,
        tie_word_embeddings: tied,
        max_position_embeddings: 2048,
    }
}

fn messages(result: Result<ModelConfig, Vec<Problem>>) -> Vec<String> {
    result.unwrap_err().iter().map(Problem::to_string).collect()
}

#[test]
fn parameters_are_counted_as_by_hand() {
    // Embedding 77·42 = 3234, last norm 42. A block: query 60·42 = 2520, key and value 20·42 = 840 each, output 2520, three
    // feed-forward matrices of 42·55 = 2310, two norms of 42, two head norms of 10.
    let block = 2520 + 840 + 840 + 2520 + 3 * 2310 + 84 + 20;
    let mut config = section().resolve(77, 9).unwrap();
    assert_eq!(config.parameter_count(), 3234 + 3 * block + 42);
    config.tie_word_embeddings = false;
    assert_eq!(config.parameter_count(), 2 * 3234 + 3 * block + 42);
    config.architecture = Architecture::Llama;
    assert_eq!(config.parameter_count(), 2 * 3234 + 3 * (block - 20) + 42);
}

#[test]
fn parameters_of_published_models_are_those_of_their_files() {
    let qwen3_0_6b = published(Architecture::Qwen3, true, [151_936, 1024, 3072, 28, 16, 8, 128]);
    assert_eq!(qwen3_0_6b.parameter_count(), 596_049_920);
    let qwen2_5_0_5b = published(Architecture::Qwen2, true, [151_936, 896, 4864, 24, 14, 2, 64]);
    assert_eq!(qwen2_5_0_5b.parameter_count(), 494_032_768);
    let smollm_135m = published(Architecture::Llama, true, [49_152, 576, 1536, 30, 9, 3, 64]);
    assert_eq!(smollm_135m.parameter_count(), 134_515_008);
    let tinyllama_1_1b = published(Architecture::Llama, false, [32_000, 2048, 5632, 22, 32, 4, 64]);
    assert_eq!(tinyllama_1_1b.parameter_count(), 1_100_048_384);
}

#[test]
fn parameters_beyond_the_machine_do_not_overflow() {
    let sizes = [usize::MAX, usize::MAX, usize::MAX, usize::MAX, usize::MAX, usize::MAX, 2];
    assert_eq!(published(Architecture::Llama, false, sizes).parameter_count(), usize::MAX);
}

#[test]
fn what_is_left_out_is_derived() {
    let section = ModelSection { num_key_value_heads: None, head_dim: None, hidden_size: 48, ..section() };
    let config = section.resolve(77, 9).unwrap();
    assert_eq!((config.vocab_size, config.max_position_embeddings), (77, 9));
    assert_eq!((config.num_key_value_heads, config.head_dim), (6, 8));
}

#[test]
fn a_vocabulary_that_is_not_the_tokenizers_names_both() {
    let section = ModelSection { vocab_size: Some(1000), ..section() };
    assert_eq!(section.resolve(1000, 9).unwrap().vocab_size, 1000);
    let expected = "model.vocab_size is `1000`, must be the tokenizer's `77`; hint: leave model.vocab_size out, or name the \
                    tokenizer that it belongs to in data.tokenizer";
    assert_eq!(messages(section.resolve(77, 9)), [expected]);
}

#[test]
fn a_width_needs_whole_heads_unless_their_width_is_given() {
    let section = ModelSection { hidden_size: 100, num_attention_heads: 8, ..section() };
    assert_eq!(section.resolve(77, 9).unwrap().head_dim, 10);
    let section = ModelSection { head_dim: None, ..section };
    let expected = "model.hidden_size is `100`, must be divisible by model.num_attention_heads = `8`, or model.head_dim be \
                    given; hint: use `96` or `104`";
    assert_eq!(messages(section.resolve(77, 9)), [expected]);
}

#[test]
fn all_rules_of_a_shape_are_reported_at_once() {
    let section = ModelSection {
        hidden_size: 0,
        num_hidden_layers: 0,
        num_key_value_heads: Some(4),
        head_dim: Some(7),
        rms_norm_eps: 0.0,
        rope_theta: 1.0,
        max_position_embeddings: Some(8),
        ..section()
    };
    let expected = [
        "model.head_dim is `7`, must be even and at least `2`: rotary positions turn pairs; hint: use `6` or `8`",
        "model.hidden_size is `0`, must be at least `1`; hint: use `1` or more",
        "model.num_hidden_layers is `0`, must be at least `1`; hint: use `1` or more",
        "model.num_key_value_heads is `4`, must divide model.num_attention_heads = `6`; hint: use `3`, or leave it out for \
         as many as query heads",
        "model.rms_norm_eps is `0.0`, must be a finite number over `0`; hint: `1e-6` is usual",
        "model.rope_theta is `1.0`, must be a finite number over `1`; hint: `10000` is usual for short sequences",
        "model.max_position_embeddings is `8`, must be at least data.sequence_length = `9`; hint: use `9`, or leave it out",
    ];
    assert_eq!(messages(section.resolve(77, 9)), expected);
}

#[test]
fn a_shape_from_elsewhere_is_checked_too() {
    let config = section().resolve(77, 9).unwrap();
    assert_eq!(config.validate(), Ok(()));
    let problems = ModelConfig { num_key_value_heads: 0, head_dim: 0, ..config }.validate().unwrap_err();
    let keys: Vec<_> = problems.iter().map(Problem::key).collect();
    assert_eq!(keys, ["model.head_dim", "model.num_key_value_heads"]);
}
