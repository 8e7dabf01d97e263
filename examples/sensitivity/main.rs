//! The sensitivity analysis of the paper's Figure 2 (arXiv 2408.12561): (a) a mask over channels, over
//! height x width or over all three, (b) the best channels or random ones, (c) schedulers by the drop
//! rate that they lead to, (d) those of a short period.
//!
//!     cargo run --example sensitivity
//!     cargo run --example sensitivity -- --paper --data cifar-10-binary.tar.gz
//!
//! As it is, a small network on the bundled images; with `--paper` ResNet-18 on CIFAR-10, for days on
//! a CPU.

mod figure;
mod panels;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use common::progress::Runs;
use common::small;
use common::statistics::Summary;
use common::sweep::{Flags, Images, Run};
use common::table::{self, joined};
use common::{args, on_device, say};
use panels::{distinct_ways, Choices, Panel, Way};
use serde::Serialize;
use ssprop::checkpoint::write_file;
use ssprop::data::{Limits, Task};
use ssprop::prelude::*;
use ssprop::run::exit_code;

/// What a run leaves in its folder.
const RESULTS: [&str; 2] = ["sensitivity.csv", "sensitivity.svg"];

/// Draw the four panels of the paper's Figure 2 (minutes on two cores)
#[derive(Debug, Parser)]
struct Args {
    /// The paper's size: ResNet-18 on CIFAR-10, which --data gives, 50 epochs, drop rates of 5 to 95%,
    /// periods of 30 to 300 iterations, Adam at 0.0002. Other flags change parts of it
    #[arg(long, requires = "data")]
    paper: bool,
    /// CIFAR-10, binary version: a folder or archive
    #[arg(long, requires = "paper")]
    data: Option<PathBuf>,
    /// Runs of each point, each with a seed of its own; of panel d one, as in the paper [default: 3]
    #[arg(long, value_parser = args::count)]
    seeds: Option<usize>,
    /// Epochs of a run [default: 10]
    #[arg(long, value_parser = args::count)]
    epochs: Option<usize>,
    /// Drop rates [default: 0.5,0.8,0.95]
    #[arg(long, value_delimiter = ',', value_parser = args::drop_rate)]
    drop_rates: Option<Vec<DropRate>>,
    /// Iterations in the periods of panel d [default: 4,20,40]
    #[arg(long, value_delimiter = ',', value_parser = args::count)]
    periods: Option<Vec<usize>>,
    /// Every second epoch is dense in panels a and b
    #[arg(long)]
    interleave: bool,
    /// Random selections multiply what is kept by 1 / its share
    #[arg(long)]
    rescale: bool,
    /// A fifth panel, of rules that are not the paper's, with constant drop rates: channels in turn, and Adam that
    /// leaves the rows of dropped channels alone (lazy)
    #[arg(long)]
    rules: bool,
    /// Learning rate of Adam [default: 0.002, as few epochs of few images need]
    #[arg(long, value_parser = args::lr)]
    lr: Option<f64>,
    /// Training images, the same number of each class [default: 2000; all 40,000 with --paper]
    #[arg(long, value_parser = args::count)]
    train_limit: Option<usize>,
    /// Test images, the same number of each class [default: 1000; all with --paper]
    #[arg(long, value_parser = args::count)]
    test_limit: Option<usize>,
    /// Where to write sensitivity.csv and sensitivity.svg [default: runs/sensitivity, with
    /// the first free number]
    #[arg(long)]
    out: Option<PathBuf>,
    #[command(flatten)]
    flags: Flags,
}

impl Args {
    fn seeds(&self) -> usize {
        self.seeds.unwrap_or(3)
    }

    fn epochs(&self) -> usize {
        self.epochs.unwrap_or(if self.paper { 50 } else { 10 })
    }

    fn lr(&self) -> f64 {
        self.lr.unwrap_or(if self.paper { 2e-4 } else { 2e-3 })
    }

    fn batch_size(&self) -> usize {
        self.flags.batch_size(self.paper)
    }

    fn images(&self) -> ssprop::Result<Images> {
        let paper = self.paper.then_some(Task::Cifar10);
        let limits = Limits {
            train: self.train_limit,
            test: self.test_limit,
        };
        Images::of_figure(paper, self.data.as_deref(), limits, [2000, 1000])
    }

