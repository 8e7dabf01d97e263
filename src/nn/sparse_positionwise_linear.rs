//! The linear layer over the channels of each position, with a sparse backward pass.

use std::sync::Arc;

use dfdx::dtypes::Dtype;
use dfdx::nn::{
    BuildModule, BuildOnDevice, Module, ModuleVisitor, NonMutableModule, TensorCollection,
    TensorOptions,
};
use dfdx::shapes::{ConstDim, Dim, HasShape};
use dfdx::tensor::{Storage, Tape, Tensor};
use dfdx::tensor_ops::Device;

use super::pointwise_conv1d::uniform;
use super::{BackwardCost, ImageSize, LayerCost, LayerMut, SparseLayer, VisitLayers};
use crate::backend::Backend;
use crate::bridge::Hidden;
use crate::error::{Error, Result};
use crate::inference::{Graph, Operation, ToGraph, Value, Weight};
use crate::ops::conv2d::{conv_hidden, Conv2DOp, Conv2DShape};
use crate::ops::SparseBackward;
use crate::sparsity::KeptCount;

/// The architecture of the layer.
pub mod builder {
    /// Describes a [position-wise linear layer](crate::nn::modules::SparsePositionwiseLinear) of `I` to `O`
    /// channels, which are sizes known at compile time (`Const<64>`).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct SparsePositionwiseLinear<I, O>(std::marker::PhantomData<(I, O)>);
}

/// A transformer's linear layer, whose tokens are the positions of an image:
/// y_{o,p} = sum_i weight_{o,i} x_{i,p} + bias_o, (B, I, H, W) -> (B, O, H, W).
///
/// A 1x1 convolution whose weight has the shape of PyTorch's `Linear`. Forward is an ordinary linear layer; at
/// a drop rate above 0 the backward pass keeps the output channels of the largest mean |dY| over the batch and
/// the positions, max(floor(keep * O), 1) of them. Weight and bias start uniform in +-1 / sqrt(I), as
/// PyTorch's. `backward` is not part of a checkpoint, and goes back to its default where dfdx rebuilds the
/// module (`to_device`, `to_dtype`).
///
/// ```
/// use ssprop::prelude::*;
/// use ssprop::nn::builders::SparsePositionwiseLinear;
///
/// let dev = Cpu::default();
/// type Layer = SparsePositionwiseLinear<Const<6>, Const<10>>;
/// let mut linear = dev.build_module::<Layer, f32>();
/// linear.set_drop_rate(DropRate::new(0.8)?);
/// let x: Tensor<Rank4<2, 6, 7, 7>, f32, _> = dev.sample_normal();
/// let y: Tensor<Rank4<2, 10, 7, 7>, f32, _, _> = linear.forward(x.leaky_trace());
/// let db = y.square().mean().backward().get(&linear.bias).array();
/// assert_eq!(db.iter().filter(|&&g| g != 0.0).count(), 2);
/// # Ok::<(), ssprop::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct SparsePositionwiseLinear<I: ConstDim, O: ConstDim, E: Dtype, D: Storage<E>> {
    /// (O, I)
    pub weight: Tensor<(O, I), E, D>,
    /// (O)
    pub bias: Tensor<(O,), E, D>,
    /// How the next forward's backward pass goes: its drop rate, above all.
    pub backward: SparseBackward,
    /// Is told how many channels each backward pass keeps. Clones share it.
    pub kept_count: Option<Arc<KeptCount>>,
}

impl<I: ConstDim, O: ConstDim, E: Dtype, D: Storage<E>> SparsePositionwiseLinear<I, O, E, D> {
    const OP: Conv2DOp = Conv2DOp {
        kernel: 1,
        stride: 1,
        padding: 0,
        dilation: 1,
        groups: 1,
    };

    /// As a convolution of `batch` images.
    fn conv(batch: usize, h: usize, w: usize) -> Result<Conv2DShape> {
        Ok(Conv2DShape::new(Self::OP, [batch, I::SIZE, h, w], O::SIZE)?)
    }
}

impl<I: ConstDim, O: ConstDim, E: Dtype, D: Backend<E>> SparsePositionwiseLinear<I, O, E, D> {
    /// x (B, I, H, W) to (B, O, H, W), with the whole error.
    ///
    /// # Errors
    /// [`Error::Shape`] if the images are empty, [`Error::Device`] if memory runs out.
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
        let &(b, _, h, w) = x.shape();
        let shape = Self::conv(b.size(), h.size(), w.size())?;
        conv_hidden(
            x,
            &self.weight,
            Some(&self.bias),
            shape,
            (b, O::default(), h, w),
            self.backward,
            self.kept_count.clone(),
        )
    }
}

impl<I: ConstDim, O: ConstDim, B: Dim, H: Dim, W: Dim, E: Dtype, D: Backend<E>, T: Tape<E, D>>
    Module<Tensor<(B, I, H, W), E, D, T>> for SparsePositionwiseLinear<I, O, E, D>
{
    type Output = Tensor<(B, O, H, W), E, D, T>;
    type Error = D::Err;

    fn try_forward(&self, x: Tensor<(B, I, H, W), E, D, T>) -> Result<Self::Output, D::Err> {
        self.try_apply(x).map_err(D::device_error)
    }
}

impl<I: ConstDim, O: ConstDim, E: Dtype, D: Storage<E>> NonMutableModule
    for SparsePositionwiseLinear<I, O, E, D>
{
}

impl<I: ConstDim, O: ConstDim, E: Dtype, D: Device<E>> BuildOnDevice<D, E>
    for builder::SparsePositionwiseLinear<I, O>
