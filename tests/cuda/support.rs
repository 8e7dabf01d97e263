//! The same computation on both devices, compared.

use dfdx::tensor::Storage;
use ssprop::internals::{HostAccess, Ranking};

/// Runs `$body` with `$dev` on the CPU and on CUDA, where `$D` is the device's type, and compares the named
/// results that it returns: `Vec<(&str, Vec<f32>)>`.
macro_rules! agree {
    ($within:expr, |$dev:ident: $D:ident| $body:block) => {{
        let cpu = {
            #[allow(dead_code)]
            type $D = dfdx::tensor::Cpu;
            let $dev = $D::seed_from_u64(0);
            $body
        };
        let cuda = {
            #[allow(dead_code)]
            type $D = dfdx::tensor::Cuda;
            let $dev = $crate::support::cuda();
            $body
        };
        $crate::support::close($within, &cpu, &cuda);
    }};
}
pub(crate) use agree;

/// The device, with products in full `f32`.
pub fn cuda() -> dfdx::tensor::Cuda {
    ssprop::use_tf32(ssprop::Tf32::Off);
    ssprop::cuda_device(0).unwrap()
}

/// That results differ by at most `within` of the largest.
#[track_caller]
pub fn close(within: f64, cpu: &[(&str, Vec<f32>)], cuda: &[(&str, Vec<f32>)]) {
    assert_eq!(cpu.len(), cuda.len());
    for ((name, cpu), (_, cuda)) in cpu.iter().zip(cuda) {
        assert_eq!(cpu.len(), cuda.len(), "{name}");
        let largest = cpu.iter().fold(0f32, |most, v| most.max(v.abs()));
        for (place, (cpu, cuda)) in cpu.iter().zip(cuda).enumerate() {
            let off = f64::from((cpu - cuda).abs());
            assert!(
                off <= within * f64::from(largest),
                "{name}[{place}]: {cpu} on the CPU, {cuda} on CUDA; the largest is {largest}"
            );
        }
    }
}

/// Values without a pattern, of magnitude 2 at most, the same in every run.
pub fn noise(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 22) as f32 - 2.0
    };
    (0..len + 8).map(|_| next()).skip(8).collect()
}

/// A device's memory.
pub type Memory<D> = <D as Storage<f32>>::Vec;

/// These values on the device.
pub fn upload<D: HostAccess<f32>>(dev: &D, values: &[f32]) -> Memory<D> {
    dev.buffer_from_host(values).unwrap()
}

/// Room for an output: NaN, so that what is not written shows.
pub fn room<D: HostAccess<f32>>(dev: &D, len: usize) -> Memory<D> {
    upload(dev, &vec![f32::NAN; len])
}

/// What is there.
pub fn download<D: HostAccess<f32>>(dev: &D, memory: &Memory<D>) -> Vec<f32> {
    dev.buffer_to_host(memory).unwrap()
}

/// Importances, if there are any.
pub fn on_host<D: Ranking>(importance: Option<D::Importance>) -> Vec<f32> {
    let values = importance.map_or(Vec::new(), |i| D::importance_to_host(i).unwrap());
    values.into_iter().map(|v| v as f32).collect()
}

/// What this thread has asked of the driver so far, as the emulator counts it.
#[cfg(cuda_emulator)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct DriverCalls {
    pub allocations: u64,
    pub frees: u64,
    pub synchronisations: u64,
    pub copies_to_host: u64,
    pub bytes_to_host: u64,
    pub copies_on_device: u64,
    pub launches: u64,
}

#[cfg(cuda_emulator)]
impl DriverCalls {
    pub fn so_far() -> Self {
        extern "C" {
            fn emu_counts_of_thread() -> DriverCalls;
        }
        // SAFETY: tools/cuda-emulator/driver.cpp defines it, with these fields.
        unsafe { emu_counts_of_thread() }
    }

    /// What has been asked for since `before`.
    pub fn since(&self, before: &Self) -> Self {
        Self {
            allocations: self.allocations - before.allocations,
            frees: self.frees - before.frees,
            synchronisations: self.synchronisations - before.synchronisations,
            copies_to_host: self.copies_to_host - before.copies_to_host,
            bytes_to_host: self.bytes_to_host - before.bytes_to_host,
            copies_on_device: self.copies_on_device - before.copies_on_device,
            launches: self.launches - before.launches,
        }
    }

    /// What `f` asks for.
    pub fn of(f: impl FnOnce()) -> Self {
        let before = Self::so_far();
        f();
        Self::so_far().since(&before)
    }
}
