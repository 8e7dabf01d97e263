//! No operation and no layer panics at what a user can pass in: empty batches and images, views that
//! are not contiguous, big arrays in the pool's threads. Each case gives a result or an error.

use std::panic::{catch_unwind, AssertUnwindSafe};

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
use ssprop::prelude::{CelebAUNet, Cnn, DropRate, MnistUNet, ResNet18, Selection, MLP};
use ssprop::sparsity::Masking;
use ssprop::{Error, Result};

const C: usize = 4;
/// (B, C, H, W), of sizes known at run time.
type Sizes = (usize, Const<C>, usize, usize);
type Images<T = NoneTape> = Tensor<Sizes, f32, Cpu, T>;
type Traced = Images<OwnedTape<f32, Cpu>>;

/// What an operation makes of its input: its output, and the input's gradient if there is one.
type Found = (Vec<f32>, Vec<f32>);

/// Ends a forward pass with a loss that takes empty tensors, and goes back.
fn back<S: Shape>(
    x: &Images,
    y: Result<Tensor<S, f32, Cpu, OwnedTape<f32, Cpu>>>,
) -> Result<Found> {
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
fn values<S: Shape, T>(x: &Tensor<S, f32, Cpu, T>) -> Vec<f32> {
    match x.shape().num_elements() {
        0 => Vec::new(),
        _ => x.as_vec(),
    }
}

type Case = (&'static str, Box<dyn Fn(&Images, Traced) -> Result<Found>>);

fn sparse() -> SparseBackward {
    SparseBackward {
        drop_rate: DropRate::new(0.5).unwrap(),
        ..SparseBackward::default()
    }
}

/// Every operation and layer that takes images of any size.
fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    macro_rules! case {
        ($name:expr, |$x:ident, $dev:ident| $y:expr) => {
            cases.push((
                $name,
                Box::new(|input: &Images, $x: Traced| {
                    #[allow(unused)]
                    let $dev = Cpu::seed_from_u64(1);
                    back(input, $y)
                }),
            ));
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
    case!("ResNet18", |x, dev| {
        let mut net = dev.build_module::<ResNet18<3, 4>, f32>();
        net.conv1.backward.input_gradient = true;
        net.try_forward_mut(x)
    });
    case!("U-Net", |x, dev| {
        let mut net = dev.build_module::<MnistUNet<4>, f32>();
        net.input_blocks.conv.0.backward.input_gradient = true;
        let timesteps = dev.ones_like(&(x.shape().0,));
        net.try_apply(x, &timesteps)
    });
    cases
}

fn images(shape: [usize; 3]) -> Images {
    Cpu::seed_from_u64(7).sample_normal_like(&(shape[0], Const, shape[1], shape[2]))
}

/// Where the last panic was.
static PLACE: std::sync::Mutex<Option<String>> = std::sync::Mutex::new(None);

/// Runs what may panic; the panics' messages are collected.
fn run<T>(name: String, panics: &mut Vec<String>, f: impl FnOnce() -> T) -> Option<T> {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|info| {
        *PLACE.lock().unwrap() = info.location().map(ToString::to_string);
    }));
    let found = catch_unwind(AssertUnwindSafe(f));
    std::panic::set_hook(hook);
    found
        .map_err(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
            let place = PLACE.lock().unwrap().take().unwrap_or_default();
            panics.push(format!("{name}: {} at {place}", text.unwrap_or_default()));
        })
        .ok()
}

// One test, since the panic hook is the process's.
#[test]
fn nothing_panics() {
    let mut panics = Vec::new();
    empty_batches_of_networks(&mut panics);
    empty_images(&mut panics);
    views(&mut panics);
    assert!(panics.is_empty(), "\n{}", panics.join("\n"));
}

