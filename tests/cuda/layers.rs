//! Norms, pools and attention as layers, behind a convolution that wants to know its channels' importance.

use ssprop::ops::attention::{try_attention, Heads, Triple};
use ssprop::ops::batch_norm::Activation;
use ssprop::ops::group_norm;
use ssprop::prelude::*;

use crate::support::{agree, noise};

type Images<D> = Tensor<Rank4<3, 5, 9, 8>, f32, D>;

fn images<D: ssprop::Backend<f32>>(dev: &D) -> Images<D> {
    dev.tensor_from_vec(noise(1080, 1), Default::default())
}

#[test]
fn batch_norm_trains_and_infers() {
    agree!(1e-4, |dev: D| {
        let mut conv = dev.build_module::<SparseConv2D<5, 12, 3, 1, 1>, f32>();
        conv.set_drop_rate(DropRate::new(0.5).unwrap());
        let mut bn = dev.build_module::<BatchNorm2D<12>, f32>();
        let x = images(&dev);
        let y = conv.try_apply(x.leaky_trace()).unwrap();
        // Its own residual: the gradient comes on two ways.
        let residual = y.with_empty_tape();
        let y = bn.try_train(y, Some(residual), Activation::ReLU).unwrap();
        let mut found = vec![("y", y.as_vec())];
        let y = bn.try_train(y, None, Activation::ReLU).unwrap();
        let grads = y.square().mean().backward();
        found.extend([
            ("dx", grads.get(&x).as_vec()),
            ("conv's weight", grads.get(&conv.weight).as_vec()),
            ("weight", grads.get(&bn.weight).as_vec()),
            ("bias", grads.get(&bn.bias).as_vec()),
            ("running mean", bn.running_mean.as_vec()),
            ("running variance", bn.running_var.as_vec()),
        ]);

        let y = conv.try_apply(x.leaky_trace()).unwrap();
        let residual = y.with_empty_tape();
        let y = bn.try_eval(y, Some(residual), Activation::ReLU).unwrap();
        found.push(("y of running statistics", y.as_vec()));
        let grads = y.square().mean().backward();
        found.extend([
            ("dx of running statistics", grads.get(&x).as_vec()),
            (
                "weight of running statistics",
                grads.get(&bn.weight).as_vec(),
            ),
        ]);
        found
    });
}

#[test]
fn group_norm_attention_and_pools() {
    agree!(1e-4, |dev: D| {
        let mut conv = dev.build_module::<BiasedSparseConv2D<5, 12, 3, 1, 1>, f32>();
        conv.set_drop_rate(DropRate::new(0.5).unwrap());
        let mut norm = dev.build_module::<GroupNorm<2, 12>, f32>();
        norm.weight.copy_from(&noise(12, 2));
        norm.bias.copy_from(&noise(12, 3));
        let x = images(&dev);
        let shift: Tensor<Rank2<3, 12>, f32, D> =
            dev.tensor_from_vec(noise(36, 4), Default::default());

        let y = conv.try_apply(x.leaky_trace()).unwrap();
        let y = norm
            .try_apply(y, Some(shift.leaky_trace()), group_norm::Activation::SiLU)
            .unwrap();
        let shape = (3usize, Triple::<4>, 9usize, 8usize);
        let y = y.try_reshape_like(&shape).unwrap();
        let y = try_attention(y, Heads::<2>).unwrap();
        let mut found = vec![("attention", y.as_vec())];
        let y = MaxPool2D::<3, 2, 1>.forward(y);
        found.push(("maxima", y.as_vec()));
        let y = AvgPool2D::<2, 1>.forward(y);
        found.push(("averages", y.as_vec()));
        let y = GlobalAvgPool.forward(y);
        found.push(("pooled", y.as_vec()));

        let grads = y.square().mean().backward();
        found.extend([
            ("dx", grads.get(&x).as_vec()),
            ("shift", grads.get(&shift).as_vec()),
            ("conv's weight", grads.get(&conv.weight).as_vec()),
            ("weight", grads.get(&norm.weight).as_vec()),
            ("bias", grads.get(&norm.bias).as_vec()),
        ]);
        found
    });
}
