//! How the weights are updated.

use clap::ValueEnum;
use ssprop::optim::Optimizer;
use ssprop::prelude::{Adam, AdamConfig, ParameterGroups, Sgd, SgdConfig};
use ssprop::prelude::{TensorCollection, Trainer};
use ssprop::{Backend, Error};

use crate::args::count;

/// How the weights are updated.
#[derive(Clone, Debug, Default, PartialEq, clap::Args)]
pub struct Optimization {
    /// The optimizer [default: adam, of ddpm_train adamw]
    #[arg(long, value_enum)]
    pub optimizer: Option<OptimizerName>,
    /// Leave weights whose gradient is exactly 0 alone, with their moments, as those of dropped channels: adam
    /// otherwise goes on moving them (of adam and adamw)
    #[arg(long)]
    pub lazy: bool,
    /// Momentum of sgd [default: 0]
    #[arg(long)]
    pub momentum: Option<f64>,
    /// Nesterov's momentum, of sgd
    #[arg(long)]
    pub nesterov: bool,
    /// Weight decay [default: 0, of adamw 0.01]
    #[arg(long)]
    pub weight_decay: Option<f64>,
    /// No weight decay of norms and biases
    #[arg(long)]
    pub no_norm_decay: bool,
    /// Factors of the learning rate by layer: layer1=0.1,linear=2
    #[arg(long, value_delimiter = ',', value_parser = lr_factor, value_name = "PATH=FACTOR")]
    pub lr_factor: Vec<(String, f64)>,
    /// Layers that stay as they are: path patterns (conv1, layer1, layer*.0.conv1)
    #[arg(long, value_delimiter = ',')]
    pub freeze: Vec<String>,
    /// Largest norm of the gradient of all weights [default: any]
    #[arg(long)]
    pub clip_norm: Option<f64>,
    /// Largest element of the gradient [default: any]
    #[arg(long)]
    pub clip_value: Option<f64>,
    /// Batches whose gradients are added for one update [default: 1]
    #[arg(long, value_parser = count)]
    pub accumulate: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OptimizerName {
    Adam,
    /// Weight decay apart from the gradient
    #[value(name = "adamw")]
    AdamW,
    Sgd,
}

/// A path and its factor.
fn lr_factor(text: &str) -> Result<(String, f64), String> {
    let (path, factor) = text
        .split_once('=')
        .ok_or("must be a layer's path, = and a factor")?;
    let factor = factor.parse().map_err(|_| "must end with a number")?;
    Ok((path.to_owned(), factor))
}

impl Optimization {
    /// That the flags go together, where `usual` is the optimizer unless another is named.
    ///
    /// # Errors
    /// [`Error::Parameter`] with the first that does not, or that is out of its range.
    pub fn check(&self, usual: OptimizerName, lr: f64) -> ssprop::Result<()> {
        let optimizer = self.optimizer.unwrap_or(usual);
        if optimizer == OptimizerName::Sgd {
            if self.lazy {
                let range = "left out, or go with --optimizer adam or adamw";
                return Err(Error::parameter("--lazy", true, range));
            }
            return self.sgd(lr).check();
        }
        let range = "left out, or go with --optimizer sgd";
        if let Some(momentum) = self.momentum {
            return Err(Error::parameter("--momentum", momentum, range));
        }
        if self.nesterov {
            return Err(Error::parameter("--nesterov", true, range));
        }
        self.adam(optimizer, lr).check()
    }

    fn sgd(&self, lr: f64) -> SgdConfig {
        SgdConfig {
            lr,
            momentum: self.momentum.unwrap_or(0.0),
            nesterov: self.nesterov,
            weight_decay: self.weight_decay.unwrap_or(0.0),
            ..SgdConfig::default()
        }
    }

    fn adam(&self, optimizer: OptimizerName, lr: f64) -> AdamConfig {
        let config = match optimizer {
            OptimizerName::AdamW => AdamConfig::adamw(),
            _ => AdamConfig::adam(),
        };
        AdamConfig {
            lr,
            weight_decay: self.weight_decay.unwrap_or(config.weight_decay),
            lazy: self.lazy,
            ..config
        }
    }

    fn groups(&self) -> ssprop::Result<ParameterGroups> {
        let mut groups = ParameterGroups::new();
        if self.no_norm_decay {
            groups = groups.without_decay_of_norms_and_biases();
        }
        for (path, factor) in &self.lr_factor {
            groups = groups.with_lr_factor(path, *factor)?;
        }
        for path in &self.freeze {
            groups = groups.freeze(path);
        }
        Ok(groups)
    }

    /// A trainer of `model` with all of this.
    ///
    /// # Errors
    /// Those of values out of their range, and of paths that the model has not.
    pub fn trainer<M, D>(
        &self,
        usual: OptimizerName,
        model: M,
        lr: f64,
    ) -> ssprop::Result<BoxedTrainer<M, D>>
    where
        M: TensorCollection<f32, D> + 'static,
        D: Backend<f32>,
    {
        let groups = self.groups()?;
        let optimizer = self.optimizer.unwrap_or(usual);
        let optimizer: BoxedOptimizer<M, D> = match optimizer {
            OptimizerName::Sgd => {
                Box::new(Sgd::new(&model, self.sgd(lr))?.with_groups(&model, &groups)?)
            }
            OptimizerName::Adam | OptimizerName::AdamW => {
                Box::new(Adam::new(&model, self.adam(optimizer, lr))?.with_groups(&model, &groups)?)
            }
        };
        let mut trainer = Trainer::with_optimizer(model, optimizer);
        if let Some(norm) = self.clip_norm {
            trainer = trainer.with_clip_norm(norm)?;
        }
        if let Some(limit) = self.clip_value {
            trainer = trainer.with_clip_value(limit)?;
        }
        if let Some(batches) = self.accumulate {
            trainer = trainer.with_accumulation(batches)?;
        }
        Ok(trainer)
    }
}

/// An optimizer that is chosen at run time, so that each network is compiled once.
pub type BoxedOptimizer<M, D> = Box<dyn Optimizer<M, f32, D>>;

/// A trainer with one.
pub type BoxedTrainer<M, D> = Trainer<M, D, BoxedOptimizer<M, D>>;
