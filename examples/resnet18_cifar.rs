//! Trains ResNet-18 on CIFAR-10 (or, without it, on the bundled part of Fashion-MNIST), dense and
//! sparse epochs in turn, and shows what the sparse ones save.
//!
//!     cargo run --example resnet18_cifar
//!     cargo run --example resnet18_cifar -- --data cifar-10-binary.tar.gz \
//!         --batch-size 128 --epochs 50
//!     cargo run --features cuda --example resnet18_cifar -- --device cuda

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use common::args::{self, Schedule};
use common::device::Device;
use common::history::{self, Record};
use common::on_device;
use common::output::Output;
use common::profile::Profile;
use common::{curves, progress::Progress};
use ssprop::checkpoint::{write_file, Metadata};
use ssprop::data::{self, BatchLoader, ImageDataset, ImageShape, Normalization};
use ssprop::models::modules;
use ssprop::nn::ModelCost;
use ssprop::prelude::*;
use ssprop::train::ImageClassifier;
use ssprop::{Backend, Error};

type Net<D> = modules::ResNet18<10, 3, f32, D>;

/// What a run leaves in its folder.
const RESULTS: [&str; 3] = ["checkpoint.safetensors", "metrics.csv", "curves.svg"];
/// What a resumed run may do otherwise.
const CHANGEABLE: [&str; 3] = ["lr", "drop-rate", "schedule"];

const SHAPE: ImageShape = ImageShape::new(3, 32, 32);

/// Train ResNet-18 with a scheduled sparse backward pass
#[derive(Debug, Parser)]
struct Args {
    /// CIFAR-10, binary version: a folder, tar.gz or zip [default: the bundled images]
    #[arg(long)]
    data: Option<PathBuf>,
    /// Epochs of the whole run
    #[arg(long, default_value = "4", value_parser = args::count)]
    epochs: usize,
    /// Images in a batch
    #[arg(long, default_value = "32", value_parser = args::count)]
    batch_size: usize,
    /// Learning rate of Adam
    #[arg(long, default_value = "0.001", value_parser = args::lr)]
    lr: f64,
    /// Share of the channels that sparse epochs drop
    #[arg(long, default_value = "0.8", value_parser = args::drop_rate)]
    drop_rate: DropRate,
    /// Which epochs are sparse
    #[arg(long, value_enum, default_value = "bar")]
    schedule: Schedule,
    /// Decides the initialisation and the order of the images
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Training images, the same number of each class [default: all, 3000 of the bundled]
    #[arg(long, value_parser = args::count)]
    train_limit: Option<usize>,
    /// Test images, the same number of each class [default: all, 1000 of the bundled]
    #[arg(long, value_parser = args::count)]
    test_limit: Option<usize>,
    /// Where the network runs
    #[arg(long, value_enum, default_value = "cpu")]
    device: Device,
    /// Threads [default: one a core]
    #[arg(long, value_parser = args::threads)]
    threads: Option<usize>,
    /// Where to write the curves, metrics and checkpoint [default: runs/resnet18_cifar, with the
    /// first free number]
    #[arg(long)]
    out: Option<PathBuf>,
    /// Replace an earlier run's results in --out
    #[arg(long, requires = "out")]
    overwrite: bool,
    /// A checkpoint of an earlier run to go on from
    #[arg(long)]
    resume: Option<PathBuf>,
    /// Print at the end where the time of a training step went, operation by operation
    #[arg(long)]
    profile: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let run = || on_device!(args.device, args.seed, |dev| run(&args, &dev));
    match ssprop::on_threads(args.threads, run).flatten() {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("error: {err}");
            ExitCode::FAILURE
        }
    }
}