where
    SparsePositionwiseLinear<I, O, E, D>: BuildModule<D, E>,
{
    type Built = SparsePositionwiseLinear<I, O, E, D>;
}

impl<I: ConstDim, O: ConstDim, E: Dtype, D: Device<E>> TensorCollection<E, D>
    for SparsePositionwiseLinear<I, O, E, D>
{
    type To<E2: Dtype, D2: Device<E2>> = SparsePositionwiseLinear<I, O, E2, D2>;

    fn iter_tensors<V: ModuleVisitor<Self, E, D>>(
        visitor: &mut V,
    ) -> Result<Option<Self::To<V::E2, V::D2>>, V::Err> {
        const {
            assert!(
                I::SIZE > 0 && O::SIZE > 0,
                "a linear layer needs features on either side"
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
            |(weight, bias)| SparsePositionwiseLinear {
                weight,
                bias,
                backward: SparseBackward::default(),
                kept_count: None,
            },
        )
    }
}

/// As a 1x1 convolution.
impl<I: ConstDim, O: ConstDim, E: Dtype, D: Storage<E>> ToGraph<E>
    for SparsePositionwiseLinear<I, O, E, D>
{
    fn add_to(&self, graph: &mut Graph<E>, path: &str, x: Value) -> Result<Value> {
        let mut weight = Weight::of(path, "weight", &self.weight);
        weight.sizes.extend([1, 1]);
        let weights = vec![weight, Weight::of(path, "bias", &self.bias)];
        graph.push(path, Operation::Conv2D(Self::OP), weights, &[x])
    }
}

impl<I: ConstDim, O: ConstDim, E: Dtype, D: Storage<E>> VisitLayers
    for SparsePositionwiseLinear<I, O, E, D>
{
    fn visit_layers_at(&mut self, path: &str, f: &mut dyn FnMut(LayerMut<'_>)) {
        f(LayerMut::Sparse(SparseLayer {
            path,
            c_in: I::SIZE,
            channels: O::SIZE,
            kernel: None,
            backward: &mut self.backward,
            kept_count: &mut self.kept_count,
        }));
    }
}

/// It counts as the 1x1 convolution that it is.
impl<I: ConstDim, O: ConstDim, E: Dtype, D: Storage<E>> BackwardCost
    for SparsePositionwiseLinear<I, O, E, D>
{
    fn visit_cost(
        path: &str,
        [c, h, w]: ImageSize,
        f: &mut dyn FnMut(&str, LayerCost),
    ) -> Result<ImageSize> {
        if c != I::SIZE {
            let op = "position-wise linear";
            return Err(Error::shape(op, "input channels", I::SIZE, c));
        }
        f(path, LayerCost::Conv2D(Self::conv(1, h, w)?));
        Ok([O::SIZE, h, w])
    }
}

#[cfg(test)]
mod tests {
    use dfdx::prelude::*;

    use crate::nn::{builders, modules, LayerCost, ModelCost, VisitLayers};
    use crate::ops::attention::Triple;
    use crate::sparsity::DropRate;

    #[test]
    fn it_is_a_convolution_of_1x1_windows_dense_and_sparse() {
        let dev = Cpu::default();
        type Layer = builders::SparsePositionwiseLinear<Const<5>, Triple<4>>;
        let mut linear = dev.build_module::<Layer, f64>();
        let mut conv = dev.build_module::<builders::BiasedSparseConv2D<5, 12, 1>, f64>();
        let shape = (Const, Default::default(), Const, Const);
        conv.weight = dev.tensor_from_vec(linear.weight.as_vec(), shape);
        conv.bias = dev.tensor_from_vec(linear.bias.as_vec(), (Const,));
        let x: Tensor<Rank4<2, 5, 3, 7>, f64, _> = dev.sample_normal();
        for (rate, rows) in [(0.0, 12), (0.75, 3)] {
            let rate = DropRate::new(rate).unwrap();
            linear.set_drop_rate(rate);
            conv.set_drop_rate(rate);
            let counts = linear.count_kept();
            let y = linear.forward(x.leaky_trace());
            let z = conv.forward(x.leaky_trace());
            assert_eq!(y.as_vec(), z.as_vec());
            let (y, z) = (y.square().mean().backward(), z.square().mean().backward());
            assert_eq!(y.get(&x).as_vec(), z.get(&x).as_vec());
            let dw = y.get(&linear.weight).as_vec();
            assert_eq!(dw, z.get(&conv.weight).as_vec());
            assert_eq!(y.get(&linear.bias).as_vec(), z.get(&conv.bias).as_vec());
            let kept = dw.chunks(5).filter(|row| row.iter().any(|&g| g != 0.0));
            assert_eq!(kept.count(), rows);
            assert_eq!(counts[0].1.kept(), rows as u64);
        }
    }

    #[test]
    fn it_counts_as_that_convolution() {
        type Layer = modules::SparsePositionwiseLinear<Const<5>, Triple<4>, f32, Cpu>;
        type Conv = modules::SparseConv2D<5, 12, 1, 1, 0, 1, 1, f32, Cpu>;
        let cost = ModelCost::of::<Layer>([5, 3, 7]).unwrap();
        assert_eq!(cost, ModelCost::of::<Conv>([5, 3, 7]).unwrap());
        assert!(matches!(cost.layers[0].1, LayerCost::Conv2D(_)));
        let error = ModelCost::of::<Layer>([4, 3, 7]).unwrap_err().to_string();
        assert!(error.contains("expected 5, found 4"), "{error}");
    }
}
