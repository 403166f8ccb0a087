//! What a student is worth as the draft model of its teacher: speculative decoding (Leviathan et al. 2023, arXiv:2211.17192).

use burn::tensor::activation::softmax;
use burn::tensor::{Int, Tensor, TensorData};
use limbeck_kernels::{Precision, linear};
use limbeck_model::Transformer;

/// How likely a draft of one token of the target's text is accepted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Chance {
    /// Whatever is drafted: `Σ min(p, q)` over the vocabulary, with the distributions p of the target and q of the draft
    /// (theorem 3.5). Greedily 1 where their most probable tokens are the same, else 0.
    pub of_any: f64,
    /// Given that the text goes on as it does, with token x: `min(1, q(x) / p(x))`. What speculative decoding emits is
    /// distributed as p; x came from an accepted draft with density `min(p, q)(x)`, and from a correction with the rest.
    pub of_this: f64,
}

/// Chances of the tokens of `answer`, which `target` said after `prompt` at this temperature; 0 takes the most probable
/// token. Neither may be empty.
pub fn chances(
    target: &Transformer,
    draft: &Transformer,
    prompt: &[u32],
    answer: &[u32],
    temperature: f64,
) -> Vec<Chance> {
    let [target, draft] = [target, draft].map(|model| logits(model, prompt, answer));
    // Rows that only pad one of the two vocabularies are in neither's minimum.
    let vocab_size = target.dims()[1].min(draft.dims()[1]);
    let (of_any, of_this) = if temperature == 0.0 {
        let same = target.argmax(1).equal(draft.argmax(1)).float(); // [tokens, 1]
        (same.clone(), same)
    } else {
        let [p, q] = [target, draft].map(|logits| softmax(logits / temperature, 1).narrow(1, 0, vocab_size));
        let tokens: Vec<i32> = answer.iter().map(|token| (*token).min(vocab_size as u32 - 1) as i32).collect();
        let tokens: Tensor<2, Int> = Tensor::from_data(TensorData::new(tokens, [answer.len(), 1]), &p.device());
        let of_this = (q.clone().gather(1, tokens.clone()) / p.clone().gather(1, tokens)).clamp_max(1.0);
        (p.min_pair(q).sum_dim(1), of_this) // [tokens, 1] each
    };
    // A token of padding is one that the draft may not have.
    let has = |token: &u32| if (*token as usize) < vocab_size { 1.0 } else { 0.0 };
    let values = |tensor: Tensor<2>| tensor.into_data().iter::<f64>().collect::<Vec<f64>>();
    let chance = |((of_any, of_this), token): ((f64, f64), &u32)| Chance {
        of_any: of_any.min(1.0),
        of_this: of_this * has(token),
    };
    values(of_any).into_iter().zip(values(of_this)).zip(answer).map(chance).collect()
}

/// Of the token after `prompt` and after each of `answer` but the last: `[answer, vocab_size]`.
fn logits(model: &Transformer, prompt: &[u32], answer: &[u32]) -> Tensor<2> {
    let model = model.clone().without_autodiff().with_precision(Precision::Fp32);
    let text = [prompt, &answer[..answer.len() - 1]].concat();
    let positions: Vec<u32> = (0..text.len() as u32).collect();
    let hidden = model.hidden(&text, &positions, text.len()).narrow(0, prompt.len() - 1, answer.len());
    linear(hidden, model.output_weight(), Precision::Fp32)
}

/// Speculative decoding of texts, in blocks: the draft says `draft_tokens` tokens, the target checks them in one pass, keeps
/// those before the first that is rejected, and adds one of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Blocks {
    /// Passes of the target, on average over the draws.
    pub blocks: f64,
    /// Tokens that the draft said and the target kept, on average.
    pub accepted: f64,
    /// Tokens of the texts.
    pub tokens: f64,
}

impl Blocks {
    /// Adds a text whose tokens are accepted with these probabilities, each on its own. Not an estimate: the expectation over
    /// all ways to cut the text into blocks.
    pub fn add(&mut self, accepted: &[f64], draft_tokens: usize) {
        self.tokens += accepted.len() as f64;
        // The probability that a block begins with a token, for each and for what would come after the last.
        let mut begins = vec![0.0; accepted.len() + 1];
        begins[0] = 1.0;
        for place in 0..accepted.len() {
            let mut reached = begins[place];
            self.blocks += reached;
            for (offset, chance) in accepted[place..].iter().take(draft_tokens).enumerate() {
                begins[place + offset + 1] += reached * (1.0 - chance);
                reached *= chance;
                self.accepted += reached;
            }
            // All were accepted: one more token is the target's own, if the text has one.
            if let Some(next) = begins.get_mut(place + draft_tokens + 1) {
                *next += reached;
            }
        }
    }

    /// Tokens that a pass of the target gives.
    pub fn tokens_per_block(&self) -> f64 {
        self.tokens / self.blocks
    }

    /// Of these, those that the draft said.
    pub fn accepted_per_block(&self) -> f64 {
        self.accepted / self.blocks
    }
}

/// Tokens of a block where every draft is accepted with probability `acceptance`, independently: equation 1 of the paper,
/// `(1 - α^(γ+1)) / (1 - α)`.
pub fn expected_tokens(acceptance: f64, draft_tokens: usize) -> f64 {
    // The sum that the quotient is of, which has no gap at 1.
    (0..=draft_tokens as i32).map(|power| acceptance.powi(power)).sum()
}

/// How many times as fast as the target alone, where a pass of the draft costs `cost` of one of the target (theorem 3.8).
pub fn speed_up(tokens_per_block: f64, draft_tokens: usize, cost: f64) -> f64 {
    tokens_per_block / (draft_tokens as f64 * cost + 1.0)
}

#[cfg(test)]
mod tests;
