//! Drop rates that differ by layer.

mod layers;
mod text;

pub use layers::{LayerInfo, LayerSelector};

use super::VisitLayers;
use crate::error::{Error, Result};
use crate::sparsity::Schedule;

/// A schedule for the sparse layers of a model, and other schedules for some of them. The paper has
/// one for all, and leaves this to future work.
///
/// Where several overrides hold a layer, the last one counts.
///
/// ```
/// use ssprop::nn::{LayerSelector, SchedulePlan};
/// use ssprop::prelude::*;
///
/// let sixty = Schedule::alternating(DropRate::new(0.6)?);
/// let plan = SchedulePlan::new(Schedule::paper())
///     .with("layer1", sixty)
///     .with(LayerSelector::matching("narrow", |layer| layer.channels < 8), Schedule::DENSE)
///     .dense(LayerSelector::stem())
///     .dense(LayerSelector::shortcuts());
///
/// let mut net = Cpu::default().build_module::<ResNet18<10>, f32>();
/// // No layer of this one has so few channels: that is reported, as a misspelt path would be.
/// let err = plan.apply(&mut net, 1, 0).unwrap_err();
/// assert!(err.to_string().contains("`@narrow`"));
///
/// // As a text, for flags and the metadata of checkpoints.
/// let plan: SchedulePlan = "paper; layer1=constant,drop=0.6,interleave; @stem=dense".parse()?;
/// plan.apply(&mut net, 1, 0)?;
/// assert!(net.conv1.backward.drop_rate.is_dense());
/// assert_eq!(net.layer1.0.conv1.backward.drop_rate.rate(), 0.6);
/// assert_eq!(net.layer4.0.conv1.backward.drop_rate.rate(), 0.8);
/// # Ok::<(), ssprop::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct SchedulePlan {
    default: Schedule,
    overrides: Vec<(LayerSelector, Schedule)>,
}

impl SchedulePlan {
    /// One schedule for all layers.
    pub fn new(default: Schedule) -> Self {
        Self {
            default,
            overrides: Vec::new(),
        }
    }

    /// The same with another schedule for `layers`.
    pub fn with(mut self, layers: impl Into<LayerSelector>, schedule: Schedule) -> Self {
        self.overrides.push((layers.into(), schedule));
        self
    }

    /// The same with `layers` left dense.
    pub fn dense(self, layers: impl Into<LayerSelector>) -> Self {
        self.with(layers, Schedule::DENSE)
    }

    /// The schedule of layers without an override.
    pub fn default_schedule(&self) -> &Schedule {
        &self.default
    }

    /// The schedule of each of a model's sparse layers, which are given in the order of the forward
    /// pass.
    ///
    /// # Errors
    /// [`Error::UnmatchedLayers`] for the first override that holds none of them.
    pub fn resolve<'a>(
        &self,
        layers: impl IntoIterator<Item = LayerInfo<'a>>,
    ) -> Result<Vec<Schedule>> {
        let mut used = vec![false; self.overrides.len()];
        let mut paths = Vec::new();
        let mut schedules = Vec::new();
        for layer in layers {
            let mut schedule = self.default;
            for ((layers, own), used) in self.overrides.iter().zip(&mut used) {
                if layers.contains(&layer) {
                    schedule = *own;
                    *used = true;
                }
            }
            paths.push(layer.path);
            schedules.push(schedule);
        }
        match used.iter().position(|used| !used) {
            None => Ok(schedules),
            Some(unused) => Err(Error::UnmatchedLayers {
                pattern: self.overrides[unused].0.to_string(),
                paths: paths.into_iter().map(str::to_owned).collect(),
            }),
        }
    }

    /// The schedule of each of a model's sparse layers, in the order of the forward pass.
    ///
    /// # Errors
    /// As [`resolve`](Self::resolve).
    pub fn resolve_for(&self, model: &mut dyn VisitLayers) -> Result<Vec<Schedule>> {
        let mut layers = Vec::new();
        model.visit_sparse(&mut |layer| {
            let info = layer.info(layers.len());
            layers.push((info.path.to_owned(), info.c_in, info.channels, info.kernel));
        });
        let infos = layers.iter().enumerate();
        self.resolve(
            infos.map(|(index, (path, c_in, channels, kernel))| LayerInfo {
                path,
                index,
                c_in: *c_in,
                channels: *channels,
                kernel: *kernel,
            }),
        )
    }

    /// Sets the drop rates of a model's sparse layers for an iteration of an epoch, both counted
    /// from 0, the iterations from the epoch's beginning.
    ///
    /// # Errors
    /// As [`resolve`](Self::resolve); the model is then as it was.
    pub fn apply(&self, model: &mut dyn VisitLayers, epoch: u64, iteration: u64) -> Result<()> {
        let schedules = self.resolve_for(model)?;
        let mut schedules = schedules.iter();
        model.visit_sparse(&mut |layer| {
            if let Some(schedule) = schedules.next() {
                layer.backward.drop_rate = schedule.drop_rate(epoch, iteration);
            }
        });
        Ok(())
    }

    /// Whether a layer's drop rate may differ between the iterations of this epoch.
    pub fn varies_within(&self, epoch: u64) -> bool {
        self.schedules().any(|s| s.varies_within(epoch))
    }

    /// That a run of this many epochs is not shorter than any schedule's warm-up.
    ///
    /// # Errors
    /// As [`Schedule::check_run`].
    pub fn check_run(&self, epochs: u64) -> Result<()> {
        self.schedules().try_for_each(|s| s.check_run(epochs))
    }

    fn schedules(&self) -> impl Iterator<Item = &Schedule> {
        std::iter::once(&self.default).chain(self.overrides.iter().map(|(_, schedule)| schedule))
    }
}

/// One schedule for all layers.
impl From<Schedule> for SchedulePlan {
    fn from(schedule: Schedule) -> Self {
        Self::new(schedule)
    }
}

#[cfg(test)]
mod tests;
