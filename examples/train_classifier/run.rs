//! A run from its flags to its results.

use std::path::{Path, PathBuf};
use std::time::Instant;

use ssprop::checkpoint::{write_file, Metadata};
use ssprop::data::{BatchLoader, ImageDataset, Splits};
use ssprop::nn::RunSize;
use ssprop::prelude::*;
use ssprop::train::Evaluation;
use ssprop::Error;

use crate::args::Args;
use crate::data;
use crate::networks::{network, Images, Model, Network, Settings};
use common::history::{self, Record};
use common::output::{folder_of, Output};
use common::{curves, progress::Progress};

const BEST: &str = "best.safetensors";
const LAST: &str = "last.safetensors";
const RESULTS: [&str; 4] = [BEST, LAST, "metrics.csv", "curves.svg"];
/// What a resumed run may do otherwise.
const CHANGEABLE: [&str; 4] = ["lr", "schedule", "selection", "augment"];

/// What came out.
#[derive(Debug)]
pub struct Outcome {
    /// One an epoch; what they call test is the validation.
    pub records: Vec<Record>,
    /// The epoch that was best on the validation images, counted from 1.
    pub best_epoch: String,
    /// Its network on the test images.
    pub test: Evaluation,
    pub out: PathBuf,
}

/// Trains, validates after every epoch, and tests the best network at the end.
pub fn run(args: &Args) -> ssprop::Result<Outcome> {
    let start = Instant::now();
    // Everything that can be wrong with the flags, before anything that takes time.
    let (settings, model) = (args.settings()?, args.model()?);
    let images = args.images()?;
    let mut net = network(images, model, &settings)?;
    let splits = data::read(args)?;
    let out = out_folder(args)?;
    println!("Results go to {}.", out.display());

    let loader = |data| loader(args, data);
    let train = loader(&splits.train)?.shuffle(args.seed);
    let train = train.augment(args.augment, args.seed)?;
    let (validation, test) = (loader(&splits.validation)?, loader(&splits.test)?);
    let mut left_out = data::LeftOut::default();
    let mut metadata = metadata(args, images, model, &settings, &splits);
    let mut records = match &args.resume {
        Some(path) => {
            let (records, changed) = resume(net.as_mut(), path, &metadata)?;
            for change in changed {
                println!("Unlike in the resumed run: {change}.");
            }
            bring_best(&folder_of(path), &out)?;
            records
        }
        None => Vec::new(),
    };
    announce(args, model, &settings, &splits, net.as_mut())?;

    let epochs = args.epochs() as u64;
    let mut progress = Progress::new(epochs);
    while net.epoch() < epochs {
        let report = net.train_epoch(&train, &mut progress)?;
        let record = Record::new(&report, &net.evaluate(&validation)?);
        for line in left_out.news(&[&train, &validation]) {
            progress.line(&line);
        }
        let best = records
            .iter()
            .all(|r: &Record| r.test_accuracy < record.test_accuracy);
        records.push(record);
        let line = history::line(&record, epochs).replace("test accuracy", "validation accuracy");
        progress.line(&format!("{line}{}", if best { ", the best" } else { "" }));
        progress.say("saving");
        metadata.insert("history".into(), history::to_csv(&records));
        if best {
            net.save(&out.join(BEST), &metadata)?;
        }
        write_results(&out, args, model, &records)?;
        net.save(&out.join(LAST), &metadata)?;
    }
    progress.finish();
    write_results(&out, args, model, &records)?;

    let found = net.load(&out.join(BEST))?;
    let best_epoch = found.get("epoch").cloned().unwrap_or_default();
    let outcome = Outcome {
        test: net.evaluate(&test)?,
        records,
        best_epoch,
        out,
    };
    left_out
        .news(&[&test])
        .iter()
        .for_each(|line| println!("{line}"));
    conclude(args, net.as_mut(), &outcome)?;
    if left_out.count() > 0 {
        println!("{} damaged pictures were left out.", left_out.count());
    }
    println!("{:.0} s in all.", start.elapsed().as_secs_f64());
    Ok(outcome)
}

pub fn loader(args: &Args, data: &ImageDataset) -> ssprop::Result<BatchLoader> {
    let loader = BatchLoader::new(data, args.batch_size())?;
    let loader = loader.normalize(args.task.normalization())?;
    Ok(loader.skip_damaged(args.skip_damaged))
}

fn out_folder(args: &Args) -> ssprop::Result<PathBuf> {
    let output = Output {
        out: args.out.as_deref(),
        overwrite: args.overwrite,
        resume: args.resume.as_deref(),
    };
    let network = format!("{:?}", args.model).to_lowercase();
    let base = format!("runs/{}-{network}", args.task);
    output.folder(Path::new(&base), &RESULTS)
}

