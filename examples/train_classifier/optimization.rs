//! How the weights are updated, and towards what.

use common::optimization::{self, BoxedTrainer, OptimizerName};
use ssprop::prelude::TensorCollection;
use ssprop::Backend;

/// The optimizer unless another is named.
const USUAL: OptimizerName = OptimizerName::Adam;

/// How the weights are updated, and towards what.
#[derive(Clone, Debug, Default, PartialEq, clap::Args)]
pub struct Optimization {
    #[command(flatten)]
    updates: optimization::Optimization,
    /// Share of the labels that all classes get alike [default: 0]
    #[arg(long)]
    label_smoothing: Option<f64>,
    /// Decay of a moving average of the weights, which is then what is validated and tested, 0.999 say
    /// [default: none]
    #[arg(long)]
    ema: Option<f64>,
}

impl Optimization {
    /// That the flags go together.
    ///
    /// # Errors
    /// As [`optimization::Optimization::check`].
    pub fn check(&self, lr: f64) -> ssprop::Result<()> {
        self.updates.check(USUAL, lr)
    }

    /// A trainer of `model` with all of this.
    ///
    /// # Errors
    /// Those of values out of their range, and of paths that the model has not.
    pub fn trainer<M, D>(&self, model: M, lr: f64) -> ssprop::Result<BoxedTrainer<M, D>>
    where
        M: TensorCollection<f32, D> + Clone + 'static,
        D: Backend<f32>,
    {
        let mut trainer = self.updates.trainer(USUAL, model, lr)?;
        if let Some(smoothing) = self.label_smoothing {
            trainer = trainer.with_label_smoothing(smoothing)?;
        }
        match self.ema {
            Some(decay) => trainer.with_ema(decay),
            None => Ok(trainer),
        }
    }
}
