//! Batch normalisation of images.

use dfdx::dtypes::Dtype;
use dfdx::nn::{
    BuildModule, BuildOnDevice, Module, ModuleMut, ModuleVisitor, TensorCollection, TensorOptions,
};
use dfdx::shapes::{Const, Dim, Rank1};
use dfdx::tensor::{NoneTape, OwnedTape, Storage, Tape, Tensor};
use dfdx::tensor_ops::Device;

use crate::backend::Backend;
use crate::bridge::Hidden;
use crate::error::{Error, Result};
use crate::inference::{Graph, Operation, ToGraph, Value, Weight};
use crate::nn::{BackwardCost, Dropout, ImageSize, LayerCost, LayerMut, NormLayer, VisitLayers};
use crate::ops::add::add_hidden;
use crate::ops::add_relu::add_relu_hidden;
use crate::ops::batch_norm::{batch_norm2d_hidden, Activation, BatchNorm2DOp, Mode};
use crate::ops::dropout::dropout_hidden;

/// The description of the layer.
pub mod builder {
    /// Describes a [batch normalisation](crate::nn::modules::BatchNorm2D) of `C` channels.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct BatchNorm2D<const C: usize>;
}

/// Batch normalisation of images with `C` channels ([Ioffe and Szegedy,
/// 2015](https://arxiv.org/abs/1502.03167)): y = weight (x - mean) / sqrt(var + eps) + bias.
///
/// As in dfdx, the type of the call says which statistics are meant:
///
/// - `forward_mut` of a traced tensor trains: the statistics are the batch's, and the running ones
///   move by `momentum` (the variance unbiased).
/// - `forward` of a tensor without a tape infers with the running statistics.
///
/// The other two combinations do not compile; [`try_train`](Self::try_train) and
/// [`try_eval`](Self::try_eval) take tensors with and without a tape, and do the residual sum and the
/// ReLU at the end of a ResNet block in the same pass.
///
/// The tensors have PyTorch's names in a checkpoint. `eps`, `momentum`, `dropout` and `synchronized`
/// are not part of it, and go back to their defaults where dfdx rebuilds the module (`to_device`, `to_dtype`).
///
/// ```
/// use dfdx::prelude::*;
/// use ssprop::nn::builders::BatchNorm2D;
///
/// let dev = Cpu::default();
/// let mut bn = dev.build_module::<BatchNorm2D<3>, f32>();
/// let x: Tensor<Rank4<4, 3, 8, 8>, f32, _> = dev.sample_normal();
/// let y = bn.forward_mut(x.leaky_trace());
/// let grads = y.square().mean().backward();
/// assert!(grads.get(&bn.bias).array().iter().all(|g| g.abs() < 1e-5));
/// let _ = bn.forward(x);
/// ```
#[derive(Clone, Debug)]
pub struct BatchNorm2D<const C: usize, E: Dtype, D: Storage<E>> {
    /// The scale of each channel. Ones at first.
    pub weight: Tensor<Rank1<C>, E, D>,
    /// Added to each channel. Zeros at first.
    pub bias: Tensor<Rank1<C>, E, D>,
    /// The running mean, zeros at first. Not a parameter of the optimizer.
    pub running_mean: Tensor<Rank1<C>, E, D>,
    /// The running unbiased variance, ones at first. Not a parameter of the optimizer.
    pub running_var: Tensor<Rank1<C>, E, D>,
    /// Added to the variance before the square root is taken. 1e-5 at first.
    pub eps: f64,
    /// The share of a batch's statistics in the new running ones. 0.1 at first.
    pub momentum: f64,
    /// The dropout after the norm, in training; as [`try_train`](BatchNorm2D::try_train) says. Off
    /// at first.
    pub dropout: Dropout,
    /// Whether a batch, in distributed training, is all ranks' together: mean and variance are then those
    /// that one process would find, which takes two exchanges of numbers forward and one backward. On the
    /// CPU. False at first; [`VisitLayers::set_synchronized`] sets it for a whole model.
    pub synchronized: bool,
}

