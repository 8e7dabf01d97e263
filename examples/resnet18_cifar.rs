//! Trains ResNet-18 on CIFAR-10 (or, without it, on the bundled part of Fashion-MNIST), dense and
//! sparse epochs in turn, and shows what the sparse ones save.
//!
//!     cargo run --example resnet18_cifar
//!     cargo run --example resnet18_cifar -- --data cifar-10-binary.tar.gz \
//!         --batch-size 128 --epochs 50
//!     cargo run --features cuda --example resnet18_cifar -- --device cuda
//!     mpirun -n 2 cargo run --features mpi --example resnet18_cifar
//!
//! Its defaults are for a first look, in minutes on two cores; `train_classifier` has the paper's.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use common::args::{self, RunArgs, Schedule};
use common::device::Device;
use common::profile::Profile;
use common::{on_device, say};
use ssprop::data::{self, BatchLoader, ImageDataset, ImageShape, Normalization};
use ssprop::distributed::Communicator;
use ssprop::models::modules;
use ssprop::nn::ModelCost;
use ssprop::prelude::*;
use ssprop::run::{exit_code, Run, RunConfig};
use ssprop::train::ImageClassifier;
use ssprop::Backend;

type Net<D> = modules::ResNet18<10, 3, f32, D>;

const SHAPE: ImageShape = ImageShape::new(3, 32, 32);

/// Train ResNet-18 with a scheduled sparse backward pass: a first look in minutes. The paper's settings are
/// train_classifier's defaults (128 images in a batch, Adam at 0.0002, 50 epochs)
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
    #[command(flatten)]
    run: RunArgs,
    /// Print at the end where the time of a training step went, operation by operation
    #[arg(long)]
    profile: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let run = || on_device!(args.device, args.seed, |dev| run(&args, &dev));
    exit_code(ssprop::on_threads(args.threads, run).flatten())
}

fn run<D>(args: &Args, dev: &D) -> ssprop::Result<()>
where
    D: Backend<f32>,
    ResNet18<10>: BuildOnDevice<D, f32, Built = Net<D>>,
    Net<D>: ImageClassifier<3, 32, 32, 10, D>,
{
    let ranks = Communicator::from_environment()?;
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
            .with_schedule(args.schedule.with(args.drop_rate))?
            .with_communicator(&ranks)?;
    let title = format!(
        "ResNet-18 on {name}: {} training images, tested on {}",
        train.len(),
        test.len(),
    );
    let config = RunConfig::new(title)
        .fixed("model", "ResNet-18")
        .fixed("data", name)
        .fixed("seed", args.seed)
        .fixed("batch-size", args.batch_size)
        .fixed("training images", train.len())
        // For `classify`.
        .noted("input", train_loader.input_spec())
        .changeable("lr", args.lr)
        .changeable("drop-rate", args.drop_rate.rate())
        .changeable("schedule", format!("{:?}", args.schedule).to_lowercase());
    let mut run = Run::start_on(&ranks, "runs/resnet18_cifar", args.run.options(), config)?;
    run.resume(&mut trainer)?;

    say!(
        "ResNet-18 on {name}: {} of {} training images, {} of {} test images, batches of {}",
        train.len(),
        whole_train.len(),
        test.len(),
        whole_test.len(),
        args.batch_size,
    );
    let mut profile = Profile::default();
    if args.profile {
        ssprop::profile::start();
    }
    while let Some(epoch) = run.train(&mut trainer, args.epochs as u64, |trainer, observer| {
        trainer.train_part::<3, 32, 32, 10>(dev, &train_loader, observer)
    })? {
        profile.add(&epoch, &ssprop::profile::stop());
        let found = trainer.evaluate::<3, 32, 32, 10>(dev, &test_loader)?;
        let measured = [
            ("test_images", found.images as f64),
            ("test_loss", found.loss),
            ("test_accuracy", found.accuracy()),
        ];
        run.record(&trainer, &epoch, &measured)?;
        if args.profile {
            ssprop::profile::start();
        }
    }

    say!("\n{}", run.finish()?);
    let cost = ModelCost::of::<Net<D>>([3, 32, 32])?;
    let dense = |images| cost.per_epoch(images, args.batch_size, DropRate::DENSE);
    say!("{}", run.savings(dense));
    if args.profile {
        say!("{}", profile.table());
    }
    say!("{}", run.written());
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
            say!("No --data: training on the bundled Fashion-MNIST images instead of CIFAR-10.");
            let (train, test) = data::bundled()?;
            ("Fashion-MNIST", train, test)
        }
    })
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
            ("--save-every", "-1", "number of minutes"),
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
