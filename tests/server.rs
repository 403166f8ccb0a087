//! `generate --serve`, by what it says to a client that speaks HTTP by hand.

mod requests;
mod together;

use burn::tensor::Device;
use limbeck_config::{Architecture, ModelConfig};
use limbeck_data::Tokenizer;
use limbeck_model::{TokenIds, Transformer, write_directory};
use serde_json::{Value, json};

use crate::support::sandbox::Sandbox;
use crate::support::server::Server;

/// Where [`with_model`] puts it.
pub(crate) const MODEL: &str = "models/made-up";

/// Tokens of its context.
pub(crate) const CONTEXT: usize = 4000;

/// A sandbox with a random model, whose answers end with its context alone: no token that would end one is likely.
pub(crate) fn with_model() -> anyhow::Result<Sandbox> {
    let sandbox = Sandbox::prepared()?;
    let tokenizer = Tokenizer::load(sandbox.path("data/tiny/tokenizer"))?;
    let config = ModelConfig {
        architecture: Architecture::Qwen3,
        vocab_size: tokenizer.vocab_size(),
        hidden_size: 52,
        intermediate_size: 76,
        num_hidden_layers: 2,
        num_attention_heads: 6,
        num_key_value_heads: 2,
        head_dim: 12,
        rms_norm_eps: 1e-6,
        rope_theta: 10_000.0,
        // Tied, a random model says what it hears, over and over.
        tie_word_embeddings: false,
        max_position_embeddings: CONTEXT,
    };
    let directory = sandbox.path(MODEL);
    std::fs::create_dir_all(&directory)?;
    let ids = TokenIds { end: tokenizer.stop_ids(), padding: tokenizer.end_of_text() };
    write_directory(&Transformer::new(&config, 5, &Device::flex()), &ids, &directory)?;
    tokenizer.save(&directory)?;
    Ok(sandbox)
}

pub(crate) fn serve(sandbox: &Sandbox, more: &[&str]) -> anyhow::Result<Server> {
    Server::start(sandbox.command("generate").args(["--from", MODEL]).args(more))
}

/// A request with one user turn, and more.
fn asking(text: &str, more: Value) -> Value {
    let mut body = json!({ "messages": [{ "role": "user", "content": text }] });
    for (name, value) in more.as_object().into_iter().flatten() {
        body[name] = value.clone();
    }
    body
}