impl<const C: usize, E: Dtype, D: Backend<E>> BatchNorm2D<C, E, D> {
    fn op(&self, activation: Activation) -> BatchNorm2DOp {
        BatchNorm2DOp {
            eps: self.eps,
            momentum: self.momentum,
            activation,
            synchronized: self.synchronized,
        }
    }

    /// f(dropout(norm(x)) + residual) with the batch's statistics, f being the `activation`. Moves the
    /// running statistics and the dropout's step, with a tape and without. A residual without a tape gets one by
    /// `retaped`.
    ///
    /// # Errors
    /// As [`try_batch_norm2d`](crate::ops::batch_norm::try_batch_norm2d).
    pub fn try_train<B: Dim, H: Dim, W: Dim, T: Tape<E, D>>(
        &mut self,
        x: Tensor<(B, Const<C>, H, W), E, D, T>,
        residual: Option<Tensor<(B, Const<C>, H, W), E, D, T>>,
        activation: Activation,
    ) -> Result<Tensor<(B, Const<C>, H, W), E, D, T>> {
        let y = self.train_hidden(x.into(), residual.map(Hidden::from), activation)?;
        y.into_tensor()
    }

    /// f(norm(x) + residual) with the running statistics, which are constants to the gradient.
    ///
    /// # Errors
    /// As [`try_batch_norm2d`](crate::ops::batch_norm::try_batch_norm2d).
    pub fn try_eval<B: Dim, H: Dim, W: Dim, T: Tape<E, D>>(
        &self,
        x: Tensor<(B, Const<C>, H, W), E, D, T>,
        residual: Option<Tensor<(B, Const<C>, H, W), E, D, T>>,
        activation: Activation,
    ) -> Result<Tensor<(B, Const<C>, H, W), E, D, T>> {
        let y = self.eval_hidden(x.into(), residual.map(Hidden::from), activation)?;
        y.into_tensor()
    }

    pub(crate) fn train_hidden<B: Dim, H: Dim, W: Dim, T: Tape<E, D>>(
        &mut self,
        x: Hidden<(B, Const<C>, H, W), E, D, T>,
        residual: Option<Hidden<(B, Const<C>, H, W), E, D, T>>,
        activation: Activation,
    ) -> Result<Hidden<(B, Const<C>, H, W), E, D, T>> {
        let residual = match residual {
            // The dropout comes between the norm and the sum.
            Some(residual) if self.dropout.is_on() => {
                let y = self.train_hidden(x, None, Activation::Identity)?;
                return match activation {
                    Activation::Identity => add_hidden(y, residual),
                    Activation::ReLU => add_relu_hidden(y, residual),
                };
            }
            residual => residual,
        };
        let op = self.op(activation);
        let mode = Mode::Train {
            mean: &mut self.running_mean,
            var: &mut self.running_var,
        };
        let y = batch_norm2d_hidden(x, residual, &self.weight, &self.bias, mode, op)?;
        match self.dropout.is_on() {
            // A mask's factors are not negative, so it can come after the ReLU as well as before.
            true => dropout_hidden(y, self.dropout.next_mask()),
            false => Ok(y),
        }
    }

    pub(crate) fn eval_hidden<B: Dim, H: Dim, W: Dim, T: Tape<E, D>>(
        &self,
        x: Hidden<(B, Const<C>, H, W), E, D, T>,
        residual: Option<Hidden<(B, Const<C>, H, W), E, D, T>>,
        activation: Activation,
    ) -> Result<Hidden<(B, Const<C>, H, W), E, D, T>> {
        let op = self.op(activation);
        let mode = Mode::Eval {
            mean: &self.running_mean,
            var: &self.running_var,
        };
        batch_norm2d_hidden(x, residual, &self.weight, &self.bias, mode, op)
    }
}

impl<B: Dim, const C: usize, H: Dim, W: Dim, E: Dtype, D: Backend<E>>
    Module<Tensor<(B, Const<C>, H, W), E, D, NoneTape>> for BatchNorm2D<C, E, D>
{
    type Output = Tensor<(B, Const<C>, H, W), E, D, NoneTape>;
    type Error = D::Err;

    /// With the running statistics.
    fn try_forward(
        &self,
        x: Tensor<(B, Const<C>, H, W), E, D, NoneTape>,
    ) -> Result<Self::Output, D::Err> {
        self.try_eval(x, None, Activation::Identity)
            .map_err(D::device_error)
    }
}

