//! A run from its flags to its results.

use std::path::{Path, PathBuf};
use std::time::Instant;

use dfdx::nn::BuildOnDevice;
use ssprop::checkpoint::{self, write_file, Metadata};
use ssprop::data::{
    self, BatchLoader, DatasetKind, ImageDataset, ImageShape, Limits, Normalization, Task,
};
use ssprop::diffusion::{DiffusionTrainer, SampleRun, Sampler, TrainableDenoiser};
use ssprop::nn::ModelCost;
use ssprop::prelude::*;
use ssprop::Error;

use crate::args::Args;
use crate::figure;
use crate::history::{self, Record};
use common::ddpm::UNet;
use common::grid::write_grid;
use common::history::savings;
use common::output::{folder_of, Output};
use common::progress::Progress;

/// All that training goes on from.
const CHECKPOINT: &str = "checkpoint.safetensors";
/// The network that draws the samples, alone.
const MODEL: &str = "model.safetensors";
const METRICS: &str = "metrics.csv";
const CURVES: &str = "curves.svg";
/// What a run leaves in its folder, beside grids of samples.
const RESULTS: [&str; 4] = [CHECKPOINT, MODEL, METRICS, CURVES];
/// The key of the records in a checkpoint's metadata.
const HISTORY: &str = "history";
/// What a resumed run may do otherwise.
const CHANGEABLE: [&str; 2] = ["lr", "schedule"];
/// Samples drawn at once.
const SAMPLE_BATCH: usize = 32;

/// Trains, tests after every epoch, and draws samples. Returns the results' folder.
pub fn run(args: &Args) -> ssprop::Result<PathBuf> {
    match args.task {
        Task::CelebA => train::<CelebAUNet, _, 3, 64, 64>(args, UNet::CelebA),
        _ => train::<MnistUNet, _, 1, 32, 32>(args, UNet::Mnist),
    }
}

fn train<B, M, const C: usize, const H: usize, const W: usize>(
    args: &Args,
    unet: UNet,
) -> ssprop::Result<PathBuf>
where
    B: BuildOnDevice<Cpu, f32, Built = M>,
    M: TrainableDenoiser<C, H, W, Cpu> + Clone,
{
    let start = Instant::now();
    // Everything that can be wrong with the flags, before anything that takes time.
    let diffusion = args.process().diffusion()?;
    let sampler = Sampler::Ddim {
        steps: args.sample_steps(),
        eta: 0.0,
    };
    sampler.timesteps(&diffusion)?;
    let (train, test) = read_data(args)?;
    let output = Output {
        out: args.out.as_deref(),
        overwrite: args.overwrite,
        resume: args.resume.as_deref(),
    };
    let out = output.folder(Path::new(&format!("runs/ddpm-{}", args.task)), &RESULTS)?;
    println!("Results go to {}.", out.display());

    let loader = |data| {
        BatchLoader::new(data, args.batch_size)?
            .normalize(Normalization::symmetric(C))?
            .fit_to(ImageShape::new(C, H, W))
    };
    let (train_loader, test_loader) = (loader(&train)?.shuffle(args.seed), loader(&test)?);
    let dev = Cpu::seed_from_u64(args.seed);
    let config = AdamConfig {
        lr: args.lr,
        ..AdamConfig::adamw()
    };
    let net = dev.build_module::<B, f32>();
    let mut trainer = DiffusionTrainer::new(net, config, diffusion, args.seed)?
        .with_loss(args.loss)
        .with_schedule(args.schedule.clone())?;
    if args.ema > 0.0 {
        trainer = trainer.with_ema(args.ema)?;
    }
    let mut metadata = metadata(args, unet.name(), train.len());
    let mut records = match &args.resume {
        Some(path) => resume(&mut trainer, path, &metadata)?,
        None => Vec::new(),
    };

    println!(
        "U-Net on {}: {} training images, {} test images, batches of {}",
        args.task.info().title,
        train.len(),
        test.len(),
        args.batch_size,
    );
    let epochs = args.epochs as u64;
    let mut progress = Progress::new(epochs);
    // Of a run that was stopped after its checkpoint and before its grid.
    if args.resume.as_deref().is_some_and(|path| {
        let folders = [folder_of(path), out.clone()];
        let grid = grid_name(trainer.epoch());
        has_grid(args, trainer.epoch()) && !folders.iter().any(|folder| folder.join(&grid).exists())
    }) {
        draw_grid::<M, C, H, W>(&out, args, sampler, &trainer, &dev, &progress)?;
    }
    while trainer.epoch() < epochs {
        let report = trainer.train_epoch::<C, H, W>(&dev, &train_loader, &mut progress)?;
        let record = Record::new(&report, trainer.evaluate::<C, H, W>(&dev, &test_loader)?);
        records.push(record);
        progress.line(&record.line(epochs));
        // After every epoch, so that a run that is stopped has lost no more than one.
        progress.say("saving");
        metadata.insert(HISTORY.into(), history::to_csv(&records));
        write_results(&out, args, (train.len(), test.len()), &records)?;
        trainer.save(out.join(CHECKPOINT), &metadata)?;
        save_model(&out, &trainer, &metadata)?;
        if has_grid(args, trainer.epoch()) {
            draw_grid::<M, C, H, W>(&out, args, sampler, &trainer, &dev, &progress)?;
        }
    }
    progress.finish();
    // Those of a run that was resumed at its end too.
    write_results(&out, args, (train.len(), test.len()), &records)?;
    save_model(&out, &trainer, &metadata)?;

    let cost = ModelCost::of::<M>([C, H, W])?;
    let dense_flops = records
        .iter()
        .map(|r| cost.per_epoch(r.train_images, args.batch_size, DropRate::DENSE));
    println!("\n{}", history::table(&records));
    println!("{}", savings(&records, dense_flops.sum()));
    println!(
        "Written to {}: {}. {:.0} s in all.",
        out.display(),
        RESULTS.join(", "),
        start.elapsed().as_secs_f64(),
    );
    Ok(out)
}

