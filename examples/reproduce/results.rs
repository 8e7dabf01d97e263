//! What runs came to: a line each in a CSV, and a table beside the paper's.

use std::fmt::Write;
use std::path::Path;
use std::process::Command as Process;

use common::paper::Run;
use common::statistics::Summary;
use common::table::csv;
use serde::{Deserialize, Serialize};
use ssprop::checkpoint::write_file;
use ssprop::run::Record;

use crate::commands::{json, Command, Outcome};

/// A run that is done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    table: u64,
    row: String,
    seed: u64,
    method: String,
    epochs: usize,
    /// Accuracy in percent, or FID.
    #[serde(rename = "accuracy_or_fid")]
    metric: Option<f64>,
    #[serde(rename = "top5_accuracy")]
    top5: Option<f64>,
    #[serde(rename = "backward_flops")]
    flops: f64,
    /// Of training, without validation.
    seconds: f64,
    joules: Option<f64>,
    pub command: String,
    commit: String,
    machine: String,
}

impl Line {
    pub fn new(run: &Run, seed: u64, command: &Command, outcome: Outcome) -> Result<Self, String> {
        let sum = |of: fn(&Record) -> f64| outcome.records.iter().map(of).sum::<f64>();
        let joules: Option<Vec<f64>> = outcome.records.iter().map(|r| r.get("joules")).collect();
        Ok(Self {
            table: run.table,
            row: run.row(),
            seed,
            method: run.method().to_owned(),
            epochs: outcome.records.len(),
            metric: Some(outcome.metric).filter(|metric| metric.is_finite()),
            top5: outcome.top5,
            flops: sum(Record::backward_flops),
            seconds: sum(Record::seconds).round(),
            joules: joules.map(|all| all.iter().sum::<f64>().round()),
            command: command.text(),
            commit: commit(),
            machine: machine(command.folder())?,
        })
    }
}

/// The lines of a file, none if there is none.
pub fn read(file: &Path) -> Result<Vec<Line>, String> {
    if !file.exists() {
        return Ok(Vec::new());
    }
    let said = |err: csv::Error| format!("{}: {err}", file.display());
    let mut reader = csv::Reader::from_path(file).map_err(said)?;
    reader
        .deserialize()
        .map(|line| line.map_err(said))
        .collect()
}

pub fn append(file: &Path, line: &Line) -> Result<(), String> {
    let mut all = read(file)?;
    all.push(line.clone());
    let folder = file.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    write_file(file, csv(&all).as_bytes()).map_err(|err| err.to_string())
}

/// The sources that are running.
fn commit() -> String {
    let describe = [
        "describe",
        "--always",
        "--dirty",
        "--abbrev=12",
        "--exclude=*",
    ];
    let git = Process::new("git")
        .args(describe)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output();
    let found = git.ok().filter(|git| git.status.success());
    let text = found.and_then(|git| String::from_utf8(git.stdout).ok());
    text.map_or("unknown".into(), |text| text.trim().to_owned())
}

/// The kind of machine: the processor, and what the run used of it.
fn machine(folder: &Path) -> Result<String, String> {
    let config = json(&folder.join("config.json"))?;
    let text = |name: &str| config["machine"][name].to_string().replace('"', "");
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or_else(|| text("architecture"), |(_, model)| model.to_owned());
    Ok(format!(
        "{model}; {}; {} threads",
        text("instructions"),
        text("threads")
    ))
}

