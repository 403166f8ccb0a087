//! Which vector instructions the loops of this crate use, chosen when the program runs.

use std::sync::OnceLock;

use pulp::{Simd, WithSimd};

/// Overrides the choice: `amx`, `avx512_bf16`, `avx512`, `avx2` or `portable`.
pub const SIMD_VARIABLE: &str = "LIMBECK_SIMD";

/// The instructions that are used.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Level {
    /// AVX-512 with AMX's tiles of 16-bit brain floats.
    #[cfg(target_arch = "x86_64")]
    Amx(pulp::x86::V4),
    /// AVX-512 with products of 16-bit brain floats.
    #[cfg(target_arch = "x86_64")]
    Avx512Bf16(pulp::x86::V4),
    /// AVX-512 F, BW, CD, DQ and VL.
    #[cfg(target_arch = "x86_64")]
    Avx512(pulp::x86::V4),
    /// AVX2 and FMA.
    #[cfg(target_arch = "x86_64")]
    Avx2(pulp::x86::V3),
    /// What `pulp` has for the target: NEON on aarch64, SSE2 on x86-64.
    Portable,
}

/// The level of this process.
pub(crate) fn level() -> Level {
    static LEVEL: OnceLock<Level> = OnceLock::new();
    *LEVEL.get_or_init(|| forced().ok().flatten().unwrap_or_else(|| best(available())))
}

/// The name of the instructions that the CPU's operators use.
///
/// # Errors
/// If `LIMBECK_SIMD` names a level that is not one, or that this processor lacks.
pub fn simd_level() -> Result<&'static str, String> {
    Ok(forced()?.unwrap_or_else(|| best(available())).name())
}

/// The names that `LIMBECK_SIMD` may have on this processor, best first.
pub fn simd_levels() -> Vec<&'static str> {
    available().into_iter().map(Level::name).collect()
}

/// Whether the processor has instructions for products of 16-bit brain floats.
pub(crate) fn multiplies_bf16_faster() -> bool {
    match level() {
        #[cfg(target_arch = "x86_64")]
        Level::Amx(_) | Level::Avx512Bf16(_) => true,
        #[cfg(target_arch = "x86_64")]
        Level::Avx512(_) | Level::Avx2(_) => false,
        Level::Portable => false,
    }
}

fn forced() -> Result<Option<Level>, String> {
    let Ok(name) = std::env::var(SIMD_VARIABLE) else { return Ok(None) };
    let found = available().into_iter().find(|level| level.name() == name);
    found.map(Some).ok_or_else(|| {
        let names = simd_levels().join(", ");
        format!("{SIMD_VARIABLE} is `{name}`, must be one of those that this processor has: {names}; hint: unset it")
    })
}

/// The levels of this processor, best first.
pub(crate) fn available() -> Vec<Level> {
    let mut levels = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        let v4 = pulp::x86::V4::try_new();
        if std::arch::is_x86_feature_detected!("avx512bf16") {
            if crate::gemm::amx_available() {
                levels.extend(v4.map(Level::Amx));
            }
            levels.extend(v4.map(Level::Avx512Bf16));
        }
        levels.extend(v4.map(Level::Avx512));
        levels.extend(pulp::x86::V3::try_new().map(Level::Avx2));
    }
    levels.push(Level::Portable);
    levels
}

fn best(levels: Vec<Level>) -> Level {
    levels.first().copied().unwrap_or(Level::Portable)
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            #[cfg(target_arch = "x86_64")]
            Level::Amx(_) => "amx",
            #[cfg(target_arch = "x86_64")]
            Level::Avx512Bf16(_) => "avx512_bf16",
            #[cfg(target_arch = "x86_64")]
            Level::Avx512(_) => "avx512",
            #[cfg(target_arch = "x86_64")]
            Level::Avx2(_) => "avx2",
            Level::Portable => "portable",
        }
    }

    /// Runs `operation` compiled for the level. Everything that it calls must be `#[inline(always)]`.
    #[inline(always)]
    pub(crate) fn run<Operation: WithSimd>(self, operation: Operation) -> Operation::Output {
        match self {
            #[cfg(target_arch = "x86_64")]
            Level::Amx(simd) | Level::Avx512Bf16(simd) | Level::Avx512(simd) => Simd::vectorize(simd, operation),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2(simd) => Simd::vectorize(simd, operation),
            #[cfg(target_arch = "x86_64")]
            Level::Portable => Simd::vectorize(pulp::Scalar128b, operation),
            #[cfg(not(target_arch = "x86_64"))]
            Level::Portable => pulp::Arch::new().dispatch(operation),
        }
    }
}

/// Runs `work` compiled for the level of this process: loops in it become vector instructions. Everything that it
/// calls must be `#[inline(always)]`.
#[inline(always)]
pub(crate) fn vectorized<R>(work: impl FnOnce() -> R) -> R {
    level().run(Closure(work))
}

struct Closure<F>(F);

impl<R, F: FnOnce() -> R> WithSimd for Closure<F> {
    type Output = R;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) -> R {
        (self.0)()
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// In processes of their own, for a process has one level. Where the variable is set, this is such a process.
    #[test]
    fn every_level_passes_the_tests_of_this_crate() {
        if std::env::var_os(SIMD_VARIABLE).is_some() {
            return;
        }
        let tests = std::env::current_exe().unwrap();
        for level in simd_levels() {
            // What measures the machine must be alone on it.
            let arguments = ["--skip", "peak", "--skip", "bandwidth"];
            let output = Command::new(&tests).env(SIMD_VARIABLE, level).args(arguments).output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && !said.contains(" 0 passed"), "{level}: {said}");
        }
    }
}
