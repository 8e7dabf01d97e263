//! The hyperparameter search of the paper's Figure 4 (arXiv 2408.12561): the test accuracy of the
//! N-layer CNN by depth and learning rate, trained dense and with ssProp.
//!
//!     cargo run --example hyperparameter_search
//!     cargo run --example hyperparameter_search -- --paper --data cifar-100-binary.tar.gz
//!
//! As it is, some of the cells on the bundled images; with `--paper` all of them on CIFAR-100, for
//! weeks on a CPU.

mod figure;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use common::device::Device;
use common::progress::Runs;
use common::statistics::Summary;
use common::sweep::{Flags, Images, Run};
use common::table::{self, joined};
use common::{args, on_device, say};
use figure::Grid;
use serde::Serialize;
use ssprop::checkpoint::write_file;
use ssprop::data::{Limits, Task};
use ssprop::prelude::*;
use ssprop::run::exit_code;

/// What a run leaves in its folder.
const RESULTS: [&str; 2] = ["hyperparameter_search.csv", "hyperparameter_search.svg"];

/// Draw the paper's grids of depth x learning rate, dense and sparse (minutes on two cores)
#[derive(Debug, Parser)]
struct Args {
    /// The paper's size: 2 to 11 convolutions, learning rates of 0.0002 to 0.1024, 50 epochs on
    /// CIFAR-100, which --data gives. Other flags change parts of it
    #[arg(long, requires = "data")]
    paper: bool,
    /// CIFAR-100, binary version: a folder or archive
    #[arg(long, requires = "paper")]
    data: Option<PathBuf>,
    /// Numbers of convolutions, each in 2..=11 [default: 2,4,6,8]
    #[arg(long, value_delimiter = ',', value_parser = depth)]
    depths: Option<Vec<usize>>,
    /// Learning rates of Adam [default: 0.0002,0.0016,0.0128, every third of the paper's]
    #[arg(long, value_delimiter = ',', value_parser = args::lr)]
    lrs: Option<Vec<f64>>,
    /// Runs of each cell, each with a seed of its own
    #[arg(long, default_value = "1", value_parser = args::count)]
    seeds: usize,
    /// Epochs of a run; of the sparse ones, every second is dense, beginning with the first [default: 4]
    #[arg(long, value_parser = args::count)]
    epochs: Option<usize>,
    /// Share of the channels that sparse epochs drop
    #[arg(long, default_value = "0.8", value_parser = args::drop_rate)]
    drop_rate: DropRate,
    /// Training images, the same number of each class [default: 1000; all 40,000 with --paper]
    #[arg(long, value_parser = args::count)]
    train_limit: Option<usize>,
    /// Test images, the same number of each class [default: 500; all with --paper]
    #[arg(long, value_parser = args::count)]
    test_limit: Option<usize>,
    /// Where to write hyperparameter_search.csv and hyperparameter_search.svg [default: runs/hyperparameter_search, with
    /// the first free number]
    #[arg(long)]
    out: Option<PathBuf>,
    #[command(flatten)]
    flags: Flags,
}

impl Args {
    fn epochs(&self) -> usize {
        self.epochs.unwrap_or(if self.paper { 50 } else { 4 })
    }

    fn images(&self) -> ssprop::Result<Images> {
        let paper = self.paper.then_some(Task::Cifar100);
        let limits = Limits {
            train: self.train_limit,
            test: self.test_limit,
        };
        Images::of_figure(paper, self.data.as_deref(), limits, [1000, 500])
    }

    fn data_name(&self) -> &'static str {
        match self.paper {
            true => "CIFAR-100",
            false => "Fashion-MNIST",
        }
    }

    /// Depths and learning rates in order, each once.
    fn axes(&self) -> (Vec<usize>, Vec<f64>) {
        let usual: (Vec<usize>, Vec<f64>) = match self.paper {
            true => {
                let doubled = (0..10).map(|i| 2e-4 * f64::from(1 << i));
                ((2..=11).collect(), doubled.collect())
            }
            false => (vec![2, 4, 6, 8], vec![0.0002, 0.0016, 0.0128]),
        };
        let mut depths = self.depths.clone().unwrap_or(usual.0);
        depths.sort_unstable();
        depths.dedup();
        let mut lrs = self.lrs.clone().unwrap_or(usual.1);
        lrs.sort_by(f64::total_cmp);
        lrs.dedup();
        (depths, lrs)
    }
}

fn depth(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if (2..=11).contains(&n) => Ok(n),
        _ => Err("must be a whole number in 2..=11".into()),
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    exit_code(ssprop::on_threads(args.flags.threads, || run(&args)).flatten())
}

/// A mode's name in the table, and its accuracies by depth, learning rate and seed.
struct Search {
    mode: &'static str,
    schedule: Schedule,
    accuracies: Vec<Vec<Vec<f64>>>,
}

