//! Training on the grid of an export: the weights that are trained are the ones that ship.

mod gradients;
mod importance;
mod inputs;
mod refused;
mod stages;
