//! A training step of ResNet-18 on random images of 32x32, in its three parts.

use dfdx::data::OneHotEncode;
use dfdx::tensor::{Cache, OwnedTape};
use ssprop::models::modules;
use ssprop::optim::{Adam, AdamConfig};
use ssprop::prelude::{
    cross_entropy_with_logits_loss, Backward as _, Const, Cpu, DeviceBuildExt, DropRate, Gradients,
    ModuleMut, Rank0, ResNet18, SampleTensor, Tensor, Trace, VisitSparse, ZeroGrads,
};

const CLASSES: usize = 10;
type Net = modules::ResNet18<CLASSES, 3, f32, Cpu>;

/// The network, its optimizer and one batch.
pub struct Step {
    net: Net,
    adam: Adam<Net, f32, Cpu>,
    grads: Gradients<f32, Cpu>,
    images: Tensor<(usize, Const<3>, Const<32>, Const<32>), f32, Cpu>,
    targets: Tensor<(usize, Const<CLASSES>), f32, Cpu>,
}

impl Step {
    /// A network that drops `drop_rate` of every convolution's output channels, and `batch` images.
    pub fn new(batch: usize, drop_rate: DropRate) -> Self {
        let dev = Cpu::default();
        dev.enable_cache();
        let mut net = dev.build_module::<ResNet18<CLASSES>, f32>();
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
