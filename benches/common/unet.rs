//! A training step of the U-Net for 1x32x32 images on random noise, in its three parts.

use dfdx::tensor::OwnedTape;
use ssprop::models::modules;
use ssprop::optim::{Adam, AdamConfig};
use ssprop::prelude::{
    Backward as _, BuildOnDevice, Const, DropRate, Gradients, MeanTo, MnistUNet, ModuleMut, Rank0,
    Tensor, Trace, VisitLayers, ZeroGrads,
};
use ssprop::Backend;

/// The network on device `D`.
pub type UNet<D> = modules::MnistUNet<1, f32, D>;
type Images<D, T> = Tensor<(usize, Const<1>, Const<32>, Const<32>), f32, D, T>;
type Traced<D> = (Images<D, OwnedTape<f32, D>>, Tensor<(usize,), f32, D>);

/// The network, its optimizer and one batch.
pub struct UNetStep<D: Backend<f32>> {
    net: UNet<D>,
    images: Images<D, dfdx::tensor::NoneTape>,
    timesteps: Tensor<(usize,), f32, D>,
    noise: Images<D, dfdx::tensor::NoneTape>,
    adam: Adam<UNet<D>, f32, D>,
    grads: Gradients<f32, D>,
}

impl<D: Backend<f32>> UNetStep<D>
where
    MnistUNet: BuildOnDevice<D, f32, Built = UNet<D>>,
    UNet<D>: ModuleMut<Traced<D>, Output = Images<D, OwnedTape<f32, D>>, Error = ssprop::Error>,
{
    /// A network that drops `drop_rate` of every convolution's output channels, and `batch` images.
    pub fn new(dev: &D, batch: usize, drop_rate: DropRate) -> Self {
        let mut net = MnistUNet::build_on_device(dev);
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
    pub fn forward(&mut self) -> Tensor<Rank0, f32, D, OwnedTape<f32, D>> {
        let grads = std::mem::replace(&mut self.grads, Gradients::leaky());
        let images = self.images.clone().traced(grads);
        let input = (images, self.timesteps.clone());
        let noise = self.net.try_forward_mut(input).expect("the shapes fit");
        (noise - self.noise.clone()).square().mean()
    }

    /// The gradients of the parameters.
    pub fn backward(&mut self, loss: Tensor<Rank0, f32, D, OwnedTape<f32, D>>) {
        self.grads = loss.backward();
    }

    /// AdamW's update, which leaves zeros in the gradients.
    pub fn update(&mut self) {
        self.adam
            .update_and_zero(&mut self.net, &mut self.grads)
            .expect("every parameter has a gradient");
    }
}
