//! The sensitivity analysis of the paper's Figure 2 (arXiv 2408.12561), with a small network on the
//! bundled images: (a) the best channels or random ones, (b) a mask over channels, over height x
//! width or over all three, (c) only dW sparse or dX as well, (d) the schedule.
//!
//!     cargo run --example sensitivity
//!     cargo run --example sensitivity -- --seeds 5 --epochs 20 --train-limit 6000 \
//!         --drop-rates 0.2,0.4,0.6,0.8,0.9 --out runs/long

mod figure;
mod panels;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use common::args;
use common::progress::Runs;
use common::say;
use common::small;
use common::statistics::Summary;
use common::sweep::{Flags, Images, Run};
use panels::{distinct_ways, Axis, Choices, Panel, Way};
use ssprop::checkpoint::write_file;
use ssprop::prelude::*;
use ssprop::run::exit_code;

/// What a run leaves in its folder.
const RESULTS: [&str; 2] = ["sensitivity.csv", "sensitivity.svg"];

/// Draw the four panels of the paper's sensitivity analysis (about five minutes on two cores)
#[derive(Debug, Parser)]
struct Args {
    /// Runs of each point, each with a seed of its own
    #[arg(long, default_value = "3", value_parser = args::count)]
    seeds: usize,
    /// Epochs of a run
    #[arg(long, default_value = "10", value_parser = args::count)]
    epochs: usize,
    /// Drop rates of panels a, b and c
    #[arg(long, default_value = "0.5,0.8,0.95", value_delimiter = ',', value_parser = args::drop_rate)]
    drop_rates: Vec<DropRate>,
    /// Drop rate that the schedules of panel d lead to
    #[arg(long, default_value = "0.8", value_parser = args::drop_rate)]
    target: DropRate,
    /// Iterations in a period of the schedules by iteration
    #[arg(long, default_value = "10", value_parser = args::count)]
    period: usize,
    /// Every second epoch is dense in panels a, b and c
    #[arg(long)]
    interleave: bool,
    /// Random selections multiply what is kept by 1 / its share
    #[arg(long)]
    rescale: bool,
    /// Learning rate of Adam
    #[arg(long, default_value = "0.002", value_parser = args::lr)]
    lr: f64,
    /// Training images, the same number of each class
    #[arg(long, default_value = "2000", value_parser = args::count)]
    train_limit: usize,
    /// Test images, the same number of each class
    #[arg(long, default_value = "1000", value_parser = args::count)]
    test_limit: usize,
    /// Where to write sensitivity.csv and sensitivity.svg [default: runs/sensitivity, with
    /// the first free number]
    #[arg(long)]
    out: Option<PathBuf>,
    #[command(flatten)]
    flags: Flags,
}

fn main() -> ExitCode {
    let args = Args::parse();
    exit_code(ssprop::on_threads(args.flags.threads, || run(&args)).flatten())
}

/// A way and the test accuracies of its runs.
type Done = (Way, Vec<f64>);

