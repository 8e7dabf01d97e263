//! The pointwise convolution over positions.

use dfdx::dtypes::Dtype;
use dfdx::nn::{
    BuildModule, BuildOnDevice, Module, ModuleVisitor, NonMutableModule, TensorCollection,
    TensorOptions,
};
use dfdx::shapes::{Const, ConstDim, Dim, HasShape};
use dfdx::tensor::{Storage, Tape, Tensor};
use dfdx::tensor_ops::Device;
use rand_distr::{Distribution, Uniform};

use super::plain_layer::plain_layer;
use crate::backend::Backend;
use crate::bridge::Hidden;
use crate::error::{Error, Result};
use crate::ops::conv2d::{conv_hidden, Conv2DOp, Conv2DShape, SparseBackward};

/// The description of the layer.
pub mod builder {
    /// Describes a [pointwise convolution](crate::nn::modules::PointwiseConv1D) of `I` to `O`
    /// channels, which are sizes known at compile time (`Const<64>`).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct PointwiseConv1D<I, O>(std::marker::PhantomData<(I, O)>);
}

/// PyTorch's `Conv1d` with windows of one position, over the positions of an image, row by row:
/// y_{o,p} = sum_i weight_{o,i} x_{i,p} + bias_o, (B, I, H, W) -> (B, O, H, W).
///
/// The layers of self-attention. The backward pass is always dense. Weight and bias start from
/// PyTorch's uniform distribution between -1 / sqrt(I) and 1 / sqrt(I).
///
/// ```
/// use ssprop::prelude::*;
/// use ssprop::nn::builders::PointwiseConv1D;
///
/// let dev = Cpu::default();
/// let conv = dev.build_module::<PointwiseConv1D<Const<3>, Const<5>>, f32>();
/// let _: &(Const<5>, Const<3>, Const<1>) = conv.weight.shape();
/// let x: Tensor<Rank4<2, 3, 8, 8>, f32, _> = dev.sample_normal();
/// let _: Tensor<Rank4<2, 5, 8, 8>, f32, _> = conv.forward(x);
/// ```
#[derive(Clone, Debug)]
pub struct PointwiseConv1D<I: ConstDim, O: ConstDim, E: Dtype, D: Storage<E>> {
    /// (O, I, 1)
    pub weight: Tensor<(O, I, Const<1>), E, D>,
    /// (O)
    pub bias: Tensor<(O,), E, D>,
}

impl<I: ConstDim, O: ConstDim, E: Dtype, D: Backend<E>> PointwiseConv1D<I, O, E, D> {
    /// x (B, I, H, W) to (B, O, H, W), with the whole error.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) if memory runs out.
    pub fn try_apply<B: Dim, H: Dim, W: Dim, T: Tape<E, D>>(
        &self,
        x: Tensor<(B, I, H, W), E, D, T>,
    ) -> Result<Tensor<(B, O, H, W), E, D, T>> {
        self.apply_hidden(x.into()).and_then(Hidden::into_tensor)
    }

    /// [`Self::try_apply`] between operations of this crate.
    pub(crate) fn apply_hidden<B: Dim, H: Dim, W: Dim, T: Tape<E, D>>(
        &self,
        x: Hidden<(B, I, H, W), E, D, T>,
    ) -> Result<Hidden<(B, O, H, W), E, D, T>> {
        let op = Conv2DOp {
            kernel: 1,
            stride: 1,
            padding: 0,
            dilation: 1,
            groups: 1,
        };
        let &(b, i, h, w) = x.shape();
        let shape = Conv2DShape::new(op, [b.size(), i.size(), h.size(), w.size()], O::SIZE)?;
        let y = (b, O::default(), h, w);
        let dense = SparseBackward::default();
        conv_hidden(x, &self.weight, Some(&self.bias), shape, y, dense, None)
    }
}

impl<I: ConstDim, O: ConstDim, B: Dim, H: Dim, W: Dim, E: Dtype, D: Backend<E>, T: Tape<E, D>>
    Module<Tensor<(B, I, H, W), E, D, T>> for PointwiseConv1D<I, O, E, D>
{
    type Output = Tensor<(B, O, H, W), E, D, T>;
    type Error = D::Err;

    fn try_forward(&self, x: Tensor<(B, I, H, W), E, D, T>) -> Result<Self::Output, D::Err> {
        self.try_apply(x).map_err(D::device_error)
    }
}

impl<I: ConstDim, O: ConstDim, E: Dtype, D: Storage<E>> NonMutableModule
    for PointwiseConv1D<I, O, E, D>
{
}

impl<I: ConstDim, O: ConstDim, E: Dtype, D: Device<E>> BuildOnDevice<D, E>
    for builder::PointwiseConv1D<I, O>
where
    PointwiseConv1D<I, O, E, D>: BuildModule<D, E>,
{
    type Built = PointwiseConv1D<I, O, E, D>;
}