fn empty_images(panics: &mut Vec<String>) {
    let sizes = [
        [0, 6, 6],
        [2, 0, 6],
        [2, 6, 0],
        [2, 0, 0],
        [0, 0, 0],
        [1, 1, 1],
        [2, 1, 1],
        [2, 8, 8],
    ];
    for (name, case) in cases() {
        for size in sizes {
            let x = images(size);
            let at = format!("{name} of {size:?}");
            let Some(found) = run(at.clone(), panics, || case(&x, x.leaky_trace())) else {
                continue;
            };
            match found {
                Ok((_, dx)) => assert_eq!(dx.len(), x.shape().num_elements(), "{at}"),
                Err(err) => {
                    let text = err.to_string();
                    // A whole error, and none for images that are not empty.
                    assert!(!text.contains("WrongNumElements"), "{at}: {text}");
                    let small = size.contains(&0) || size[1] == 1;
                    assert!(small, "{at}: {text}");
                }
            }
        }
    }
}

/// A view gives what its copy gives.
fn views(panics: &mut Vec<String>) {
    let whole = images([2, 8, 8]);
    for (name, case) in cases() {
        let turned: Images = whole.clone().permute::<_, Axes4<0, 1, 3, 2>>();
        let copied: Images = turned.clone().contiguous();
        let Some(Ok(expected)) = run(name.into(), panics, || case(&copied, copied.leaky_trace()))
        else {
            panics.push(format!("{name}: no result of a copy"));
            continue;
        };
        let found = run(format!("{name}, turned"), panics, || {
            case(&turned, turned.leaky_trace())
        });
        if let Some(found) = found {
            let found = found.unwrap();
            assert!(found.0 == expected.0, "{name}, turned");
            assert!(found.1 == expected.1, "{name}, turned: gradient");
        }

        // dfdx's own copy panics at an empty view.
        let none: Images = images([0, 8, 8]).permute::<_, Axes4<0, 1, 3, 2>>();
        run(format!("{name}, turned and empty"), panics, || {
            case(&none, none.leaky_trace())
        });

        let row: Tensor<(Const<C>,), f32, _> = Cpu::seed_from_u64(2).sample_normal();
        let wide: Images = row.broadcast_like::<_, Axes3<0, 2, 3>>(&(2, Const, 8, 8));
        let copied = wide.clone().contiguous();
        let expected = run(name.into(), panics, || case(&copied, copied.leaky_trace()));
        let found = run(format!("{name}, broadcast"), panics, || {
            case(&wide, wide.leaky_trace())
        });
        if let (Some(Ok(expected)), Some(found)) = (expected, found) {
            assert!(found.unwrap().0 == expected.0, "{name}, broadcast");
        }
    }
    weights_that_are_views(panics);
}

