//! Parameters that are trained otherwise than the others.

use std::collections::BTreeMap;

use dfdx::dtypes::Dtype;
use dfdx::nn::TensorCollection;

use crate::backend::Backend;
use crate::bridge::path;
use crate::bridge::tensors::{for_each_part, Part};
use crate::error::{Error, Result};

/// Which parameters have another learning rate, another weight decay, or are frozen: PyTorch's parameter
/// groups. Where several rules hold a parameter, the last of a kind counts.
///
/// A path pattern means the parameter of that path, or every one below the layer of that path:
/// `layer1.0.conv1.weight`, `layer1`, `layer*.0.conv1`, `**.bn1` (`*` stands for any characters of one
/// part, `**` for any number of parts).
///
/// A frozen parameter is not updated and not decayed, and its gradient is no part of the norm. The
/// [`Trainer`](crate::train::Trainer) leaves it out of the backward pass, and below the first layer that is trained
/// the gradients of activations too, as far as the layers are this crate's (dfdx's own compute theirs). Its reports
/// count FLOPs [accordingly](crate::train::Trainer::backward_cost). A frozen batch norm's running statistics still follow
/// the batches, as in PyTorch.
///
/// ```
/// use ssprop::optim::ParameterGroups;
/// use ssprop::prelude::*;
///
/// type Net = (SparseConv2D<1, 8, 3, 1, 1>, BatchNorm2D<8>, ReLU, GlobalAvgPool, Linear<8, 2>);
/// let model = Cpu::default().build_module::<Net, f32>();
/// let groups = ParameterGroups::new()
///     .without_decay_of_norms_and_biases()
///     .with_lr_factor("1", 0.1)?
///     .freeze("0");
/// let trainer = Trainer::new(model, AdamConfig::adamw())?.with_parameter_groups(&groups)?;
/// # let _ = &trainer;
///
/// // A path that holds nothing is an error.
/// let err = trainer.with_parameter_groups(&ParameterGroups::new().freeze("conv1")).unwrap_err();
/// assert!(err.to_string().starts_with("no parameter matches `conv1`: the model has 0.weight"));
/// # Ok::<(), ssprop::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ParameterGroups {
    rules: Vec<(Which, Change)>,
}

#[derive(Clone, Debug, PartialEq)]
enum Which {
    At(String),
    NormsAndBiases,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Change {
    LrFactor(f64),
    WeightDecay(f64),
    Frozen(bool),
}

/// How one parameter is trained.
#[derive(Clone, Copy, Debug)]
pub(super) struct Treatment {
    pub(super) lr_factor: f64,
    pub(super) weight_decay: Option<f64>,
    pub(super) frozen: bool,
}

impl Default for Treatment {
    fn default() -> Self {
        Self {
            lr_factor: 1.0,
            weight_decay: None,
            frozen: false,
        }
    }
}

impl ParameterGroups {
    /// All parameters alike.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with no weight decay of parameters of one dimension: scales and shifts of norms, and
    /// biases.
    pub fn without_decay_of_norms_and_biases(self) -> Self {
        self.with(Which::NormsAndBiases, Change::WeightDecay(0.0))
    }

    /// The same with a learning rate of `factor` times the optimizer's for the parameters at or below a
    /// path.
    ///
    /// # Errors
    /// [`Error::Parameter`] if `factor` is negative or not finite.
    pub fn with_lr_factor(self, path: impl Into<String>, factor: f64) -> Result<Self> {
        super::adam::positive("lr_factor", factor)?;
        Ok(self.with(Which::At(path.into()), Change::LrFactor(factor)))
    }

    /// The same with another weight decay for the parameters at or below a path.
    ///
    /// # Errors
    /// [`Error::Parameter`] if `decay` is negative or not finite.
    pub fn with_weight_decay(self, path: impl Into<String>, decay: f64) -> Result<Self> {
        super::adam::positive("weight_decay", decay)?;
        Ok(self.with(Which::At(path.into()), Change::WeightDecay(decay)))
    }

    /// The same with the parameters at or below a path frozen.
    pub fn freeze(self, path: impl Into<String>) -> Self {
        self.with(Which::At(path.into()), Change::Frozen(true))
    }

    /// The same with the parameters at or below a path trained after all: `freeze("**")` and
    /// `unfreeze("linear")` train the last layer alone.
    pub fn unfreeze(self, path: impl Into<String>) -> Self {
        self.with(Which::At(path.into()), Change::Frozen(false))
    }

    fn with(mut self, which: Which, change: Change) -> Self {
        self.rules.push((which, change));
        self
    }

    /// How each of the model's parameters is trained.
    ///
    /// # Errors
    /// [`Error::UnmatchedParameters`] for the first path that holds none of them.
    pub(super) fn resolve<M, E, D>(&self, model: &M) -> Result<BTreeMap<String, Treatment>>
    where
        M: TensorCollection<E, D>,
        E: Dtype,
        D: Backend<E>,
    {
        let mut used = vec![false; self.rules.len()];
        let mut names = Vec::new();
        let mut found = BTreeMap::new();
        for_each_part::<_, E, D>(model, &mut |name, part| {
            let Part::Weight(param) = part else {
                return Ok(());
            };
            let mut treatment = Treatment::default();
            for ((which, change), used) in self.rules.iter().zip(&mut used) {
                let holds = match which {
                    Which::At(pattern) => path::matches(pattern, &name),
                    Which::NormsAndBiases => param.sizes().len() <= 1,
                };
                if !holds {
                    continue;
                }
                *used = true;
                match *change {
                    Change::LrFactor(factor) => treatment.lr_factor = factor,
                    Change::WeightDecay(decay) => treatment.weight_decay = Some(decay),
                    Change::Frozen(frozen) => treatment.frozen = frozen,
                }
            }
            names.push(name.clone());
            found.insert(name, treatment);
            Ok(())
        })?;
        let mut rules = self.rules.iter().zip(used);
        let unmatched = rules.find_map(|((which, _), used)| match which {
            Which::At(pattern) if !used => Some(pattern.clone()),
            _ => None,
        });
        match unmatched {
            Some(pattern) => Err(Error::UnmatchedParameters { pattern, names }),
            None => Ok(found),
        }
    }
}
