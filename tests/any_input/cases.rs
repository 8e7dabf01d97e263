//! What takes images of any size, on the parent module's device: each forward and back.

use dfdx::prelude::*;
use ssprop::nn::builders as layers;
use ssprop::ops::attention::{try_attention, try_attention_by_kind, Heads, Triple};
use ssprop::ops::batch_norm::{try_batch_norm2d, Activation, BatchNorm2DOp, Mode};
use ssprop::ops::conv2d::{conv2d, Window};
use ssprop::ops::distance::{try_distance, Distance};
use ssprop::ops::dropout::{try_dropout, DropoutMask};
use ssprop::ops::group_norm::{self, try_group_norm, GroupNormOp, Groups};
use ssprop::ops::position_embedding::try_position_embedding;
use ssprop::ops::SparseBackward;
use ssprop::ops::{add, add_relu, concat, gelu, linear, pool, relu, silu, upsample};
use ssprop::prelude::{DropRate, MnistUNet, ResNet18, Selection};
use ssprop::sparsity::Masking;
use ssprop::{Error, Result};

use super::{device, D};

pub const C: usize = 4;
/// (B, C, H, W), of sizes known at run time.
type Sizes = (usize, Const<C>, usize, usize);
pub type Images<T = NoneTape> = Tensor<Sizes, f32, D, T>;
type Traced = Images<OwnedTape<f32, D>>;

/// What an operation makes of its input: its output, and the input's gradient if there is one.
type Found = (Vec<f32>, Vec<f32>);

/// Ends a forward pass with a loss that takes empty tensors, and goes back.
fn back<S: Shape>(x: &Images, y: Result<Tensor<S, f32, D, OwnedTape<f32, D>>>) -> Result<Found> {
    let y = y?;
    let out = values(&y);
    assert_eq!(out.len(), y.shape().num_elements());
    let target = x.device().try_ones_like(y.shape())?;
    let loss = try_distance(Distance::L2, y, target)?;
    assert!(loss.array().is_finite());
    let grads = loss.try_backward()?;
    Ok((out, values(&grads.get(x))))
}

/// dfdx's `as_vec` looks at the first element of an empty tensor.
pub fn values<S: Shape, T>(x: &Tensor<S, f32, D, T>) -> Vec<f32> {
    match x.shape().num_elements() {
        0 => Vec::new(),
        _ => x.as_vec(),
    }
}

