//! Weights and statistics that are views give what their copies give, on the parent module's device.

use dfdx::prelude::*;
use ssprop::nn::builders as layers;
use ssprop::ops::batch_norm::{try_batch_norm2d, BatchNorm2DOp, Mode};
use ssprop::ops::conv2d::{conv2d, Window};
use ssprop::ops::group_norm::{try_group_norm, GroupNormOp, Groups};
use ssprop::ops::linear;
use ssprop::Error;

use super::cases::{sparse, values, Images, C};
use super::nothing_panics::run;
use super::{device, D};

#[test]
fn weights_that_are_views() {
    let mut panics = Vec::new();
    let dev = device(9);
    let x: Images = dev.sample_normal_like(&(2, Const, 8, 8));
    // dW of a turned weight is that of its copy, read in its order.
    let turned: Tensor<Rank4<6, 4, 3, 3>, f32, _> = dev
        .sample_normal::<Rank4<6, 4, 3, 3>>()
        .permute::<_, Axes4<0, 1, 3, 2>>();
    let bias: Tensor<Rank1<6>, f32, _> = dev.tensor(0.5).broadcast();
    let conv = |weight: &Tensor<Rank4<6, 4, 3, 3>, f32, D>| {
        let y = conv2d(
            x.leaky_trace(),
            weight,
            Some(&bias),
            Window::<1, 1>,
            sparse(),
        )?;
        let y_found = y.as_vec();
        let grads = y.square().mean().try_backward()?;
        Ok::<_, Error>((y_found, grads.get(weight).as_vec()))
    };
    let copied = turned.clone().contiguous();
    if let Some(found) = run("weight of a convolution".into(), &mut panics, || {
        conv(&turned)
    }) {
        assert_eq!(found.unwrap(), conv(&copied).unwrap());
    }

    let mut layer = dev.build_module::<layers::SparseConv2D<4, 6, 3, 1, 1>, f32>();
    let turned = layer.weight.clone().permute::<_, Axes4<0, 1, 3, 2>>();
    layer.weight = turned.clone().contiguous();
    let expected = layer.forward(x.clone()).as_vec();
    layer.weight = turned;
    let found = run("forward of a layer".into(), &mut panics, || {
        layer.forward(x.clone()).as_vec()
    });
    assert!(found.is_none_or(|found| found == expected));

    let turned: Tensor<Rank2<5, 4>, f32, _> = dev.sample_normal::<Rank2<4, 5>>().permute();
    let rows: Tensor<(usize, Const<4>), f32, _> = dev.sample_normal_like(&(3, Const));
    let linear_of = |weight: &Tensor<Rank2<5, 4>, f32, D>| {
        let bias: Tensor<Rank1<5>, f32, _> = dev.tensor(0.5).broadcast();
        let y = linear::linear(rows.leaky_trace(), weight, Some(&bias), sparse(), None)?;
        let y_found = y.as_vec();
        let grads = y.square().mean().try_backward()?;
        Ok::<_, Error>((y_found, grads.get(weight).as_vec()))
    };
    let copied = turned.clone().contiguous();
    if let Some(found) = run("weight of a linear layer".into(), &mut panics, || {
        linear_of(&turned)
    }) {
        assert_eq!(found.unwrap(), linear_of(&copied).unwrap());
    }

    // Every parameter and statistic of the norms.
    let all: fn(&D) -> Tensor<Rank1<C>, f32, D> = |dev| dev.tensor(0.75).broadcast();
    let norm = |number: fn(&D) -> Tensor<Rank1<C>, f32, D>, training: bool| {
        let (weight, bias) = (number(&dev), number(&dev));
        let (mut mean, mut var) = (number(&dev), number(&dev));
        let mode = match training {
            true => Mode::Train {
                mean: &mut mean,
                var: &mut var,
            },
            false => Mode::Eval {
                mean: &mean,
                var: &var,
            },
        };
        let op = BatchNorm2DOp::default();
        let y = try_batch_norm2d(x.leaky_trace(), None, &weight, &bias, mode, op)?;
        let y_found = y.as_vec();
        let grads = y.square().mean().try_backward()?;
        Ok::<_, Error>((y_found, grads.get(&x).as_vec(), mean.as_vec(), var.as_vec()))
    };
    for training in [true, false] {
        let name = format!("numbers of a batch norm, training: {training}");
        if let Some(found) = run(name, &mut panics, || norm(all, training)) {
            let copies: fn(&D) -> Tensor<Rank1<C>, f32, D> = |dev| dev.tensor([0.75; C]);
            assert_eq!(found.unwrap(), norm(copies, training).unwrap());
        }
    }
    let group = |number: fn(&D) -> Tensor<Rank1<C>, f32, D>| {
        let (weight, bias) = (number(&dev), number(&dev));
        let shift: Tensor<(usize, Const<C>), f32, _> =
            number(&dev).broadcast_like::<_, Axis<0>>(&(2, Const));
        let op = GroupNormOp::default();
        let x = x.leaky_trace();
        try_group_norm(x, Some(shift.retaped()), &weight, &bias, Groups::<2>, op)
            .map(|y| values(&y))
    };
    if let Some(found) = run("numbers of a group norm".into(), &mut panics, || group(all)) {
        assert_eq!(found.unwrap(), group(|dev| dev.tensor([0.75; C])).unwrap());
    }
    assert!(panics.is_empty(), "\n{}", panics.join("\n"));
}