fn run<D>(args: &Args, dev: &D) -> ssprop::Result<()>
where
    D: Backend<f32>,
    ResNet18<10>: BuildOnDevice<D, f32, Built = Net<D>>,
    Net<D>: ImageClassifier<3, 32, 32, 10, D>,
{
    let start = Instant::now();
    // Before training, so that a folder that cannot be used does not cost an epoch.
    let output = Output {
        out: args.out.as_deref(),
        overwrite: args.overwrite,
        resume: args.resume.as_deref(),
    };
    let out = &output.folder(Path::new("runs/resnet18_cifar"), &RESULTS)?;
    println!("Results go to {}.", out.display());
    let (name, whole_train, whole_test) = read_data(args.data.as_deref())?;
    let limit = |set: &ImageDataset, wanted: Option<usize>, bundled| {
        let all = if args.data.is_none() {
            bundled
        } else {
            set.len()
        };
        set.take_balanced(wanted.unwrap_or(all))
    };
    let (train, test) = (
        limit(&whole_train, args.train_limit, 3000),
        limit(&whole_test, args.test_limit, 1000),
    );
    let norm = Normalization::of(&train)?;
    let loader = |data| {
        BatchLoader::new(data, args.batch_size)?
            .normalize(norm.clone())?
            .fit_to(SHAPE)
    };
    let (train_loader, test_loader) = (loader(&train)?.shuffle(args.seed), loader(&test)?);

    let config = AdamConfig {
        lr: args.lr,
        ..AdamConfig::adam()
    };
    let mut trainer: Trainer<Net<D>, D> =
        Trainer::new(ResNet18::<10>::build_on_device(dev), config)?
            .with_schedule(args.schedule.with(args.drop_rate))?;
    let mut metadata = metadata(args, name, train.len());
    let mut records = match &args.resume {
        Some(path) => {
            let (records, changed) = resume(&mut trainer, path, &metadata)?;
            for change in changed {
                println!("Unlike in the resumed run: {change}.");
            }
            records
        }
        None => Vec::new(),
    };

    println!(
        "ResNet-18 on {name}: {} of {} training images, {} of {} test images, batches of {}",
        train.len(),
        whole_train.len(),
        test.len(),
        whole_test.len(),
        args.batch_size,
    );
    let epochs = args.epochs as u64;
    let mut progress = Progress::new(epochs);
    let mut profile = Profile::default();
    while trainer.epoch() < epochs {
        if args.profile {
            ssprop::profile::start();
        }
        let report = trainer.train_epoch::<3, 32, 32, 10>(dev, &train_loader, &mut progress)?;
        profile.add(&report, &ssprop::profile::stop());
        let result = trainer.evaluate::<3, 32, 32, 10>(dev, &test_loader)?;
        records.push(Record::new(&report, &result));
        progress.line(&history::line(&records[records.len() - 1], epochs));
        // After every epoch, so that a run that is stopped has lost no more than one.
        progress.say("saving");
        metadata.insert("history".into(), history::to_csv(&records));
        write_results(out, name, &records)?;
        trainer.save(out.join("checkpoint.safetensors"), &metadata)?;
    }
    progress.finish();
    write_results(out, name, &records)?;

    let cost = ModelCost::of::<Net<D>>([3, 32, 32])?;
    let dense_flops = records
        .iter()
        .map(|r| cost.per_epoch(r.train_images, args.batch_size, DropRate::DENSE));
    println!("\n{}", history::table(&records));
    println!("{}", history::savings(&records, dense_flops.sum()));
    if args.profile {
        println!("{}", profile.table());
    }
    println!(
        "Written to {}: curves.svg, metrics.csv, checkpoint.safetensors. {:.0} s in all.",
        out.display(),
        start.elapsed().as_secs_f64(),
    );
    Ok(())
}

/// The data set's name, its training and its test images.
fn read_data(path: Option<&Path>) -> ssprop::Result<(&'static str, ImageDataset, ImageDataset)> {
    Ok(match path {
        Some(path) => {
            let (train, test) = data::cifar10(path)?;
            ("CIFAR-10", train, test)
        }
        None => {
            println!(
                "No --data: training on the bundled Fashion-MNIST images instead of CIFAR-10."
            );
            let (train, test) = data::bundled()?;
            ("Fashion-MNIST", train, test)
        }
    })
}

