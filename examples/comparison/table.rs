//! The runs as CSV and the arms as a table in Markdown.

use common::statistics::Summary;
use common::sweep::Outcome;
use serde::Serialize;

/// A training of an arm.
#[derive(Clone, Debug)]
pub struct Done {
    pub arm: String,
    pub epochs: usize,
    pub seed: u64,
    pub outcome: Outcome,
}

/// A line of the CSV.
#[derive(Serialize)]
struct Row<'a> {
    arm: &'a str,
    seed: u64,
    epochs: usize,
    test_accuracy: f64,
    backward_flops: f64,
    seconds: String,
    backward_seconds: String,
}

/// A line a run.
pub fn csv(runs: &[Done]) -> String {
    common::table::csv(runs.iter().map(|run| Row {
        arm: &run.arm,
        seed: run.seed,
        epochs: run.epochs,
        test_accuracy: run.outcome.accuracy,
        backward_flops: run.outcome.backward_flops,
        seconds: format!("{:.3}", run.outcome.seconds),
        backward_seconds: format!("{:.3}", run.outcome.backward_seconds),
    }))
}

/// A line an arm, in the order in which they first ran.
pub fn markdown(runs: &[Done]) -> String {
    let mut table = String::from(
        "| | Epochs | Runs | Test accuracy (%) | Backward FLOPs (1e12) | Training (s) | Backward passes (s) |\n\
         |---|---|---|---|---|---|---|\n",
    );
    let mut arms: Vec<&str> = Vec::new();
    for run in runs {
        if !arms.contains(&run.arm.as_str()) {
            arms.push(&run.arm);
        }
    }
    for arm in arms {
        let of: Vec<&Done> = runs.iter().filter(|run| run.arm == arm).collect();
        let summary = |value: fn(&Outcome) -> f64| {
            let values: Vec<f64> = of.iter().map(|run| value(&run.outcome)).collect();
            Summary::of(&values)
        };
        let shown = |s: Summary, digits| format!("{:.digits$} ± {:.digits$}", s.mean, s.std);
        let accuracy = summary(|o| 100.0 * o.accuracy);
        let count = match accuracy.diverged {
            0 => accuracy.runs.to_string(),
            n => format!("{} ({n} diverged)", accuracy.runs),
        };
        table += &format!(
            "| {arm} | {} | {count} | {} | {:.4} | {} | {} |\n",
            of[0].epochs,
            shown(accuracy, 2),
            summary(|o| o.backward_flops / 1e12).mean,
            shown(summary(|o| o.seconds), 1),
            shown(summary(|o| o.backward_seconds), 1),
        );
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(arm: &'static str, seed: u64, accuracy: f64) -> Done {
        Done {
            arm: arm.into(),
            epochs: 6,
            seed,
            outcome: Outcome {
                accuracy,
                backward_flops: 2.5e12,
                seconds: 10.0 + 2.0 * seed as f64,
                backward_seconds: 4.0,
            },
        }
    }

    #[test]
    fn arms_have_a_line_each_and_runs_too() {
        let runs = [
            done("a", 0, 0.5),
            done("b", 0, f64::NAN),
            done("a", 1, 0.75),
            done("b", 1, 0.25),
        ];
        let table = markdown(&runs);
        // Deviation of 50 and 75: 25 / sqrt(2).
        let a = "| a | 6 | 2 | 62.50 ± 17.68 | 2.5000 | 11.0 ± 1.4 | 4.0 ± 0.0 |";
        let b = "| b | 6 | 2 (1 diverged) | 25.00 ± 0.00 | 2.5000 | 11.0 ± 1.4 | 4.0 ± 0.0 |";
        assert_eq!(table.lines().skip(2).collect::<Vec<_>>(), [a, b]);
        let lines: Vec<String> = csv(&runs).lines().map(str::to_owned).collect();
        assert_eq!(lines.len(), 5);
        assert_eq!(lines[2], "b,0,6,NaN,2500000000000.0,10.000,4.000");
    }
}