impl<B: Dim, const C: usize, H: Dim, W: Dim, E: Dtype, D: Backend<E>>
    ModuleMut<Tensor<(B, Const<C>, H, W), E, D, OwnedTape<E, D>>> for BatchNorm2D<C, E, D>
{
    type Output = Tensor<(B, Const<C>, H, W), E, D, OwnedTape<E, D>>;
    type Error = D::Err;

    /// With the batch's statistics.
    fn try_forward_mut(
        &mut self,
        x: Tensor<(B, Const<C>, H, W), E, D, OwnedTape<E, D>>,
    ) -> Result<Self::Output, D::Err> {
        self.try_train(x, None, Activation::Identity)
            .map_err(D::device_error)
    }
}

impl<const C: usize, E: Dtype, D: Device<E>> BuildOnDevice<D, E> for builder::BatchNorm2D<C>
where
    BatchNorm2D<C, E, D>: BuildModule<D, E>,
{
    type Built = BatchNorm2D<C, E, D>;
}

impl<const C: usize, E: Dtype, D: Device<E>> TensorCollection<E, D> for BatchNorm2D<C, E, D> {
    type To<E2: Dtype, D2: Device<E2>> = BatchNorm2D<C, E2, D2>;

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
                Self::tensor(
                    "running_mean",
                    |m| &m.running_mean,
                    |m| &mut m.running_mean,
                    TensorOptions::detached(|t| t.try_fill_with_zeros()),
                ),
                Self::tensor(
                    "running_var",
                    |m| &m.running_var,
                    |m| &mut m.running_var,
                    TensorOptions::detached(|t| t.try_fill_with_ones()),
                ),
            ),
            |(weight, bias, running_mean, running_var)| {
                let BatchNorm2DOp { eps, momentum, .. } = BatchNorm2DOp::default();
                BatchNorm2D {
                    weight,
                    bias,
                    running_mean,
                    running_var,
                    eps,
                    momentum,
                    dropout: Dropout::default(),
                    synchronized: false,
                }
            },
        )
    }
}

impl<const C: usize, E: Dtype, D: Storage<E>> ToGraph<E> for BatchNorm2D<C, E, D> {
    fn add_to(&self, graph: &mut Graph<E>, path: &str, x: Value) -> Result<Value> {
        let weights = vec![
            Weight::of(path, "weight", &self.weight),
            Weight::of(path, "bias", &self.bias),
            Weight::of(path, "running_mean", &self.running_mean),
            Weight::of(path, "running_var", &self.running_var),
        ];
        graph.push(
            path,
            Operation::BatchNorm2D { eps: self.eps },
            weights,
            &[x],
        )
    }
}

impl<const C: usize, E: Dtype, D: Storage<E>> VisitLayers for BatchNorm2D<C, E, D> {
    fn visit_layers_at(&mut self, path: &str, f: &mut dyn FnMut(LayerMut<'_>)) {
        f(LayerMut::Norm(NormLayer {
            path,
            dropout: &mut self.dropout,
            synchronized: &mut self.synchronized,
        }));
    }
}

impl<const C: usize, E: Dtype, D: Storage<E>> BackwardCost for BatchNorm2D<C, E, D> {
    fn visit_cost(
        path: &str,
        input: ImageSize,
        f: &mut dyn FnMut(&str, LayerCost),
    ) -> Result<ImageSize> {
        if input[0] != C {
            return Err(Error::shape("batch norm", "input channels", C, input[0]));
        }
        f(path, LayerCost::BatchNorm2D(input));
        Ok(input)
    }
}

#[cfg(test)]
mod tests {
    use dfdx::prelude::*;

    use crate::nn::builders;
    use crate::ops::batch_norm::Activation;

