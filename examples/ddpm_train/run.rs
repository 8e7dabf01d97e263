//! A run from its flags to its results.

use std::path::{Path, PathBuf};

use common::ddpm::{Classes, Drawing, Guidance, ToSize, Told, UNet, Untold, CLASSES, TO_SIZE};
use common::grid::write_grid;
use common::optimization::{Optimization, OptimizerName};
use common::{on_device, say};
use dfdx::nn::BuildOnDevice;
use ssprop::checkpoint::{self, Metadata};
use ssprop::data::{
    self, BatchLoader, ImageDataset, ImageShape, Limits, Normalization, Splits, Task,
};
use ssprop::diffusion::TrainableDenoiser;
use ssprop::distributed::Communicator;
use ssprop::prelude::*;
use ssprop::run::{Run, RunConfig};
use ssprop::{Backend, Error};

use crate::args::Args;
use crate::init::take_over;
use crate::teaching::{BoxedDiffusionTrainer, Teaches};

/// The network that draws the samples, alone.
const MODEL: &str = "model.safetensors";
/// The paper's optimizer.
const USUAL: OptimizerName = OptimizerName::AdamW;
/// Samples drawn at once.
const SAMPLE_BATCH: usize = 32;

/// Trains, tests after every epoch, and draws samples. Returns the results' folder.
pub fn run(args: &Args) -> ssprop::Result<PathBuf> {
    on_device!(
        args.device,
        args.seed,
        |dev| match (args.task, args.classes) {
            (Task::CelebA, true) => {
                let range =
                    "left out with --task celeba, whose images have attributes, not one class";
                Err(Error::parameter("--classes", true, range))
            }
            (Task::CelebA, false) => {
                train::<CelebAUNet, _, _, 3, 64, 64>(args, &dev, UNet::CelebA, &Untold)
            }
            (_, true) => {
                // The grids' samples.
                let all = Told(Guidance {
                    classes: (0..CLASSES).collect(),
                    scale: 1.0,
                });
                type Net = ClassConditional<MnistUNet, CLASSES, 64>;
                train::<Net, _, _, 1, 32, 32>(args, &dev, UNet::Mnist, &all)
            }
            (_, false) => train::<MnistUNet, _, _, 1, 32, 32>(args, &dev, UNet::Mnist, &Untold),
        }
    )
}

