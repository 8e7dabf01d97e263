//! Steps of Adam on many tensors by few launches.

use std::cell::RefCell;

use super::launch::{launch_struct, Grid};
use super::ADAM;
use crate::error::Result;

/// Tensors of a launch, as adam.cu has it: a kernel's parameters have 4096 bytes at most.
const TENSORS: usize = 48;
/// Elements that a block takes, as adam.cu has it.
const CHUNK: usize = 4096;

/// One tensor's step (`struct Tensor` of adam.cu).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C)]
pub struct AdamTensor {
    /// The addresses of the weights, of their two moments and of their gradient.
    pub addresses: [u64; 4],
    /// lr / (1 - beta1^t)
    pub step_size: f64,
    /// 1 / sqrt(1 - beta2^t)
    pub inv_sqrt_correction2: f64,
    /// What the weights are decayed by.
    pub decay: f64,
    /// 0 for no decay, 1 for an L2 term of the gradient, 2 for a factor of the weights.
    pub decay_kind: i32,
    /// Elements.
    pub len: u32,
    /// The first block that takes some of them: set by [`add_adam`].
    pub first_block: u32,
}

/// What is the same for all of them (`struct Common` of adam.cu).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C)]
pub struct AdamCommon {
    /// 1 - beta1
    pub one_minus_beta1: f64,
    /// beta2
    pub beta2: f64,
    /// 1 - beta2
    pub one_minus_beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// What gradients are multiplied by.
    pub grad_scale: f64,
    /// Whether to leave zeros in the gradients.
    pub zero_grad: i32,
    /// Whether weights whose gradient is 0 stay as they are.
    pub lazy: i32,
}

/// The parameter of the kernel.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct Steps {
    common: AdamCommon,
    tensors: [AdamTensor; TENSORS],
    count: u32,
}

/// Steps that wait for others.
#[derive(Debug)]
struct Pending {
    kernel: &'static str,
    device: i32,
    steps: Steps,
    blocks: usize,
}

thread_local! {
    static PENDING: RefCell<Option<Pending>> = const { RefCell::new(None) };
}

/// Adds a step by `kernel` to those that [`launch_adam`] launches. The addresses have to be those of `len` elements each,
/// which stay until then: neither the compiler nor the driver can tell.
///
/// # Errors
/// Those of a launch, if there are too many, or other ones.
pub fn add_adam(
    kernel: &'static str,
    device: i32,
    common: &AdamCommon,
    tensor: AdamTensor,
) -> Result<()> {
    let fits = |pending: &Pending| {
        pending.kernel == kernel
            && pending.device == device
            && pending.steps.common == *common
            && (pending.steps.count as usize) < TENSORS
            // One tensor by two names: one step after the other.
            && pending.steps.tensors[..pending.steps.count as usize].iter().all(|other| {
                other.addresses.iter().all(|at| !tensor.addresses.contains(at))
            })
    };
    if !PENDING.with_borrow(|pending| pending.as_ref().is_none_or(fits)) {
        launch_adam()?;
    }
    PENDING.with_borrow_mut(|pending| {
        let pending = pending.get_or_insert_with(|| Pending {
            kernel,
            device,
            steps: Steps {
                common: *common,
                tensors: [AdamTensor::default(); TENSORS],
                count: 0,
            },
            blocks: 0,
        });
        let at = pending.steps.count as usize;
        pending.steps.tensors[at] = AdamTensor {
            first_block: pending.blocks as u32,
            ..tensor
        };
        pending.steps.count += 1;
        pending.blocks += (tensor.len as usize).div_ceil(CHUNK);
    });
    Ok(())
}

/// Forgets the steps that have been added on this thread: those of an update that ended by a panic.
pub fn forget_adam() {
    PENDING.take();
}

/// Launches the steps that have been added on this thread.
///
/// # Errors
/// [`Error::Device`](crate::Error::Device) if the driver refuses.
pub fn launch_adam() -> Result<()> {
    let Some(mut pending) = PENDING.take() else {
        return Ok(());
    };
    let grid = Grid::blocks(pending.blocks, 256);
    launch_struct(
        &ADAM,
        pending.kernel,
        pending.device,
        grid,
        &mut pending.steps,
    )
}