fn run(args: &Args) -> ssprop::Result<()> {
    let start = Instant::now();
    let claim = args
        .flags
        .folder(args.out.as_deref(), Path::new("runs/sensitivity"), &RESULTS)?;
    let out = claim.path();
    say!("Results go to {}.", out.display());
    let images = Images::bundled(args.train_limit, args.test_limit)?;
    let panels = panels::panels(&choices(args))?;
    let ways = distinct_ways(&panels);
    say!(
        "{} trainings of {} epochs on {} of the bundled Fashion-MNIST images, tested on {}",
        ways.len() * args.seeds,
        args.epochs,
        images.train.len(),
        images.test.len(),
    );
    let progress = Runs::new(ways.len() * args.seeds);
    let mut done: Vec<Done> = Vec::new();
    for way in ways {
        let mut accuracies = Vec::new();
        for seed in (args.flags.seed..).take(args.seeds) {
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

fn choices(args: &Args) -> Choices {
    let mut drop_rates = args.drop_rates.clone();
    drop_rates.sort_by(|a, b| a.rate().total_cmp(&b.rate()));
    drop_rates.dedup();
    Choices {
        drop_rates,
        interleaved: args.interleave,
        rescale: args.rescale,
        target: args.target,
        epochs: args.epochs as u64,
        period: args.period as u64,
    }
}

fn train(args: &Args, images: &Images, way: &Way, seed: u64) -> ssprop::Result<f64> {
    let run = Run {
        epochs: args.epochs,
        batch_size: args.flags.batch_size,
        lr: args.lr,
        schedule: way.schedule,
        seed,
    };
    run.test_accuracy(images, |dev| {
        let mut net = small::build(dev);
        net.visit_sparse(&mut |layer| way.set(layer.backward, seed));
        net
    })
}

fn describe(way: &Way) -> String {
    let selection = match way.selection {
        Selection::Random { rescale: false, .. } => ", random",
        Selection::Random { rescale: true, .. } => ", random rescaled",
        _ => "",
    };
    let gradients = if way.only_weight_sparse {
        ", only dW"
    } else {
        ""
    };
    let masking = match way.masking {
        Masking::Channels => String::new(),
        other => format!(", over {other}"),
    };
    format!("{}{selection}{masking}{gradients}", way.schedule)
}

fn accuracies<'a>(done: &'a [Done], way: &Way) -> &'a [f64] {
    let found = done.iter().find(|(other, _)| other == way);
    found.map_or(&[], |(_, accuracies)| accuracies)
}

/// The mean drop rate of a run.
fn mean_drop_rate(args: &Args, images: &Images, way: &Way) -> ssprop::Result<f64> {
    let iterations = images.train.len().div_ceil(args.flags.batch_size);
    way.schedule
        .average_drop_rate(args.epochs as u64, iterations as u64)
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
    let drawn: ssprop::Result<Vec<_>> = panels.iter().map(|p| drawing(p, done, rate)).collect();
    let dense = Summary::of(accuracies(done, &Way::paper(Schedule::DENSE)));
    let subtitle = format!(
        "Test accuracy of a CNN of 3 layers on Fashion-MNIST: {} training and {} test images, {} epochs, seeds: {}",
        images.train.len(),
        images.test.len(),
        args.epochs,
        args.seeds,
    );
    let title = "What a sparse backward pass does to the accuracy";
    write_file(
        out.join(RESULTS[1]),
        figure::svg(title, &subtitle, &drawn?, &dense).as_bytes(),
    )
}

/// A line a point, and one for the dense runs.
fn csv(
    panels: &[Panel],
    done: &[Done],
    mean_drop_rate: impl Fn(&Way) -> ssprop::Result<f64>,
) -> ssprop::Result<String> {
    let mut csv = String::from(
        "panel,series,schedule,mean_drop_rate,runs,diverged,mean_accuracy,std_accuracy,accuracies\n",
    );
    let mut line = |panel: &str, series: &str, way: &Way| -> ssprop::Result<()> {
        let results = accuracies(done, way);
        let s = Summary::of(results);
        let all: Vec<String> = results.iter().map(f64::to_string).collect();
        csv += &format!(
            "{panel},{series},\"{}\",{:.4},{},{},{:.5},{:.5},{}\n",
            way.schedule,
            mean_drop_rate(way)?,
            s.runs,
            s.diverged,
            s.mean,
            s.std,
            all.join(" "),
        );
        Ok(())
    };
    line("all", "dense", &Way::paper(Schedule::DENSE))?;
    for panel in panels {
        for series in &panel.series {
            for point in &series.points {
                line(&panel.letter.to_string(), series.name, &point.way)?;
            }
        }
    }
    Ok(csv)
}

/// A panel with its results.
fn drawing(
    panel: &Panel,
    done: &[Done],
    mean_drop_rate: impl Fn(&Way) -> ssprop::Result<f64>,
) -> ssprop::Result<figure::Panel> {
    let percent = |rate: f64| {
        let text = format!("{:.3}", 100.0 * rate);
        format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
    };
    let mut ticks: Vec<(f64, String)> = Vec::new();
    for point in panel.series.iter().flat_map(|s| &s.points) {
        if ticks.iter().any(|t| t.0 == point.x) {
            continue;
        }
        let label = match &panel.axis {
            Axis::DropRate => percent(point.x),
            Axis::Choices(names) => {
                let name = names.get(point.x as usize).unwrap_or(&"");
                let mean = 100.0 * mean_drop_rate(&point.way)?;
                format!("{name}\n{mean:.0}%")
            }
        };
        ticks.push((point.x, label));
    }
    let series = panel.series.iter().map(|series| figure::Series {
        name: series.name,
        points: series
            .points
            .iter()
            .map(|p| (p.x, Summary::of(accuracies(done, &p.way))))
            .collect(),
    });
    let by_rate = panel.axis == Axis::DropRate;
    Ok(figure::Panel {
        title: format!("({}) {}", panel.letter, panel.title),
        axis: match by_rate {
            true => "drop rate",
            false => "schedule, and its mean drop rate",
        },
        ticks,
        series: series.collect(),
        joined: by_rate,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_out_of_range_name_the_flag_and_the_value() {
        for (flag, value, range) in [
            ("--drop-rates", "0.5,1.2", "less than 1"),
            ("--drop-rates", "a", "must be a number"),
            ("--target", "1", "less than 1"),
            ("--seeds", "0", "at least 1"),
            ("--period", "0", "at least 1"),
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
        let rates: Vec<f64> = choices(&args).drop_rates.iter().map(|r| r.rate()).collect();
        assert_eq!(rates, [0.2, 0.9]);
    }

    #[test]
    fn table_and_picture_hold_every_point() {
        let panels = panels::panels(&panels::tests::choices()).unwrap();
        let done: Vec<Done> = distinct_ways(&panels)
            .into_iter()
            .enumerate()
            .map(|(i, way)| (way, vec![0.5 + 0.01 * i as f64, f64::NAN]))
            .collect();
        let rate = |_: &Way| Ok(0.4);
        let table = csv(&panels, &done, rate).unwrap();
        assert_eq!(table.lines().count(), 1 + 1 + 2 * (2 + 3 + 2) + 5 + 3);
        let dense = "all,dense,\"dense\",0.4000,2,1,0.50000,0.00000,0.5 NaN";
        assert_eq!(table.lines().nth(1), Some(dense));
        assert!(table.contains("d,by iteration,\"bar,drop=0.8,period=10\","));

        let drawn: Vec<_> = panels
            .iter()
            .map(|p| drawing(p, &done, rate).unwrap())
            .collect();
        assert_eq!(drawn[0].ticks[0], (0.5, "50%".into()));
        assert_eq!(drawn[3].ticks[1], (1.0, "linear\n40%".into()));
        assert_eq!(drawn[3].ticks.len(), 5);
        let svg = figure::svg("", "", &drawn, &Summary::of(&[0.5]));
        for name in ["top-k", "all three", "only dW", "by iteration", "(d) Sched"] {
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
