//! Everything that a program with a network usually needs: dfdx's prelude, and ours.
//!
//! ```
//! use ssprop::prelude::*;
//!
//! let dev = Cpu::default();
//! let conv = dev.build_module::<SparseConv2D<3, 64, 3, 1, 1>, f32>();
//! let y = conv.forward(dev.zeros::<Rank4<1, 3, 32, 32>>());
//! let _: &Rank4<1, 64, 32, 32> = y.shape();
//! ```

pub use dfdx::prelude::*;

// By name where dfdx has one of the same name: ours is then the one that is meant.
pub use crate::checkpoint::{self, load_training, save_training};
pub use crate::diffusion::{
    BetaSchedule, Diffusion, DiffusionTrainer, Parameterization, SampleRun, Sampler,
};
pub use crate::models::builders::{
    CelebAUNet, ClassConditional, Cnn, MnistUNet, ResNet18, ResNet26, ResNet34, ResNet50, ViT, MLP,
};
pub use crate::nn::builders::{
    AvgPool2D, BatchNorm2D, BiasedSparseConv2D, Flatten, GlobalAvgPool, GroupNorm, LayerNorm,
    MaxPool2D, ReLU, SiLU, SparseConv2D, SparseLinear, UnbiasedSparseLinear, GELU,
};
pub use crate::nn::{SchedulePlan, VisitLayers};
pub use crate::optim::{Adam, AdamConfig, Ema, LrSchedule, ParameterGroups, Sgd, SgdConfig};
pub use crate::sparsity::{AdaptiveKeep, DropRate, Masking, Schedule, Selection, Span};
pub use crate::train::{evaluate, BatchReport, EpochReport, Evaluation, Observer, Trainer};
