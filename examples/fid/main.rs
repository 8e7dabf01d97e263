//! How far pictures, or a network's samples, are from real ones: the Fréchet distance between the
//! features that a small classifier, trained on the same data set, gives them.
//!
//!     cargo run --example fid
//!     cargo run --example fid -- --images FOLDER --data DIR
//!     cargo run --example fid -- --checkpoint runs/ddpm-fashion-mnist/model.safetensors
//!
//! With the feature `cuda` and `--device cuda` the networks run on a GPU.
//!
//! The distances compare with each other (same features, same numbers of images), and not with
//! those that papers measure by the Inception network. Few images make them larger and chance
//! matters more: of 1,000 real training images they were 0.19 to 0.38 (four seeds), of 10,000 0.024,
//! of all 60,000 0.009.

mod network;
mod source;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use common::ddpm::{scale, SamplerKind, ToSize};
use common::device::Device;
use common::{args, on_device, say};
use network::{FeatureNetwork, SHAPE};
use source::{Samples, Source};
use ssprop::checkpoint::write_file;
use ssprop::data::{self, DatasetKind, ImageDataset};
use ssprop::distributed::Communicator;
use ssprop::eval::frechet_distance;
use ssprop::run::{exit_code, prepare_file};
use ssprop::{Backend, Error};

/// The network that comes with the crate.
const SHIPPED: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../data/fid_features_fashion.safetensors"
);

/// Measure the Fréchet distance of pictures to the real test images of a data set
#[derive(Debug, Parser)]
struct Args {
    /// Folder of PNGs, each one image of 28x28 or 32x32 [default: real training images]
    #[arg(long)]
    images: Option<PathBuf>,
    /// A network that ddpm_train has trained on the data set: its samples are measured
    #[arg(long, value_name = "FILE", conflicts_with = "images")]
    checkpoint: Option<PathBuf>,
    /// How they are drawn
    #[arg(long, value_enum, default_value = "ddim", requires = "checkpoint")]
    sampler: SamplerKind,
    /// Timesteps visited [default: 50 with ddim, all with ddpm]
    #[arg(long, value_parser = args::count, requires = "checkpoint")]
    steps: Option<usize>,
    /// How strongly samples are drawn to their classes, of which there are as many each, by a network that was
    /// trained with them; 0 not at all [default: 1]
    #[arg(long, value_parser = scale, requires = "checkpoint")]
    guidance: Option<f64>,
    /// Decides the samples' noise
    #[arg(long, default_value_t = 0, requires = "checkpoint")]
    sample_seed: u64,
    /// Data set: fashion-mnist or mnist
    #[arg(long, default_value = "fashion-mnist", value_parser = task)]
    task: DatasetKind,
    /// The data set's folder, or archive [default: the bundled part of Fashion-MNIST]
    #[arg(long)]
    data: Option<PathBuf>,
    /// The feature network [default: the one that comes with the crate, for fashion-mnist]
    #[arg(long)]
    features: Option<PathBuf>,
    /// How 28x28 images come to 32x32: resize, or keep, in the middle of black [default: as those that
    /// the checkpoint was trained on, or keep]
    #[arg(long, value_enum)]
    fit: Option<ToSize>,
    /// Also write the distances to this file, as JSON
    #[arg(long, value_name = "FILE", conflicts_with = "train_features")]
    json: Option<PathBuf>,
    /// Images of the folder, or samples, and images for the floor; few make a distance larger
    /// [default: all of the folder, 1000 samples, or as many as there are test images]
    #[arg(long, value_parser = args::count)]
    count: Option<usize>,
    /// Decides which images are taken, or how the network is trained
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Where the networks run
    #[arg(long, value_enum, default_value = "cpu")]
    device: Device,
    /// Threads [default: one a core]
    #[arg(long, value_parser = args::threads)]
    threads: Option<usize>,
    /// Train a feature network, write it to this file, and measure nothing
    #[arg(long, value_name = "FILE", conflicts_with_all = ["images", "checkpoint", "features", "count"])]
    train_features: Option<PathBuf>,
    /// Epochs of that
    #[arg(long, default_value = "3", value_parser = args::count, requires = "train_features")]
    epochs: usize,
}