    fn choices(&self) -> ssprop::Result<Choices> {
        let rates = |percents: &[u32]| -> ssprop::Result<Vec<DropRate>> {
            let rate = |&percent: &u32| DropRate::new(f64::from(percent) / 100.0);
            percents.iter().map(rate).collect()
        };
        let mut drop_rates = match &self.drop_rates {
            Some(rates) => rates.clone(),
            None if self.paper => rates(&[5, 15, 25, 35, 45, 55, 65, 75, 85, 95])?,
            None => rates(&[50, 80, 95])?,
        };
        drop_rates.sort_by(|a, b| a.rate().total_cmp(&b.rate()));
        drop_rates.dedup();
        let periods = match &self.periods {
            Some(periods) => periods.clone(),
            None if self.paper => (1..=10).map(|i| 30 * i).collect(),
            None => vec![4, 20, 40],
        };
        Ok(Choices {
            drop_rates,
            interleaved: self.interleave,
            rescale: self.rescale,
            epochs: self.epochs() as u64,
            rules: self.rules,
            periods: periods.into_iter().map(|period| period as u64).collect(),
        })
    }

    /// The network and its images.
    fn what(&self) -> &'static str {
        match self.paper {
            true => "ResNet-18 on CIFAR-10",
            false => "a CNN of 3 layers on Fashion-MNIST",
        }
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    exit_code(ssprop::on_threads(args.flags.threads, || run(&args)).flatten())
}

/// A way and the test accuracies of its runs.
type Done = (Way, Vec<f64>);

fn run(args: &Args) -> ssprop::Result<()> {
    let start = Instant::now();
    let panels = panels::panels(&args.choices()?)?;
    let images = args.images()?;
    let claim = args
        .flags
        .folder(args.out.as_deref(), Path::new("runs/sensitivity"), &RESULTS)?;
    let out = claim.path();
    say!("Results go to {}.", out.display());
    let ways = distinct_ways(&panels, args.seeds());
    let runs = ways.iter().map(|way| way.1).sum();
    say!(
        "{runs} trainings of {}: {} epochs on {} images, tested on {}",
        args.what(),
        args.epochs(),
        images.train.len(),
        images.test.len(),
    );
    let progress = Runs::new(runs);
    let mut done: Vec<Done> = Vec::new();
    for (way, seeds) in ways {
        let mut accuracies = Vec::new();
        for seed in (args.flags.seed..).take(seeds) {
            progress.begin(describe(&way));
            accuracies.push(train(args, &images, &way, seed)?);
            progress.done();
        }
        let s = Summary::of(&accuracies);
        progress.line(&format!(
            "{:5.1}% +- {:4.1}  {}",
            100.0 * s.mean,
            100.0 * s.std,
            describe(&way)
        ));
        done.push((way, accuracies));
        // A run that is stopped keeps what it has.
        write_results(args, out, &images, &panels, &done)?;
    }
    progress.finish();
    say!(
        "Written to {}: {}. {:.0} s in all.",
        out.display(),
        RESULTS.join(", "),
        start.elapsed().as_secs_f64(),
    );
    Ok(())
}

fn train(args: &Args, images: &Images, way: &Way, seed: u64) -> ssprop::Result<f64> {
    let run = Run {
        epochs: args.epochs(),
        batch_size: args.batch_size(),
        lr: args.lr(),
        lr_schedule: LrSchedule::constant(),
        schedule: way.schedule,
        lazy: way.lazy,
        seed,
    };
    let set = |net: &mut dyn VisitLayers| net.visit_sparse(&mut |l| way.set(l.backward, seed));
    let outcome = on_device!(args.flags.device, seed, |dev| match args.paper {
        true => {
            let mut net = dev.build_module::<ResNet18<10>, f32>();
            set(&mut net);
            run.outcome::<_, _, 3, 32, 32, 10>(images, &dev, net)
        }
        false => {
            let mut net = small::build::<small::Net, _>(&dev);
            set(&mut net);
            run.outcome::<_, _, 1, 28, 28, 10>(images, &dev, net)
        }
    })?;
    Ok(outcome.accuracy)
}

