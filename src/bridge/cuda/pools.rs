//! The pools of CUDA devices: a thread's own, as CUDA tensors stay on their thread.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};

use dfdx::shapes::Shape;
use dfdx::tensor::{Cache, Cuda, Tensor};
use dfdx::tensor_ops::ReshapeTo;

use super::start::start;
use crate::bridge::cuda::calls::{free_uploads, free_workspaces, launch, Grid, ADD};
use crate::bridge::pool::{Pooling, Pools};
use crate::bridge::view::Views;
use crate::error::{Error, Result};
use crate::kernels::args::Fill;

/// What a thread keeps of a device. Small buffers too: even those cost a call of the driver and a memset.
struct OfDevice {
    pools: Pools<f32, Cuda>,
    /// Its cache of freed tensors is off.
    device: Option<Cuda>,
    /// The last ones of the program, whose caches are on.
    caching: VecDeque<Cuda>,
    /// The smallest workspace for which there was no room.
    refused: Option<usize>,
}

/// Devices of a program whose caches are known. Who makes one for each of many trainings drops the others.
const MOST_CACHING: usize = 4;

thread_local! {
    static DEVICES: RefCell<BTreeMap<i32, OfDevice>> = const { RefCell::new(BTreeMap::new()) };
}

fn with_device<R>(dev: &Cuda, f: impl FnOnce(&mut OfDevice) -> R) -> R {
    // A device that cannot be told is refused by every view; until then any pool will do.
    let number = start(dev).unwrap_or(-1);
    DEVICES.with_borrow_mut(|devices| {
        f(devices.entry(number).or_insert_with(|| OfDevice {
            pools: Pools::new(1),
            device: match number {
                0.. => Cuda::try_build(number as usize, 0).ok(),
                _ => None,
            },
            caching: VecDeque::new(),
            refused: None,
        }))
    })
}

/// Has dfdx keep the memory of tensors that it frees for the next ones of their size. All that it allocates in a
/// training step has the sizes of the step before.
pub(super) fn keep_freed_tensors(dev: &Cuda) -> Result<()> {
    dev.try_enable_cache().map_err(Error::device)?;
    let (earlier, oldest) = with_device(dev, |device| {
        let is_full = device.caching.len() == MOST_CACHING;
        let oldest = is_full.then(|| device.caching.pop_front()).flatten();
        let earlier = device.caching.clone();
        device.caching.push_back(dev.clone());
        (earlier, oldest)
    });
    // What is in their caches no other device uses. Where it cannot be freed it stays.
    for dev in earlier {
        let _ = dev.try_empty_cache();
    }
    // Nobody would empty its cache any more.
    if let Some(dev) = oldest {
        let _ = dev.try_disable_cache();
    }
    Ok(())
}

/// Whether there was no room for a workspace of `len` elements, after what was idle had been freed, and nothing has been
/// freed since.
pub(super) fn is_refused(device: i32, len: usize) -> bool {
    let refused = DEVICES.with_borrow(|devices| devices.get(&device)?.refused);
    refused.is_some_and(|refused| len >= refused)
}

/// Notes that there is no room for such a workspace.
pub(super) fn refuse(device: i32, len: usize) {
    DEVICES.with_borrow_mut(|devices| {
        if let Some(device) = devices.get_mut(&device) {
            device.refused = Some(len);
        }
    });
}

impl Pooling<f32> for Cuda {
    fn with_pools<R>(&self, f: impl FnOnce(&mut Pools<f32, Cuda>) -> R) -> R {
        with_device(self, |device| f(&mut device.pools))
    }

    /// What dfdx keeps, and the workspaces, make room too.
    fn with_room<V>(&self, allocate: impl Fn() -> Result<V>) -> Result<V> {
        allocate().or_else(|_| {
            free_cuda_buffers();
            allocate()
        })
    }

    fn pool_device(&self) -> Cuda {
        with_device(self, |device| device.device.clone()).unwrap_or_else(|| self.clone())
    }

    fn reshape<S: Shape, To: Shape>(
        tensor: Tensor<S, f32, Cuda>,
        to: To,
    ) -> Result<Tensor<To, f32, Cuda>> {
        tensor.try_reshape_like(&to).map_err(Error::device)
    }

    fn copy_elements<S: Shape>(
        from: &Tensor<S, f32, Cuda>,
        to: &mut Tensor<S, f32, Cuda>,
    ) -> Result<()> {
        let from = Self::view("copy", from)?;
        let to = Self::view_new("copy", to)?;
        let (n, device) = (from.len(), from.device());
        let args = [from.into(), (&to).into(), n.into(), Fill::Overwrite.into()];
        launch(&ADD, "add_backward", device, Grid::elements(n), &args)
    }
}

/// Frees what this thread's pools and workspaces keep of CUDA devices.
pub fn free_cuda_buffers() {
    let freed: Vec<_> = DEVICES.with_borrow_mut(|devices| {
        let devices = devices.values_mut();
        devices
            .map(|device| {
                device.refused = None;
                (device.pools.clear(), device.caching.clone())
            })
            .collect()
    });
    for (pooled, caching) in freed {
        drop(pooled);
        // What cannot be freed stays where it is.
        caching.iter().for_each(|dev| {
            let _ = dev.try_empty_cache();
        });
    }
    free_workspaces();
    free_uploads();
}
