//! Group normalisation of images.

use dfdx::dtypes::Dtype;
use dfdx::nn::{
    BuildModule, BuildOnDevice, Module, ModuleVisitor, NonMutableModule, TensorCollection,
    TensorOptions,
};
use dfdx::shapes::{Const, Dim, Rank1};
use dfdx::tensor::{Storage, Tape, Tensor};
use dfdx::tensor_ops::Device;

use super::plain_layer::plain_layer;
use crate::backend::Backend;
use crate::bridge::Hidden;
use crate::error::{Error, Result};
use crate::ops::group_norm::{group_norm_hidden, Activation, GroupNormOp, Groups};

/// The description of the layer.
pub mod builder {
    /// Describes a [group normalisation](crate::nn::modules::GroupNorm) of `C` channels in `G`
    /// groups.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct GroupNorm<const G: usize, const C: usize>;
}

/// Group normalisation of images with `C` channels in `G` groups of neighbours ([Wu and He,
/// 2018](https://arxiv.org/abs/1803.08494)): y = weight (x - mean) / sqrt(var + eps) + bias, with
/// the statistics of a group of one image.
///
/// It does the same in training and in inference. [`try_apply`](Self::try_apply) does the SiLU that
/// follows it in a U-Net in the same pass, and the sum with the timestep's embedding before it.
///
/// The tensors have PyTorch's names in a checkpoint. `eps` is not part of it, and goes back to its
/// default where dfdx rebuilds the module (`to_device`, `to_dtype`). That `G` divides `C` is checked
/// at compile time.
///
/// ```
/// use dfdx::prelude::*;
/// use ssprop::nn::builders::GroupNorm;
/// use ssprop::ops::group_norm::Activation;
///
/// let dev = Cpu::default();
/// let norm = dev.build_module::<GroupNorm<2, 6>, f32>();
/// let x: Tensor<Rank4<4, 6, 8, 8>, f32, _> = dev.sample_normal();
/// let y = norm.try_apply(x.leaky_trace(), None, Activation::SiLU)?;
/// let grads = y.square().mean().backward();
/// assert!(grads.get(&norm.weight).array().iter().all(|&g| g > 0.0));
/// let _ = norm.forward(x);
/// # Ok::<(), ssprop::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct GroupNorm<const G: usize, const C: usize, E: Dtype, D: Storage<E>> {
    /// The scale of each channel. Ones at first.
    pub weight: Tensor<Rank1<C>, E, D>,
    /// Added to each channel. Zeros at first.
    pub bias: Tensor<Rank1<C>, E, D>,
    /// Added to the variance before the square root is taken. 1e-5 at first.
    pub eps: f64,
}

impl<const G: usize, const C: usize, E: Dtype, D: Backend<E>> GroupNorm<G, C, E, D> {
    /// f(norm(x + shift)), where the shift is one number for each image and channel, f being the
    /// `activation`. A shift without a tape gets one by `retaped`.
    ///
    /// # Errors
    /// As [`try_group_norm`](crate::ops::group_norm::try_group_norm).
    pub fn try_apply<B: Dim, H: Dim, W: Dim, T: Tape<E, D>>(
        &self,
        x: Tensor<(B, Const<C>, H, W), E, D, T>,
        shift: Option<Tensor<(B, Const<C>), E, D, T>>,
        activation: Activation,
    ) -> Result<Tensor<(B, Const<C>, H, W), E, D, T>> {
        let y = self.apply_hidden(x.into(), shift.map(Hidden::from), activation)?;
        y.into_tensor()
    }

    pub(crate) fn apply_hidden<B: Dim, H: Dim, W: Dim, T: Tape<E, D>>(
        &self,
        x: Hidden<(B, Const<C>, H, W), E, D, T>,
        shift: Option<Hidden<(B, Const<C>), E, D, T>>,
        activation: Activation,
    ) -> Result<Hidden<(B, Const<C>, H, W), E, D, T>> {
        let op = GroupNormOp {
            eps: self.eps,
            activation,
        };
        group_norm_hidden(x, shift, &self.weight, &self.bias, Groups::<G>, op)
    }
}

impl<const G: usize, const C: usize, B: Dim, H: Dim, W: Dim, E, D, T>
    Module<Tensor<(B, Const<C>, H, W), E, D, T>> for GroupNorm<G, C, E, D>
where
    E: Dtype,
    D: Backend<E>,
    T: Tape<E, D>,
{
    type Output = Tensor<(B, Const<C>, H, W), E, D, T>;
    type Error = D::Err;

    /// Without an activation.
    fn try_forward(&self, x: Tensor<(B, Const<C>, H, W), E, D, T>) -> Result<Self::Output, D::Err> {
        self.try_apply(x, None, Activation::Identity)
            .map_err(D::device_error)
    }
}

impl<const G: usize, const C: usize, E: Dtype, D: Storage<E>> NonMutableModule
    for GroupNorm<G, C, E, D>
{
}

impl<const G: usize, const C: usize, E: Dtype, D: Device<E>> BuildOnDevice<D, E>
    for builder::GroupNorm<G, C>
where
    GroupNorm<G, C, E, D>: BuildModule<D, E>,
{
    type Built = GroupNorm<G, C, E, D>;
}

