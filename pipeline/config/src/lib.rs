//! All stage configs.

mod model;
mod stage;

pub use model::{Architecture, ModelConfig, ModelSection};
pub use stage::*;