fn run(args: &Args) -> ssprop::Result<()> {
    let start = Instant::now();
    let images = args.images()?;
    let claim = args.flags.folder(
        args.out.as_deref(),
        Path::new("runs/hyperparameter_search"),
        &RESULTS,
    )?;
    let out = claim.path();
    say!("Results go to {}.", out.display());
    let (depths, lrs) = args.axes();
    let runs = 2 * depths.len() * lrs.len() * args.seeds;
    say!(
        "{runs} trainings of {} epochs on {} images of {}, tested on {}",
        args.epochs(),
        images.train.len(),
        args.data_name(),
        images.test.len(),
    );
    let progress = Runs::new(runs);
    let mut searches = [
        ("dense", Schedule::DENSE),
        ("ssprop", Schedule::alternating(args.drop_rate)),
    ]
    .map(|(mode, schedule)| Search {
        mode,
        schedule,
        accuracies: Vec::new(),
    });
    let [table, picture] = RESULTS.map(|name| out.join(name));
    for i in 0..searches.len() {
        for &depth in &depths {
            let mut row = Vec::new();
            for &lr in &lrs {
                let mut cell = Vec::new();
                for seed in (args.flags.seed..).take(args.seeds) {
                    progress.begin(format!("{}, {depth} layers, lr {lr}", searches[i].mode));
                    let run = Run {
                        epochs: args.epochs(),
                        batch_size: args.flags.batch_size(args.paper),
                        lr,
                        lr_schedule: LrSchedule::constant(),
                        schedule: searches[i].schedule,
                        lazy: false,
                        seed,
                    };
                    cell.push(train(args, depth, &run, &images)?);
                    progress.done();
                }
                row.push(cell);
            }
            let shown = row.iter().map(|cell| {
                let s = Summary::of(cell);
                format!("  {:5.1}%", 100.0 * s.mean)
            });
            let shown = shown.collect::<String>();
            progress.line(&format!("{:6} {depth:2} layers:{shown}", searches[i].mode));
            searches[i].accuracies.push(row);
            // A run that is stopped keeps what it has.
            write_file(&table, csv(&depths, &lrs, &searches).as_bytes())?;
        }
    }
    progress.finish();
    let subtitle = format!(
        "Test accuracy (%) on {}, the best framed: {} training and {} test images,\n\
         {} epochs, {} per cell. ssProp: {}% of the channels dropped in every second epoch",
        args.data_name(),
        images.train.len(),
        images.test.len(),
        args.epochs(),
        match args.seeds {
            1 => "one run".to_owned(),
            n => format!("mean of {n} runs"),
        },
        (1000.0 * args.drop_rate.rate()).round() / 10.0,
    );
    let drawn = draw(&depths, &lrs, &searches, &subtitle);
    write_file(picture, drawn.as_bytes())?;
    say!(
        "Written to {}: {}. {:.0} s in all.",
        out.display(),
        RESULTS.join(", "),
        start.elapsed().as_secs_f64(),
    );
    Ok(())
}

fn train(args: &Args, depth: usize, run: &Run, images: &Images) -> ssprop::Result<f64> {
    fn cnn<const LAYERS: usize>(
        (paper, device): (bool, Device),
        run: &Run,
        images: &Images,
    ) -> ssprop::Result<f64> {
        let outcome = on_device!(device, run.seed, |dev| match paper {
            true => {
                let net = dev.build_module::<Cnn<LAYERS, 100, 3>, f32>();
                run.outcome::<_, _, 3, 32, 32, 100>(images, &dev, net)
            }
            false => {
                let net = dev.build_module::<Cnn<LAYERS, 10, 1>, f32>();
                run.outcome::<_, _, 1, 28, 28, 10>(images, &dev, net)
            }
        })?;
        Ok(outcome.accuracy)
    }
    let which = (args.paper, args.flags.device);
    match depth {
        2 => cnn::<2>(which, run, images),
        3 => cnn::<3>(which, run, images),
        4 => cnn::<4>(which, run, images),
        5 => cnn::<5>(which, run, images),
        6 => cnn::<6>(which, run, images),
        7 => cnn::<7>(which, run, images),
        8 => cnn::<8>(which, run, images),
        9 => cnn::<9>(which, run, images),
        10 => cnn::<10>(which, run, images),
        11 => cnn::<11>(which, run, images),
        _ => Err(ssprop::Error::parameter("depth", depth, "in 2..=11")),
    }
}

/// A line of the CSV.
#[derive(Serialize)]
struct Row {
    mode: &'static str,
    depth: usize,
    lr: f64,
    schedule: String,
    runs: usize,
    diverged: usize,
    mean_accuracy: String,
    std_accuracy: String,
    accuracies: String,
}