/// What has to be the same for a run to go on bit for bit, and what may be changed.
fn metadata(
    args: &Args,
    images: Images,
    model: Model,
    settings: &Settings,
    splits: &Splits,
) -> Metadata {
    let only_weight = match settings.only_weight {
        true => ", dW only",
        false => "",
    };
    [
        ("task", images.to_string()),
        ("model", model.to_string()),
        ("seed", args.seed.to_string()),
        ("batch-size", args.batch_size().to_string()),
        ("dropout", args.dropout.to_string()),
        ("training images", splits.train.len().to_string()),
        (CHANGEABLE[3], args.augment.to_string()),
        (CHANGEABLE[0], settings.lr.to_string()),
        (CHANGEABLE[1], settings.plan.to_string()),
        (
            CHANGEABLE[2],
            format!(
                "{:?} of {}{only_weight}",
                settings.selection, settings.masking
            ),
        ),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

/// Goes back to a checkpoint of the same run, and returns the records of its epochs and what is
/// changed from now on.
fn resume(
    net: &mut dyn Network,
    path: &Path,
    wanted: &Metadata,
) -> ssprop::Result<(Vec<Record>, Vec<String>)> {
    let format = |what: String| Error::Format {
        path: path.to_owned(),
        what,
    };
    let found = net.resume(path)?;
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
        .filter(|records| records.len() as u64 == net.epoch())
        .ok_or_else(|| format("the records of its epochs are missing or damaged".into()))?;
    Ok((records, changed))
}

/// Copies the best network so far, which lies beside the checkpoint that is resumed.
fn bring_best(from: &Path, to: &Path) -> ssprop::Result<()> {
    let (from, to) = (from.join(BEST), to.join(BEST));
    let best =
        std::fs::read(&from).map_err(|err| Error::io(&from, "read the best network", err))?;
    write_file(to, &best)
}

/// Says what is trained, and what its backward passes are going to cost.
fn announce(
    args: &Args,
    model: Model,
    settings: &Settings,
    splits: &Splits,
    net: &mut dyn Network,
) -> ssprop::Result<()> {
    println!(
        "{model} on {}: {} images for training, {} for validation, {} for test, batches of {}",
        args.task.info().title,
        splits.train.len(),
        splits.validation.len(),
        splits.test.len(),
        args.batch_size(),
    );
    let cost = net.cost()?;
    if let Selection::Adaptive(rule) = settings.selection {
        println!(
            "Keeping {} of the importance in every iteration.",
            rule.share()
        );
        return Ok(());
    }
    println!("Schedule: {}", settings.plan);
    // What is counted beforehand knows schedules only.
    if !settings.only_weight {
        let size = RunSize {
            images: splits.train.len(),
            batch: args.batch_size(),
            epochs: args.epochs() as u64,
        };
        let run = cost.on_schedule(&settings.plan, size)?.total;
        println!(
            "Backward FLOPs planned: {:.2} T instead of {:.2} T, {:.1}% saved",
            run.scheduled / 1e12,
            run.dense / 1e12,
            100.0 * run.saved(),
        );
    }
    Ok(())
}

/// Says what came out.
fn conclude(args: &Args, net: &mut dyn Network, outcome: &Outcome) -> ssprop::Result<()> {
    let records = &outcome.records;
    let cost = net.cost()?;
    let dense = records
        .iter()
        .map(|r| cost.per_epoch(r.train_images, args.batch_size(), DropRate::DENSE));
    let table = history::table(records).replace("  test accuracy", "  val. accuracy");
    println!("\n{table}\n{}", history::savings(records, dense.sum()));
    println!(
        "Test accuracy of the network after epoch {}, the best on the validation images: {:.2}% \
         (loss {:.4}, {} images).",
        outcome.best_epoch,
        100.0 * outcome.test.accuracy(),
        outcome.test.loss,
        outcome.test.images,
    );
    println!(
        "Written to {}: {}.",
        outcome.out.display(),
        RESULTS.join(", ")
    );
    Ok(())
}

fn write_results(out: &Path, args: &Args, model: Model, records: &[Record]) -> ssprop::Result<()> {
    let csv = history::to_csv(records).replacen("test_", "validation_", 3);
    write_file(out.join("metrics.csv"), csv.as_bytes())?;
    let title = format!(
        "{model} on {}: {} training images, {} for validation",
        args.task.info().title,
        records.first().map_or(0, |r| r.train_images),
        records.first().map_or(0, |r| r.test_images),
    );
    let svg = curves::svg(&title, records)
        .replace(">Test accuracy<", ">Validation accuracy<")
        .replace(">test set<", ">validation set<");
    write_file(out.join("curves.svg"), svg.as_bytes())
}
