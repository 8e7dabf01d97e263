//! A step of sampling with the U-Net for 1x32x32 images.

use ssprop::models::modules;
use ssprop::prelude::{
    BetaSchedule, Cpu, DeviceBuildExt, Diffusion, MnistUNet, SampleRun, Sampler,
};

type Net = modules::MnistUNet<1, f32, Cpu>;

/// A step of sampling: the network's prediction for `count` images of noise, and what follows of it.
pub struct Sampling {
    net: Net,
    diffusion: Diffusion,
    count: usize,
}

impl Sampling {
    /// A network for steps of `count` images.
    pub fn new(count: usize) -> Self {
        Self {
            net: Cpu::default().build_module::<MnistUNet, f32>(),
            diffusion: Diffusion::new(BetaSchedule::Cosine, 200).expect("steps in range"),
            count,
        }
    }

    /// The images after one step.
    pub fn run(&self) -> Vec<f32> {
        let run = SampleRun {
            seed: 0,
            count: self.count,
            batch: self.count,
        };
        let dev = Cpu::default();
        Sampler::Ddim { steps: 1, eta: 0.0 }
            .sample::<1, 32, 32, _, _>(&self.diffusion, &self.net, &dev, run, &mut |_| ())
            .expect("the shapes fit")
    }
}