/// Ours beside the paper's, a column a method.
pub fn table(runs: &[Run], lines: &[Line]) -> String {
    let is_fid = runs[0].model == "ddpm";
    let heads = runs
        .iter()
        .map(|run| format!(" {0}, ours | {0}, paper |", run.method()));
    let mut table = format!(
        "| |{}\n|---|{}\n",
        heads.collect::<String>(),
        "---:|".repeat(2 * runs.len())
    );
    let mut add = |name: &str,
                   ours: &dyn Fn(&Line) -> Option<f64>,
                   paper: &dyn Fn(&Run) -> Option<f64>,
                   digits| {
        if runs.iter().all(|run| paper(run).is_none()) && lines.iter().all(|l| ours(l).is_none()) {
            return;
        }
        let _ = write!(table, "| {name} |");
        for run in runs {
            let of = lines.iter().filter(|line| line.method == run.method());
            let values: Vec<f64> = of.filter_map(ours).collect();
            let s = Summary::of(&values);
            let found = match values.len() {
                0 => "-".to_owned(),
                1 => format!("{:.digits$}", s.mean),
                n => format!("{:.digits$} ± {:.digits$} ({n} seeds)", s.mean, s.std),
            };
            let printed = paper(run).map_or("-".to_owned(), |value| format!("{value:.digits$}"));
            let _ = write!(table, " {found} | {printed} |");
        }
        table.push('\n');
    };
    let name = if is_fid { "FID" } else { "test accuracy (%)" };
    add(name, &|l| l.metric, &|run| Some(run.metric), 2);
    add("top-5 accuracy (%)", &|l| l.top5, &|run| run.top5, 2);
    add(
        "backward FLOPs (1e12)",
        &|l| Some(l.flops / 1e12),
        &|run| Some(1e3 * run.total),
        2,
    );
    add(
        "training (min)",
        &|l| Some(l.seconds / 60.0),
        &|run| Some(run.minutes),
        1,
    );
    add("energy (kJ)", &|l| Some(l.joules? / 1e3), &|_| None, 1);
    table += "\nThe paper's FLOPs count the validation images as if they were trained on";
    table += match is_fid {
        true => {
            "; its FID is in features that it does not name, ours in those of a small classifier."
        }
        false => ".",
    };
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{row, tests::args};

    fn line(method: &str, seed: u64, metric: Option<f64>) -> Line {
        Line {
            table: 4,
            row: "mnist-resnet18".into(),
            seed,
            method: method.into(),
            epochs: 2,
            metric,
            top5: None,
            flops: 2.5e15,
            seconds: 90.0,
            joules: None,
            command: "cargo run -- --drop-rates 0.1,0.2".into(),
            commit: "abc-dirty".into(),
            machine: "CPU, of some kind; avx2; 2 threads".into(),
        }
    }

    #[test]
    fn lines_are_added_and_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("results/table4.csv");
        assert_eq!(read(&file).unwrap(), []);
        let lines = [line("dense", 0, Some(98.5)), line("ssprop", 1, None)];
        for line in &lines {
            append(&file, line).unwrap();
        }
        assert_eq!(read(&file).unwrap(), lines);
        std::fs::write(&file, "a,b\n4,x\n").unwrap();
        let err = read(&file).unwrap_err();
        assert!(
            err.contains("table4.csv") && err.contains("table`"),
            "{err}"
        );
    }

    #[test]
    fn ours_stands_beside_the_papers() {
        let runs = row(&args("4 mnist-resnet18")).unwrap();
        let lines = [
            line("dense", 0, Some(98.0)),
            line("dense", 1, Some(99.0)),
            line("ssprop", 0, Some(97.125)),
        ];
        let table = table(&runs, &lines);
        let rows: Vec<&str> = table.lines().collect();
        assert_eq!(
            rows[0],
            "| | dense, ours | dense, paper | ssprop, ours | ssprop, paper |"
        );
        let accuracy = "| test accuracy (%) | 98.50 ± 0.71 (2 seeds) | 99.56 | 97.12 | 99.52 |";
        assert_eq!(rows[2], accuracy);
        assert!(
            rows[3].ends_with("| 2500.00 ± 0.00 (2 seeds) | 5490.00 | 2500.00 | 3300.00 |"),
            "{table}"
        );
        assert!(
            rows[4].starts_with("| training (min) | 1.5 ± 0.0 (2 seeds) | 11.0 |"),
            "{table}"
        );
        assert!(!table.contains("top-5") && !table.contains("kJ"), "{table}");
    }
}