fn train<B, M, D, const C: usize, const H: usize, const W: usize>(
    args: &Args,
    dev: &D,
    unet: UNet,
    how: &impl Teaches<M, D, C, H, W>,
) -> ssprop::Result<PathBuf>
where
    B: BuildOnDevice<D, f32, Built = M>,
    M: TrainableDenoiser<C, H, W, D> + Clone + 'static,
    D: Backend<f32>,
{
    let ranks = Communicator::from_environment()?;
    // Everything that can be wrong with the flags, before anything that takes time.
    args.optimization.check(USUAL, args.lr())?;
    let diffusion = args.process().diffusion()?;
    let sampler = Sampler::Ddim {
        steps: args.sample_steps(),
        eta: 0.0,
    };
    sampler.timesteps(&diffusion)?;
    let (train, test) = read_data(args)?;
    let to_size = |data| args.fit.apply(data, ImageShape::new(C, H, W));
    let (train, test) = (to_size(train)?, to_size(test)?);
    let loader = |data| {
        BatchLoader::new(data, args.batch_size())?
            .normalize(Normalization::symmetric(C))?
            .fit_to(ImageShape::new(C, H, W))
    };
    let (train_loader, test_loader) = (loader(&train)?.shuffle(args.seed), loader(&test)?);
    let mut net = B::build_on_device(dev);
    if let Some(path) = &args.init {
        take_over(path, &mut net, unet, &args.process())?;
    }
    let classes = match args.classes {
        true => Some(Classes::new(train.class_names())?),
        false => None,
    };
    let classes = classes.as_ref();
    let trainer = args.optimization.trainer(USUAL, net, args.lr())?;
    let mut trainer = DiffusionTrainer::with_trainer(trainer, diffusion, args.seed)
        .with_loss(args.loss)
        .with_schedule(args.schedule.clone())?
        .with_communicator(&ranks)?
        .with_lr_schedule(args.lr_schedule);
    if args.classes {
        trainer = trainer.with_class_dropout(args.class_dropout())?;
    }
    if args.ema > 0.0 {
        trainer = trainer.with_ema(args.ema)?;
    }
    let mut run = Run::start_on(
        &ranks,
        format!("runs/ddpm-{}", args.task),
        args.run.options(),
        config(args, unet.name(), classes, train.len(), test.len()),
    )?;
    let resumed = run.resume(&mut trainer)?;

    say!(
        "U-Net on {}: {} training images, {} test images, batches of {}",
        args.task.info().title,
        train.len(),
        test.len(),
        args.batch_size(),
    );
    // Of a run that was stopped after its checkpoint and before its grid.
    let grid = grid_name(trainer.epoch());
    let from = args
        .run
        .resume
        .as_deref()
        .map(|path| path.with_file_name(&grid));
    let is_there = run.folder().join(&grid).exists() || from.is_some_and(|file| file.exists());
    // The first rank sees the folder.
    let is_missing = ranks.any(ranks.is_first() && !is_there)?;
    if resumed && trainer.batches_done() == 0 && has_grid(args, trainer.epoch()) && is_missing {
        draw_grid(&run, args, sampler, how, &trainer, dev)?;
    }
    while let Some(epoch) = run.train(&mut trainer, args.epochs() as u64, |trainer, observer| {
        how.train_part(trainer, dev, &train_loader, observer)
    })? {
        let loss = how.evaluate(&trainer, dev, &test_loader)?;
        run.record(&trainer, &epoch, &[("test_loss", loss)])?;
        save_model(run.folder(), args, unet.name(), classes, &trainer)?;
        if has_grid(args, trainer.epoch()) {
            draw_grid(&run, args, sampler, how, &trainer, dev)?;
        }
    }
    say!("\n{}", run.finish()?);
    // That of a run that was resumed at its end too.
    save_model(run.folder(), args, unet.name(), classes, &trainer)?;
    let cost = trainer.backward_cost([C, H, W])?;
    let dense = |images| cost.per_epoch(images, args.batch_size(), DropRate::DENSE);
    say!("{}", run.savings(dense));
    say!("{}", run.written());
    Ok(run.folder().to_owned())
}

/// Whether samples are drawn after `epoch`, counted from 1.
fn has_grid(args: &Args, epoch: u64) -> bool {
    let due = epoch == args.epochs() as u64 || epoch.is_multiple_of(args.sample_every as u64);
    args.samples > 0 && epoch > 0 && due
}

fn grid_name(epoch: u64) -> String {
    format!("samples-{epoch:04}.png")
}

/// Draws samples, and writes them as a grid to the results' folder.
fn draw_grid<M, D, const C: usize, const H: usize, const W: usize>(
    run: &Run,
    args: &Args,
    sampler: Sampler,
    how: &impl Teaches<M, D, C, H, W>,
    trainer: &BoxedDiffusionTrainer<M, D>,
    dev: &D,
) -> ssprop::Result<()>
where
    M: TrainableDenoiser<C, H, W, D> + Clone + 'static,
    D: Backend<f32>,
{
    run.progress().say("drawing samples");
    let ranks = trainer.communicator();
    let drawing = Drawing {
        ranks,
        sampler: &sampler,
        diffusion: trainer.diffusion(),
        run: SampleRun {
            seed: args.seed,
            count: args.samples,
            batch: SAMPLE_BATCH,
        },
    };
    let samples = how.draw(&drawing, trainer.averaged_model(), dev, &mut |_| ())?;
    let columns = if args.classes { CLASSES } else { 8 };
    let path = run.folder().join(grid_name(trainer.epoch()));
    ranks.on_first(|| write_grid(&path, &samples, (C, H, W), columns, 2))
}