impl<const G: usize, const C: usize, E: Dtype, D: Device<E>> TensorCollection<E, D>
    for GroupNorm<G, C, E, D>
{
    type To<E2: Dtype, D2: Device<E2>> = GroupNorm<G, C, E2, D2>;

    fn iter_tensors<V: ModuleVisitor<Self, E, D>>(
        visitor: &mut V,
    ) -> Result<Option<Self::To<V::E2, V::D2>>, V::Err> {
        visitor.visit_fields(
            (
                Self::tensor(
                    "weight",
                    |m| &m.weight,
                    |m| &mut m.weight,
                    TensorOptions::reset_to_ones(),
                ),
                Self::tensor(
                    "bias",
                    |m| &m.bias,
                    |m| &mut m.bias,
                    TensorOptions::reset_to_zeros(),
                ),
            ),
            |(weight, bias)| GroupNorm {
                weight,
                bias,
                eps: GroupNormOp::default().eps,
            },
        )
    }
}

plain_layer!([const G: usize, const C: usize, E: Dtype, D: Storage<E>] GroupNorm<G, C, E, D>: |x| match x[0] {
    c if c != C => Err(Error::shape("group norm", "input channels", C, c)),
    _ => Ok(x),
});

#[cfg(test)]
mod tests {
    use dfdx::prelude::*;

    use crate::nn::{builders, BackwardCost, ModelCost, VisitLayers};
    use crate::ops::group_norm::Activation;
    use crate::ops::silu::try_silu;

    type Net = (builders::SparseConv2D<3, 6, 3>, builders::GroupNorm<2, 6>);

    #[test]
    fn chains_with_other_layers_and_every_parameter_gets_a_gradient() {
        let dev = Cpu::default();
        let mut net = dev.build_module::<Net, f32>();
        let (mut sparse, mut dropout) = (0, 0);
        net.visit_sparse(&mut |_| sparse += 1);
        net.visit_dropout(&mut |_| dropout += 1);
        assert_eq!((sparse, dropout), (1, 0));

        let x: Tensor<Rank4<4, 3, 8, 8>, f32, _> = dev.sample_normal();
        let y = net.forward(x.trace(net.alloc_grads()));
        let weights: Tensor<Rank4<4, 6, 6, 6>, f32, _> = dev.sample_normal();
        let grads = (y * weights).sum::<Rank0, _>().backward();
        let all = |g: Vec<f32>| g.iter().all(|&g| g != 0.0);
        assert!(all(grads.get(&net.0.weight).as_vec()));
        assert!(all(grads.get(&net.1.weight).as_vec()));
        assert!(all(grads.get(&net.1.bias).as_vec()));
    }

    #[test]
    fn fused_forms_equal_the_layers_one_after_the_other() {
        let dev = Cpu::default();
        let mut norm = dev.build_module::<builders::GroupNorm<2, 4>, f64>();
        norm.weight = dev.sample_normal();
        norm.bias = dev.sample_normal();
        norm.eps = 0.1;
        let x: Tensor<Rank4<3, 4, 5, 5>, f64, _> = dev.sample_normal();
        let s: Tensor<Rank2<3, 4>, f64, _> = dev.sample_normal();
        let fused = norm.try_apply(x.leaky_trace(), Some(s.leaky_trace()), Activation::SiLU);
        let fused = fused.unwrap();
        let shifted = s.leaky_trace().broadcast::<Rank4<3, 4, 5, 5>, _>() + x.clone();
        let apart = try_silu(norm.forward(shifted)).unwrap();
        let close = |a: Vec<f64>, b: Vec<f64>| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-13);
        assert!(close(fused.as_vec(), apart.as_vec()));
        let (fused, apart) = (fused.exp().mean().backward(), apart.exp().mean().backward());
        assert!(close(fused.get(&x).as_vec(), apart.get(&x).as_vec()));
        assert!(close(fused.get(&s).as_vec(), apart.get(&s).as_vec()));
        let weight = &norm.weight;
        assert!(close(
            fused.get(weight).as_vec(),
            apart.get(weight).as_vec()
        ));
    }

    #[test]
    fn it_costs_nothing_in_the_papers_count() {
        fn cost<M: BackwardCost>(_: &M, channels: usize) -> crate::Result<ModelCost> {
            ModelCost::of::<M>([channels, 8, 8])
        }
        let dev = Cpu::default();
        let net = dev.build_module::<Net, f32>();
        assert_eq!(cost(&net, 3).unwrap().layers.len(), 1);
        assert_eq!(cost(&net.1, 6).unwrap().layers.len(), 0);
        let error = cost(&net.1, 5).unwrap_err().to_string();
        assert!(error.contains("expected 6, found 5"), "{error}");
    }

    #[test]
    fn tensors_have_the_names_of_pytorch() {
        struct Names(Vec<String>);
        impl TensorVisitor<f32, Cpu> for Names {
            type Viewer = (ViewTensorRef, ViewTensorName);
            type Err = CpuError;
            type E2 = f32;
            type D2 = Cpu;
            fn visit<S: Shape>(
                &mut self,
                _: TensorOptions<S, f32, Cpu>,
                (_, name): (&Tensor<S, f32, Cpu>, String),
            ) -> Result<Option<Tensor<S, f32, Cpu>>, CpuError> {
                self.0.push(name);
                Ok(None)
            }
        }
        let norm = Cpu::default().build_module::<builders::GroupNorm<2, 4>, f32>();
        let mut names = Names(Vec::new());
        super::GroupNorm::<2, 4, f32, Cpu>::iter_tensors(&mut RecursiveWalker {
            m: (&norm, String::new()),
            f: &mut names,
        })
        .unwrap();
        assert_eq!(names.0, ["weight", "bias"]);
    }
}
