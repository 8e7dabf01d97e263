//! Where the gradients of a norm's weight and bias go, on any device.

use dfdx::prelude::*;
use ssprop::ops::batch_norm::{try_batch_norm2d, BatchNorm2DOp, Mode};
use ssprop::ops::group_norm::{try_group_norm, GroupNormOp, Groups};
use ssprop::ops::layer_norm::{try_layer_norm, LayerNormOp};
use ssprop::prelude::{BatchNorm2D, GlobalAvgPool, GroupNorm, LayerNorm, SparseConv2D};
use ssprop::Backend;

use crate::{assert_close, trained};

type Row<D> = Tensor<Rank1<4>, f32, D>;
type Images<D, T = NoneTape> = Tensor<Rank4<3, 4, 5, 6>, f32, D, T>;
type Traced<D> = Images<D, OwnedTape<f32, D>>;
/// Of x, the weight and the bias.
type Norm<D> = fn(Traced<D>, &Row<D>, &Row<D>) -> ssprop::Result<Traced<D>>;

fn norms<D: Backend<f32>>() -> [(&'static str, Norm<D>); 4] {
    [
        ("batch norm", |x, weight, bias| {
            let dev = x.device().clone();
            let (mean, var) = (&mut dev.zeros(), &mut dev.ones());
            let mode = Mode::Train { mean, var };
            try_batch_norm2d(x, None, weight, bias, mode, BatchNorm2DOp::default())
        }),
        ("batch norm, evaluation", |x, weight, bias| {
            let dev = x.device().clone();
            let (mean, var) = (&dev.zeros(), &dev.ones());
            let mode = Mode::Eval { mean, var };
            try_batch_norm2d(x, None, weight, bias, mode, BatchNorm2DOp::default())
        }),
        ("group norm", |x, weight, bias| {
            try_group_norm(x, None, weight, bias, Groups::<2>, GroupNormOp::default())
        }),
        ("layer norm", |x, weight, bias| {
            try_layer_norm(x, weight, bias, LayerNormOp::default())
        }),
    ]
}

/// A tensor that is both weight and bias gets the sum of what two equal ones get.
pub fn one_tensor_gets_both_gradients<D: Backend<f32>>(dev: &D) {
    let x = (0..360u32).map(|i| (i * 7919 % 251) as f32 / 100.0 - 1.0);
    let x: Images<D> = dev.tensor_from_vec(x.collect(), Default::default());
    let row = || -> Row<D> { dev.tensor([0.5, -1.0, 2.0, 0.7]) };
    for (name, norm) in norms::<D>() {
        let gradients = |weight: &Row<D>, bias: &Row<D>| {
            let y = norm(x.leaky_trace(), weight, bias).unwrap();
            let grads = y.square().sum().backward();
            [weight, bias].map(|of| grads.get(of).as_vec())
        };
        let [of_weight, of_bias] = gradients(&row(), &row());
        let pairs = of_weight.iter().zip(&of_bias);
        let sum: Vec<f32> = pairs.map(|(a, b)| a + b).collect();
        let one = row();
        for found in gradients(&one, &one) {
            assert_close(&found, &sum, 1e-5, name);
        }
    }
}

/// A weight or a bias that is trained alone changes as it does beside the other, which stays.
pub fn one_of_both_may_be_trained<D>(dev: &D)
where
    D: Backend<f32> + DeviceBuildExt,
    ssprop::Error: From<D::Err>,
{
    macro_rules! check {
        ($norm:ty) => {{
            type Net = (
                SparseConv2D<1, 8, 3, 1, 1>,
                $norm,
                GlobalAvgPool,
                Linear<8, 2>,
            );
            let model = dev.build_module::<Net, f32>();
            let after = |paths: &[&str]| {
                let norm = trained(dev, model.clone(), paths).1;
                [norm.weight.as_vec(), norm.bias.as_vec()]
            };
            let [[weight, bias], [old_weight, old_bias]] = [after(&["**"]), after(&["3"])];
            let what = stringify!($norm);
            assert!(weight != old_weight && bias != old_bias, "{what}");
            assert_eq!(after(&["1.weight"]), [weight, old_bias], "{what}");
            assert_eq!(after(&["1.bias"]), [old_weight, bias], "{what}");
        }};
    }
    check!(BatchNorm2D<8>);
    check!(GroupNorm<2, 8>);
    check!(LayerNorm<8>);
}
