//! What the backward passes of a training run cost on a schedule (arXiv 2408.12561, Tables 4 to 7).

use super::backward_cost::{LayerCost, ModelCost};
use super::plan::{LayerInfo, SchedulePlan};
use crate::error::Result;
use crate::sparsity::{DropRate, Schedule};

/// The size of a training run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunSize {
    /// Images of an epoch.
    pub images: usize,
    /// Images of a batch.
    pub batch: usize,
    /// Epochs.
    pub epochs: u64,
}

impl RunSize {
    /// Iterations of an epoch, images / batch, with a fraction of one, as in the paper's totals. 0
    /// for batches of 0.
    pub fn iterations_per_epoch(&self) -> f64 {
        match self.batch {
            0 => 0.0,
            batch => self.images as f64 / batch as f64,
        }
    }
}

/// Backward FLOPs on a schedule, and what they would be without one.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct FlopsCost {
    /// With every iteration's drop rate.
    pub scheduled: f64,
    /// With every iteration dense.
    pub dense: f64,
}

impl FlopsCost {
    /// The share that the schedule saves: 1 - scheduled / dense. 0 where nothing is counted.
    pub fn saved(&self) -> f64 {
        if self.dense == 0.0 {
            return 0.0;
        }
        1.0 - self.scheduled / self.dense
    }

    fn add(&mut self, other: &Self) {
        self.scheduled += other.scheduled;
        self.dense += other.dense;
    }
}

/// Backward FLOPs of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct RunCost {
    /// Of each counted layer, with its path.
    pub layers: Vec<(String, FlopsCost)>,
    /// The sum.
    pub total: FlopsCost,
}

impl ModelCost {
    /// Backward FLOPs of a whole run on a schedule or a plan of several, layer by layer.
    ///
    /// The last, smaller batch of an epoch counts as the fraction of a whole one that it is, as in
    /// the paper's totals.
    ///
    /// ```
    /// use ssprop::models::modules;
    /// use ssprop::nn::{LayerSelector, ModelCost, RunSize, SchedulePlan};
    /// use ssprop::prelude::*;
    ///
    /// let cost = ModelCost::of::<modules::ResNet18<10, 3, f32, Cpu>>([3, 32, 32])?;
    /// let size = RunSize { images: 50_000, batch: 128, epochs: 50 };
    /// let plan = SchedulePlan::new(Schedule::paper()).dense(LayerSelector::stem());
    /// let run = cost.on_schedule(&plan, size)?;
    /// assert!(run.total.saved() > 0.39 && run.total.saved() < 0.4);
    /// assert_eq!(run.layers[0].1.saved(), 0.0);
    /// # Ok::<(), ssprop::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::UnmatchedLayers`](crate::Error::UnmatchedLayers) if an override of the plan holds
    /// none of the counted convolutions, [`Error::Parameter`](crate::Error::Parameter) if the run is
    /// shorter than a warm-up.
    pub fn on_schedule(&self, plan: &SchedulePlan, size: RunSize) -> Result<RunCost> {
        plan.check_run(size.epochs)?;
        let mut schedules = plan.resolve(self.sparse_layers())?.into_iter();
        let mut run = RunCost {
            layers: Vec::new(),
            total: FlopsCost::default(),
        };
        for (path, layer) in &self.layers {
            let schedule = match layer {
                LayerCost::BatchNorm2D(_) | LayerCost::Dropout(_) => None,
                _ => schedules.next(),
            };
            let dense = layer_run(layer, &Schedule::DENSE, size);
            let cost = FlopsCost {
                scheduled: schedule.map_or(dense, |s| layer_run(layer, &s, size)),
                dense,
            };
            run.total.add(&cost);
            run.layers.push((path.clone(), cost));
        }
        Ok(run)
    }

    /// The layers whose backward pass can be sparse.
    fn sparse_layers(&self) -> impl Iterator<Item = LayerInfo<'_>> {
        let sparse = self.layers.iter().filter_map(|(path, layer)| match layer {
            LayerCost::Conv2D(conv) | LayerCost::FrozenConv2D(conv) => {
                Some((path, conv.c_in(), conv.c_out(), Some(conv.op().kernel)))
            }
            &LayerCost::Linear { inputs, outputs }
            | &LayerCost::FrozenLinear { inputs, outputs } => Some((path, inputs, outputs, None)),
            _ => None,
        });
        let infos = sparse.enumerate();
        infos.map(|(index, (path, c_in, channels, kernel))| LayerInfo {
            path,
            index,
            c_in,
            channels,
            kernel,
        })
    }
}

