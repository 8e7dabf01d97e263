//! One step of any network, and what comes of it.

use std::collections::BTreeMap;

use ssprop::data::{BatchLoader, ImageDataset};
use ssprop::distributed::{Communicator, Traffic};
use ssprop::prelude::*;
use ssprop::train::ImageClassifier;

/// Each parameter's gradient.
pub type Gradients = BTreeMap<String, Vec<f32>>;

/// A step.
pub struct Step {
    pub gradients: Gradients,
    /// The checkpoint after it.
    pub saved: Vec<u8>,
    /// The mean loss of its images.
    pub loss: f64,
    /// What was sent for it.
    pub traffic: Traffic,
}

/// One step of the optimizer after `batches` batches of `batch` images.
pub fn step_of<M, const C: usize, const H: usize, const W: usize, const CLASSES: usize>(
    communicator: &Communicator,
    model: M,
    data: &ImageDataset,
    batch: usize,
    batches: usize,
) -> Step
where
    M: ImageClassifier<C, H, W, CLASSES, Cpu>,
{
    // The first momentum is the gradient.
    let config = SgdConfig {
        lr: 0.1,
        momentum: 0.9,
        ..SgdConfig::default()
    };
    let sgd = Sgd::new(&model, config).unwrap();
    let before = communicator.traffic();
    let mut trainer = Trainer::with_optimizer(model, sgd)
        .with_accumulation(batches)
        .and_then(|t| t.with_communicator(communicator))
        .unwrap();
    let loader = BatchLoader::new(data, batch).unwrap().shuffle(1);
    let report = trainer.train_epoch::<C, H, W, CLASSES>(&Cpu::default(), &loader, &mut ());
    let loss = report.unwrap_or_else(|err| panic!("{err}")).loss;
    let after = communicator.traffic();
    let state = trainer.optimizer.state(&trainer.model).unwrap();
    let gradients = state.parameters.into_iter().map(|(name, state)| {
        let buffer = state.buffers.into_values().next().unwrap();
        (name, buffer)
    });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint");
    trainer.save(&path, &Default::default()).unwrap();
    Step {
        gradients: gradients.collect(),
        saved: std::fs::read(path).unwrap(),
        loss,
        traffic: Traffic {
            messages: after.messages - before.messages,
            bytes: after.bytes - before.bytes,
        },
    }
}

/// The norm of two gradients' difference as a share of theirs.
pub fn difference(found: &Gradients, expected: &Gradients) -> f64 {
    assert!(found.keys().eq(expected.keys()));
    let (mut far, mut size) = (0.0, 0.0);
    for (found, expected) in found.values().flatten().zip(expected.values().flatten()) {
        far += f64::from(found - expected).powi(2);
        size += f64::from(*expected).powi(2);
    }
    assert!(size > 0.0);
    (far / size).sqrt()
}
