//! `--device`: the one place that names backends.

use burn::tensor::Device;
use clap::ValueEnum;
use limbeck_config::Precision;
use limbeck_train::say;

use crate::failure::Failure;

/// Where to compute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum DeviceChoice {
    /// The best that the build has and the machine offers.
    #[default]
    Auto,
    /// The processor: in every build.
    Cpu,
    /// Any GPU through WGSL; feature `wgpu`.
    Wgpu,
    /// A GPU through Vulkan and SPIR-V; feature `vulkan`.
    Vulkan,
    /// An Apple GPU; feature `metal`.
    Metal,
    /// An NVIDIA GPU; feature `cuda`.
    Cuda,
}

/// The arithmetic of a training on `device`: what `key` says, else what the device does best. Says which on stderr.
///
/// # Errors
/// If the device does not have what `key` says.
pub fn precision(key: &str, named: Option<Precision>, device: &Device) -> Result<Precision, Failure> {
    let has = |precision: &Precision| limbeck_kernels::multiplies(device, of_products(*precision));
    if let Some(named) = named.filter(|named| !has(named)) {
        let names: Vec<_> =
            PRECISIONS.into_iter().filter(has).map(|precision| format!("`{}`", precision.name())).collect();
        return Err(Failure::usage(anyhow::anyhow!(
            "{key} is `{}`, must be {} on this device; hint: leave it out, and the device chooses",
            named.name(),
            names.join(" or ")
        )));
    }
    let fastest = limbeck_kernels::fastest_precision(device);
    let fastest = PRECISIONS.into_iter().find(|precision| of_products(*precision) == fastest);
    let precision = named.or(fastest).unwrap_or(Precision::Fp32);
    let name = precision.name();
    say!("precision: {name} ({})", if named.is_some() { key } else { "the fastest of this device" });
    Ok(precision)
}

const PRECISIONS: [Precision; 3] = [Precision::Fp32, Precision::Bf16, Precision::Fp16];

/// The precision of the products of such a training.
pub fn of_products(precision: Precision) -> limbeck_kernels::Precision {
    match precision {
        Precision::Fp32 => limbeck_kernels::Precision::Fp32,
        Precision::Bf16 => limbeck_kernels::Precision::Bf16,
        Precision::Fp16 => limbeck_kernels::Precision::Fp16,
    }
}

/// The device of `choice`, without autodiff. Says on stderr which one `auto` took and why.
///
/// # Errors
/// If the build lacks the device's feature, or the machine the device, or `LIMBECK_SIMD` names what there is not.
pub fn open(choice: DeviceChoice) -> Result<Device, Failure> {
    limbeck_kernels::simd_level().map_err(|error| Failure::usage(anyhow::anyhow!(error)))?;
    if choice == DeviceChoice::Auto {
        return Ok(automatic());
    }
    match candidate(choice) {
        Candidate::Found(device) => Ok(device),
        Candidate::Missing => Err(Failure::usage(anyhow::anyhow!(
            "--device is `{}`, but this machine shows no such device; hint: install its driver, or use `--device cpu`",
            name(choice)
        ))),
        Candidate::NotBuilt => Err(Failure::usage(anyhow::anyhow!(
            "--device is `{0}`, but this build has no such backend; hint: build with `--features {0}`, or use \
             `--device cpu`",
            name(choice)
        ))),
    }
}

/// The first GPU that is there, else the processor.
fn automatic() -> Device {
    let mut built = Vec::new();
    for choice in [DeviceChoice::Cuda, DeviceChoice::Metal, DeviceChoice::Vulkan, DeviceChoice::Wgpu] {
        match candidate(choice) {
            Candidate::Found(device) => {
                say!("device: {} (the fastest backend of this build that this machine offers)", name(choice));
                return device;
            }
            Candidate::Missing => built.push(name(choice)),
            Candidate::NotBuilt => {}
        }
    }
    if built.is_empty() {
        say!("device: cpu (this build has no GPU backend; `--features vulkan`, `metal` or `wgpu` adds one)");
    } else {
        say!("device: cpu (no GPU found for {})", built.join(", "));
    }
    Device::flex()
}

enum Candidate {
    Found(Device),
    #[cfg_attr(
        not(any(feature = "wgpu", feature = "cuda")),
        expect(dead_code, reason = "a build without GPUs has nothing to miss")
    )]
    Missing,
    NotBuilt,
}

fn candidate(choice: DeviceChoice) -> Candidate {
    match choice {
        DeviceChoice::Auto | DeviceChoice::Cpu => Candidate::Found(Device::flex()),
        #[cfg(feature = "wgpu")]
        DeviceChoice::Wgpu => gpu(burn::tensor::DeviceType::Wgpu, Device::wgpu),
        #[cfg(feature = "vulkan")]
        DeviceChoice::Vulkan => gpu(burn::tensor::DeviceType::Vulkan, Device::vulkan),
        #[cfg(feature = "metal")]
        DeviceChoice::Metal => gpu(burn::tensor::DeviceType::Metal, Device::metal),
        #[cfg(feature = "cuda")]
        DeviceChoice::Cuda => match Device::enumerate(burn::tensor::DeviceType::Cuda).is_empty() {
            true => Candidate::Missing,
            false => Candidate::Found(Device::cuda(0)),
        },
        #[allow(unreachable_patterns, reason = "unreachable in a build with every backend")]
        _ => Candidate::NotBuilt,
    }
}

#[cfg(feature = "wgpu")]
fn gpu(kind: burn::tensor::DeviceType, open: fn(burn::tensor::DeviceKind) -> Device) -> Candidate {
    if Device::enumerate(kind).is_empty() {
        return Candidate::Missing;
    }
    Candidate::Found(open(burn::tensor::DeviceKind::DefaultDevice))
}

/// What a report calls `device`.
pub fn describe(device: &Device) -> String {
    if *device == Device::flex() { name(DeviceChoice::Cpu).to_owned() } else { format!("{device:?}") }
}

fn name(choice: DeviceChoice) -> &'static str {
    match choice {
        DeviceChoice::Auto => "auto",
        DeviceChoice::Cpu => "cpu",
        DeviceChoice::Wgpu => "wgpu",
        DeviceChoice::Vulkan => "vulkan",
        DeviceChoice::Metal => "metal",
        DeviceChoice::Cuda => "cuda",
    }
}