/// Whether samples are drawn after `epoch`, counted from 1.
fn has_grid(args: &Args, epoch: u64) -> bool {
    let due = epoch == args.epochs as u64 || epoch.is_multiple_of(args.sample_every as u64);
    args.samples > 0 && epoch > 0 && due
}

fn grid_name(epoch: u64) -> String {
    format!("samples-{epoch:04}.png")
}

/// Draws samples, and writes them as a grid to the results' folder.
fn draw_grid<M, const C: usize, const H: usize, const W: usize>(
    out: &Path,
    args: &Args,
    sampler: Sampler,
    trainer: &DiffusionTrainer<M, Cpu>,
    dev: &Cpu,
    progress: &Progress,
) -> ssprop::Result<()>
where
    M: TrainableDenoiser<C, H, W, Cpu> + Clone,
{
    progress.say("drawing samples");
    let run = SampleRun {
        seed: args.seed,
        count: args.samples,
        batch: SAMPLE_BATCH,
    };
    let samples = sampler.sample::<C, H, W, _, _>(
        trainer.diffusion(),
        trainer.averaged_model(),
        dev,
        run,
        &mut |_| (),
    )?;
    let path = out.join(grid_name(trainer.epoch()));
    write_grid(&path, &samples, (C, H, W), 8, 2)
}

/// The network that draws the samples, for `ddpm_sample` and `fid`.
fn save_model<M: TensorCollection<f32, Cpu>>(
    out: &Path,
    trainer: &DiffusionTrainer<M, Cpu>,
    metadata: &Metadata,
) -> ssprop::Result<()> {
    let mut metadata = metadata.clone();
    metadata.remove(HISTORY);
    metadata.insert("epochs".into(), trainer.epoch().to_string());
    checkpoint::save(out.join(MODEL), trainer.averaged_model(), &metadata)
}

/// Metrics and curves. `images` are those of training and test.
fn write_results(
    out: &Path,
    args: &Args,
    images: (usize, usize),
    records: &[Record],
) -> ssprop::Result<()> {
    write_file(out.join(METRICS), history::to_csv(records).as_bytes())?;
    let title = format!(
        "U-Net on {}: {} training images, tested on {}",
        args.task.info().title,
        images.0,
        images.1,
    );
    let loss = format!("{} loss", args.loss.name().to_uppercase());
    let svg = figure::svg(&title, &loss, records);
    write_file(out.join(CURVES), svg.as_bytes())
}

/// The training and the test images.
fn read_data(args: &Args) -> ssprop::Result<(ImageDataset, ImageDataset)> {
    let limited = |set: ImageDataset, limit: Option<usize>| match limit {
        Some(limit) => set.take_balanced(limit),
        None => set,
    };
    let (kind, path) = match (args.task, &args.data) {
        (Task::CelebA, Some(path)) => {
            let limits = Limits {
                train: args.train_limit,
                test: args.test_limit,
            };
            let splits = args.task.load(path, limits, args.seed)?;
            return Ok((splits.train, splits.test));
        }
        (Task::Mnist, Some(path)) => (DatasetKind::Mnist, path),
        (_, Some(path)) => (DatasetKind::FashionMnist, path),
        (Task::FashionMnist, None) => {
            println!("No --data: training on the bundled Fashion-MNIST images.");
            let (train, test) = data::bundled()?;
            return Ok((
                limited(train, args.train_limit.or(Some(1000))),
                limited(test, args.test_limit.or(Some(200))),
            ));
        }
        (task, None) => {
            let range = "given with --data, the folder of its files";
            return Err(Error::parameter("--task", task, range));
        }
    };
    let (train, test) = data::load(path, kind)?;
    Ok((
        limited(train, args.train_limit),
        limited(test, args.test_limit),
    ))
}

/// What has to be the same for a run to go on bit for bit, but for what may be changed.
fn metadata(args: &Args, model: &str, images: usize) -> Metadata {
    let mut metadata: Metadata = [
        ("model", model.to_owned()),
        ("data", args.task.to_string()),
        ("seed", args.seed.to_string()),
        ("batch-size", args.batch_size.to_string()),
        ("training images", images.to_string()),
        ("loss", args.loss.to_string()),
        ("ema", args.ema.to_string()),
        (CHANGEABLE[0], args.lr.to_string()),
        (CHANGEABLE[1], args.schedule.to_string()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into();
    args.process().write(&mut metadata);
    metadata
}

/// Goes back to a checkpoint of the same run, and returns the records of its epochs.
fn resume<M: TensorCollection<f32, Cpu>>(
    trainer: &mut DiffusionTrainer<M, Cpu>,
    path: &Path,
    wanted: &Metadata,
) -> ssprop::Result<Vec<Record>> {
    let format = |what: String| Error::Format {
        path: path.to_owned(),
        what,
    };
    let found = trainer.resume(path)?;
    for (key, value) in wanted {
        let saved = found.get(key).map_or("unknown", String::as_str);
        if saved != value && CHANGEABLE.contains(&key.as_str()) {
            println!("Unlike in the resumed run: {key} is {value}, was {saved}.");
        } else if saved != value {
            let what = format!("a checkpoint of another run: {key} = {saved}, now {value}");
            return Err(format(what));
        }
    }
    found
        .get(HISTORY)
        .and_then(|csv| history::from_csv(csv))
        .filter(|records| records.len() as u64 == trainer.epoch())
        .ok_or_else(|| format("the records of its epochs are missing or damaged".into()))
}
