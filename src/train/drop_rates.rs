//! The drop rates that a model trains with.

use std::collections::HashMap;

use crate::nn::VisitLayers;
use crate::sparsity::DropRate;

/// The drop rates of a model's sparse layers.
pub(super) struct DropRates {
    by_path: HashMap<String, DropRate>,
    largest: DropRate,
    mean: f64,
}

impl DropRates {
    pub(super) fn of(model: &mut dyn VisitLayers) -> Self {
        let mut by_path = HashMap::new();
        let (mut largest, mut sum) = (DropRate::DENSE, 0.0);
        model.visit_sparse(&mut |layer| {
            by_path.insert(layer.path.to_owned(), layer.backward.counted_drop_rate());
            let planned = layer.backward.planned_drop_rate();
            largest = larger(largest, planned);
            sum += planned.rate();
        });
        let mean = sum / by_path.len().max(1) as f64;
        Self {
            by_path,
            largest,
            mean,
        }
    }

    /// The rate by which the FLOPs of the layer at a path are counted; 0 where none is sparse.
    pub(super) fn at(&self, path: &str) -> DropRate {
        self.by_path.get(path).copied().unwrap_or(DropRate::DENSE)
    }

    /// The largest rate of a layer; 0 without layers.
    pub(super) fn largest(&self) -> DropRate {
        self.largest
    }

    /// The mean of the layers' rates; 0 without layers.
    pub(super) fn mean(&self) -> f64 {
        self.mean
    }
}

/// The larger of two rates.
pub(super) fn larger(a: DropRate, b: DropRate) -> DropRate {
    if b > a {
        b
    } else {
        a
    }
}
