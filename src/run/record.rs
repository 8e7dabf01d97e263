//! What there is to know of one epoch.

use crate::train::EpochReport;

/// One epoch and what was measured after it: named numbers, in the order of `metrics.csv`'s columns.
///
/// | name | |
/// |---|---|
/// | `epoch` | counted from 1 |
/// | `drop_rate`, `mean_drop_rate` | the largest of a layer, and the mean of layers and steps |
/// | `lr` | the learning rate of the last step |
/// | `train_images`, `train_loss` | of the epoch's steps |
/// | (what the caller measured) | `test_loss`, say |
/// | `grad_norm` | the mean norm of the steps' gradients; not on CUDA |
/// | `images_per_s` | of training, without what is measured after it |
/// | `data_s`, `forward_s`, `backward_s`, `optimizer_s` | seconds of training |
/// | `backward_flops` | as [`flops`](crate::sparsity::flops) counts them |
/// | `joules` | of the processor, with what is measured, where the machine shows it |
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record(pub(super) Vec<(String, f64)>);

impl Record {
    /// The record of an epoch of training and of what was `measured` after it.
    pub fn new(report: &EpochReport, measured: &[(&str, f64)]) -> Self {
        let seconds = report.seconds;
        let per_second = report.images as f64 / seconds.total().max(1e-9);
        let milli = |x: f64| (x * 1e3).round() / 1e3;
        let mut values = vec![
            ("epoch", (report.epoch + 1) as f64),
            ("drop_rate", report.drop_rate.rate()),
            ("mean_drop_rate", report.mean_drop_rate),
            ("lr", report.lr),
            ("train_images", report.images as f64),
            ("train_loss", report.loss),
        ];
        values.extend_from_slice(measured);
        values.extend(report.grad_norm.map(|norm| ("grad_norm", norm)));
        values.extend([
            ("images_per_s", (per_second * 10.0).round() / 10.0),
            ("data_s", milli(seconds.data)),
            ("forward_s", milli(seconds.forward)),
            ("backward_s", milli(seconds.backward)),
            ("optimizer_s", milli(seconds.optimizer)),
            ("backward_flops", report.backward_flops),
        ]);
        let named = values.into_iter();
        Self(
            named
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
        )
    }

    /// The value of this name.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.iter().find(|(known, _)| *known == name).map(|v| v.1)
    }

    /// All names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0.iter().map(|(name, value)| (name.as_str(), *value))
    }

    /// The epoch, counted from 1.
    pub fn epoch(&self) -> u64 {
        self.value("epoch") as u64
    }

    /// Whether every layer was dense in every step.
    pub fn is_dense(&self) -> bool {
        self.value("drop_rate") == 0.0
    }

    /// Seconds of training.
    pub fn seconds(&self) -> f64 {
        let parts = ["data_s", "forward_s", "backward_s", "optimizer_s"];
        parts.map(|part| self.value(part)).iter().sum()
    }

    /// Seconds of the backward passes.
    pub fn backward_seconds(&self) -> f64 {
        self.value("backward_s")
    }

    /// FLOPs of the backward passes.
    pub fn backward_flops(&self) -> f64 {
        self.value("backward_flops")
    }

    /// 0 for a name that it has not.
    fn value(&self, name: &str) -> f64 {
        self.get(name).unwrap_or(0.0)
    }

    pub(super) fn mode(&self) -> &'static str {
        match self.is_dense() {
            true => "dense",
            false => "sparse",
        }
    }

    /// What was measured after the epoch that is worth a column: not how many images.
    pub(super) fn measured(&self) -> impl Iterator<Item = (&str, f64)> {
        const OURS: [&str; 14] = [
            "epoch",
            "drop_rate",
            "mean_drop_rate",
            "lr",
            "train_images",
            "train_loss",
            "grad_norm",
            "images_per_s",
            "data_s",
            "forward_s",
            "backward_s",
            "optimizer_s",
            "backward_flops",
            "joules",
        ];
        self.iter()
            .filter(|(name, _)| !OURS.contains(name) && !name.ends_with("images"))
    }
}

/// A value as people read it: accuracies in percent.
pub(super) fn readable(name: &str, value: f64) -> String {
    match name.ends_with("accuracy") {
        true => format!("{:.1}%", 100.0 * value),
        false => format!("{value:.4}"),
    }
}