impl<I: ConstDim, O: ConstDim, E: Dtype, D: Device<E>> TensorCollection<E, D>
    for PointwiseConv1D<I, O, E, D>
{
    type To<E2: Dtype, D2: Device<E2>> = PointwiseConv1D<I, O, E2, D2>;

    fn iter_tensors<V: ModuleVisitor<Self, E, D>>(
        visitor: &mut V,
    ) -> Result<Option<Self::To<V::E2, V::D2>>, V::Err> {
        const {
            assert!(
                I::SIZE > 0 && O::SIZE > 0,
                "a convolution needs channels on either side"
            );
        }
        visitor.visit_fields(
            (
                Self::tensor(
                    "weight",
                    |m| &m.weight,
                    |m| &mut m.weight,
                    TensorOptions::reset_with(|t| t.try_fill_with_distr(uniform(I::SIZE))),
                ),
                Self::tensor(
                    "bias",
                    |m| &m.bias,
                    |m| &mut m.bias,
                    TensorOptions::reset_with(|t| t.try_fill_with_distr(uniform(I::SIZE))),
                ),
            ),
            |(weight, bias)| PointwiseConv1D { weight, bias },
        )
    }
}

/// Between -1 / sqrt(fan_in) and 1 / sqrt(fan_in).
pub(super) fn uniform<E: Dtype>(fan_in: usize) -> impl Distribution<E> {
    let bound = 1.0 / (fan_in as f64).sqrt();
    let uniform = Uniform::new_inclusive(-bound, bound);
    uniform.map(|x| E::from_f64(x).expect("floats convert"))
}

plain_layer!([
    I: ConstDim, O: ConstDim, E: Dtype, D: Storage<E>
] PointwiseConv1D<I, O, E, D>: |x| match x[0] {
    c if c != I::SIZE => Err(Error::shape("pointwise conv1d", "input channels", I::SIZE, c)),
    _ => Ok([O::SIZE, x[1], x[2]]),
});

#[cfg(test)]
mod tests {
    use dfdx::prelude::*;

    use crate::nn::{builders, modules, ModelCost, VisitLayers};
    use crate::ops::attention::Triple;

    #[test]
    fn it_is_a_convolution_of_1x1_windows() {
        let dev = Cpu::default();
        let conv = dev.build_module::<builders::PointwiseConv1D<Const<5>, Triple<3>>, f64>();
        let mut plain = dev.build_module::<builders::BiasedSparseConv2D<5, 9, 1>, f64>();
        let weight = dev.tensor_from_vec(
            conv.weight.as_vec(),
            (Const, Default::default(), Const, Const),
        );
        plain.weight = weight;
        plain.bias = dev.tensor_from_vec(conv.bias.as_vec(), (Const,));
        let x: Tensor<Rank4<2, 5, 3, 7>, f64, _> = dev.sample_normal();
        let y = conv.forward(x.leaky_trace());
        let z = plain.forward(x.leaky_trace());
        assert_eq!(y.as_vec(), z.as_vec());
        assert_eq!(*y.shape(), (Const, Triple, Const, Const));
        let (y, z) = (y.square().mean().backward(), z.square().mean().backward());
        assert_eq!(y.get(&x).as_vec(), z.get(&x).as_vec());
        assert_eq!(y.get(&conv.weight).as_vec(), z.get(&plain.weight).as_vec());
        assert_eq!(y.get(&conv.bias).as_vec(), z.get(&plain.bias).as_vec());
        assert!(conv
            .bias
            .as_vec()
            .iter()
            .all(|b| *b != 0.0 && b.abs() <= 1.0 / 5f64.sqrt()));
    }

    #[test]
    fn run_time_sizes_and_empty_images() {
        let dev = Cpu::default();
        let conv = dev.build_module::<builders::PointwiseConv1D<Const<2>, Const<3>>, f32>();
        let x: Tensor<(usize, Const<2>, usize, usize), f32, _> = dev.zeros_like(&(2, Const, 3, 1));
        assert_eq!(*conv.forward(x).shape(), (2, Const, 3, 1));
        let x: Tensor<(usize, Const<2>, usize, usize), f32, _> = dev.zeros_like(&(2, Const, 3, 0));
        assert!(conv.try_apply(x).is_err());
    }

    #[test]
    fn it_is_neither_sparse_nor_counted() {
        type Layer = modules::PointwiseConv1D<Const<2>, Triple<2>, f32, Cpu>;
        let dev = Cpu::default();
        let mut conv = dev.build_module::<builders::PointwiseConv1D<Const<2>, Triple<2>>, f32>();
        let mut visited = 0;
        conv.visit_sparse(&mut |_| visited += 1);
        conv.visit_dropout(&mut |_| visited += 1);
        assert_eq!(visited, 0);
        type Twice = (Layer, modules::SparseConv2D<6, 4, 1, 1, 0, 1, 1, f32, Cpu>);
        assert_eq!(ModelCost::of::<Twice>([2, 4, 4]).unwrap().layers.len(), 1);
        let error = ModelCost::of::<Layer>([3, 4, 4]).unwrap_err().to_string();
        assert!(error.contains("expected 2, found 3"), "{error}");
    }
}
