//! What came out of a run, in words.

use super::record::{readable, Record};
use crate::sparsity::DropRate;

/// The line of one epoch while the run is going on.
pub(super) fn line(r: &Record, epochs: u64) -> String {
    let mut line = format!(
        "epoch {}/{epochs}: {} ({}), {:.1} s, {:.0} images/s, train loss {:.4}",
        r.epoch(),
        r.mode(),
        DropRate::new(r.get("drop_rate").unwrap_or(0.0)).unwrap_or_default(),
        r.seconds(),
        r.get("images_per_s").unwrap_or(0.0),
        r.get("train_loss").unwrap_or(f64::NAN),
    );
    for (name, value) in r.measured() {
        line += &format!(", {} {}", name.replace('_', " "), readable(name, value));
    }
    line
}

/// All epochs.
pub(super) fn table(records: &[Record]) -> String {
    let measured: Vec<&str> = records
        .first()
        .map_or(Vec::new(), |r| r.measured().map(|m| m.0).collect());
    let mut table =
        String::from("epoch  mode      seconds  forward  backward  optimizer  train loss");
    for name in &measured {
        table += &format!("  {}", name.replace('_', " "));
    }
    for r in records {
        let number = |name: &str| r.get(name).unwrap_or(f64::NAN);
        table += &format!(
            "\n{:>5}  {:<8}  {:>7.1}  {:>7.1}  {:>8.1}  {:>9.1}  {:>10.4}",
            r.epoch(),
            r.mode(),
            r.seconds(),
            number("forward_s"),
            r.backward_seconds(),
            number("optimizer_s"),
            number("train_loss"),
        );
        for name in &measured {
            let value = readable(name, number(name));
            table += &format!("  {value:>width$}", width = name.len());
        }
    }
    table + "\n"
}

/// Median of a part of the sparse or the dense epochs.
fn median(records: &[Record], dense: bool, part: fn(&Record) -> f64) -> Option<f64> {
    let of_kind = records.iter().filter(|r| r.is_dense() == dense);
    let mut times: Vec<f64> = of_kind.map(part).collect();
    times.sort_by(f64::total_cmp);
    let n = times.len();
    (n > 0).then(|| (times[(n - 1) / 2] + times[n / 2]) / 2.0)
}

/// What sparse epochs saved. `dense_flops` is what all backward passes would have cost dense.
pub(super) fn savings(records: &[Record], dense_flops: f64) -> String {
    let spent: f64 = records.iter().map(Record::backward_flops).sum();
    let mut text = format!(
        "Backward FLOPs: {:.2} T instead of {:.2} T, {:.1}% saved.",
        spent / 1e12,
        dense_flops / 1e12,
        // Not -0.0%, where rounding leaves that.
        (1000.0 * (1.0 - spent / dense_flops.max(1.0))).round() / 10.0 + 0.0,
    );
    let both = |part: fn(&Record) -> f64| {
        Some((median(records, true, part)?, median(records, false, part)?))
    };
    if let (Some((dense, sparse)), Some((dense_bwd, sparse_bwd))) =
        (both(Record::seconds), both(Record::backward_seconds))
    {
        let saved = |dense: f64, sparse: f64| 100.0 * (1.0 - sparse / dense.max(1e-9));
        text += &format!(
            "\nTime of a sparse epoch: {sparse:.1} s instead of {dense:.1} s, {:.1}% saved; its \
             backward pass: {sparse_bwd:.1} s instead of {dense_bwd:.1} s, {:.1}% saved (medians).",
            saved(dense, sparse),
            saved(dense_bwd, sparse_bwd),
        );
    } else {
        let mode = records.first().map_or("run", Record::mode);
        text += &format!(
            "\nNo time saved to tell: every epoch was {mode}, so there is none to compare with."
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::tests::record;
    use super::*;

    #[test]
    fn a_run_is_told_epoch_by_epoch() {
        let records = [record(1, 0.0, 2.0), record(2, 0.8, 1.0)];
        let lines = table(&records);
        let cells: Vec<&str> = lines.lines().nth(2).unwrap().split_whitespace().collect();
        assert_eq!(
            cells,
            ["2", "sparse", "2.4", "1.0", "1.0", "0.2", "0.7667", "0.3333", "42.9%"]
        );
        let line = line(&records[1], 4);
        assert!(
            line.starts_with("epoch 2/4: sparse (80%), 2.4 s, "),
            "{line}"
        );
        assert!(
            line.ends_with(", test loss 0.3333, test accuracy 42.9%"),
            "{line}"
        );
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
