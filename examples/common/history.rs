//! The records of a run's epochs: as a table, and as CSV, from which they can be read back.

use ssprop::prelude::DropRate;
use ssprop::train::{EpochReport, Evaluation};

const HEADER: &str = "epoch,drop_rate,train_images,train_loss,test_images,test_loss,\
test_accuracy,data_s,forward_s,backward_s,optimizer_s,backward_flops";

/// What curves and savings need of an epoch of any training.
pub trait Epoch {
    /// Counted from 1.
    fn number(&self) -> u64;
    fn is_dense(&self) -> bool;
    /// Seconds of training, without the test.
    fn seconds(&self) -> f64;
    /// Those of the backward passes.
    fn backward(&self) -> f64;
    fn backward_flops(&self) -> f64;

    fn kind(&self) -> &'static str {
        match self.is_dense() {
            true => "dense",
            false => "sparse",
        }
    }
}

/// One epoch and the test after it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Record {
    /// Counted from 1.
    pub epoch: u64,
    pub drop_rate: f64,
    pub train_images: usize,
    pub train_loss: f64,
    pub test_images: usize,
    pub test_loss: f64,
    pub test_accuracy: f64,
    pub data: f64,
    pub forward: f64,
    pub backward: f64,
    pub optimizer: f64,
    pub backward_flops: f64,
}

impl Record {
    pub fn new(train: &EpochReport, test: &Evaluation) -> Self {
        Self {
            epoch: train.epoch + 1,
            drop_rate: train.drop_rate.rate(),
            train_images: train.images,
            train_loss: train.loss,
            test_images: test.images,
            test_loss: test.loss,
            test_accuracy: test.accuracy(),
            data: train.seconds.data,
            forward: train.seconds.forward,
            backward: train.seconds.backward,
            optimizer: train.seconds.optimizer,
            backward_flops: train.backward_flops,
        }
    }

    fn from_csv(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split(',').collect();
        let &[epoch, rate, n, loss, test_n, test_loss, accuracy, data, fwd, bwd, opt, flops] =
            fields.as_slice()
        else {
            return None;
        };
        let float = |text: &str| text.parse::<f64>().ok();
        Some(Self {
            epoch: epoch.parse().ok()?,
            drop_rate: float(rate)?,
            train_images: n.parse().ok()?,
            train_loss: float(loss)?,
            test_images: test_n.parse().ok()?,
            test_loss: float(test_loss)?,
            test_accuracy: float(accuracy)?,
            data: float(data)?,
            forward: float(fwd)?,
            backward: float(bwd)?,
            optimizer: float(opt)?,
            backward_flops: float(flops)?,
        })
    }
}

impl Epoch for Record {
    fn number(&self) -> u64 {
        self.epoch
    }

    fn is_dense(&self) -> bool {
        self.drop_rate == 0.0
    }

    fn seconds(&self) -> f64 {
        self.data + self.forward + self.backward + self.optimizer
    }

    fn backward(&self) -> f64 {
        self.backward
    }

    fn backward_flops(&self) -> f64 {
        self.backward_flops
    }
}

/// A header and a line a record.
pub fn to_csv(records: &[Record]) -> String {
    let mut csv = format!("{HEADER}\n");
    for r in records {
        csv += &format!(
            "{},{},{},{},{},{},{},{:.3},{:.3},{:.3},{:.3},{:e}\n",
            r.epoch,
            r.drop_rate,
            r.train_images,
            r.train_loss,
            r.test_images,
            r.test_loss,
            r.test_accuracy,
            r.data,
            r.forward,
            r.backward,
            r.optimizer,
            r.backward_flops,
        );
    }
    csv
}

/// What [`to_csv`] wrote; `None` for anything else.
pub fn from_csv(csv: &str) -> Option<Vec<Record>> {
    let mut lines = csv.lines();
    if lines.next() != Some(HEADER) {
        return None;
    }
    lines.map(Record::from_csv).collect()
}

/// The line of one epoch while the run is going on.
pub fn line(r: &Record, epochs: u64) -> String {
    format!(
        "epoch {}/{epochs}: {} ({}), {:.1} s, {:.0} images/s, train loss {:.4}, test accuracy {:.1}%",
        r.epoch,
        r.kind(),
        DropRate::new(r.drop_rate).unwrap_or_default(),
        r.seconds(),
        r.train_images as f64 / r.seconds().max(1e-9),
        r.train_loss,
        100.0 * r.test_accuracy,
    )
}

