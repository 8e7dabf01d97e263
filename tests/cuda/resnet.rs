//! ResNet-18 against the CPU's numbers in f64: in f32 the CPU's own gradient is 2e-3 of its largest element
//! away from these.

use ssprop::prelude::*;

use crate::networks::classes;
use crate::support::noise;

/// The gradient of the first convolution's weight, which every other layer's backward pass has a part in, of images that
/// are not one pixel in any layer.
macro_rules! first_gradient {
    ($net:expr, $dev:expr, $E:ty, $D:ty) => {{
        let x: Vec<$E> = noise(729, 1).into_iter().map(|v| v as $E).collect();
        let x: Tensor<Rank4<3, 3, 9, 9>, $E, $D> = $dev.tensor_from_vec(x, Default::default());
        let target: Vec<$E> = classes(3, 10).into_iter().map(|v| v as $E).collect();
        let target: Tensor<Rank2<3, 10>, $E, $D> = $dev.tensor_from_vec(target, Default::default());
        let logits = $net.try_forward_mut(x.trace($net.alloc_grads())).unwrap();
        let grads = cross_entropy_with_logits_loss(logits, target).backward();
        let gradient = grads.get(&$net.conv1.weight).as_vec();
        gradient.into_iter().map(|v| v as f64).collect::<Vec<f64>>()
    }};
}

macro_rules! check {
    ($set:expr) => {{
        let set: fn(&mut dyn VisitLayers) = $set;
        let cpu = Cpu::seed_from_u64(0);
        let mut exact = cpu.build_module::<ResNet18<10>, f32>().to_dtype::<f64>();
        let cuda = crate::support::cuda();
        let mut net = cuda.build_module::<ResNet18<10>, f32>();
        set(&mut exact);
        set(&mut net);
        let expected = first_gradient!(exact, cpu, f64, Cpu);
        let found = first_gradient!(net, cuda, f32, Cuda);
        let largest = expected.iter().fold(0f64, |most, v| most.max(v.abs()));
        for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
            let off = (found - expected).abs();
            assert!(off < 1e-5 * largest, "{i}: {found}, not {expected}");
        }
    }};
}

#[test]
fn resnet18() {
    check!(|_| ());
}

/// Which channels are kept depends on no rounding.
#[test]
fn resnet18_with_channels_drawn_at_random() {
    check!(|net| {
        net.set_drop_rate(DropRate::new(0.8).unwrap());
        net.set_selection(Selection::Random {
            seed: 3,
            rescale: false,
        });
    });
}
