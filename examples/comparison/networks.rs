//! The networks, and one training of each.

use clap::ValueEnum;
use common::device::Device;
use common::sweep::{Images, Outcome, Run};
use common::{on_device, small};
use dfdx::prelude::BuildOnDevice;
use ssprop::models::builders::{BasicBlock, DownBlock};
use ssprop::nn::ModelCost;
use ssprop::prelude::*;
use ssprop::train::ImageClassifier;
use ssprop::Backend;

use crate::arms::Arm;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Network {
    /// Convolutions of 16, 32 and 32 channels
    Small,
    /// Convolutions of 64, 128 and 128 channels
    Wide,
    /// ResNet-18 with half the channels, for images of half the rows and columns
    #[value(name = "half-resnet18")]
    HalfResNet18,
    /// Its narrower form, an arm of a comparison with it
    #[value(skip)]
    Narrower,
}

/// ResNet-18 with other numbers of channels.
type Narrow<const A: usize, const B: usize, const C: usize, const D: usize> = (
    SparseConv2D<1, A, 3, 1, 1>,
    BatchNorm2D<A>,
    ReLU,
    (
        (BasicBlock<A>, BasicBlock<A>),
        (DownBlock<A, B>, BasicBlock<B>),
        (DownBlock<B, C>, BasicBlock<C>),
        (DownBlock<C, D>, BasicBlock<D>),
    ),
    GlobalAvgPool,
    Linear<D, 10>,
);
type Half = Narrow<32, 64, 128, 256>;
/// 25/32 of the channels of [`Half`].
type Narrower = Narrow<25, 50, 100, 200>;

type Built<N> = <N as BuildOnDevice<Cpu, f32>>::Built;

impl Network {
    /// Rows and columns of its images.
    pub fn size(self) -> usize {
        match self {
            Self::Small | Self::Wide => 28,
            Self::HalfResNet18 | Self::Narrower => 14,
        }
    }
}

/// What a network's passes cost.
pub fn cost(network: Network) -> ssprop::Result<ModelCost> {
    let image = [1, network.size(), network.size()];
    match network {
        Network::Small => ModelCost::of::<small::Built>(image),
        Network::Wide => ModelCost::of::<small::BuiltWide>(image),
        Network::HalfResNet18 => ModelCost::of::<Built<Half>>(image),
        Network::Narrower => ModelCost::of::<Built<Narrower>>(image),
    }
}

/// Trains an arm's network, and tests it once at the end.
pub fn train(device: Device, arm: &Arm, run: &Run, images: &Images) -> ssprop::Result<Outcome> {
    on_device!(device, run.seed, |dev| match arm.network {
        Network::Small =>
            of::<_, _, 28>(arm, run, images, &dev, small::build::<small::Net, _>(&dev)),
        Network::Wide =>
            of::<_, _, 28>(arm, run, images, &dev, small::build::<small::Wide, _>(&dev)),
        Network::HalfResNet18 => {
            let mut net = small::build::<Half, _>(&dev);
            net.set_dropout(arm.dropout, run.seed)?;
            of::<_, _, 14>(arm, run, images, &dev, net)
        }
        Network::Narrower =>
            of::<_, _, 14>(arm, run, images, &dev, small::build::<Narrower, _>(&dev)),
    })
}

fn of<M, D, const SIZE: usize>(
    arm: &Arm,
    run: &Run,
    images: &Images,
    dev: &D,
    mut net: M,
) -> ssprop::Result<Outcome>
where
    M: ImageClassifier<1, SIZE, SIZE, 10, D>,
    D: Backend<f32>,
{
    let seed = run.seed;
    net.visit_sparse(&mut |layer| {
        layer.backward.selection = match arm.selection {
            Selection::Random { rescale, .. } => Selection::Random { seed, rescale },
            other => other,
        };
    });
    run.outcome::<_, _, 1, SIZE, SIZE, 10>(images, dev, net)
}
