//! Which grid each matrix of a model is stored in.

use std::fmt;

use crate::Grid;

/// Where a matrix stands in a decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The embedding of a model whose output weights are others.
    Embedding,
    /// The output weights, which are the embedding where they are tied.
    Output,
    /// Values and down projection of the first and the last eighth of the blocks and of every third between: what llama.cpp's
    /// mixes keep more bits of (`use_more_bits`).
    Sensitive,
    /// Every other matrix of a block.
    Block,
}

impl Place {
    /// The place of `name`, a Hugging Face name such as `model.layers.3.mlp.down_proj.weight`, in a model of that many blocks.
    pub fn of(name: &str, blocks: usize, tied: bool) -> Self {
        match name {
            "lm_head.weight" => Self::Output,
            "model.embed_tokens.weight" if tied => Self::Output,
            "model.embed_tokens.weight" => Self::Embedding,
            _ if is_sensitive(name, blocks) => Self::Sensitive,
            _ => Self::Block,
        }
    }
}

fn is_sensitive(name: &str, blocks: usize) -> bool {
    let Some((block, matrix)) = name.strip_prefix("model.layers.").and_then(|rest| rest.split_once('.')) else {
        return false;
    };
    let Ok(block) = block.parse::<usize>() else { return false };
    let eighth = blocks / 8;
    let more = block < eighth || block >= 7 * blocks / 8 || (block - eighth) % 3 == 2;
    more && ["self_attn.v_proj.weight", "mlp.down_proj.weight"].contains(&matrix)
}

/// The grids of a model's matrices, by their places. Vectors, which are norms and biases, are always F32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// Of [`Place::Block`].
    pub blocks: Grid,
    /// Of [`Place::Sensitive`].
    pub sensitive: Grid,
    /// Of [`Place::Embedding`].
    pub embedding: Grid,
    /// Of [`Place::Output`].
    pub output: Grid,
}

impl Recipe {
    /// One grid for every matrix.
    pub const fn uniform(grid: Grid) -> Self {
        Self { blocks: grid, sensitive: grid, embedding: grid, output: grid }
    }

    /// The recipe with another grid for the output weights.
    pub const fn with_output(self, output: Grid) -> Self {
        Self { output, ..self }
    }

    /// How a matrix with rows of `row_size` values is stored there.
    pub fn stored(self, place: Place, row_size: usize) -> Stored {
        let wanted = match place {
            Place::Embedding => self.embedding,
            Place::Output => self.output,
            Place::Sensitive => self.sensitive,
            Place::Block => self.blocks,
        };
        Stored { wanted, grid: wanted.fitting(row_size), row_size }
    }
}

/// How a matrix is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stored {
    /// What the recipe says.
    pub wanted: Grid,
    /// The same, or another grid where rows are not whole blocks: see [`Grid::fitting`].
    pub grid: Grid,
    /// Values in a row.
    pub row_size: usize,
}

impl Stored {
    /// Whether it is stored in another grid than the recipe's.
    pub fn falls_back(self) -> bool {
        self.grid != self.wanted
    }
}

impl fmt::Display for Stored {
    /// `F16, not Q4_0: its rows of 48 values are not whole blocks of 32`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { wanted, grid, row_size } = self;
        if !self.falls_back() {
            return write!(formatter, "{grid}");
        }
        let size = wanted.block_size();
        write!(formatter, "{grid}, not {wanted}: its rows of {row_size} values are not whole blocks of {size}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIX: Recipe = Recipe { blocks: Grid::Q4K, sensitive: Grid::Q6K, embedding: Grid::Q4K, output: Grid::Q6K };

    /// The blocks whose down projection has 6 bits in files that llama.cpp's own quantizer made of models with as many.
    #[test]
    fn the_sensitive_blocks_are_llama_cpps() {
        let sensitive = |blocks: usize| {
            let place = |block: &usize| Place::of(&format!("model.layers.{block}.mlp.down_proj.weight"), blocks, true);
            (0..blocks).filter(|block| place(block) == Place::Sensitive).collect::<Vec<_>>()
        };
        assert_eq!(sensitive(8), [0, 3, 6, 7]);
        assert_eq!(sensitive(32), [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31]);
    }

    #[test]
    fn a_tied_embedding_is_the_output() {
        let grids = |tied: bool| {
            let names = [
                "model.embed_tokens.weight",
                "lm_head.weight",
                "model.layers.0.self_attn.v_proj.weight",
                "model.layers.0.self_attn.q_proj.weight",
            ];
            names.map(|name| MIX.stored(Place::of(name, 8, tied), 512).grid)
        };
        assert_eq!(grids(true)[0], Grid::Q6K);
        assert_eq!(grids(false), [Grid::Q4K, Grid::Q6K, Grid::Q6K, Grid::Q4K]);
    }

    #[test]
    fn rows_that_do_not_fit_fall_back_as_llama_cpps_do() {
        let wanted = [Grid::Q4K, Grid::Q5K, Grid::Q6K, Grid::Q4_0, Grid::Q8_0];
        assert_eq!(wanted.map(|grid| grid.fitting(512)), wanted);
        let shorter = [Grid::Q5_0, Grid::Q5_1, Grid::Q8_0, Grid::Q4_0, Grid::Q8_0];
        assert_eq!(wanted.map(|grid| grid.fitting(96)), shorter);
        assert_eq!(wanted.map(|grid| grid.fitting(30)), [Grid::F16; 5]);
        let stored = Recipe::uniform(Grid::Q4_0).stored(Place::Block, 48);
        assert_eq!(stored.to_string(), "F16, not Q4_0: its rows of 48 values are not whole blocks of 32");
    }
}
