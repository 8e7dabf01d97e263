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
    // Of the bundled images as many as are trained on in minutes.
    let limits = args.data.is_none().then_some([3000, 1000]);
    let [train_limit, test_limit] = limits.unwrap_or([whole_train.len(), whole_test.len()]);
    let train = whole_train.take_balanced(args.train_limit.unwrap_or(train_limit));
    let test = whole_test.take_balanced(args.test_limit.unwrap_or(test_limit));
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
            .with_schedule(args.schedule.with(args.drop_rate, args.epochs)?)?
            .with_communicator(&ranks)?;
    let images = [train.len(), test.len()];
    let title = format!(
        "ResNet-18 on {name}: {} training images, tested on {}",
        images[0], images[1]
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
    while let Some(epoch) = run.train(&mut trainer, args.epochs as u64, |trainer, observer| {
        trainer.train_part::<3, 32, 32, 10>(dev, &train_loader, observer)
    })? {
        let found = trainer.evaluate::<3, 32, 32, 10>(dev, &test_loader)?;
        let measured = [
            ("test_images", found.images as f64),
            ("test_loss", found.loss),
            ("test_accuracy", found.accuracy()),
        ];
        run.record(&trainer, &epoch, &measured)?;
    }

    say!("\n{}", run.finish()?);
    let cost = ModelCost::of::<Net<D>>([3, 32, 32])?;
    let dense = |images| cost.per_epoch(images, args.batch_size, DropRate::DENSE);
    say!("{}", run.savings(dense));
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
