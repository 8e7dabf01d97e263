//! A loss that uses parameters otherwise than through the layers.

use dfdx::losses::cross_entropy_with_logits_loss;
use dfdx::tensor::Gradients;
use ssprop::data::{Batch, BatchLoader};
use ssprop::distributed::Communicator;
use ssprop::prelude::*;
use ssprop::train::{LossTensor, Objective, Place};
use ssprop::Result;

use crate::{images, on_ranks};

type Net = (
    SparseConv2D<1, 8, 3, 1, 1>,
    SparseConv2D<8, 16, 3, 2, 1>,
    GlobalAvgPool,
    Linear<16, 4>,
);
type Model = <Net as BuildOnDevice<Cpu, f32>>::Built;
type Images = Tensor<(usize, Const<1>, Const<8>, Const<8>), f32, Cpu>;

/// The cross entropy, and a penalty on a convolution's weights.
struct Penalized;

impl Objective<Model, Cpu> for Penalized {
    type Input = (Images, Tensor<(usize, Const<4>), f32, Cpu>);

    fn input(&mut self, dev: &Cpu, batch: &Batch, _: Place) -> Result<Self::Input> {
        Ok((batch.image_tensor(dev)?, batch.targets(dev)?))
    }

    fn loss(
        &mut self,
        model: &mut Model,
        (x, target): Self::Input,
        grads: Gradients<f32, Cpu>,
    ) -> Result<LossTensor<Cpu>> {
        let weights = model.1.weight.clone();
        let logits = model.try_forward_mut(x.traced(grads))?;
        let penalty = weights.leaky_trace().square().sum();
        Ok(cross_entropy_with_logits_loss(logits, target) + penalty)
    }

    fn uses_parameters(&self) -> bool {
        true
    }
}

/// The weights of the penalized convolution after a sparse step.
fn weights(rank: &Communicator) -> Vec<f32> {
    let dev = Cpu::seed_from_u64(3);
    let mut model = dev.build_module::<Net, f32>();
    model.set_drop_rate(DropRate::new(0.8).unwrap());
    let config = SgdConfig {
        lr: 0.1,
        ..SgdConfig::default()
    };
    let sgd = Sgd::new(&model, config).unwrap();
    let mut trainer = Trainer::with_optimizer(model, sgd)
        .with_communicator(rank)
        .unwrap();
    let loader = BatchLoader::new(&images(7), 7).unwrap();
    let report = trainer.train_epoch_on(&mut Penalized, &dev, &loader, &mut ());
    report.unwrap();
    trainer.model.1.weight.as_vec()
}

#[test]
fn a_penalty_on_weights_reaches_the_rows_that_are_dropped() {
    let expected = weights(&Communicator::alone());
    for found in on_ranks(3, |rank| weights(&rank)) {
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found - expected).abs() < 1e-6, "{found}, {expected}");
        }
    }
}
