//! What an adaptive selection really kept, which its reports cannot know beforehand.

use std::collections::BTreeMap;
use std::sync::Arc;

use ssprop::nn::ModelCost;
use ssprop::prelude::*;
use ssprop::sparsity::KeptCount;

/// The counts of one epoch, by the layers' paths.
pub struct Kept {
    counts: Vec<(String, Arc<KeptCount>)>,
    only_weight: bool,
}

impl Kept {
    /// Begins to count; `None` where no layer's selection is adaptive.
    pub fn of(model: &mut dyn VisitLayers) -> Option<Self> {
        let (mut adaptive, mut only_weight) = (false, false);
        model.visit_sparse(&mut |layer| {
            adaptive |= matches!(layer.backward.selection, Selection::Adaptive(_));
            only_weight |= layer.backward.only_weight_sparse;
        });
        adaptive.then(|| Self {
            counts: model.count_kept(),
            only_weight,
        })
    }

    /// The report with the drop rates that came out, and the FLOPs that follow from them, which are
    /// linear in them.
    pub fn correct(&self, report: EpochReport, cost: &ModelCost) -> EpochReport {
        let rates: BTreeMap<&str, DropRate> = self
            .counts
            .iter()
            .map(|(path, count)| (path.as_str(), count.drop_rate()))
            .collect();
        let counted = |path: &str| {
            let rate = rates.get(path).copied().unwrap_or_default();
            match self.only_weight {
                // dX and dW cost the same.
                true => DropRate::new(rate.rate() / 2.0).unwrap_or(rate),
                false => rate,
            }
        };
        // In batches of the mean size, for the number of the images is all that counts.
        let batch = (report.images / report.batches.max(1)).max(1);
        let iterations = report.images as f64 / batch as f64;
        let flops = iterations * cost.per_iteration_by_layer(batch, counted);
        let sum: f64 = rates.values().map(|rate| rate.rate()).sum();
        let mean = sum / rates.len().max(1) as f64;
        EpochReport {
            drop_rate: DropRate::new(mean).unwrap_or(report.drop_rate),
            mean_drop_rate: mean,
            backward_flops: flops,
            ..report
        }
    }
}

#[cfg(test)]
mod tests {
    use ssprop::models::modules;
    use ssprop::train::Seconds;

    use super::*;

    #[test]
    fn the_mean_drop_rate_is_the_same_every_time() {
        let dev = Cpu::default();
        let mut model = dev.build_module::<Cnn<11, 10, 1>, f32>();
        let rule = AdaptiveKeep::new(0.7).unwrap();
        model.visit_sparse(&mut |layer| layer.backward.selection = Selection::Adaptive(rule));
        let cost = ModelCost::of::<modules::Cnn<11, 10, 1, f32, Cpu>>([1, 32, 32]).unwrap();
        let counts = model.count_kept();
        for (i, (_, count)) in counts.iter().enumerate() {
            count.add(3 * i + 1, 41);
        }
        let kept = Kept {
            counts,
            only_weight: false,
        };
        let report = EpochReport {
            epoch: 0,
            batches: 1,
            images: 10,
            loss: 0.0,
            drop_rate: DropRate::DENSE,
            mean_drop_rate: 0.0,
            seconds: Seconds::default(),
            backward_flops: 0.0,
            ..Default::default()
        };
        let mean = kept.correct(report, &cost).mean_drop_rate.to_bits();
        for _ in 0..50 {
            assert_eq!(kept.correct(report, &cost).mean_drop_rate.to_bits(), mean);
        }
    }
}
