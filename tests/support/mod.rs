//! What several tests need.

pub(crate) mod batches;
pub(crate) mod devices;
pub(crate) mod distance;
pub(crate) mod files;
pub(crate) mod fixture;
pub(crate) mod interruption;
pub(crate) mod models;
pub(crate) mod numbers;
pub(crate) mod outcome;
pub(crate) mod project;
pub(crate) mod sandbox;
pub(crate) mod server;
pub(crate) mod small_device;
