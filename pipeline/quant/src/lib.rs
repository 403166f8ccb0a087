//! The number grids that exported weights live on, and their bytes in a GGUF file.
//!
//! ```text
//! rows of f32 ── Grid::encode ──▶ blocks along the row ── Grid::decode ──▶ rows of f32, all on the grid
//! ```
//!
//! [`Grid`] names a grid. A matrix is stored row by row, a row being the *input* dimension of a linear layer, and only
//! a row's own values share a scale. The floats, Q8_0 and Q4_0 are this crate's; the others are candle's. Decoded
//! values are those of the `gguf` Python package 0.19.0, bit for bit, and so are encoded bytes where that package
//! encodes; values that a grid cannot hold are refused, where it writes infinities. [`AffineGrid`] names a grid of MLX;
//! its words, scales and biases are those of the `mlx` package 0.32.4.
//!
//! [`Recipe`] says which matrix of a model gets which grid: the export asks it, and so does a training for that export.
//! [`Grid::encode_for`] is for models that were not trained so, and knows what each column meets.
//!
//! ```
//! use limbeck_quant::Grid;
//!
//! let row: Vec<f32> = (0..32).map(|index| index as f32 - 16.0).collect();
//! let bytes = Grid::Q8_0.encode(&row, 32)?;
//! assert_eq!(bytes.len(), 34); // one scale of 2 bytes, 32 codes of 1 byte
//! let decoded = Grid::Q8_0.decode(&bytes, 32)?;
//! assert!(row.iter().zip(&decoded).all(|(value, on_grid)| (value - on_grid).abs() < 0.07));
//! # Ok::<(), limbeck_quant::QuantError>(())
//! ```

mod affine;
mod candle;
mod error;
mod float;
mod grid;
mod q4_0;
mod q4_0_weighted;
mod q8_0;
mod recipe;
mod tasks;

pub use affine::{AffineGrid, AffineRows};
pub use error::QuantError;
pub use grid::Grid;
pub use recipe::{Place, Recipe, Stored};

/// Values that share one scale in the block grids: ggml's `QK8_0`, `QK4_0` and `QK4_1`. Those of K-quants have 256.
pub const BLOCK_SIZE: usize = 32;
