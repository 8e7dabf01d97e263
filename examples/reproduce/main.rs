//! Trains a row of the paper's Tables 4 to 7 (arXiv 2408.12561), dense and with ssProp, and shows what came
//! out beside what is printed there.
//!
//!     cargo run --example reproduce -- 4 cifar10-resnet18 --data cifar-10-binary.tar.gz
//!     cargo run --example reproduce -- 4 fashion-mnist-resnet18 --data bundled --train-limit 500 \
//!         --epochs 2 --seeds 1
//!
//! Each run is a command of `train_classifier`, or of `ddpm_train` and `fid`, in a folder of its own. Runs that
//! are done stand in `results/`, one a line, and are not run again; one that was stopped goes on.

mod commands;
mod results;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use common::paper::{self, Run};
use common::{args, say};
use results::Line;

/// Train a row of the paper's Tables 4 to 7, and compare
#[derive(Clone, Debug, Parser)]
pub struct Args {
    /// Table: 4 (classification), 5 (generation), 6 (dropout) or 7 (smaller networks)
    #[arg(value_parser = clap::value_parser!(u64).range(4..=7))]
    table: u64,
    /// Its row, cifar10-resnet18 say; another word gets the list
    row: String,
    /// The data set's folder or archive, or `bundled`, the part of Fashion-MNIST that comes with the crate
    #[arg(long)]
    data: Option<PathBuf>,
    /// Runs of each method, each with a seed of its own [default: the paper's 3; 2 in Tables 6 and 7;
    /// 1 on ImageNet and in Table 5]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: Option<u64>,
    /// The first run's seed
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Train with one method only: dense or ssprop
    #[arg(long, value_parser = ["dense", "ssprop"])]
    method: Option<String>,
    /// Epochs [default: the paper's]
    #[arg(long, value_parser = args::count)]
    epochs: Option<usize>,
    /// Training and validation images [default: all]
    #[arg(long, value_parser = args::count)]
    train_limit: Option<usize>,
    /// Test images [default: all]
    #[arg(long, value_parser = args::count)]
    test_limit: Option<usize>,
    /// Samples whose FID is measured, by DDIM
    #[arg(long, default_value = "1000", value_parser = args::count)]
    samples: usize,
    /// Where the results are added: tableN.csv
    #[arg(long, default_value = "results")]
    results: PathBuf,
    /// Where the runs have their folders
    #[arg(long, default_value = "runs/reproduce")]
    runs: PathBuf,
    /// More flags for train_classifier or ddpm_train, or others than the row's: -- --batch-size 32
    #[arg(last = true)]
    more: Vec<String>,
}

fn main() -> ExitCode {
    match reproduce(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("error: {err}");
            ExitCode::FAILURE
        }
    }
}

/// The runs of the row that was asked for: dense, ssProp or both.
fn row(args: &Args) -> Result<Vec<Run>, String> {
    let runs = paper::runs(paper::TABLES).map_err(|err| err.to_string())?;
    let of_table = || runs.iter().filter(|run| run.table == args.table);
    let row: Vec<Run> = of_table()
        .filter(|run| run.row() == args.row)
        .cloned()
        .collect();
    if row.is_empty() {
        let mut rows: Vec<String> = of_table().map(Run::row).collect();
        rows.dedup();
        let (table, given) = (args.table, &args.row);
        return Err(format!(
            "Table {table} has no row {given}, but {}",
            rows.join(", ")
        ));
    }
    let wanted = |run: &Run| args.method.as_ref().is_none_or(|m| m == run.method());
    let methods: Vec<Run> = row.iter().filter(|run| wanted(run)).cloned().collect();
    match methods.is_empty() {
        true => Err(format!("{} is with {} only", args.row, row[0].method())),
        false => Ok(methods),
    }
}

fn reproduce(args: &Args) -> Result<(), String> {
    let runs = row(args)?;
    commands::check_data(args, &runs[0])?;
    let file = args.results.join(format!("table{}.csv", args.table));
    let mut lines = Vec::new();
    // The methods in turn, so that a machine that is busy for a while slows both.
    let seeds = args.seeds.unwrap_or(runs[0].seeds());
    for seed in (args.seed..).take(seeds as usize) {
        for run in &runs {
            let command = commands::training(args, run, seed);
            let done = results::read(&file)?;
            if let Some(line) = done.into_iter().find(|line| line.command == command.text()) {
                say!("Done before: {}", command.text());
                lines.push(line);
                continue;
            }
            say!("{}", command.text());
            commands::run(&command)?;
            let outcome = commands::outcome(args, run, &command)?;
            let line = Line::new(run, seed, &command, outcome)?;
            results::append(&file, &line)?;
            lines.push(line);
        }
    }
    say!("\n{}", results::table(&runs, &lines));
    if args
        .epochs
        .or(args.train_limit)
        .or(args.test_limit)
        .is_some()
        || !args.more.is_empty()
    {
        say!("Not of the paper's size: flags made these runs others.");
    }
    say!("The lines are in {}.", file.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    pub fn args(flags: &str) -> Args {
        Args::try_parse_from(["reproduce"].into_iter().chain(flags.split(' '))).unwrap()
    }

    #[test]
    fn rows_are_found_by_name_and_others_get_the_list() {
        let methods = |flags: &str| -> Vec<(&'static str, f64)> {
            let found = row(&args(flags)).unwrap();
            found.iter().map(|run| (run.method(), run.metric)).collect()
        };
        let both = [("dense", 81.88), ("ssprop", 81.89)];
        assert_eq!(methods("4 cifar10-resnet18"), both);
        assert_eq!(methods("4 cifar10-resnet18 --method ssprop"), both[1..]);
        assert_eq!(
            methods("5 celeba-ddpm"),
            [("dense", 5.98), ("ssprop", 5.97)]
        );
        assert_eq!(methods("6 cifar10-resnet50")[1], ("ssprop", 85.21));
        assert_eq!(
            methods("6 cifar100-resnet50-dropout0.2-ssprop"),
            [("ssprop", 58.84)]
        );
        assert_eq!(methods("7 cifar100-resnet26")[0], ("dense", 56.27));
        for (flags, part) in [
            (
                "4 cifar11-resnet18",
                "mnist-resnet18, mnist-resnet50, fashion-mnist-resnet18",
            ),
            ("7 mnist-resnet18", "cifar10-resnet50, cifar10-resnet26"),
            (
                "6 cifar10-resnet50-dropout0.4 --method ssprop",
                "dense only",
            ),
        ] {
            let err = row(&args(flags)).unwrap_err();
            assert!(err.contains(part), "{err}");
        }
        let table = Args::try_parse_from(["reproduce", "3", "x"])
            .unwrap_err()
            .to_string();
        assert!(table.contains('3') && table.contains("4..=7"), "{table}");
    }

    #[test]
    fn the_papers_seeds_count() {
        let seeds = |flags: &str| row(&args(flags)).unwrap()[0].seeds();
        assert_eq!(seeds("4 mnist-resnet50"), 3);
        assert_eq!(seeds("4 imagenet-resnet18"), 1);
        assert_eq!(seeds("5 mnist-ddpm"), 1);
        assert_eq!(seeds("7 cifar10-resnet26"), 2);
    }
}
