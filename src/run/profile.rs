//! Where the time of training steps went.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::profile::Spent;
use crate::train::EpochReport;

/// Seconds by operation, over epochs of one kind.
#[derive(Debug, Default)]
struct Kind {
    steps: usize,
    seconds: f64,
    operations: BTreeMap<&'static str, f64>,
}

/// The time of dense epochs and of sparse ones, of epochs that began in this process; an epoch with a sparse step counts as sparse.
#[derive(Debug, Default)]
pub(super) struct Profile {
    kinds: [Kind; 2],
}

impl Profile {
    /// Adds an epoch's.
    pub(super) fn add(&mut self, report: &EpochReport, spent: &[Spent]) {
        let kind = &mut self.kinds[usize::from(!report.drop_rate.is_dense())];
        kind.steps += report.batches;
        kind.seconds += report.seconds.total();
        for s in spent {
            *kind.operations.entry(s.operation).or_default() += s.time.as_secs_f64();
        }
    }

    /// A table in Markdown: milliseconds a step and shares, the most expensive first.
    pub(super) fn table(&self) -> String {
        let mut out = String::new();
        for (kind, name) in self.kinds.iter().zip(["dense", "sparse"]) {
            if kind.steps == 0 {
                continue;
            }
            let known: f64 = kind.operations.values().sum();
            let mut rows: Vec<_> = kind.operations.iter().map(|(&k, &v)| (k, v)).collect();
            rows.push(("the rest (data, loss, dfdx)", kind.seconds - known));
            rows.sort_by(|a, b| b.1.total_cmp(&a.1));
            rows.push(("in all", kind.seconds));
            let _ = writeln!(out, "\n| {name} step | ms | share |\n|---|---:|---:|");
            for (operation, seconds) in rows {
                let ms = seconds / kind.steps as f64 * 1e3;
                let share = seconds / kind.seconds * 100.0;
                let _ = writeln!(out, "| {operation} | {ms:.2} | {share:.1}% |");
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sparsity::DropRate;
    use crate::train::Seconds;
    use std::time::Duration;

    #[test]
    fn times_are_per_step_and_what_is_left_is_the_rest() {
        let mut profile = Profile::default();
        let report = EpochReport {
            epoch: 0,
            batches: 4,
            images: 8,
            loss: 1.0,
            drop_rate: DropRate::DENSE,
            mean_drop_rate: 0.0,
            seconds: Seconds {
                forward: 1.0,
                backward: 3.0,
                ..Default::default()
            },
            backward_flops: 1.0,
            ..Default::default()
        };
        let spent = [Spent {
            operation: "convolution, dX",
            calls: 4,
            time: Duration::from_secs(3),
        }];
        profile.add(&report, &spent);
        let table = profile.table();
        assert!(
            table.contains("| convolution, dX | 750.00 | 75.0% |"),
            "{table}"
        );
        assert!(table.contains("dfdx) | 250.00 | 25.0% |"), "{table}");
        assert!(table.contains("| in all | 1000.00 | 100.0% |"), "{table}");
        assert!(!table.contains("sparse step"), "{table}");
    }
}
