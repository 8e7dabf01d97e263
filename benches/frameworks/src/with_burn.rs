//! burn.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::loss::{CrossEntropyLoss, CrossEntropyLossConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::optim::{AdamConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Distribution, Int, Tensor};

use crate::{Framework, BATCH, CLASSES, INFERENCES};

#[derive(Module, Debug)]
struct ConvNorm {
    conv: Conv2d,
    norm: BatchNorm,
}

impl ConvNorm {
    fn new(from: usize, to: usize, kernel: usize, stride: usize, device: &Device) -> Self {
        let padding = kernel / 2;
        Self {
            conv: Conv2dConfig::new([from, to], [kernel, kernel])
                .with_stride([stride, stride])
                .with_padding(PaddingConfig2d::Explicit(
                    padding, padding, padding, padding,
                ))
                .with_bias(false)
                .init(device),
            norm: BatchNormConfig::new(to).init(device),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.norm.forward(self.conv.forward(x))
    }
}

#[derive(Module, Debug)]
struct Block {
    first: ConvNorm,
    second: ConvNorm,
    shortcut: Option<ConvNorm>,
}

impl Block {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let shortcut = match &self.shortcut {
            Some(shortcut) => shortcut.forward(x.clone()),
            None => x.clone(),
        };
        relu(self.second.forward(relu(self.first.forward(x))) + shortcut)
    }
}

#[derive(Module, Debug)]
struct ResNet18 {
    stem: ConvNorm,
    blocks: Vec<Block>,
    linear: Linear,
}

impl ResNet18 {
    fn new(device: &Device) -> Self {
        let mut blocks = Vec::new();
        let mut from = 64;
        for to in [64, 64, 128, 128, 256, 256, 512, 512] {
            let stride = if to == from { 1 } else { 2 };
            blocks.push(Block {
                first: ConvNorm::new(from, to, 3, stride, device),
                second: ConvNorm::new(to, to, 3, 1, device),
                shortcut: (to != from).then(|| ConvNorm::new(from, to, 1, stride, device)),
            });
            from = to;
        }
        Self {
            stem: ConvNorm::new(3, 64, 3, 1, device),
            blocks,
            linear: LinearConfig::new(512, CLASSES).init(device),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = relu(self.stem.forward(x));
        let x = self.blocks.iter().fold(x, |x, block| block.forward(x));
        let [batch, channels, h, w] = x.dims();
        let mean = x.reshape([batch, channels, h * w]).mean_dim(2);
        self.linear.forward(mean.reshape([batch, channels]))
    }
}

pub struct Burn {
    net: Option<ResNet18>,
    adam: ModuleOptimizer,
    loss: CrossEntropyLoss,
    batch: Tensor<4>,
    targets: Tensor<1, Int>,
    inference: ResNet18,
    images: Vec<Tensor<4>>,
}

impl Burn {
    pub fn new() -> Self {
        let device = Device::flex();
        let training = Device::flex().autodiff();
        let images = |n: usize, device: &Device| {
            Tensor::random([n, 3, 32, 32], Distribution::Normal(0.0, 1.0), device)
        };
        let labels: Vec<i32> = (0..BATCH).map(|i| (i % CLASSES) as i32).collect();
        Self {
            net: Some(ResNet18::new(&training)),
            adam: AdamConfig::new().init(),
            loss: CrossEntropyLossConfig::new().init(&training),
            batch: images(BATCH, &training),
            targets: Tensor::from_data(labels.as_slice(), &training),
            inference: ResNet18::new(&device),
            images: INFERENCES.map(|n| images(n, &device)).into(),
        }
    }
}

impl Framework for Burn {
    fn step(&mut self) {
        let net = self.net.take().expect("put back by each step");
        let logits = net.forward(self.batch.clone());
        let loss = self.loss.forward(logits, self.targets.clone());
        let grads = GradientsParams::from_grads(loss.backward(), &net);
        self.net = Some(self.adam.step(1e-3, net, grads));
    }

    fn infer(&mut self, batch: usize) -> bool {
        let images = self.images.iter().find(|images| images.dims()[0] == batch);
        let logits = self
            .inference
            .forward(images.expect("one of INFERENCES").clone());
        std::hint::black_box(logits.into_data());
        true
    }
}