/// All epochs.
pub fn table(records: &[Record]) -> String {
    let mut table = String::from(
        "epoch  mode      seconds  forward  backward  optimizer  train loss  test accuracy\n",
    );
    for r in records {
        table += &format!(
            "{:>5}  {:<8}  {:>7.1}  {:>7.1}  {:>8.1}  {:>9.1}  {:>10.4}  {:>12.1}%\n",
            r.epoch,
            r.kind(),
            r.seconds(),
            r.forward,
            r.backward,
            r.optimizer,
            r.train_loss,
            100.0 * r.test_accuracy,
        );
    }
    table
}

/// Median seconds an image of the sparse or the dense epochs; of `part` of each.
fn median<R: Epoch>(records: &[R], dense: bool, part: impl Fn(&R) -> f64) -> Option<f64> {
    let mut times: Vec<f64> = records
        .iter()
        .filter(|r| r.is_dense() == dense)
        .map(part)
        .collect();
    times.sort_by(f64::total_cmp);
    let n = times.len();
    (n > 0).then(|| (times[(n - 1) / 2] + times[n / 2]) / 2.0)
}

/// What sparse epochs saved. `dense_flops` is what all epochs would have cost dense.
pub fn savings<R: Epoch>(records: &[R], dense_flops: f64) -> String {
    let spent: f64 = records.iter().map(R::backward_flops).sum();
    let mut text = format!(
        "Backward FLOPs: {:.2} T instead of {:.2} T, {:.1}% saved.",
        spent / 1e12,
        dense_flops / 1e12,
        100.0 * (1.0 - spent / dense_flops.max(1.0)),
    );
    let both =
        |part: fn(&R) -> f64| Some((median(records, true, part)?, median(records, false, part)?));
    if let (Some((dense, sparse)), Some((dense_bwd, sparse_bwd))) =
        (both(R::seconds), both(R::backward))
    {
        let saved = |dense: f64, sparse: f64| 100.0 * (1.0 - sparse / dense.max(1e-9));
        text += &format!(
            "\nTime of a sparse epoch: {sparse:.1} s instead of {dense:.1} s, {:.1}% saved; its \
             backward pass: {sparse_bwd:.1} s instead of {dense_bwd:.1} s, {:.1}% saved (medians).",
            saved(dense, sparse),
            saved(dense_bwd, sparse_bwd),
        );
    } else {
        let kind = records.first().map_or("run", R::kind);
        text += &format!(
            "\nNo time saved to tell: every epoch was {kind}, so there is none to compare with."
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(epoch: u64, drop_rate: f64, backward: f64) -> Record {
        Record {
            epoch,
            drop_rate,
            train_images: 10,
            train_loss: 0.1 + epoch as f64 / 3.0,
            test_images: 7,
            test_loss: 1.0 / 3.0,
            test_accuracy: 3.0 / 7.0,
            data: 0.125,
            forward: 1.0,
            backward,
            optimizer: 0.25,
            backward_flops: 1e12 / 3.0,
        }
    }

    #[test]
    fn csv_is_read_back_as_it_was() {
        let records = [record(1, 0.0, 2.0), record(2, 0.8, 1.0)];
        let csv = to_csv(&records);
        assert_eq!(from_csv(&csv).as_deref(), Some(&records[..]));
        assert_eq!(from_csv(&csv.replace("7,0.33", "x,0.33")), None);
        assert_eq!(from_csv(""), None);
    }

    #[test]
    fn savings_are_of_medians() {
        let times = [4.0, 1.0, 2.0, 1.5, 3.0];
        let rate = |i: usize| if i % 2 == 1 { 0.8 } else { 0.0 };
        let records: Vec<Record> = (0..5)
            .map(|i| record(i as u64, rate(i), times[i]))
            .collect();
        let text = savings(&records, 1e13 / 3.0);
        assert!(text.contains("50.0% saved."), "{text}");
        assert!(
            text.contains("1.2 s instead of 3.0 s, 58.3% saved"),
            "{text}"
        );
        let dense_only = savings(&records[..1], 1e12 / 3.0);
        assert!(dense_only.contains("every epoch was dense"), "{dense_only}");
        assert!(!dense_only.contains("sparse"), "{dense_only}");
    }
}
