//! candle.

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::{
    batch_norm, conv2d_no_bias, linear, loss, AdamW, BatchNorm, BatchNormConfig, Conv2d,
    Conv2dConfig, Linear, Module, ModuleT, Optimizer, ParamsAdamW, VarBuilder, VarMap,
};

use crate::{Framework, BATCH, CLASSES, INFERENCES};

struct ConvNorm {
    conv: Conv2d,
    norm: BatchNorm,
}

impl ConvNorm {
    fn new(from: usize, to: usize, kernel: usize, stride: usize, vb: VarBuilder) -> Result<Self> {
        let config = Conv2dConfig {
            padding: kernel / 2,
            stride,
            ..Default::default()
        };
        Ok(Self {
            conv: conv2d_no_bias(from, to, kernel, config, vb.pp("conv"))?,
            norm: batch_norm(to, BatchNormConfig::default(), vb.pp("norm"))?,
        })
    }

    fn forward(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        self.norm.forward_t(&self.conv.forward(x)?, train)
    }
}

struct Block {
    first: ConvNorm,
    second: ConvNorm,
    shortcut: Option<ConvNorm>,
}

impl Block {
    fn forward(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        let y = self.first.forward(x, train)?.relu()?;
        let y = self.second.forward(&y, train)?;
        match &self.shortcut {
            Some(shortcut) => (y + shortcut.forward(x, train)?)?.relu(),
            None => (y + x)?.relu(),
        }
    }
}

struct ResNet18 {
    stem: ConvNorm,
    blocks: Vec<Block>,
    linear: Linear,
}

impl ResNet18 {
    fn new(vb: VarBuilder) -> Result<Self> {
        let mut blocks = Vec::new();
        let mut from = 64;
        for (i, to) in [64, 64, 128, 128, 256, 256, 512, 512]
            .into_iter()
            .enumerate()
        {
            let stride = if to == from { 1 } else { 2 };
            let vb = vb.pp(format!("block{i}"));
            let shortcut = || ConvNorm::new(from, to, 1, stride, vb.pp("shortcut"));
            blocks.push(Block {
                first: ConvNorm::new(from, to, 3, stride, vb.pp("first"))?,
                second: ConvNorm::new(to, to, 3, 1, vb.pp("second"))?,
                shortcut: (to != from).then(shortcut).transpose()?,
            });
            from = to;
        }
        Ok(Self {
            stem: ConvNorm::new(3, 64, 3, 1, vb.pp("stem"))?,
            blocks,
            linear: linear(512, CLASSES, vb.pp("linear"))?,
        })
    }

    fn forward(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        let mut x = self.stem.forward(x, train)?.relu()?;
        for block in &self.blocks {
            x = block.forward(&x, train)?;
        }
        self.linear.forward(&x.flatten_from(2)?.mean(2)?)
    }
}

pub struct Candle {
    net: ResNet18,
    adam: AdamW,
    batch: Tensor,
    targets: Tensor,
    images: Vec<Tensor>,
}

impl Candle {
    pub fn new() -> Self {
        Self::build().expect("a CPU has all of it")
    }

    fn build() -> Result<Self> {
        let device = Device::Cpu;
        let vars = VarMap::new();
        let net = ResNet18::new(VarBuilder::from_varmap(&vars, DType::F32, &device))?;
        let params = ParamsAdamW {
            weight_decay: 0.0,
            ..Default::default()
        };
        let images = |n: usize| Tensor::randn(0f32, 1.0, (n, 3, 32, 32), &device);
        let labels: Vec<u32> = (0..BATCH).map(|i| (i % CLASSES) as u32).collect();
        Ok(Self {
            net,
            adam: AdamW::new(vars.all_vars(), params)?,
            batch: images(BATCH)?,
            targets: Tensor::from_vec(labels, BATCH, &device)?,
            images: INFERENCES.into_iter().map(images).collect::<Result<_>>()?,
        })
    }
}

impl Framework for Candle {
    fn step(&mut self) {
        let mut step = || {
            let logits = self.net.forward(&self.batch, true)?;
            let loss = loss::cross_entropy(&logits, &self.targets)?;
            self.adam.backward_step(&loss)
        };
        step().expect("the shapes fit");
    }

    fn infer(&mut self, batch: usize) -> bool {
        let mut images = self
            .images
            .iter()
            .filter(|images| images.dims()[0] == batch);
        let logits = self
            .net
            .forward(images.next().expect("one of INFERENCES"), false);
        std::hint::black_box(logits.and_then(|logits| logits.to_vec2::<f32>()))
            .expect("the shapes fit");
        true
    }
}