/// Data sets of grey images of ten classes.
fn task(text: &str) -> Result<DatasetKind, String> {
    match text.parse() {
        Ok(kind @ (DatasetKind::FashionMnist | DatasetKind::Mnist)) => Ok(kind),
        _ => Err("must be fashion-mnist or mnist".into()),
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    exit_code(ssprop::on_threads(args.threads, || run(&args)).flatten())
}

fn run(args: &Args) -> ssprop::Result<()> {
    on_device!(args.device, args.seed, |dev| run_on(args, dev))
}

fn run_on<D: Backend<f32>>(args: &Args, dev: D) -> ssprop::Result<()> {
    if let Some(path) = &args.train_features {
        // Before minutes of training.
        prepare_file(path)?;
        let fit = args.fit.unwrap_or_default();
        let (train, test) = read_data(args.task, args.data.as_deref())?;
        let real = (fit.apply(train, SHAPE)?, fit.apply(test, SHAPE)?);
        network::train(&dev, path, args.task, fit, &real, args.epochs, args.seed)?;
        say!("Written to {}.", path.display());
        return Ok(());
    }
    let ranks = Communicator::from_environment()?;
    // Before the data sets, so that mistakes in the flags show at once.
    let network = read_network(args, dev)?;
    let source = match (&args.images, &args.checkpoint) {
        (Some(folder), _) => Source::Folder(folder),
        (None, Some(path)) => Source::Samples(Samples::new(
            &ranks,
            path,
            args.task,
            |found| args.sampler.with(args.steps, None, &found.process),
            args.guidance,
            args.sample_seed,
        )?),
        (None, None) => Source::Training,
    };
    let fit = args.fit.or(source.to_size()).unwrap_or_default();
    let (train, test) = read_data(args.task, args.data.as_deref())?;
    let real = (fit.apply(train, SHAPE)?, fit.apply(test, SHAPE)?);
    say!("Feature network: {}.", network.describe());
    if network.to_size() != fit {
        say!(
            "Its images came to 32x32 otherwise: better train one with --train-features and --fit."
        );
    }
    if let Some(path) = &args.json {
        prepare_file(path)?;
    }
    let rows = measure(&network, &source, fit, &real, args.count, args.seed)?;
    if let Some(path) = &args.json {
        let row = |row: &Row| {
            let Row {
                images,
                distance,
                accuracy,
                ..
            } = row;
            serde_json::json!({"images": images, "distance": distance, "accuracy": accuracy})
        };
        let rows = serde_json::json!({"measured": row(&rows[0]), "floor": rows.last().map(row)});
        write_file(path, format!("{rows:#}\n").as_bytes())?;
    }
    say!("\n| images | count | real test images | Fréchet distance | known for their class |");
    say!("|---|---:|---:|---:|---:|");
    for row in rows {
        let known = row.accuracy.map(|share| format!("{:.1}%", 100.0 * share));
        say!(
            "| {} | {} | {} | {:.4} | {} |",
            row.name,
            row.images,
            real.1.len(),
            row.distance,
            known.unwrap_or_default()
        );
    }
    say!(
        "\nThese numbers compare with others of the same feature network and counts only, not with\n\
         the FIDs of papers."
    );
    Ok(())
}

/// The distance of some images from the real test images.
struct Row {
    name: String,
    images: usize,
    distance: f64,
    /// The share that the feature network takes for what they are, if they are known to be of classes.
    accuracy: Option<f64>,
}

/// The distances of `count` images of the source and, as a floor, of as many real training images.
fn measure<D: Backend<f32>>(
    network: &FeatureNetwork<D>,
    source: &Source,
    fit: ToSize,
    (train, test): &(ImageDataset, ImageDataset),
    count: Option<usize>,
    seed: u64,
) -> ssprop::Result<Vec<Row>> {
    let candidates = source.read(&network.dev, count)?;
    let candidates = candidates.map(|data| fit.apply(data, SHAPE)).transpose()?;
    let all = candidates.as_ref().map_or(test.len(), ImageDataset::len);
    let count = count.unwrap_or(all);
    // Distances of unequal numbers of images do not compare.
    let real = ("real training images".to_owned(), train.len());
    let found = candidates
        .as_ref()
        .map(|images| (source.name(), images.len()));
    if let Some((name, len)) = found
        .into_iter()
        .chain([real])
        .find(|(_, len)| *len < count)
    {
        return Err(Error::parameter(
            "--count",
            format_args!("{count} of the {len} {name}"),
            "at most the images that there are, of the source and of the real training images",
        ));
    }
    let reference = network.statistics(test)?;
    let row = |name: String, images: &ImageDataset, has_classes: bool| {
        let images = images.shuffled(seed).take(count);
        let accuracy = || network.accuracy(&images);
        Ok::<_, Error>(Row {
            name,
            images: images.len(),
            distance: frechet_distance(&network.statistics(&images)?, &reference)?,
            accuracy: has_classes.then(accuracy).transpose()?,
        })
    };
    let mut rows = Vec::new();
    if let Some(images) = &candidates {
        rows.push(row(source.name(), images, source.has_classes())?);
    }
    rows.push(row("real training images (the floor)".into(), train, true)?);
    Ok(rows)
}

/// Training and test images.
fn read_data(
    task: DatasetKind,
    path: Option<&Path>,
) -> ssprop::Result<(ImageDataset, ImageDataset)> {
    match (task, path) {
        (task, Some(path)) => data::load(path, task),
        (DatasetKind::FashionMnist, None) => {
            say!("No --data: the real images are the bundled part of Fashion-MNIST.");
            data::bundled()
        }
        (task, None) => Err(Error::parameter(
            "--task",
            task,
            "given with --data, the folder of its files",
        )),
    }
}

fn read_network<D: Backend<f32>>(args: &Args, dev: D) -> ssprop::Result<FeatureNetwork<D>> {
    let path = match (&args.features, args.task) {
        (Some(path), _) => path.as_path(),
        (None, DatasetKind::FashionMnist) => Path::new(SHIPPED),
        (None, task) => {
            return Err(Error::parameter(
                "--task",
                task,
                "given with --features, a network that --train-features has trained on it",
            ))
        }
    };
    let network = FeatureNetwork::load(dev, path)?;
    match network.task() {
        Some(task) if task == args.task.name() => Ok(network),
        task => Err(Error::Format {
            path: path.to_owned(),
            what: format!(
                "a feature network for {}, not for {}",
                task.unwrap_or("an unknown data set"),
                args.task
            ),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::ddpm::{Checkpoint, Classes};
    use ssprop::checkpoint::{self, Metadata};
    use ssprop::data::{encode_idx, ImageShape};
    use ssprop::prelude::*;

    fn args(flags: &[&str]) -> Result<Args, clap::Error> {
        Args::try_parse_from(["fid"].iter().chain(flags))
    }

    #[test]
    fn flags_that_do_not_fit_are_refused() {
        for (flags, text) in [
            (&["--task=celeba"][..], "fashion-mnist or mnist"),
            (&["--count=0"], "at least 1"),
            (&["--epochs=2"], "--train-features"),
            (&["--train-features=f", "--images=x"], "--images"),
            (&["--checkpoint=f", "--images=x"], "--images"),
            (&["--steps=5"], "--checkpoint"),
            (&["--device=tpu"], "cpu, cuda"),
            (&["--checkpoint=f", "--sampler=x"], "ddpm, ddim"),
        ] {
            let err = args(flags).unwrap_err();
            assert!(err.to_string().contains(text), "{err}");
        }
        let err = run(&args(&["--task=mnist"]).unwrap()).unwrap_err();
        assert!(err.to_string().contains("--features"), "{err}");
        // Found before the training, which would fail for want of data here.
        let folder = tempfile::tempdir().unwrap();
        let taken = format!("--train-features={}", folder.path().display());
        let err = run(&args(&["--data=absent", &taken]).unwrap()).unwrap_err();
        assert!(err.to_string().contains("a folder, where a file"), "{err}");
    }

    /// A data set of `n` images of noise around `mean`, as the four files of Fashion-MNIST.
    fn write_data(folder: &Path, n: usize) {
        for (name, seed) in [("train", 3), ("t10k", 4)] {
            let pixel = |i: usize| (i * i * seed + i / 784 * 13) as u8;
            let labels = (0..n).map(|i| (i % 10) as u16).collect();
            let pixels = (0..n * 784).map(pixel).collect();
            let shape = ImageShape::new(1, 28, 28);
            let data = ImageDataset::new(pixels, labels, shape, 10).unwrap();
            let (images, labels) = encode_idx(&data).unwrap();
            let write = |part: &str, bytes: Vec<u8>| {
                std::fs::write(folder.join(format!("{name}-{part}")), bytes).unwrap();
            };
            write("images-idx3-ubyte", images);
            write("labels-idx1-ubyte", labels);
        }
    }

    #[test]
    fn a_network_is_trained_and_measures_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        write_data(folder.path(), 20);
        let (data, features) = (path(""), path("features.safetensors"));
        let train = ["--data", &data, "--train-features", &features];
        run(&args(&[&train[..], &["--epochs=1"]].concat()).unwrap()).unwrap();

        // The test images themselves as pictures: at distance 0.
        let pictures = folder.path().join("pictures");
        std::fs::create_dir(&pictures).unwrap();
        let real = read_data(DatasetKind::FashionMnist, Some(folder.path())).unwrap();
        for i in 0..20 {
            let pixels = real.1.image(i).unwrap().to_vec();
            let picture = image::GrayImage::from_raw(28, 28, pixels).unwrap();
            picture.save(pictures.join(format!("{i:02}.png"))).unwrap();
        }
        let flags = ["--data", &data, "--features", &features, "--images"];
        let given = args(&[&flags[..], &[&path("pictures")]].concat()).unwrap();
        run(&given).unwrap();
        let network = read_network(&given, Cpu::default()).unwrap();
        assert!(network.describe().contains("20 images of fashion-mnist"));
        let source = Source::Folder(&pictures);
        let rows = measure(&network, &source, ToSize::Keep, &real, None, 0).unwrap();
        assert_eq!(rows.iter().map(|r| r.images).collect::<Vec<_>>(), [20, 20]);
        assert!(rows[0].distance < 1e-6 && rows[0].name.contains("pictures"));
        assert!(rows[1].distance > rows[0].distance);
        let fewer = measure(&network, &source, ToSize::Keep, &real, Some(5), 0).unwrap();
        assert_eq!((fewer[0].images, fewer[1].images), (5, 5));
        assert!(fewer[0].distance > rows[0].distance);
        // More than there are, of the pictures or of the real images.
        let refused = |source: &Source, count| {
            let err = measure(&network, source, ToSize::Keep, &real, count, 0)
                .err()
                .unwrap();
            err.to_string()
        };
        let err = refused(&source, Some(21));
        assert!(
            err.contains("--count = 21 of the 20 ") && err.contains("pictures"),
            "{err}"
        );
        let err = refused(&Source::Training, Some(30));
        assert!(err.contains("30 of the 20 real training images"), "{err}");

        let err = read_network(
            &Args {
                task: DatasetKind::Mnist,
                ..given
            },
            Cpu::default(),
        );
        let err = err.err().unwrap().to_string();
        assert!(
            err.contains("not for mnist") && err.contains("features.safetensors"),
            "{err}"
        );
    }

    #[test]
    fn samples_of_a_network_are_measured() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        write_data(folder.path(), 20);
        // Not trained: noise on noise.
        let net = Cpu::seed_from_u64(0).build_module::<MnistUNet, f32>();
        let text = [
            ("model", "unet-mnist"),
            ("data", "fashion-mnist"),
            ("epochs", "7"),
            ("timesteps", "4"),
            ("beta-schedule", "cosine"),
            ("parameterization", "eps"),
        ];
        let mut metadata: Metadata = text.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        let file = path("model.safetensors");
        checkpoint::save(&file, &net, &metadata).unwrap();
        let flag = |flag: &str, path: &Path| format!("--{flag}={}", path.display());
        let flags = [flag("checkpoint", &file), flag("data", folder.path())];
        let flags = [&flags[0], flags[1].as_str(), "--count=3", "--steps=2"];
        run(&args(&flags).unwrap()).unwrap();

        let network = read_network(&args(&[]).unwrap(), Cpu::default()).unwrap();
        let real = read_data(DatasetKind::FashionMnist, Some(folder.path())).unwrap();
        let (alone, task) = (Communicator::alone(), DatasetKind::FashionMnist);
        let samples = |kind: SamplerKind, steps, seed| {
            let sampler = |found: &Checkpoint| kind.with(steps, None, &found.process);
            Samples::new(&alone, &file, task, sampler, None, seed).map(Source::Samples)
        };
        let measured = |kind, steps, seed| {
            let source = samples(kind, steps, seed).unwrap();
            let rows = measure(&network, &source, ToSize::Keep, &real, Some(3), 0).unwrap();
            assert_eq!((rows[0].images, rows[1].images), (3, 3));
            assert!(rows[0].accuracy.is_none() && rows[1].accuracy.is_some());
            let name = rows[0].name.replace(&file.display().to_string(), "FILE");
            (name, rows[0].distance)
        };
        let ddim = measured(SamplerKind::Ddim, Some(2), 0);
        assert_eq!(ddim.0, "FILE (epochs: 7; ddim, 2 steps)");
        assert!(ddim.1 > 0.0 && ddim == measured(SamplerKind::Ddim, Some(2), 0));
        assert!(ddim.1 != measured(SamplerKind::Ddim, Some(2), 1).1);
        let ddpm = measured(SamplerKind::Ddpm, None, 0);
        assert_eq!(ddpm.0, "FILE (epochs: 7; ddpm, 4 steps)");

        let err = samples(SamplerKind::Ddpm, Some(2), 0).err().unwrap();
        assert!(err.to_string().contains("--steps = 2 of 4"), "{err}");
        metadata.insert("data".into(), "mnist".into());
        checkpoint::save(&file, &net, &metadata).unwrap();
        let err = samples(SamplerKind::Ddim, None, 0).err().unwrap();
        assert!(err.to_string().contains("trained on mnist, not"), "{err}");

        let mut told = Cpu::default().build_module::<ClassConditional<MnistUNet, 10, 64>, f32>();
        told.unet = net;
        metadata.insert("data".into(), "fashion-mnist".into());
        let (bundled, _) = data::bundled().unwrap();
        let classes = Classes::new(bundled.class_names()).unwrap();
        classes.write(&mut metadata);
        checkpoint::save(&file, &told, &metadata).unwrap();
        let sampler = |found: &Checkpoint| SamplerKind::Ddim.with(Some(2), None, &found.process);
        let source = Samples::new(&alone, &file, task, sampler, Some(2.0), 0).unwrap();
        let drawn = Source::Samples(source)
            .read(&network.dev, Some(12))
            .unwrap()
            .unwrap();
        assert_eq!(drawn.labels(), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]);
    }

    #[test]
    fn the_shipped_denoiser_draws_what_is_asked() {
        let file = Path::new(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../data/ddpm_fashion_mnist.safetensors"
        ));
        let network = read_network(&args(&[]).unwrap(), Cpu::default()).unwrap();
        let (alone, task) = (Communicator::alone(), DatasetKind::FashionMnist);
        let known = |guidance| {
            let sampler =
                |found: &Checkpoint| SamplerKind::Ddim.with(Some(10), None, &found.process);
            let samples = Samples::new(&alone, file, task, sampler, Some(guidance), 0).unwrap();
            let images = Source::Samples(samples)
                .read(&network.dev, Some(30))
                .unwrap()
                .unwrap();
            network.accuracy(&images).unwrap()
        };
        let (with, without) = (known(3.0), known(0.0));
        assert!(with > 0.75 && without < 0.35, "{with} {without}");
    }

    #[test]
    fn the_shipped_network_knows_the_bundled_images() {
        let network = read_network(&args(&[]).unwrap(), Cpu::default()).unwrap();
        assert!(network.describe().contains("60000 images of fashion-mnist"));
        let accuracy = network
            .accuracy(&data::bundled().unwrap().1.take(200))
            .unwrap();
        assert!(accuracy > 0.85, "{accuracy}");
    }
}
