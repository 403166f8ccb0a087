//! How the loss falls with parameters and tokens.

/// The parametric law of Hoffmann et al.: `L(N, D) = E + A / N^α + B / D^β`.
///
/// N counts all parameters, D the tokens of training, L is in nats a token. The constants are those of approach 3.
///
/// What it is good for is comparing shapes: it was fitted to models of 70 million to 16 billion parameters on English web text
/// with one tokenizer, so the loss of another corpus is another number, and below some ten million parameters it is an
/// extrapolation. Depth and width do not matter in it. (Besiroglu et al. 2024, arXiv:2404.10102, find the intervals of these
/// constants too narrow and fit others to the same runs.)
///
/// A teacher has no part in it. Busbridge et al. 2025 (arXiv:2502.08606) give a law of distillation: with a fitting teacher a
/// student needs fewer tokens for a loss, with enough tokens of its own it needs no teacher, and a teacher that is too strong
/// helps less. Under it the ranking by parameters stays; what `plan` says of tokens is then an upper bound.
///
/// # Source
/// Hoffmann et al. 2022, arXiv:2203.15556, equation 10 and appendix D.3.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScalingLaw {
    /// E: what no model goes below.
    pub irreducible_nats: f64,
    /// A.
    pub parameter_factor: f64,
    /// α.
    pub parameter_exponent: f64,
    /// B.
    pub token_factor: f64,
    /// β.
    pub token_exponent: f64,
}

/// The published constants.
pub const CHINCHILLA: ScalingLaw = ScalingLaw {
    irreducible_nats: 1.69,
    parameter_factor: 406.4,
    parameter_exponent: 0.34,
    token_factor: 410.7,
    token_exponent: 0.28,
};

impl ScalingLaw {
    /// Of a model with `parameters` after `tokens`, in nats a token.
    pub fn loss_nats(&self, parameters: f64, tokens: f64) -> f64 {
        self.of_parameters(parameters) + self.token_factor / tokens.powf(self.token_exponent)
    }

    /// After which a model with `parameters` has the loss `loss_nats`; `None` where no number of tokens is enough.
    pub fn tokens(&self, parameters: f64, loss_nats: f64) -> Option<f64> {
        let gap = loss_nats - self.of_parameters(parameters);
        (gap > 0.0).then(|| (self.token_factor / gap).powf(1.0 / self.token_exponent))
    }

    /// With all the tokens there could be.
    fn of_parameters(&self, parameters: f64) -> f64 {
        self.irreducible_nats + self.parameter_factor / parameters.powf(self.parameter_exponent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1.69 + 406.4 / (7e10)^0.34 + 410.7 / (1.4e12)^0.28 = 1.69 + 0.0836 + 0.1633: the loss of Chinchilla itself, 70 billion
    /// parameters and 1.4 trillion tokens.
    #[test]
    fn the_law_gives_chinchillas_loss() {
        let loss = CHINCHILLA.loss_nats(70e9, 1.4e12);
        assert!((loss - 1.937).abs() < 1e-3, "{loss}");
    }

    /// Equation 4: of all models that 6 · N · D operations train, the best has (αA / βB)^(1 / (α + β)) · (ND)^(β / (α + β))
    /// parameters.
    #[test]
    fn the_best_size_of_a_budget_is_the_papers() {
        let product = 1e19;
        let loss = |parameters: f64| CHINCHILLA.loss_nats(parameters, product / parameters);
        let sizes = (0..4000).map(|i| 1e7 * 1.002_f64.powi(i));
        let best = sizes.min_by(|a, b| loss(*a).total_cmp(&loss(*b))).expect("some sizes");
        let expected = (0.34 * 406.4 / (0.28 * 410.7_f64)).powf(1.0 / 0.62) * product.powf(0.28 / 0.62);
        // The grid's step is 0.2 %; the loss is flat at its minimum.
        assert!((best / expected - 1.0).abs() < 5e-3, "{best} {expected}");
    }

    #[test]
    fn tokens_are_the_inverse_of_the_loss() {
        for (parameters, tokens) in [(1e7, 1e9), (3e8, 2e10), (7e9, 1e12)] {
            let found = CHINCHILLA.tokens(parameters, CHINCHILLA.loss_nats(parameters, tokens));
            assert!(found.is_some_and(|found| (found / tokens - 1.0).abs() < 1e-9), "{found:?}");
        }
        assert_eq!(CHINCHILLA.tokens(1e7, 3.0), None, "1.69 + 406.4 / (1e7)^0.34 is 3.4");
    }
}