pub type Case = (&'static str, Box<dyn Fn(&Images, Traced) -> Result<Found>>);

pub fn sparse() -> SparseBackward {
    SparseBackward {
        drop_rate: DropRate::new(0.5).unwrap(),
        ..SparseBackward::default()
    }
}

/// Adds to `$cases` what `$y` makes of `$x` with parameters of `$dev`.
macro_rules! add_case {
    ($cases:ident, $name:expr, |$x:ident, $dev:ident| $y:expr) => {
        $cases.push((
            $name,
            Box::new(|input: &Images, $x: Traced| {
                #[allow(unused)]
                let $dev = device(1);
                back(input, $y)
            }),
        ));
    };
}

/// Every operation and layer that takes images of any size.
pub fn operations_and_layers() -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    macro_rules! case {
        ($($case:tt)*) => {
            add_case!(cases, $($case)*);
        };
    }
    macro_rules! layer {
        ($name:expr, $layer:ty) => {
            case!($name, |x, dev| {
                let layer = dev.build_module::<$layer, f32>();
                layer.try_forward(x).map_err(Error::from)
            });
        };
    }
    case!("add", |x, dev| {
        let other = x.retaped::<NoneTape>();
        add::try_add(x, other)
    });
    case!("add_relu", |x, dev| {
        let other = x.retaped::<NoneTape>();
        add_relu::try_add_relu(x, other)
    });
    case!("relu", |x, dev| relu::try_relu(x));
    case!("silu", |x, dev| silu::try_silu(x));
    case!("gelu", |x, dev| gelu::try_gelu(x));
    case!("dropout", |x, dev| try_dropout(
        x,
        DropoutMask::new(0.5, 3)?
    ));
    case!("upsample", |x, dev| {
        let to = (2 * x.shape().2, 2 * x.shape().3);
        upsample::try_upsample_nearest2d(x, to)
    });
    case!("concat", |x, dev| {
        let other = x.retaped::<NoneTape>();
        concat::try_concat_channels(x, other, Const::<{ 2 * C }>)
    });
    macro_rules! conv {
        ($name:expr, $out:literal, $in:literal, $k:literal, $window:ty, $backward:expr) => {
            case!($name, |x, dev| {
                let weight: Tensor<Rank4<$out, $in, $k, $k>, f32, _> = dev.sample_normal();
                let bias: Tensor<Rank1<$out>, f32, _> = dev.sample_normal();
                conv2d(x, &weight, Some(&bias), <$window>::default(), $backward)
            });
        };
    }
    conv!("conv 3x3", 6, 4, 3, Window<1, 1>, SparseBackward::default());
    conv!("conv 3x3 sparse", 6, 4, 3, Window<1, 1>, sparse());
    conv!("conv 3x3 stride", 6, 4, 3, Window<2, 1>, sparse());
    conv!("conv 1x1", 6, 4, 1, Window<1, 0>, sparse());
    conv!("conv 2x2 padded", 6, 4, 2, Window<1, 1>, sparse());
    conv!("conv groups", 6, 2, 3, Window<1, 1, 1, 2>, sparse());
    conv!("conv depthwise", 4, 1, 3, Window<1, 1, 1, 4>, sparse());
    conv!("conv positions", 6, 4, 3, Window<1, 1>, SparseBackward {
        masking: Masking::Positions,
        ..sparse()
    });
    conv!("conv elements", 6, 4, 3, Window<1, 1>, SparseBackward {
        masking: Masking::Elements,
        ..sparse()
    });
    conv!("conv random", 6, 4, 3, Window<1, 1>, SparseBackward {
        selection: Selection::Random { seed: 3, rescale: true },
        ..sparse()
    });
    conv!("conv only dW sparse", 6, 4, 3, Window<1, 1>, SparseBackward {
        only_weight_sparse: true,
        ..sparse()
    });
    case!("batch norm, training", |x, dev| {
        let (weight, bias) = (dev.ones(), dev.zeros());
        let (mean, var) = (&mut dev.zeros(), &mut dev.ones());
        let mode = Mode::Train { mean, var };
        try_batch_norm2d(x, None, &weight, &bias, mode, BatchNorm2DOp::default())
    });
    case!("batch norm, evaluation", |x, dev| {
        let (weight, bias) = (dev.ones(), dev.zeros());
        let (mean, var) = (&dev.zeros(), &dev.ones());
        let mode = Mode::Eval { mean, var };
        try_batch_norm2d(x, None, &weight, &bias, mode, BatchNorm2DOp::default())
    });
    case!("batch norm, sum, ReLU", |x, dev| {
        let (weight, bias) = (dev.ones(), dev.zeros());
        let (mean, var) = (&mut dev.zeros(), &mut dev.ones());
        let mode = Mode::Train { mean, var };
        let op = BatchNorm2DOp {
            activation: Activation::ReLU,
            ..Default::default()
        };
        let residual = Some(x.with_empty_tape());
        try_batch_norm2d(x, residual, &weight, &bias, mode, op)
    });
    case!("group norm", |x, dev| {
        let (weight, bias) = (dev.ones(), dev.zeros());
        try_group_norm(x, None, &weight, &bias, Groups::<2>, GroupNormOp::default())
    });
    case!("group norm, shift, SiLU", |x, dev| {
        let (weight, bias) = (dev.ones(), dev.zeros());
        let shift: Tensor<(usize, Const<C>), f32, _> = dev.ones_like(&(x.shape().0, Const));
        let op = GroupNormOp {
            activation: group_norm::Activation::SiLU,
            ..Default::default()
        };
        try_group_norm(x, Some(shift.retaped()), &weight, &bias, Groups::<2>, op)
    });
    case!("attention", |x, dev| {
        let to_triple = dev.build_module::<layers::PointwiseConv1D<Const<C>, Triple<C>>, f32>();
        let qkv = to_triple.try_apply(x)?;
        try_attention(qkv, Heads::<2>)
    });
    case!("attention by kind", |x, dev| {
        let to_triple = dev.build_module::<layers::PointwiseConv1D<Const<C>, Triple<C>>, f32>();
        let qkv = to_triple.try_apply(x)?;
        try_attention_by_kind(qkv, Heads::<2>)
    });
    case!("position embedding", |x, dev| {
        let positions = x.shape().2 * x.shape().3;
        let embedding = dev.ones_like(&(Const::<1>, positions, Const::<C>));
        try_position_embedding(x, &embedding)
    });
    case!("max pool 2x2", |x, dev| pool::try_max_pool2d(
        x,
        pool::Pool2D::<2, 2, 0>
    ));
    case!("max pool 2x2 padded", |x, dev| pool::try_max_pool2d(
        x,
        pool::Pool2D::<2, 1, 1>
    ));
    case!("max pool 3x3 padded", |x, dev| pool::try_max_pool2d(
        x,
        pool::Pool2D::<3, 2, 1>
    ));
    case!("average pool 2x2", |x, dev| pool::try_avg_pool2d(
        x,
        pool::Pool2D::<2, 2, 0>
    ));
    case!("average pool 2x2 padded", |x, dev| {
        pool::try_avg_pool2d(x, pool::Pool2D::<2, 1, 1>)
    });
    case!("global average pool", |x, dev| pool::try_global_avg_pool2d(
        x
    ));

    layer!("layer: conv", layers::SparseConv2D<4, 6, 3, 1, 1>);
    layer!("layer: conv with bias", layers::BiasedSparseConv2D<4, 6, 3, 2, 1>);
    layer!("layer: group norm", layers::GroupNorm<2, 4>);
    layer!("layer: layer norm", layers::LayerNorm<4>);
    case!("layer: position-wise linear", |x, dev| {
        let mut linear =
            dev.build_module::<layers::SparsePositionwiseLinear<Const<4>, Const<6>>, f32>();
        linear.backward = sparse();
        linear.try_apply(x)
    });
    layer!("layer: attention", layers::AttentionBlock<2, 2, 4>);
    layer!(
        "layer: pointwise",
        layers::PointwiseConv1D<Const<4>, Const<6>>
    );
    layer!("layer: max pool", layers::MaxPool2D<2, 2>);
    layer!("layer: average pool", layers::AvgPool2D<2, 2>);
    layer!("layer: global average pool", layers::GlobalAvgPool);
    layer!("layer: ReLU", layers::ReLU);
    layer!("layer: SiLU", layers::SiLU);
    layer!("layer: GELU", layers::GELU);
    case!("layer: batch norm", |x, dev| {
        let mut norm = dev.build_module::<layers::BatchNorm2D<4>, f32>();
        norm.try_forward_mut(x).map_err(Error::from)
    });
    case!("layer: linear after a pool", |x, dev| {
        let x = pool::try_global_avg_pool2d(x)?;
        let mut net = dev.build_module::<layers::SparseLinear<4, 6>, f32>();
        net.backward = sparse();
        net.try_forward(x).map_err(Error::from)
    });
    case!("linear without a bias", |x, dev| {
        let x = pool::try_global_avg_pool2d(x)?;
        let weight: Tensor<Rank2<5, C>, f32, _> = dev.sample_normal();
        linear::linear(x, &weight, None, sparse(), None)
    });
    cases
}

/// Networks of images of any size.
pub fn networks() -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    add_case!(cases, "ResNet18", |x, dev| {
        let mut net = dev.build_module::<ResNet18<3, 4>, f32>();
        net.conv1.backward.input_gradient = true;
        net.try_forward_mut(x)
    });
    add_case!(cases, "U-Net", |x, dev| {
        let mut net = dev.build_module::<MnistUNet<4>, f32>();
        net.input_blocks.conv.0.backward.input_gradient = true;
        let timesteps = dev.ones_like(&(x.shape().0,));
        net.try_apply(x, &timesteps)
    });
    cases
}