fn weights_that_are_views(panics: &mut Vec<String>) {
    let dev = Cpu::seed_from_u64(9);
    let x = images([2, 8, 8]);
    // dW of a turned weight is that of its copy, read in its order.
    let turned: Tensor<Rank4<6, 4, 3, 3>, f32, _> = dev
        .sample_normal::<Rank4<6, 4, 3, 3>>()
        .permute::<_, Axes4<0, 1, 3, 2>>();
    let bias: Tensor<Rank1<6>, f32, _> = dev.tensor(0.5).broadcast();
    let conv = |weight: &Tensor<Rank4<6, 4, 3, 3>, f32, Cpu>| {
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
    if let Some(found) = run("weight of a convolution".into(), panics, || conv(&turned)) {
        assert_eq!(found.unwrap(), conv(&copied).unwrap());
    }

    let mut layer = dev.build_module::<layers::SparseConv2D<4, 6, 3, 1, 1>, f32>();
    let turned = layer.weight.clone().permute::<_, Axes4<0, 1, 3, 2>>();
    layer.weight = turned.clone().contiguous();
    let expected = layer.forward(x.clone()).as_vec();
    layer.weight = turned;
    let found = run("forward of a layer".into(), panics, || {
        layer.forward(x.clone()).as_vec()
    });
    assert!(found.is_none_or(|found| found == expected));

    let turned: Tensor<Rank2<5, 4>, f32, _> = dev.sample_normal::<Rank2<4, 5>>().permute();
    let rows: Tensor<(usize, Const<4>), f32, _> = dev.sample_normal_like(&(3, Const));
    let linear_of = |weight: &Tensor<Rank2<5, 4>, f32, Cpu>| {
        let bias: Tensor<Rank1<5>, f32, _> = dev.tensor(0.5).broadcast();
        let y = linear::linear(rows.leaky_trace(), weight, Some(&bias), sparse(), None)?;
        let y_found = y.as_vec();
        let grads = y.square().mean().try_backward()?;
        Ok::<_, Error>((y_found, grads.get(weight).as_vec()))
    };
    let copied = turned.clone().contiguous();
    if let Some(found) = run("weight of a linear layer".into(), panics, || {
        linear_of(&turned)
    }) {
        assert_eq!(found.unwrap(), linear_of(&copied).unwrap());
    }

    // Every parameter and statistic of the norms.
    let all: fn(&Cpu) -> Tensor<Rank1<C>, f32, Cpu> = |dev| dev.tensor(0.75).broadcast();
    let norm = |number: fn(&Cpu) -> Tensor<Rank1<C>, f32, Cpu>, training: bool| {
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
        if let Some(found) = run(name, panics, || norm(all, training)) {
            let copies: fn(&Cpu) -> Tensor<Rank1<C>, f32, Cpu> = |dev| dev.tensor([0.75; C]);
            assert_eq!(found.unwrap(), norm(copies, training).unwrap());
        }
    }
    let group = |number: fn(&Cpu) -> Tensor<Rank1<C>, f32, Cpu>| {
        let (weight, bias) = (number(&dev), number(&dev));
        let shift: Tensor<(usize, Const<C>), f32, _> =
            number(&dev).broadcast_like::<_, Axis<0>>(&(2, Const));
        let op = GroupNormOp::default();
        let x = x.leaky_trace();
        try_group_norm(x, Some(shift.retaped()), &weight, &bias, Groups::<2>, op)
            .map(|y| values(&y))
    };
    if let Some(found) = run("numbers of a group norm".into(), panics, || group(all)) {
        assert_eq!(found.unwrap(), group(|dev| dev.tensor([0.75; C])).unwrap());
    }
}

fn empty_batches_of_networks(panics: &mut Vec<String>) {
    let dev = Cpu::seed_from_u64(1);
    macro_rules! network {
        ($net:ty, $c:literal, $size:literal) => {
            let name = stringify!($net);
            let found = run(name.into(), panics, || {
                let mut net = dev.build_module::<$net, f32>();
                let x: Tensor<(usize, Const<$c>, Const<$size>, Const<$size>), f32, _> =
                    dev.zeros_like(&(0, Const, Const, Const));
                net.try_forward_mut(x.leaky_trace())
                    .map(|y| values(&y))
                    .map_err(Error::from)
            });
            match found {
                Some(Ok(logits)) => assert!(logits.is_empty()),
                Some(Err(err)) => assert!(!err.to_string().contains("WrongNum"), "{name}: {err}"),
                None => (),
            }
        };
    }
    network!(MLP<10, 784, 32, 1>, 1, 28);
    network!(Cnn<2, 10, 1>, 1, 28);
    network!(
        (
            layers::SparseConv2D<3, 4, 3, 1, 1>,
            layers::Flatten<256>,
            layers::SparseLinear<256, 2>
        ),
        3,
        8
    );
    run("ResNet18, evaluation".into(), panics, || {
        let net = dev.build_module::<ResNet18<10>, f32>();
        let x: Tensor<(usize, Const<3>, Const<8>, Const<8>), f32, _> =
            dev.zeros_like(&(0, Const, Const, Const));
        assert!(values(&net.try_forward(x).unwrap()).is_empty());
    });
    run("CelebAUNet".into(), panics, || {
        let net = dev.build_module::<CelebAUNet, f32>();
        let x: Tensor<(usize, Const<3>, Const<64>, Const<64>), f32, _> =
            dev.zeros_like(&(0, Const, Const, Const));
        let timesteps = dev.zeros_like(&(0,));
        net.try_apply(x, &timesteps)
            .map(|y| assert!(values(&y).is_empty()))
    });
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
