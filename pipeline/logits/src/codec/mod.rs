//! What is kept of one position.

pub(crate) mod random_sampling;
pub(crate) mod top_k;