/// The network that draws the samples, for `ddpm_sample` and `fid`.
fn save_model<M: TensorCollection<f32, D>, D: Backend<f32>>(
    out: &Path,
    args: &Args,
    unet: &str,
    classes: Option<&Classes>,
    trainer: &BoxedDiffusionTrainer<M, D>,
) -> ssprop::Result<()> {
    let mut metadata: Metadata = [
        ("model", unet.to_owned()),
        ("data", args.task.to_string()),
        ("seed", args.seed.to_string()),
        ("schedule", args.schedule.to_string()),
        ("epochs", trainer.epoch().to_string()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into();
    args.process().write(&mut metadata);
    if let Some(classes) = classes {
        classes.write(&mut metadata);
    }
    if args.fit == ToSize::Resize {
        metadata.insert(TO_SIZE.to_owned(), "resize".to_owned());
    }
    let save = || checkpoint::save(out.join(MODEL), trainer.averaged_model(), &metadata);
    trainer.communicator().on_first(save)
}

/// The training and the test images.
fn read_data(args: &Args) -> ssprop::Result<(ImageDataset, ImageDataset)> {
    let limited = |set: ImageDataset, limit: Option<usize>| match limit {
        Some(limit) => set.take_balanced(limit),
        None => set,
    };
    let limit =
        |(train, test), of_train, of_test| (limited(train, of_train), limited(test, of_test));
    if args.no_validation && args.task == Task::CelebA {
        let range = "left out with --task celeba, which has validation images of its own";
        return Err(Error::parameter("--no-validation", true, range));
    }
    let (train, test) = match (args.task, &args.data) {
        (Task::CelebA, Some(path)) => {
            let limits = Limits {
                train: args.train_limit,
                test: args.test_limit,
            };
            let splits = args.task.load(path, limits, args.seed)?;
            return Ok((splits.train, splits.test));
        }
        (Task::Mnist, Some(path)) => limit(data::mnist(path)?, args.train_limit, args.test_limit),
        (_, Some(path)) => limit(
            data::fashion_mnist(path)?,
            args.train_limit,
            args.test_limit,
        ),
        (Task::FashionMnist, None) => {
            say!("No --data: training on the bundled Fashion-MNIST images.");
            let limits = (
                args.train_limit.or(Some(1000)),
                args.test_limit.or(Some(200)),
            );
            limit(data::bundled()?, limits.0, limits.1)
        }
        (task, None) => {
            let range = "given with --data, the folder of its files";
            return Err(Error::parameter("--task", task, range));
        }
    };
    match args.no_validation {
        true => Ok((train, test)),
        false => Ok((Splits::new(train, test.clone(), args.seed)?.train, test)),
    }
}

fn config(
    args: &Args,
    unet: &str,
    classes: Option<&Classes>,
    images: usize,
    test: usize,
) -> RunConfig {
    let loss = args.loss.name().to_uppercase();
    let title = format!(
        "U-Net on {}, {loss} loss: {images} training images, tested on {test}",
        args.task.info().title,
    );
    let mut process = Metadata::new();
    args.process().write(&mut process);
    if let Some(classes) = classes {
        classes.write(&mut process);
    }
    let config = RunConfig::new(title)
        .fixed("model", unet)
        .fixed("data", args.task)
        .fixed("seed", args.seed)
        .fixed("batch-size", args.batch_size())
        .fixed("training images", images)
        .fixed("loss", args.loss)
        .fixed("ema", args.ema)
        .changeable("lr", args.lr())
        .changeable("lr-schedule", args.lr_schedule)
        .changeable("schedule", &args.schedule);
    // Runs of before kept the images as they are, and do not say so.
    let config = match args.fit {
        ToSize::Resize => config.fixed(TO_SIZE, "resize"),
        ToSize::Keep => config,
    };
    let config = match args.classes {
        true => config.fixed("class-dropout", args.class_dropout()),
        false => config,
    };
    let config = match args.optimization == Optimization::default() {
        true => config,
        false => config.changeable("optimization", format!("{:?}", args.optimization)),
    };
    let config = match &args.init {
        Some(path) => config.noted("init", path.display()),
        None => config,
    };
    let fixed = |config: RunConfig, (key, value)| config.fixed(key, value);
    process.into_iter().fold(config, fixed)
}
