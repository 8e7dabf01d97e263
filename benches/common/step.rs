//! A training step of a residual network on random images of 32x32, in its three parts.

use dfdx::data::OneHotEncode;
use dfdx::tensor::OwnedTape;
use ssprop::optim::{Adam, AdamConfig};
use ssprop::prelude::{
    cross_entropy_with_logits_loss, Backward as _, BuildOnDevice, Const, Cpu, DeviceBuildExt,
    DropRate, Gradients, ModuleMut, Rank0, SampleTensor, Tensor, TensorCollection, Trace,
    VisitSparse, ZeroGrads,
};

const CLASSES: usize = 10;
type Images<T> = Tensor<(usize, Const<3>, Const<32>, Const<32>), f32, Cpu, T>;
type Logits = Tensor<(usize, Const<CLASSES>), f32, Cpu, OwnedTape<f32, Cpu>>;

/// A network that takes such images.
pub trait Net:
    TensorCollection<f32, Cpu>
    + VisitSparse
    + ZeroGrads<f32, Cpu>
    + ModuleMut<Images<OwnedTape<f32, Cpu>>, Output = Logits, Error = ssprop::Error>
{
}

impl<M> Net for M where
    M: TensorCollection<f32, Cpu>
        + VisitSparse
        + ZeroGrads<f32, Cpu>
        + ModuleMut<Images<OwnedTape<f32, Cpu>>, Output = Logits, Error = ssprop::Error>
{
}

/// The network, its optimizer and one batch.
pub struct Step<M: Net> {
    net: M,
    adam: Adam<M, f32, Cpu>,
    grads: Gradients<f32, Cpu>,
    images: Images<dfdx::tensor::NoneTape>,
    targets: Tensor<(usize, Const<CLASSES>), f32, Cpu>,
}

impl<M: Net> Step<M> {
    /// A network that drops `drop_rate` of every convolution's output channels, and `batch` images.
    pub fn new<B: BuildOnDevice<Cpu, f32, Built = M>>(batch: usize, drop_rate: DropRate) -> Self {
        let dev = Cpu::default();
        let mut net = dev.build_module::<B, f32>();
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
    pub fn forward(&mut self) -> Tensor<Rank0, f32, Cpu, OwnedTape<f32, Cpu>> {
        let grads = std::mem::replace(&mut self.grads, Gradients::leaky());
        let images = self.images.clone().traced(grads);
        let logits = self.net.try_forward_mut(images).expect("the shapes fit");
        cross_entropy_with_logits_loss(logits, self.targets.clone())
    }

    /// The gradients of the parameters.
    pub fn backward(&mut self, loss: Tensor<Rank0, f32, Cpu, OwnedTape<f32, Cpu>>) {
        self.grads = loss.backward();
    }

    /// Adam's update, which leaves zeros in the gradients.
    pub fn update(&mut self) {
        self.adam
            .update_and_zero(&mut self.net, &mut self.grads)
            .expect("every parameter has a gradient");
    }
}