/// Backward FLOPs of one layer in a run.
fn layer_run(layer: &LayerCost, schedule: &Schedule, size: RunSize) -> f64 {
    let iterations = size.iterations_per_epoch();
    let cost = |rate: DropRate| layer.flops(size.batch, rate);
    let epoch_cost = |epoch| {
        if schedule.varies_within(epoch) {
            let whole = iterations.floor();
            let costs = (0..whole as u64).map(|i| cost(schedule.drop_rate(epoch, i)));
            let last = cost(schedule.drop_rate(epoch, whole as u64));
            costs.sum::<f64>() + (iterations - whole) * last
        } else {
            iterations * cost(schedule.drop_rate(epoch, 0))
        }
    };
    (0..size.epochs).map(epoch_cost).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::modules::ResNet18;
    use crate::nn::LayerSelector;
    use crate::sparsity::Span;
    use dfdx::tensor::Cpu;

    fn cost() -> ModelCost {
        ModelCost::of::<ResNet18<10, 3, f32, Cpu>>([3, 32, 32]).unwrap()
    }

    fn near(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-12 * b.abs(), "{a} for {b}");
    }

    const SIZE: RunSize = RunSize {
        images: 50,
        batch: 12,
        epochs: 3,
    };

    #[test]
    fn one_schedule_for_all_costs_what_its_epochs_do() {
        let schedule = Schedule::paper();
        let run = cost().on_schedule(&schedule.into(), SIZE).unwrap();
        let rates = (0..3).map(|epoch| schedule.drop_rate(epoch, 0));
        near(run.total.scheduled, cost().per_run(50, 12, rates));
        near(
            run.total.dense,
            cost().per_run(50, 12, [DropRate::DENSE; 3]),
        );
        let parts: f64 = run.layers.iter().map(|(_, part)| part.scheduled).sum();
        near(parts, run.total.scheduled);
        assert_eq!(run.layers.len(), 40);
    }

    /// Counted by hand: 4 whole batches of 12 and a sixth of one.
    #[test]
    fn rates_by_iteration_and_layer_are_added_up() {
        let rate = |rate| DropRate::new(rate).unwrap();
        let saw = Schedule::linear(rate(0.75), Span::iterations(3).unwrap());
        let plan = SchedulePlan::new(saw.warm_up(1).unwrap())
            .dense(LayerSelector::stem())
            .with("layer4", Schedule::constant(rate(0.5)));
        let run = cost().on_schedule(&plan, SIZE).unwrap();
        let sixth = 2.0 / 12.0;
        for ((path, layer), (_, found)) in cost().layers.iter().zip(&run.layers) {
            let flops = |r| layer.flops(12, rate(r));
            let dense = (4.0 + sixth) * flops(0.0);
            near(found.dense, 3.0 * dense);
            let expected = if path == "conv1" {
                3.0 * dense
            } else if path.starts_with("layer4") {
                3.0 * (4.0 + sixth) * flops(0.5)
            } else {
                let sparse = 2.0 * flops(0.0) + flops(0.25) + flops(0.5) + sixth * flops(0.25);
                dense + 2.0 * sparse
            };
            near(found.scheduled, expected);
        }
    }

    #[test]
    fn plans_and_runs_that_do_not_fit_are_errors() {
        let plan = SchedulePlan::new(Schedule::paper()).dense("layer1.0.bn1");
        let err = cost().on_schedule(&plan, SIZE).unwrap_err().to_string();
        assert!(err.contains("`layer1.0.bn1`"), "{err}");
        let late = Schedule::paper().warm_up(4).unwrap();
        assert!(cost().on_schedule(&late.into(), SIZE).is_err());
        let none = RunSize { batch: 0, ..SIZE };
        let run = cost().on_schedule(&Schedule::paper().into(), none).unwrap();
        assert_eq!((run.total.dense, run.total.saved()), (0.0, 0.0));
    }

    /// Eq. 10: a sparse pass of each convolution saves just above the bound and not just below.
    #[test]
    fn the_least_useful_drop_rate_divides_what_saves() {
        let mut convs = 0;
        for (path, layer) in &cost().layers {
            let Some(bound) = layer.least_useful_drop_rate(128) else {
                assert!(!matches!(layer, LayerCost::Conv2D(_)));
                continue;
            };
            let cost = |rate| layer.flops(128, DropRate::new(rate).unwrap());
            assert!(cost(1.001 * bound) < cost(0.0), "{path}: {bound}");
            assert!(cost(0.999 * bound) > cost(0.0), "{path}: {bound}");
            convs += 1;
        }
        assert_eq!(convs, 20);
    }
}
