//! Says what is in pictures, by a classifier that `train_classifier` or `resnet18_cifar` trained.
//!
//!     cargo run --example classify -- --checkpoint runs/fashion-mnist-resnet18 shoe.jpg bag.png
//!     cargo run --example classify -- --checkpoint runs/folder-resnet18 --onnx net.onnx --pytorch net.safetensors
//!
//! With the feature `cuda` and `--device cuda` the network runs on a GPU.

mod source;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use common::args::{count, threads};
use common::device::Device;
use common::{on_device, say};
use ssprop::checkpoint::{read_metadata, save_onnx, Metadata};
use ssprop::data::InputSpec;
use ssprop::inference::{Graph, PictureClassifier};
use ssprop::run::exit_code;
use ssprop::{Backend, Error};

use source::Source;

/// Name the classes of pictures (JPEG or PNG, of any size), by a trained classifier
#[derive(Debug, Parser)]
struct Args {
    /// The checkpoint, or the folder of its run, whose best one is taken
    #[arg(long)]
    checkpoint: PathBuf,
    /// The pictures
    #[arg(required_unless_present_any = ["onnx", "pytorch"])]
    pictures: Vec<PathBuf>,
    /// Classes to name of each picture, the most probable first
    #[arg(long, default_value = "5", value_parser = count)]
    top: usize,
    /// Also write the network to this file, for onnxruntime and others
    #[arg(long)]
    onnx: Option<PathBuf>,
    /// Also write the weights to this file, for PyTorch's load_state_dict
    #[arg(long)]
    pytorch: Option<PathBuf>,
    /// Another checkpoint (or its folder) that says what the network is and was trained on, for one that PyTorch
    /// wrote, or an earlier version
    #[arg(long)]
    like: Option<PathBuf>,
    /// The same as JSON, without the network: what checkpoints have as `input` in their metadata
    #[arg(long)]
    input: Option<InputSpec>,
    /// Pictures at a time
    #[arg(long, default_value = "32", value_parser = count)]
    batch_size: usize,
    /// Where the network runs
    #[arg(long, value_enum, default_value = "cpu")]
    device: Device,
    /// Threads [default: one a core]
    #[arg(long, value_parser = threads)]
    threads: Option<usize>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match ssprop::on_threads(args.threads, || run(&args)).flatten() {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(err) => exit_code::<()>(Err(err)),
    }
}

/// Prints what is in each picture, and returns how many could not be read.
fn run(args: &Args) -> ssprop::Result<usize> {
    let path = checkpoint(&args.checkpoint);
    let says = args.like.as_deref().map_or(path.clone(), checkpoint);
    let metadata = read_metadata(&says)?;
    let input = match &args.input {
        Some(input) => input.clone(),
        None => input_of(&says, &metadata)?,
    };
    let shape = input.shape;
    let network = Source {
        path: &path,
        model: metadata.get("model").map_or("", String::as_str),
        input: &input,
        pytorch: args.pytorch.as_deref(),
    };
    let graph = network.load()?.fold_batch_norms();
    if let Some(file) = &args.onnx {
        let about = Metadata::from([("input".to_owned(), input.to_string())]);
        save_onnx(
            file,
            &graph,
            [shape.channels, shape.height, shape.width],
            &about,
        )?;
    }
    for file in args.onnx.iter().chain(&args.pytorch) {
        say!("Written to {}.", file.display());
    }
    on_device!(args.device, 0, |dev| name_classes(
        args, &dev, &graph, input
    ))
}

/// Does so with a network on a device.
fn name_classes<D: Backend<f32>>(
    args: &Args,
    dev: &D,
    graph: &Graph<f32>,
    input: InputSpec,
) -> ssprop::Result<usize> {
    let classifier = PictureClassifier::new(dev, graph, input)?;
    let mut bad = 0;
    for pictures in args.pictures.chunks(args.batch_size) {
        for (picture, guesses) in pictures.iter().zip(classifier.classify(pictures)?) {
            match guesses {
                Ok(guesses) => {
                    say!("{}", picture.display());
                    for guess in guesses.iter().take(args.top) {
                        say!("{:>7.2}%  {}", 100.0 * guess.probability, guess.name);
                    }
                }
                // Its text names the file.
                Err(err) => {
                    eprintln!("{err}");
                    bad += 1;
                }
            }
        }
    }
    Ok(bad)
}

/// The file that is meant by a folder.
fn checkpoint(path: &Path) -> PathBuf {
    let files = ["best.safetensors", "checkpoint.safetensors"].map(|name| path.join(name));
    let found = files.into_iter().find(|file| file.is_file());
    found.unwrap_or_else(|| path.to_owned())
}

/// What a checkpoint says of its pictures and classes.
fn input_of(path: &Path, metadata: &Metadata) -> ssprop::Result<InputSpec> {
    let format = |what: String| Error::Format {
        path: path.to_owned(),
        what,
    };
    let Some(text) = metadata.get("input") else {
        return Err(format(
            "does not say how pictures become its input, nor what its classes are called; say it with --like and \
             another checkpoint, or with --input '{\"shape\":[1,28,28],\"image\":[1,28,28],\"fit\":\"square\",\
             \"share\":1,\"mean\":[0.286],\"std\":[0.353],\"classes\":[\"T-shirt/top\",...],\
             \"multi_label\":false}'"
                .into(),
        ));
    };
    text.parse()
        .map_err(|err| format(format!("metadata `input`: {err}")))
}
