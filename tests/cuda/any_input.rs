//! What users can pass in on the CPU (`tests/any_input`), on this device.

type D = dfdx::tensor::Cuda;
const NETWORKS_ARE_SLOW: bool = cfg!(cuda_emulator);

fn device(seed: u64) -> D {
    ssprop::use_tf32(ssprop::Tf32::Off);
    ssprop::cuda_device(seed).unwrap()
}

#[path = "../any_input/cases.rs"]
mod cases;
#[path = "../any_input/nothing_panics.rs"]
mod nothing_panics;
#[path = "../any_input/weights.rs"]
mod weights;
