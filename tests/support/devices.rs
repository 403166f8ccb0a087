//! Where the numeric tests run.

use burn::tensor::Device;
use limbeck::device::{DeviceChoice, open};

/// A device of the build.
pub(crate) struct Place {
    /// As `--device` calls it.
    pub(crate) name: &'static str,
    /// Without autodiff.
    pub(crate) device: Device,
    /// Whether it is the CPU, whose sums are known to the last bit, or a GPU or its emulation.
    pub(crate) is_cpu: bool,
}

/// The CPU, and with `--features wgpu` the first adapter too. One that is built but not there fails the test: a machine
/// without a GPU has Mesa's software driver.
pub(crate) fn places() -> anyhow::Result<Vec<Place>> {
    let mut choices = vec![(DeviceChoice::Cpu, "cpu")];
    if cfg!(feature = "wgpu") {
        choices.push((DeviceChoice::Wgpu, "wgpu"));
    }
    let place = |(choice, name)| {
        let device = open(choice).map_err(|failure| anyhow::anyhow!("{name}: {failure:?}"))?;
        Ok(Place { name, device, is_cpu: choice == DeviceChoice::Cpu })
    };
    choices.into_iter().map(place).collect()
}

/// The CPU.
pub(crate) fn cpu() -> Device {
    Device::flex()
}
