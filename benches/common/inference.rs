//! Logits of ResNet-18 for images of 3x32x32, with its norms as they are or folded.

use ssprop::inference::{Graph, Inference};
use ssprop::models::modules;
use ssprop::prelude::{Const, Cpu, DeviceBuildExt, Module, ResNet18, SampleTensor, Tensor};

type Images = Tensor<(usize, Const<3>, Const<32>, Const<32>), f32, Cpu>;
type Logits = Tensor<(usize, Const<10>), f32, Cpu>;

/// A network and a batch.
pub struct Evaluation {
    net: modules::ResNet18<10, 3, f32, Cpu>,
    folded: Option<Inference<f32, Cpu>>,
    images: Images,
}

impl Evaluation {
    /// Of `batch` images, with folded norms or without.
    pub fn new(batch: usize, fold: bool) -> Self {
        let dev = Cpu::default();
        let net = dev.build_module::<ResNet18<10>, f32>();
        let graph = Graph::of(&net).expect("the network has a graph");
        let folded = fold.then(|| Inference::new(&dev, &graph.fold_batch_norms()));
        Self {
            net,
            folded: folded.map(|folded| folded.expect("memory for the weights")),
            images: dev.sample_normal_like(&(batch, Const, Const, Const)),
        }
    }

    /// The logits.
    pub fn run(&self) -> Logits {
        let logits = match &self.folded {
            Some(folded) => folded.run(&self.images),
            None => self.net.try_forward(self.images.clone()),
        };
        logits.expect("the shapes fit")
    }
}