    #[test]
    fn chains_with_dfdx_and_every_parameter_gets_a_gradient() {
        type Net = (
            builders::BatchNorm2D<3>,
            builders::ReLU,
            builders::MaxPool2D<3, 2, 1>,
            builders::GlobalAvgPool,
            Linear<3, 2>,
        );
        let dev = Cpu::default();
        let mut net = dev.build_module::<Net, f32>();
        let x: Tensor<Rank4<4, 3, 8, 8>, f32, _> = dev.sample_normal();
        let grads = net.alloc_grads();
        let y: Tensor<Rank2<4, 2>, f32, _, _> = net.forward_mut(x.trace(grads));
        let grads = y.square().mean().backward();
        assert!(grads.get(&net.0.weight).as_vec().iter().all(|&g| g != 0.0));
        assert!(grads.get(&net.0.bias).as_vec().iter().all(|&g| g != 0.0));
        assert!(net.0.running_mean.as_vec().iter().all(|&m| m != 0.0));

        let before = net.0.running_mean.as_vec();
        let _: Tensor<Rank2<4, 2>, f32, _> = net.forward(x);
        assert_eq!(net.0.running_mean.as_vec(), before);
    }

    #[test]
    fn fused_forms_equal_the_layers_one_after_the_other() {
        let dev = Cpu::default();
        let mut bn = dev.build_module::<builders::BatchNorm2D<3>, f64>();
        let mut other = bn.clone();
        let x: Tensor<Rank4<4, 3, 5, 5>, f64, _> = dev.sample_normal();
        let r: Tensor<Rank4<4, 3, 5, 5>, f64, _> = dev.sample_normal();
        let fused = bn.try_train(x.leaky_trace(), Some(r.leaky_trace()), Activation::ReLU);
        let apart = (other.forward_mut(x.leaky_trace()) + r.clone()).relu();
        let fused = fused.unwrap();
        assert!(fused
            .as_vec()
            .iter()
            .zip(apart.as_vec())
            .all(|(a, b)| (a - b).abs() < 1e-14));
        assert_eq!(bn.running_var.array(), other.running_var.array());
        let (fused, apart) = (fused.exp().mean().backward(), apart.exp().mean().backward());
        let close = |a: Vec<f64>, b: Vec<f64>| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-13);
        assert!(close(fused.get(&x).as_vec(), apart.get(&x).as_vec()));
        assert!(close(fused.get(&r).as_vec(), apart.get(&r).as_vec()));
        assert!(close(
            fused.get(&bn.weight).as_vec(),
            apart.get(&other.weight).as_vec()
        ));

        let fused = bn
            .try_eval(x.clone(), Some(r.clone()), Activation::ReLU)
            .unwrap();
        let apart = (bn.forward(x) + r).relu();
        assert!(close(fused.as_vec(), apart.as_vec()));
    }

    #[test]
    fn a_model_is_synchronized_as_a_whole() {
        use crate::nn::VisitLayers;

        type Block = (builders::BatchNorm2D<3>, builders::ReLU);
        let dev = Cpu::default();
        let mut net = dev.build_module::<(Block, Residual<Block>), f32>();
        for synchronized in [true, false] {
            net.set_synchronized(synchronized);
            let norms = [&net.0 .0, &net.1 .0 .0];
            for norm in norms {
                assert_eq!(norm.op(Activation::ReLU).synchronized, synchronized);
            }
        }
    }

    #[test]
    fn a_single_element_a_channel_is_an_error_in_dfdx_too() {
        let dev = Cpu::default();
        let mut bn = dev.build_module::<builders::BatchNorm2D<3>, f32>();
        let x: Tensor<Rank4<1, 3, 1, 1>, f32, _> = dev.sample_normal();
        assert!(bn.try_forward_mut(x.leaky_trace()).is_err());
        assert!(bn.try_forward(x).is_ok());
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
        let dev = Cpu::default();
        let bn = dev.build_module::<builders::BatchNorm2D<3>, f32>();
        let mut names = Names(Vec::new());
        super::BatchNorm2D::<3, f32, Cpu>::iter_tensors(&mut RecursiveWalker {
            m: (&bn, String::new()),
            f: &mut names,
        })
        .unwrap();
        assert_eq!(names.0, ["weight", "bias", "running_mean", "running_var"]);
    }
}
