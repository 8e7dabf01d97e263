//! The records of a run's epochs: as lines, as a table, and as CSV, from which they can be read back.

use ssprop::train::EpochReport;

use common::history::Epoch;

const HEADER: &str = "epoch,drop_rate,train_images,train_loss,test_loss,data_s,forward_s,\
backward_s,optimizer_s,backward_flops";

/// One epoch and the test after it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Record {
    /// Counted from 1.
    pub epoch: u64,
    /// The mean of the epoch's steps.
    pub drop_rate: f64,
    pub train_images: usize,
    pub train_loss: f64,
    pub test_loss: f64,
    pub data: f64,
    pub forward: f64,
    pub backward: f64,
    pub optimizer: f64,
    pub backward_flops: f64,
}

impl Record {
    pub fn new(train: &EpochReport, test_loss: f64) -> Self {
        Self {
            epoch: train.epoch + 1,
            drop_rate: train.mean_drop_rate,
            train_images: train.images,
            train_loss: train.loss,
            test_loss,
            data: train.seconds.data,
            forward: train.seconds.forward,
            backward: train.seconds.backward,
            optimizer: train.seconds.optimizer,
            backward_flops: train.backward_flops,
        }
    }

    pub fn line(&self, epochs: u64) -> String {
        format!(
            "epoch {}/{epochs}  {:6}  loss {:.4}  test loss {:.4}  {:.1} s (backward {:.1} s, \
             {:.2e} FLOPs)",
            self.epoch,
            self.kind(),
            self.train_loss,
            self.test_loss,
            self.seconds(),
            self.backward,
            self.backward_flops,
        )
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

/// All epochs.
pub fn table(records: &[Record]) -> String {
    let mut table = String::from(
        "epoch  mode      seconds  forward  backward  optimizer  train loss  test loss\n",
    );
    for r in records {
        table += &format!(
            "{:>5}  {:<8}  {:>7.1}  {:>7.1}  {:>8.1}  {:>9.1}  {:>10.4}  {:>9.4}\n",
            r.epoch,
            r.kind(),
            r.seconds(),
            r.forward,
            r.backward,
            r.optimizer,
            r.train_loss,
            r.test_loss,
        );
    }
    table
}

pub fn to_csv(records: &[Record]) -> String {
    let mut csv = format!("{HEADER}\n");
    for r in records {
        csv += &format!(
            "{},{},{},{},{},{:.3},{:.3},{:.3},{:.3},{}\n",
            r.epoch,
            r.drop_rate,
            r.train_images,
            r.train_loss,
            r.test_loss,
            r.data,
            r.forward,
            r.backward,
            r.optimizer,
            r.backward_flops,
        );
    }
    csv
}

/// `None` if it is not what [`to_csv`] writes.
pub fn from_csv(csv: &str) -> Option<Vec<Record>> {
    let mut lines = csv.lines();
    if lines.next()? != HEADER {
        return None;
    }
    lines
        .map(|line| {
            let fields: Vec<&str> = line.split(',').collect();
            let [epoch, drop_rate, train_images, rest @ ..] = fields.as_slice() else {
                return None;
            };
            let rest: Option<Vec<f64>> = rest.iter().map(|field| field.parse().ok()).collect();
            let [train_loss, test_loss, data, forward, backward, optimizer, backward_flops] =
                rest?.try_into().ok()?;
            Some(Record {
                epoch: epoch.parse().ok()?,
                drop_rate: drop_rate.parse().ok()?,
                train_images: train_images.parse().ok()?,
                train_loss,
                test_loss,
                data,
                forward,
                backward,
                optimizer,
                backward_flops,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::history::savings;

    fn record(epoch: u64) -> Record {
        Record {
            epoch,
            drop_rate: if epoch.is_multiple_of(2) { 0.8 } else { 0.0 },
            train_images: 7,
            train_loss: 1.0 / 3.0,
            test_loss: 0.25,
            data: 0.125,
            forward: 1.5,
            backward: 5.0 / epoch as f64,
            optimizer: 0.375,
            backward_flops: 1e12 / epoch as f64,
        }
    }

    #[test]
    fn a_run_is_told_epoch_by_epoch() {
        let records = [record(1), record(2)];
        let table = table(&records);
        let lines: Vec<Vec<&str>> = table
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(
            lines[2],
            ["2", "sparse", "4.5", "1.5", "2.5", "0.4", "0.3333", "0.2500"]
        );
        let line = records[0].line(2);
        assert!(line.starts_with("epoch 1/2  dense "), "{line}");
        let saved = savings(&records, 2e12);
        assert!(
            saved.contains("1.50 T instead of 2.00 T, 25.0% saved"),
            "{saved}"
        );
        assert!(saved.contains("2.5 s instead of 5.0 s, 50.0%"), "{saved}");
    }

    #[test]
    fn records_survive_the_csv() {
        let records = vec![record(1), record(2)];
        assert_eq!(from_csv(&to_csv(&records)), Some(records));
        assert_eq!(from_csv(&to_csv(&[])), Some(vec![]));
        let csv = to_csv(&[record(2)]);
        for broken in [
            "",
            &csv[1..],
            &csv.replace("0.8", "x"),
            &format!("{csv}1,2\n"),
        ] {
            assert_eq!(from_csv(broken), None, "{broken}");
        }
    }
}
