//! This crate.

use ssprop::inference::{Graph, Inference};
use ssprop::prelude::*;

use crate::step::Step;
use crate::{Framework, BATCH, CLASSES, INFERENCES};

type Net = <ResNet18<CLASSES> as BuildOnDevice<Cpu, f32>>::Built;
type Images = Tensor<(usize, Const<3>, Const<32>, Const<32>), f32, Cpu>;

pub struct Ours {
    step: Step<Net, Cpu>,
    /// With its batch norms folded; none of the sparse one, which would be the same.
    inference: Option<Inference<f32, Cpu>>,
    images: Vec<Images>,
}

impl Ours {
    pub fn new(sparse: bool) -> Self {
        let dev = Cpu::default();
        let drop_rate = if sparse {
            DropRate::PAPER
        } else {
            DropRate::DENSE
        };
        Self {
            step: Step::new::<ResNet18<CLASSES>>(&dev, BATCH, drop_rate),
            inference: (!sparse).then(|| {
                let net = dev.build_module::<ResNet18<CLASSES>, f32>();
                let graph = Graph::of(&net).expect("every layer has a graph");
                Inference::new(&dev, &graph.fold_batch_norms()).expect("there is memory")
            }),
            images: INFERENCES
                .map(|n| dev.sample_normal_like(&(n, Const, Const, Const)))
                .into(),
        }
    }
}

impl Framework for Ours {
    fn step(&mut self) {
        let loss = self.step.forward();
        self.step.backward(loss);
        self.step.update();
    }

    fn infer(&mut self, batch: usize) -> bool {
        let Some(net) = &self.inference else {
            return false;
        };
        let images = self.images.iter().find(|images| images.shape().0 == batch);
        let images = images.expect("one of INFERENCES");
        let logits: Tensor<(usize, Const<CLASSES>), f32, Cpu> =
            net.run(images).expect("the shapes fit");
        std::hint::black_box(logits.as_vec());
        true
    }
}
