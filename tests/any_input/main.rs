//! No operation and no layer panics at what a user can pass in: empty batches and images, views that
//! are not contiguous, big arrays in the pool's threads. Each case gives a result or an error.
//! `tests/cuda` has the same files on its device.

mod cases;
mod nothing_panics;
mod weights;

use dfdx::prelude::*;
use ssprop::nn::builders as layers;
use ssprop::Error;

type D = Cpu;
const NETWORKS_ARE_SLOW: bool = false;

fn device(seed: u64) -> D {
    Cpu::seed_from_u64(seed)
}

/// Copies its argument, as dfdx's conversions from arrays do.
#[inline(never)]
fn copied<const N: usize>(array: [f32; N]) -> [f32; N] {
    std::hint::black_box(array)
}

#[test]
fn big_arrays_fit_on_the_stacks_of_the_pool() {
    // A batch of 64 images of 3x32x32 is 786 KB, and there are several copies in a call.
    let sum = ssprop::on_threads(Some(2), || {
        let array = copied([1.0; 1 << 20]);
        let tensor = Cpu::default().tensor(array);
        let array: [f32; 1 << 20] = copied(tensor.array());
        array.iter().sum::<f32>()
    });
    assert_eq!(sum.unwrap(), (1 << 20) as f32);
}

#[test]
fn messages_survive_dfdxs_tuples() {
    let dev = Cpu::default();
    type Net = (
        (layers::SiLU, layers::ReLU),
        layers::GlobalAvgPool,
        Linear<3, 2>,
    );
    let mut net = dev.build_module::<Net, f32>();
    let x: Tensor<(usize, Const<3>, usize, usize), f32, _> = dev.zeros_like(&(2, Const, 0, 0));
    for _ in 0..2 {
        let err = net.try_forward(x.clone()).map(drop).unwrap_err();
        let err = Error::from(err).to_string();
        assert!(
            err.contains("global_avg_pool2d") && err.contains("not empty"),
            "{err}"
        );
    }
    let err = net.try_forward_mut(x.leaky_trace()).map(drop).unwrap_err();
    let err = Error::from(err).to_string();
    assert!(err.contains("global_avg_pool2d"), "{err}");

    // A message belongs to one error: another's is not taken for it.
    let lost = net.try_forward(x).map(drop).unwrap_err();
    let fits: Tensor<(usize, Const<3>, usize, usize), f32, _> = dev.zeros_like(&(2, Const, 4, 4));
    net.try_forward(fits).unwrap();
    let found = Error::from(lost).to_string();
    assert!(!found.contains("global_avg_pool2d"), "{found}");
}
