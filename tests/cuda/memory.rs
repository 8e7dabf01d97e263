//! Views of CUDA tensors, and where their memory comes from.

use dfdx::prelude::*;
use ssprop::internals::{Buffer, Conv2DKernel, Views};

fn matrix(dev: &Cuda) -> Tensor<Rank2<2, 3>, f32, Cuda> {
    dev.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
}

#[test]
fn views_that_are_not_contiguous_are_refused() {
    let dev = crate::support::cuda();
    let t = matrix(&dev);
    assert!(<Cuda as Views<f32>>::view("test", &t).is_ok());
    let turned = t.clone().permute::<Rank2<3, 2>, _>();
    let err = <Cuda as Views<f32>>::view("test", &turned).unwrap_err();
    let err = err.to_string();
    assert!(err.contains("contiguous"), "{err}");
    let wide: Tensor<Rank3<2, 3, 4>, f32, _> = t.broadcast();
    assert!(<Cuda as Views<f32>>::view("test", &wide).is_err());
}

#[test]
fn shared_memory_is_copied_before_it_is_written() {
    let dev = crate::support::cuda();
    let mut t = matrix(&dev);
    let shared = t.clone();
    Cuda::scale(<Cuda as Views<f32>>::view_mut("test", &mut t).unwrap(), 2.0).unwrap();
    assert_eq!(t.array(), [[2.0, 4.0, 6.0], [8.0, 10.0, 12.0]]);
    assert_eq!(shared.array(), [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]);
}

/// A parameter is written in every step.
#[test]
#[cfg(cuda_emulator)]
fn memory_that_is_not_shared_is_written_without_further_ado() {
    use crate::support::DriverCalls;

    let dev = crate::support::cuda();
    let mut t = matrix(&dev);
    let mut view = || {
        <Cuda as Views<f32>>::view_mut("test", &mut t).unwrap();
    };
    view();
    let calls = DriverCalls::of(view);
    assert_eq!(
        (calls.launches, calls.copies_on_device, calls.allocations),
        (0, 0, 0)
    );
}

#[test]
fn a_pool_hands_out_what_has_come_back() {
    let dev = crate::support::cuda();
    let place = |buffer: &Buffer<f32, Cuda>| format!("{:?}", buffer.view());
    for len in [1, 77_777] {
        let first = Buffer::<f32, Cuda>::take(&dev, len).unwrap();
        let at = place(&first);
        assert_ne!(place(&Buffer::take(&dev, len).unwrap()), at);
        drop(first);
        assert_eq!(place(&Buffer::take(&dev, len).unwrap()), at);
        ssprop::free_buffers();
    }
}

/// One for each of many trainings.
#[test]
#[cfg(cuda_emulator)]
fn devices_that_are_dropped_leave_nothing() {
    use crate::support::DriverCalls;

    let kept: Vec<_> = (0..8)
        .map(|_| {
            let calls = DriverCalls::of(|| {
                let dev = crate::support::cuda();
                drop(dev.build_module::<dfdx::nn::builders::Linear<8, 5>, f32>());
            });
            calls.allocations as i64 - calls.frees as i64
        })
        .collect();
    assert_eq!(kept[2..], [0; 6], "{kept:?}");
}

/// Of many that are in use at once the first ones keep nothing any more.
#[test]
#[cfg(cuda_emulator)]
fn devices_that_live_at_once_leave_nothing() {
    use crate::support::DriverCalls;

    let round = || {
        let calls = DriverCalls::of(|| {
            let made = [(); 7].map(|()| {
                let dev = crate::support::cuda();
                let net = dev.build_module::<dfdx::nn::builders::Linear<8, 5>, f32>();
                (dev, net)
            });
            drop(made);
            ssprop::free_buffers();
        });
        calls.allocations as i64 - calls.frees as i64
    };
    assert_eq!([round(), round(), round()][1..], [0, 0]);
}

#[test]
fn a_seed_gives_the_networks_of_the_cpu() {
    let cuda = ssprop::cuda_device(7).unwrap();
    let cpu = Cpu::seed_from_u64(7);
    let on_cuda = cuda.build_module::<dfdx::nn::builders::Linear<8, 5>, f32>();
    let on_cpu = cpu.build_module::<dfdx::nn::builders::Linear<8, 5>, f32>();
    assert_eq!(on_cuda.weight.array(), on_cpu.weight.array());
}