fn describe(way: &Way) -> String {
    let selection = match way.selection {
        Selection::Random { rescale: false, .. } => ", random",
        Selection::Random { rescale: true, .. } => ", random rescaled",
        Selection::Rotation { rescale: false } => ", rotation",
        Selection::Rotation { rescale: true } => ", rotation rescaled",
        _ => "",
    };
    let masking = match way.masking {
        Masking::Channels => String::new(),
        other => format!(", over {other}"),
    };
    let lazy = if way.lazy { ", lazy" } else { "" };
    format!("{}{selection}{masking}{lazy}", way.schedule)
}

fn accuracies<'a>(done: &'a [Done], way: &Way) -> &'a [f64] {
    let found = done.iter().find(|(other, _)| other == way);
    found.map_or(&[], |(_, accuracies)| accuracies)
}

/// The mean drop rate of a run.
fn mean_drop_rate(args: &Args, images: &Images, way: &Way) -> ssprop::Result<f64> {
    let iterations = images.train.len().div_ceil(args.batch_size());
    way.schedule
        .average_drop_rate(args.epochs() as u64, iterations as u64)
}

fn write_results(
    args: &Args,
    out: &Path,
    images: &Images,
    panels: &[Panel],
    done: &[Done],
) -> ssprop::Result<()> {
    let rate = |way: &Way| mean_drop_rate(args, images, way);
    write_file(out.join(RESULTS[0]), csv(panels, done, rate)?.as_bytes())?;
    let drawn: Vec<_> = panels.iter().map(|p| drawing(p, done)).collect();
    let dense = Summary::of(accuracies(done, &Way::paper(Schedule::DENSE)));
    let subtitle = format!(
        "Test accuracy of {}: {} training and {} test images, {} epochs; seeds: {}, of (d) one",
        args.what(),
        images.train.len(),
        images.test.len(),
        args.epochs(),
        args.seeds(),
    );
    let title = "What a sparse backward pass does to the accuracy";
    write_file(
        out.join(RESULTS[1]),
        figure::svg(title, &subtitle, &drawn, &dense).as_bytes(),
    )
}

/// A line of the CSV.
#[derive(Serialize)]
struct Row {
    panel: String,
    series: &'static str,
    schedule: String,
    mean_drop_rate: String,
    runs: usize,
    diverged: usize,
    mean_accuracy: String,
    std_accuracy: String,
    accuracies: String,
}

/// A line a way of a point, and one for the dense runs.
fn csv(
    panels: &[Panel],
    done: &[Done],
    mean_drop_rate: impl Fn(&Way) -> ssprop::Result<f64>,
) -> ssprop::Result<String> {
    let row = |panel: String, series: &'static str, way: &Way| -> ssprop::Result<Row> {
        let results = accuracies(done, way);
        let s = Summary::of(results);
        Ok(Row {
            panel,
            series,
            schedule: way.schedule.to_string(),
            mean_drop_rate: format!("{:.4}", mean_drop_rate(way)?),
            runs: s.runs,
            diverged: s.diverged,
            mean_accuracy: format!("{:.5}", s.mean),
            std_accuracy: format!("{:.5}", s.std),
            accuracies: joined(results),
        })
    };
    let dense = Way::paper(Schedule::DENSE);
    let mut rows = vec![row("all".into(), "dense", &dense)?];
    for panel in panels {
        for series in &panel.series {
            for way in series.points.iter().flat_map(|point| &point.ways) {
                rows.push(row(panel.letter.to_string(), series.name, way)?);
            }
        }
    }
    Ok(table::csv(rows))
}

