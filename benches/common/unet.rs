//! The U-Net for 1x32x32 images: a training step on random noise, and a step of sampling.

use dfdx::tensor::OwnedTape;
use ssprop::models::modules;
use ssprop::optim::{Adam, AdamConfig};
use ssprop::prelude::{
    Backward as _, BetaSchedule, Const, Cpu, DeviceBuildExt, Diffusion, DropRate, Gradients,
    MeanTo, MnistUNet, ModuleMut, Rank0, SampleRun, SampleTensor, Sampler, Tensor, TensorFromVec,
    Trace, VisitSparse, ZeroGrads,
};

type Net = modules::MnistUNet<1, f32, Cpu>;
type Images = Tensor<(usize, Const<1>, Const<32>, Const<32>), f32, Cpu>;

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

/// A training step.
pub struct UNetStep {
    net: Net,
    images: Images,
    timesteps: Tensor<(usize,), f32, Cpu>,
    noise: Images,
    adam: Adam<Net, f32, Cpu>,
    grads: Gradients<f32, Cpu>,
}

impl UNetStep {
    /// A network that drops `drop_rate` of every convolution's output channels, and `batch` images.
    pub fn new(batch: usize, drop_rate: DropRate) -> Self {
        let dev = Cpu::default();
        let mut net = dev.build_module::<MnistUNet, f32>();
        net.set_drop_rate(drop_rate);
        let timesteps = (0..batch).map(|i| (i * 7 % 200) as f32).collect();
        let shape = (batch, Const, Const, Const);
        Self {
            adam: Adam::new(&net, AdamConfig::adamw()).expect("the defaults are valid"),
            grads: net.alloc_grads(),
            images: dev.sample_normal_like(&shape),
            noise: dev.sample_normal_like(&shape),
            timesteps: dev.tensor_from_vec(timesteps, (batch,)),
            net,
        }
    }

    /// The mean square error of the predicted noise, with its graph.
    pub fn forward(&mut self) -> Tensor<Rank0, f32, Cpu, OwnedTape<f32, Cpu>> {
        let grads = std::mem::replace(&mut self.grads, Gradients::leaky());
        let images = self.images.clone().traced(grads);
        let input = (images, self.timesteps.clone());
        let noise = self.net.try_forward_mut(input).expect("the shapes fit");
        (noise - self.noise.clone()).square().mean()
    }

    /// The gradients of the parameters.
    pub fn backward(&mut self, loss: Tensor<Rank0, f32, Cpu, OwnedTape<f32, Cpu>>) {
        self.grads = loss.backward();
    }

    /// AdamW's update, which leaves zeros in the gradients.
    pub fn update(&mut self) {
        self.adam
            .update_and_zero(&mut self.net, &mut self.grads)
            .expect("every parameter has a gradient");
    }
}
