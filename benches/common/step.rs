//! A training step of a classifier on random images of 32x32, in its three parts.

use dfdx::data::OneHotEncode;
use dfdx::tensor::OwnedTape;
use ssprop::ops::cross_entropy::try_cross_entropy;
use ssprop::optim::{Adam, AdamConfig};
use ssprop::prelude::{
    Backward as _, BuildOnDevice, Const, DropRate, Gradients, ModuleMut, Rank0, Tensor,
    TensorCollection, Trace, VisitLayers, ZeroGrads,
};
use ssprop::Backend;

const CLASSES: usize = 10;
type Images<D, T> = Tensor<(usize, Const<3>, Const<32>, Const<32>), f32, D, T>;
type Logits<D> = Tensor<(usize, Const<CLASSES>), f32, D, OwnedTape<f32, D>>;

/// A network that takes such images.
pub trait Net<D: Backend<f32>>:
    TensorCollection<f32, D>
    + VisitLayers
    + ZeroGrads<f32, D>
    + ModuleMut<Images<D, OwnedTape<f32, D>>, Output = Logits<D>, Error = ssprop::Error>
{
}

impl<D: Backend<f32>, M> Net<D> for M where
    M: TensorCollection<f32, D>
        + VisitLayers
        + ZeroGrads<f32, D>
        + ModuleMut<Images<D, OwnedTape<f32, D>>, Output = Logits<D>, Error = ssprop::Error>
{
}

/// The network, its optimizer and one batch.
pub struct Step<M: Net<D>, D: Backend<f32>> {
    net: M,
    adam: Adam<M, f32, D>,
    grads: Gradients<f32, D>,
    images: Images<D, dfdx::tensor::NoneTape>,
    targets: Tensor<(usize, Const<CLASSES>), f32, D>,
}

impl<M: Net<D>, D: Backend<f32>> Step<M, D> {
    /// A network that drops `drop_rate` of every convolution's output channels, and `batch` images.
    pub fn new<B>(dev: &D, batch: usize, drop_rate: DropRate) -> Self
    where
        B: BuildOnDevice<D, f32, Built = M>,
    {
        let mut net = B::build_on_device(dev);
        net.set_drop_rate(drop_rate);
        let adam = Adam::new(&net, AdamConfig::adam()).expect("the defaults are valid");
        let labels: Vec<usize> = (0..batch).map(|i| i % CLASSES).collect();
        Self {
            adam,
            grads: net.alloc_grads(),
            images: dev.sample_normal_like(&(batch, Const, Const, Const)),
            targets: dev.one_hot_encode(Const, labels),
            net,
        }
    }

    /// The loss of the batch, with its graph.
    pub fn forward(&mut self) -> Tensor<Rank0, f32, D, OwnedTape<f32, D>> {
        let grads = std::mem::replace(&mut self.grads, Gradients::leaky());
        let images = self.images.clone().traced(grads);
        let logits = self.net.try_forward_mut(images).expect("the shapes fit");
        try_cross_entropy(logits, self.targets.clone()).expect("the shapes fit")
    }

    /// The gradients of the parameters.
    pub fn backward(&mut self, loss: Tensor<Rank0, f32, D, OwnedTape<f32, D>>) {
        self.grads = loss.backward();
    }

    /// Adam's update, which leaves zeros in the gradients.
    pub fn update(&mut self) {
        self.adam
            .update_and_zero(&mut self.net, &mut self.grads)
            .expect("every parameter has a gradient");
    }
}