/// A panel with its results.
fn drawing(panel: &Panel, done: &[Done]) -> figure::Panel {
    let percent = |rate: f64| {
        let text = format!("{:.3}", 100.0 * rate);
        format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
    };
    let rates = panel.series.first().map(|series| &series.points);
    let rates = rates.into_iter().flatten().map(|point| point.rate);
    let series = panel.series.iter().map(|series| figure::Series {
        name: series.name,
        points: series
            .points
            .iter()
            .map(|p| {
                let runs = p.ways.iter().flat_map(|way| accuracies(done, way));
                (p.rate, Summary::of(&runs.copied().collect::<Vec<_>>()))
            })
            .collect(),
    });
    figure::Panel {
        title: format!("({}) {}", panel.letter, panel.title),
        axis: panel.axis,
        ticks: rates.map(|rate| (rate, percent(rate))).collect(),
        series: series.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_out_of_range_name_the_flag_and_the_value() {
        for (flag, value, range) in [
            ("--drop-rates", "0.5,1.2", "less than 1"),
            ("--drop-rates", "a", "must be a number"),
            ("--seeds", "0", "at least 1"),
            ("--periods", "10,0", "at least 1"),
            ("--lr", "0", "greater than 0"),
            ("--batch-size", "0", "at least 1"),
        ] {
            let arg = format!("{flag}={value}");
            let text = Args::try_parse_from(["sensitivity", &arg])
                .unwrap_err()
                .to_string();
            let value = value.split(',').next_back().unwrap();
            assert!(text.contains(flag) && text.contains(value), "{text}");
            assert!(text.contains(range), "{text}");
        }
    }

    #[test]
    fn drop_rates_are_in_order_and_once() {
        let args = Args::try_parse_from(["sensitivity", "--drop-rates=0.9,0.2,0.9"]).unwrap();
        let of = |args: &Args| -> Vec<f64> {
            let rates = args.choices().unwrap().drop_rates;
            rates.iter().map(|r| r.rate()).collect()
        };
        assert_eq!(of(&args), [0.2, 0.9]);
        assert!(Args::try_parse_from(["sensitivity", "--paper"]).is_err());
        let paper = Args::try_parse_from(["sensitivity", "--paper", "--data=x"]).unwrap();
        assert_eq!((of(&paper)[0], of(&paper).len()), (0.05, 10));
        assert_eq!(
            (paper.lr(), paper.batch_size(), paper.epochs()),
            (2e-4, 128, 50)
        );
        assert_eq!(paper.choices().unwrap().periods[9], 300);
    }

    #[test]
    fn table_and_picture_hold_every_point() {
        let panels = panels::panels(&panels::tests::choices()).unwrap();
        let done: Vec<Done> = distinct_ways(&panels, 2)
            .into_iter()
            .enumerate()
            .map(|(i, (way, _))| (way, vec![0.5 + 0.01 * i as f64, f64::NAN]))
            .collect();
        let rate = |_: &Way| Ok(0.4);
        let table = csv(&panels, &done, rate).unwrap();
        // Two rates of three, two and four series, and of two series with two periods and one more.
        assert_eq!(table.lines().count(), 1 + 1 + 2 * (3 + 2 + 4 + 2 * 2 + 1));
        let dense = "all,dense,dense,0.4000,2,1,0.50000,0.00000,0.5 NaN";
        assert_eq!(table.lines().nth(1), Some(dense));
        assert!(table.contains("d,\"bar, short\",\"bar,drop=0.8,period=10\","));

        let drawn: Vec<_> = panels.iter().map(|p| drawing(p, &done)).collect();
        assert_eq!(drawn[0].ticks, [(0.5, "50%".into()), (0.8, "80%".into())]);
        // Of both periods, each with a run that came to its end and one that did not.
        let pooled = drawn[3].series[0].points[0].1;
        assert_eq!((pooled.runs, pooled.diverged), (4, 2));
        assert!(pooled.std > 0.0);
        let svg = figure::svg("", "", &drawn, &Summary::of(&[0.5]));
        for name in [
            "top-k",
            "height x width",
            "cosine",
            "bar, 2 epochs",
            "(d) Sched",
        ] {
            assert!(svg.contains(name), "{name}");
        }
    }

    #[test]
    fn a_run_is_the_same_every_time_and_its_way_matters() {
        let args = [
            "sensitivity",
            "--epochs=2",
            "--train-limit=40",
            "--batch-size=10",
        ];
        let args = Args::try_parse_from(args).unwrap();
        let images = Images::bundled(40, 200).unwrap();
        let mut way = Way::paper(Schedule::constant(DropRate::new(0.8).unwrap()));
        let accuracy = |way: &Way| train(&args, &images, way, 3).unwrap();
        assert_eq!(accuracy(&way), accuracy(&way));
        way.selection = Selection::Random {
            seed: 0,
            rescale: false,
        };
        assert_ne!(accuracy(&way), accuracy(&Way::paper(way.schedule)));
        assert_eq!(accuracy(&way), accuracy(&way));
    }
}
