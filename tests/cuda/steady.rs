//! What a training step asks of the driver, once the first two have run: no memory, and nothing back but the loss.
#![cfg(cuda_emulator)]

use ssprop::data::{BatchLoader, ImageDataset, ImageShape};
use ssprop::prelude::*;
use ssprop::train::{BatchReport, ImageClassifier, Observer};

use crate::support::{noise, DriverCalls};

/// What the driver has been asked for by the end of each step.
struct Steps(Vec<DriverCalls>);

impl Steps {
    fn new() -> Self {
        // What a training before this one has left.
        ssprop::free_buffers();
        Self(vec![DriverCalls::so_far()])
    }

    /// That a step launches at most as much, once the first two have run.
    #[track_caller]
    fn check_launches(&self, most: u64) {
        for calls in self.0.windows(2).skip(2).map(|w| w[1].since(&w[0])) {
            assert!(calls.launches <= most, "{} launches", calls.launches);
        }
    }

    /// That a step reads `copies` times, `bytes` in all, and that the first allocates while later ones do not.
    #[track_caller]
    fn check(&self, copies: u64, bytes: u64) {
        let steps: Vec<_> = self.0.windows(2).map(|w| w[1].since(&w[0])).collect();
        assert!(steps.len() >= 4 && steps[0].allocations > 0, "{steps:?}");
        for step in &steps[2..] {
            assert_eq!((step.allocations, step.frees), (0, 0), "{steps:?}");
            // That every parameter has a gradient is known, without a buffer of nothing for each of them.
            assert!(step.copies_on_device < 8, "{steps:?}");
            let read = (step.copies_to_host, step.bytes_to_host);
            assert_eq!(read, (copies, bytes), "{steps:?}");
            // A copy to the host waits for the device.
            assert!(step.synchronisations <= copies, "{steps:?}");
        }
    }
}

impl Observer for Steps {
    fn batch(&mut self, _: &BatchReport) {
        self.0.push(DriverCalls::so_far());
    }
}

/// Images of 10 classes.
fn images(count: usize, channels: usize, size: usize) -> ImageDataset {
    let values = noise(count * channels * size * size, 1);
    let pixels = values.iter().map(|v| (v * 60.0 + 128.0) as u8).collect();
    let labels = (0..count).map(|i| (i % 10) as u16).collect();
    ImageDataset::new(pixels, labels, ImageShape::new(channels, size, size), 10).unwrap()
}

/// Four steps of two images.
fn train<const C: usize, const N: usize, M, O>(
    dev: &Cuda,
    mut trainer: Trainer<M, Cuda, O>,
) -> Steps
where
    M: ImageClassifier<C, N, N, 10, Cuda>,
    O: ssprop::optim::Optimizer<M, f32, Cuda>,
{
    let data = images(8, C, N);
    let loader = BatchLoader::new(&data, 2).unwrap().shuffle(1);
    let mut steps = Steps::new();
    trainer
        .train_epoch::<C, N, N, 10>(dev, &loader, &mut steps)
        .unwrap();
    steps
}

#[test]
fn the_cnn_with_every_selection() {
    let selections = [
        Selection::TopK,
        Selection::Random {
            seed: 3,
            rescale: true,
        },
        Selection::Rotation { rescale: false },
    ];
    let dev = crate::support::cuda();
    for selection in selections {
        for rate in [0.0, 0.8] {
            let mut model = dev.build_module::<Cnn<2, 10, 1>, f32>();
            model.set_drop_rate(DropRate::new(rate).unwrap());
            model.set_selection(selection);
            let trainer = Trainer::new(model, AdamConfig::adam()).unwrap();
            train::<1, 10, _, _>(&dev, trainer).check(1, 4);
        }
    }
}

/// The norm of the gradient is asked for: one number of each parameter, at once.
#[test]
fn the_cnn_with_all_that_a_trainer_does() {
    let dev = crate::support::cuda();
    let mut model = dev.build_module::<Cnn<2, 10, 1>, f32>();
    model.set_drop_rate(DropRate::new(0.8).unwrap());
    model.set_dropout(0.2, 1).unwrap();
    let mut parameters = 0;
    model.visit_sparse(&mut |_| parameters += 3);
    let config = SgdConfig {
        lr: 0.01,
        momentum: 0.9,
        ..Default::default()
    };
    let sgd = Sgd::new(&model, config).unwrap();
    let trainer = Trainer::with_optimizer(model, sgd)
        .with_clip_norm(1.0)
        .and_then(|t| t.with_label_smoothing(0.1))
        .and_then(|t| t.with_ema(0.99))
        .unwrap();
    // A weight and two of the norm for each layer, two of the linear one.
    train::<1, 10, _, _>(&dev, trainer).check(2, 4 + 8 * (parameters + 2));
}

#[test]
fn resnet18() {
    let dev = crate::support::cuda();
    for (rate, most) in [(0.0, 152), (0.8, 231)] {
        let mut model = dev.build_module::<ResNet18<10>, f32>();
        model.set_drop_rate(DropRate::new(rate).unwrap());
        let trainer = Trainer::new(model, AdamConfig::adam()).unwrap();
        let steps = train::<3, 8, _, _>(&dev, trainer);
        steps.check(1, 4);
        steps.check_launches(most);
    }
}

/// A U-Net makes its timesteps' sines on the host, which reads the timesteps.
#[test]
fn a_denoiser() {
    let dev = crate::support::cuda();
    let data = images(8, 1, 8);
    let loader = BatchLoader::new(&data, 2).unwrap().shuffle(1);
    let mut model = dev.build_module::<MnistUNet, f32>();
    model.set_drop_rate(DropRate::new(0.8).unwrap());
    let diffusion = Diffusion::new(BetaSchedule::Cosine, 10).unwrap();
    let mut trainer = DiffusionTrainer::new(model, AdamConfig::adam(), diffusion, 5).unwrap();
    let mut steps = Steps::new();
    trainer
        .train_epoch::<1, 8, 8>(&dev, &loader, &mut steps)
        .unwrap();
    steps.check(2, 4 + 2 * 4);
    steps.check_launches(930);
}
