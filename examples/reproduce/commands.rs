//! The commands of the other examples that make up a run, and what they leave.

use std::path::{Path, PathBuf};
use std::process::Command as Process;

use common::paper::Run;
use serde_json::Value;
use ssprop::data::Task;
use ssprop::run::{read_records, Record};

use super::Args;

/// The word for the images that come with the crate.
const BUNDLED: &str = "bundled";

/// An example with its flags, and the folder that it works in.
pub struct Command {
    example: &'static str,
    flags: Vec<String>,
    folder: PathBuf,
    /// Samples whose FID is measured.
    samples: Option<usize>,
    /// The flag that says where the networks run, if it was given.
    device: Vec<String>,
}

impl Command {
    /// The command as one types it.
    pub fn text(&self) -> String {
        let flags = self.flags.join(" ");
        let folder = self.folder.display();
        let text = format!(
            "cargo run --example {} -- {flags} --out {folder}",
            self.example
        );
        match self.samples {
            Some(n) => {
                let device: String = self.device.iter().map(|flag| format!(" {flag}")).collect();
                format!(
                    "{text} && cargo run --example fid -- --checkpoint {folder}/model.safetensors \
                     --count {n}{device}"
                )
            }
            None => text,
        }
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

/// What a run came to.
pub struct Outcome {
    /// Accuracy in percent, or FID; NaN where there is nothing to measure it by.
    pub metric: f64,
    pub top5: Option<f64>,
    pub records: Vec<Record>,
}

/// # Errors
/// Without the data, where to give them.
pub fn check_data(args: &Args, run: &Run) -> Result<(), String> {
    let task = task(run)?;
    let info = task.info();
    match &args.data {
        None => Err(format!(
            "{} is trained on {}: give its folder or archive with --data ({}; {}), or try \
             fashion-mnist with --data {BUNDLED}",
            args.row, info.title, info.home_page, info.files
        )),
        Some(path) if path.as_os_str() == BUNDLED && task != Task::FashionMnist => Err(format!(
            "--data = {BUNDLED}: has to be the folder or archive of {}, as only images of \
             fashion-mnist come with the crate",
            info.title
        )),
        Some(_) => Ok(()),
    }
}

fn task(run: &Run) -> Result<Task, String> {
    run.task_name()
        .parse()
        .map_err(|err: ssprop::Error| err.to_string())
}

fn data_flags(args: &Args) -> Vec<String> {
    match &args.data {
        Some(path) if path.as_os_str() != BUNDLED => {
            vec!["--data".into(), path.display().to_string()]
        }
        _ => Vec::new(),
    }
}

fn device_flags(args: &Args) -> Vec<String> {
    let is_device = |flag: &String| flag == "--device" || flag.starts_with("--device=");
    let Some(at) = args.more.iter().position(is_device) else {
        return Vec::new();
    };
    let len = if args.more[at].contains('=') { 1 } else { 2 };
    args.more[at..].iter().take(len).cloned().collect()
}

/// The training of a run.
pub fn training(args: &Args, run: &Run, seed: u64) -> Command {
    let is_ddpm = run.model == "ddpm";
    let epochs = args.epochs.unwrap_or(run.epochs as usize);
    let mut flags = vec!["--task".to_owned(), run.task_name()];
    flags.extend(data_flags(args));
    // What was given by hand is in place of the row's.
    let given = |name: &str| {
        let mut names = args
            .more
            .iter()
            .map(|flag| flag.split('=').next().unwrap_or_default());
        names.any(|flag| flag == format!("--{name}"))
    };
    let mut flag = |name: &str, value: String| {
        if !given(name) {
            flags.extend([format!("--{name}"), value]);
        }
    };
    if !is_ddpm {
        flag("model", run.model.clone());
        flag("lr", "0.0002".into());
    }
    flag("epochs", epochs.to_string());
    flag("batch-size", run.batch.to_string());
    flag("seed", seed.to_string());
    match (is_ddpm, run.is_dense()) {
        (true, true) => flag("schedule", "dense".into()),
        (true, false) => flag("schedule", "paper".into()),
        (false, true) => flag("mode", "dense".into()),
        // Every second epoch is sparse.
        (false, false) => flag("drop-rate", (2.0 * run.average_drop).to_string()),
    }
    if let Some(dropout) = run.dropout {
        flag("dropout", dropout.to_string());
    }
    if is_ddpm {
        flag("samples", "64".into());
        flag("sample-every", epochs.to_string());
    }
    let mut size = Vec::new();
    for (name, value) in [
        ("train-limit", args.train_limit),
        ("test-limit", args.test_limit),
    ] {
        if let Some(value) = value {
            flag(name, value.to_string());
            size.push(format!("-{name}{value}"));
        }
    }
    flags.extend(args.more.iter().cloned());
    let more = args
        .more
        .iter()
        .map(|flag| format!("-{}", flag.trim_start_matches('-')));
    let more: String = size.into_iter().chain(more).collect();
    let name = format!(
        "table{}-{}-{}-epochs{epochs}-seed{seed}{}",
        run.table,
        run.row(),
        run.method(),
        more.replace(
            |c: char| !c.is_ascii_alphanumeric() && !"-.".contains(c),
            "_"
        ),
    );
    Command {
        example: if is_ddpm {
            "ddpm_train"
        } else {
            "train_classifier"
        },
        flags,
        folder: args.runs.join(name),
        samples: is_ddpm.then_some(args.samples),
        device: device_flags(args),
    }
}

/// Runs a training to its end, from its last checkpoint if it has one.
pub fn run(command: &Command) -> Result<(), String> {
    let folder = command.folder.display().to_string();
    let checkpoint = command.folder.join("checkpoint.safetensors");
    let place = if checkpoint.exists() {
        "--resume"
    } else {
        "--out"
    };
    let mut flags = command.flags.clone();
    flags.extend([place.to_owned(), folder]);
    example(command.example, &flags)
}

/// This program's features. `cudnn` implies `cuda`.
const FEATURES: [(&str, bool); 4] = [
    ("cudnn", cfg!(feature = "cudnn")),
    ("cuda", cfg!(all(feature = "cuda", not(feature = "cudnn")))),
    ("ci-check", cfg!(feature = "ci-check")),
    ("mpi", cfg!(feature = "mpi")),
];

/// What cargo is told to run an example of this package, built with the features that are on.
fn cargo_arguments<'a>(name: &'a str, features: &[(&'a str, bool)]) -> Vec<&'a str> {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let mut arguments = vec!["run", "--quiet", "--manifest-path", manifest];
    arguments.extend(["--example", name]);
    for (feature, _) in features.iter().filter(|(_, is_on)| *is_on) {
        arguments.extend(["--features", feature]);
    }
    arguments.push("--");
    arguments
}

/// Runs an example of this package, built as this one is.
fn example(name: &str, flags: &[String]) -> Result<(), String> {
    let cargo = std::env::var_os("CARGO").unwrap_or("cargo".into());
    let mut process = Process::new(cargo);
    let status = process
        .args(cargo_arguments(name, &FEATURES))
        .args(flags)
        .status();
    match status.map_err(|err| format!("cargo run --example {name}: {err}"))? {
        status if status.success() => Ok(()),
        status => Err(format!(
            "{name} ended with {status}; the same command goes on from there"
        )),
    }
}

/// What a training that is done came to.
pub fn outcome(args: &Args, run: &Run, command: &Command) -> Result<Outcome, String> {
    let records = read_records(command.folder.join("metrics.csv")).map_err(|e| e.to_string())?;
    let (metric, top5) = match &*run.model {
        "ddpm" => (fid(args, run, command)?, None),
        _ => {
            let found = json(&command.folder.join("test.json"))?;
            let percent = |name: &str| Some(100.0 * found.get(name)?.as_f64()?);
            let accuracy = percent("test_accuracy").unwrap_or(f64::NAN);
            (
                accuracy,
                percent("test_top5_accuracy").filter(|_| run.top5.is_some()),
            )
        }
    };
    Ok(Outcome {
        metric,
        top5,
        records,
    })
}

/// The distance of the network's samples, in features of a classifier that saw images of the same size.
fn fid(args: &Args, run: &Run, command: &Command) -> Result<f64, String> {
    if task(run)? == Task::CelebA {
        common::say!("No FID: there is no feature network for CelebA.");
        return Ok(f64::NAN);
    }
    let mut given = vec!["--task".to_owned(), run.task_name()];
    given.extend(data_flags(args));
    given.extend(command.device.iter().cloned());
    let data = args
        .data
        .as_deref()
        .and_then(Path::file_name)
        .unwrap_or_default();
    let name = format!(
        "features-{}-{}.safetensors",
        run.task_name(),
        data.to_string_lossy()
    );
    let features = args.runs.join(name).display().to_string();
    if !Path::new(&features).exists() {
        let train = ["--fit", "resize", "--train-features", &features].map(str::to_owned);
        example("fid", &[&given[..], &train].concat())?;
    }
    let path = |name: &str| command.folder.join(name).display().to_string();
    let (model, file) = (path("model.safetensors"), path("fid.json"));
    let count = args.samples.to_string();
    let measure = [
        "--features",
        &features,
        "--checkpoint",
        &model,
        "--count",
        &count,
        "--json",
        &file,
    ];
    example("fid", &[&given[..], &measure.map(str::to_owned)].concat())?;
    let found = json(Path::new(&file))?;
    Ok(found["measured"]["distance"].as_f64().unwrap_or(f64::NAN))
}

pub fn json(path: &Path) -> Result<Value, String> {
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|err| format!("{}: {err}", path.display()))?;
    serde_json::from_str(&text).map_err(|err| format!("{}: {err}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{row, tests::args};

    #[test]
    fn commands_have_the_papers_settings_and_a_folder_each() {
        let text = |flags: &str| {
            let args = args(flags);
            training(&args, row(&args).unwrap().last().unwrap(), 1).text()
        };
        assert_eq!(
            text("4 celeba-resnet50 --data d --runs r"),
            "cargo run --example train_classifier -- --task celeba --data d --model resnet50 --lr 0.0002 \
             --epochs 50 --batch-size 32 --seed 1 --drop-rate 0.8 \
             --out r/table4-celeba-resnet50-ssprop-epochs50-seed1"
        );
        let both = text("6 cifar10-resnet50-dropout0.2-ssprop --data d");
        assert!(both.contains("--epochs 4000") && both.contains("--drop-rate 0.4 --dropout 0.2"));
        let dense = text("5 mnist-ddpm --data d --method dense --epochs 2 --train-limit 9");
        assert!(dense
            .starts_with("cargo run --example ddpm_train -- --task mnist --data d --epochs 2 "));
        assert!(dense.contains("--schedule dense") && dense.contains("epochs2-seed1-train-limit9"));
        let more = text("4 mnist-resnet18 --data d -- --selection random --keep=a/b");
        assert!(
            more.contains("--selection random --keep=a/b --out"),
            "{more}"
        );
        assert!(more.ends_with("seed1-selection-random-keep_a_b"), "{more}");
        let other = text("4 mnist-resnet18 --data d -- --lr=0.001 --batch-size 32");
        assert_eq!(
            (
                other.matches("--lr").count(),
                other.matches("--batch-size").count()
            ),
            (1, 1)
        );
        // What is measured runs where the training did.
        for device in ["--device cuda", "--device=cuda"] {
            let both = text(&format!(
                "5 mnist-ddpm --data d -- --keep=a {device} --lr 1"
            ));
            assert!(both.contains(&format!("--keep=a {device} --lr 1 --out")));
            assert!(both.ends_with(&format!("--count 1000 {device}")), "{both}");
        }
        assert!(dense.ends_with("--count 1000"), "{dense}");
        let bundled = text("4 fashion-mnist-resnet18 --data bundled");
        assert!(!bundled.contains("--data"));
    }

    #[test]
    fn examples_are_built_with_the_features_of_this_one() {
        let of = |features: &[(&str, bool)]| {
            let found = cargo_arguments("fid", features).join(" ");
            let (_, found) = found.split_once("--example ").unwrap();
            found.to_owned()
        };
        assert_eq!(of(&[("cudnn", false), ("mpi", false)]), "fid --");
        let on = [("cudnn", true), ("cuda", false), ("mpi", true)];
        assert_eq!(of(&on), "fid --features cudnn --features mpi --");
        let cuda = match (cfg!(feature = "cudnn"), cfg!(feature = "cuda")) {
            (true, _) => "fid --features cudnn ",
            (false, true) => "fid --features cuda ",
            (false, false) => "fid --",
        };
        assert!(of(&FEATURES).starts_with(cuda), "{}", of(&FEATURES));
        assert_eq!(
            of(&FEATURES).matches("cuda").count(),
            usize::from(cuda.contains("cuda"))
        );
    }

    #[test]
    fn data_that_are_missing_are_asked_for_by_their_flag() {
        let check = |flags: &str| {
            let args = args(flags);
            check_data(&args, &row(&args).unwrap()[0])
        };
        let err = check("4 cifar10-resnet18").unwrap_err();
        assert!(
            err.contains("--data") && err.contains("cs.toronto.edu"),
            "{err}"
        );
        let err = check("5 celeba-ddpm --data bundled").unwrap_err();
        assert!(
            err.contains("--data = bundled") && err.contains("CelebA"),
            "{err}"
        );
        check("5 fashion-mnist-ddpm --data bundled").unwrap();
    }
}