/// What has to be the same for a run to go on bit for bit: the last three may be changed.
fn metadata(args: &Args, data: &str, images: usize) -> Metadata {
    [
        ("model", "ResNet-18".to_owned()),
        ("data", data.to_owned()),
        ("seed", args.seed.to_string()),
        ("batch-size", args.batch_size.to_string()),
        ("training images", images.to_string()),
        (CHANGEABLE[0], args.lr.to_string()),
        (CHANGEABLE[1], args.drop_rate.rate().to_string()),
        (CHANGEABLE[2], format!("{:?}", args.schedule).to_lowercase()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

/// Goes back to a checkpoint of the same run, and returns the records of its epochs and what is
/// changed from now on.
fn resume<D>(
    trainer: &mut Trainer<Net<D>, D>,
    path: &Path,
    wanted: &Metadata,
) -> ssprop::Result<(Vec<Record>, Vec<String>)>
where
    D: Backend<f32>,
{
    let format = |what: String| Error::Format {
        path: path.to_owned(),
        what,
    };
    let found = trainer.resume(path)?;
    let mut changed = Vec::new();
    for (key, value) in wanted {
        let saved = found.get(key).map_or("unknown", String::as_str);
        if saved != value && CHANGEABLE.contains(&key.as_str()) {
            changed.push(format!("{key} is {value}, was {saved}"));
        } else if saved != value {
            let what = format!("a checkpoint of another run: {key} = {saved}, now {value}");
            return Err(format(what));
        }
    }
    let records = found
        .get("history")
        .and_then(|csv| history::from_csv(csv))
        .filter(|records| records.len() as u64 == trainer.epoch())
        .ok_or_else(|| format("the records of its epochs are missing or damaged".into()))?;
    Ok((records, changed))
}

fn write_results(out: &Path, data: &str, records: &[Record]) -> ssprop::Result<()> {
    write_file(out.join("metrics.csv"), history::to_csv(records).as_bytes())?;
    let title = format!(
        "ResNet-18 on {data}: {} training images, tested on {}",
        records.first().map_or(0, |r| r.train_images),
        records.first().map_or(0, |r| r.test_images),
    );
    write_file(
        out.join("curves.svg"),
        curves::svg(&title, records).as_bytes(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_out_of_range_name_the_value_and_the_range() {
        for (flag, value, range) in [
            ("--drop-rate", "1.2", "at least 0 and less than 1"),
            ("--drop-rate", "x", "must be a number"),
            ("--batch-size", "0", "at least 1"),
            ("--epochs", "0", "at least 1"),
            ("--threads", "0", "in 1..=1024"),
            ("--lr", "-1", "greater than 0"),
            ("--lr", "nan", "greater than 0"),
            ("--schedule", "zigzag", "bar, dense, constant"),
            ("--device", "tpu", "cpu, cuda"),
            ("--seed", "-1", "--seed"),
        ] {
            let arg = format!("{flag}={value}");
            let err = Args::try_parse_from(["resnet18_cifar", &arg]).unwrap_err();
            let text = err.to_string();
            assert!(text.contains(value) && text.contains(range), "{text}");
            assert!(text.contains(flag), "{text}");
            assert_eq!(err.exit_code(), 2);
        }
    }

    #[test]
    fn schedules() {
        let sparse = DropRate::new(0.8).unwrap();
        let rates = |s: Schedule| [0, 1, 2].map(|epoch| s.with(sparse).drop_rate(epoch, 0).rate());
        assert_eq!(rates(Schedule::Bar), [0.0, 0.8, 0.0]);
        assert_eq!(rates(Schedule::Dense), [0.0; 3]);
        assert_eq!(rates(Schedule::Constant), [0.8; 3]);
    }
}
