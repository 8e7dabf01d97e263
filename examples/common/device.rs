//! On which device a network runs.

use ssprop::Error;

/// `--device`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Device {
    /// The processor
    #[default]
    Cpu,
    /// The first NVIDIA GPU: needs the feature `cuda`
    Cuda,
}

/// Calls `$run` with a device, whose type is another for each flag: `on_device!(args.device, args.seed,
/// |dev| run_on(args, dev))`.
#[macro_export]
macro_rules! on_device {
    ($device:expr, $seed:expr, |$dev:ident| $run:expr) => {
        match $device {
            $crate::device::Device::Cpu => {
                let $dev = ssprop::prelude::Cpu::seed_from_u64($seed);
                $run
            }
            #[cfg(feature = "cuda")]
            $crate::device::Device::Cuda => {
                let $dev = ssprop::cuda_device($seed)?;
                $run
            }
            #[cfg(not(feature = "cuda"))]
            $crate::device::Device::Cuda => Err($crate::device::not_built()),
        }
    };
}
/// What to say where there is no CUDA in the program.
pub fn not_built() -> Error {
    let range = "cpu, as this program was built without CUDA (cargo run --features cuda)";
    Error::parameter("--device", "cuda", range)
}
