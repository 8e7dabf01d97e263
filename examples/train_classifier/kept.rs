//! What an adaptive selection really kept, which its reports cannot know beforehand.

use std::collections::HashMap;
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
    pub fn of(model: &mut dyn VisitSparse) -> Option<Self> {
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
        let rates: HashMap<&str, DropRate> = self
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