/// A line a cell.
fn csv(depths: &[usize], lrs: &[f64], searches: &[Search]) -> String {
    let mut rows = Vec::new();
    for search in searches {
        for (&depth, row) in depths.iter().zip(&search.accuracies) {
            for (&lr, cell) in lrs.iter().zip(row) {
                let s = Summary::of(cell);
                rows.push(Row {
                    mode: search.mode,
                    depth,
                    lr,
                    schedule: search.schedule.to_string(),
                    runs: s.runs,
                    diverged: s.diverged,
                    mean_accuracy: format!("{:.5}", s.mean),
                    std_accuracy: format!("{:.5}", s.std),
                    accuracies: joined(cell),
                });
            }
        }
    }
    table::csv(rows)
}

fn draw(depths: &[usize], lrs: &[f64], searches: &[Search], subtitle: &str) -> String {
    let grids: Vec<Grid> = searches
        .iter()
        .map(|search| Grid {
            title: match search.schedule.target().is_dense() {
                true => "Dense".to_owned(),
                false => "ssProp".to_owned(),
            },
            rows: search
                .accuracies
                .iter()
                .map(|row| row.iter().map(|cell| Summary::of(cell).mean).collect())
                .collect(),
        })
        .collect();
    let rows: Vec<String> = depths.iter().map(usize::to_string).collect();
    let columns: Vec<String> = lrs.iter().map(f64::to_string).collect();
    let title = "Depth and learning rate of the N-layer CNN";
    figure::svg(title, subtitle, &rows, &columns, &grids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_out_of_range_name_the_flag_and_the_value() {
        for (flag, value, range) in [
            ("--depths", "2,12", "in 2..=11"),
            ("--depths", "1", "in 2..=11"),
            ("--lrs", "0.1,-2", "greater than 0"),
            ("--seeds", "0", "at least 1"),
            ("--drop-rate", "1", "less than 1"),
        ] {
            let arg = format!("{flag}={value}");
            let err = Args::try_parse_from(["hyperparameter_search", &arg]).unwrap_err();
            let (text, value) = (err.to_string(), value.split(',').next_back().unwrap());
            assert!(text.contains(flag) && text.contains(value), "{text}");
            assert!(text.contains(range), "{text}");
        }
    }

    #[test]
    fn table_and_picture_hold_every_cell() {
        let flags = ["x", "--depths=4,2,4", "--lrs=0.01,0.001"];
        let args = Args::try_parse_from(flags).unwrap();
        let (depths, lrs) = args.axes();
        assert_eq!((&depths[..], &lrs[..]), (&[2, 4][..], &[0.001, 0.01][..]));
        let paper = Args::try_parse_from(["x", "--paper", "--data=x"]).unwrap();
        let (all, doubled) = paper.axes();
        assert_eq!(
            (all.len(), doubled.len(), doubled[0], doubled[9]),
            (10, 10, 2e-4, 0.1024)
        );
        let few = Args::try_parse_from(["x"]).unwrap().axes();
        assert_eq!(few, (vec![2, 4, 6, 8], vec![2e-4, 0.0016, 0.0128]));
        let search = |mode, schedule, plus: f64| Search {
            mode,
            schedule,
            accuracies: vec![
                vec![vec![0.5 + plus, 0.7 + plus], vec![f64::NAN; 2]],
                vec![vec![0.25, f64::NAN], vec![0.125, 0.125]],
            ],
        };
        let paper = Schedule::alternating(args.drop_rate);
        let searches = [
            search("dense", Schedule::DENSE, 0.0),
            search("ssprop", paper, 0.1),
        ];
        let table = csv(&depths, &lrs, &searches);
        assert_eq!(table.lines().count(), 1 + 2 * 4);
        assert!(table.contains("dense,2,0.001,dense,2,0,0.60000,0.14142,0.5 0.7\n"));
        assert!(table.contains("dense,2,0.01,dense,2,2,NaN,NaN,NaN NaN\n"));
        assert!(table.contains("\nssprop,4,0.01,\"constant,drop=0.8,interleave\",2,0,0.12500"));

        let drawn = draw(&depths, &lrs, &searches, "s");
        for (words, times) in [
            ("60.0", 1),
            ("70.0", 1),
            ("25.0", 2),
            ("12.5", 2),
            ("-", 2),
            ("0.001", 2),
            ("Dense", 1),
            ("ssProp", 1),
        ] {
            let words = format!(">\n{words}\n<");
            assert_eq!(drawn.matches(&words).count(), times, "{words}");
        }
    }

    #[test]
    fn every_depth_trains_the_same_twice() {
        let args = Args::try_parse_from(["x"]).unwrap();
        let images = Images::bundled(10, 20).unwrap();
        let run = Run {
            epochs: 1,
            batch_size: 10,
            lr: 0.001,
            lr_schedule: LrSchedule::constant(),
            schedule: Schedule::DENSE,
            lazy: false,
            seed: 1,
        };
        for depth in [2, 11] {
            let accuracy = || train(&args, depth, &run, &images).unwrap();
            assert_eq!(accuracy(), accuracy());
        }
        assert!(train(&args, 12, &run, &images).is_err());
    }
}
