//! A run from its flags to its results.

use common::say;
use ssprop::checkpoint::write_file;
use ssprop::data::{BatchLoader, ImageDataset, Normalization, Splits};
use ssprop::distributed::Communicator;
use ssprop::nn::RunSize;
use ssprop::prelude::*;
use ssprop::run::{confusion_svg, Record, Run, RunConfig};
use ssprop::train::{ConfusionMatrix, Evaluation};

use crate::args::Args;
use crate::data;
use crate::images::Images;
use crate::model::{self, Model};
use crate::networks::{network, Network, Settings};
use crate::optimization::Optimization;

/// What came out.
#[derive(Debug)]
#[cfg_attr(not(test), allow(dead_code))]
pub struct Outcome {
    /// One an epoch.
    pub records: Vec<Record>,
    /// The epoch that was best on the validation images, counted from 1.
    pub best_epoch: String,
    /// Its network on the test images.
    pub test: Evaluation,
}

/// Trains, validates after every epoch, and tests the best network at the end.
pub fn run(args: &Args) -> ssprop::Result<Outcome> {
    // Everything that can be wrong with the flags, before anything that takes time.
    let ranks = Communicator::from_environment()?;
    let (mut settings, model) = (args.settings()?, args.model()?);
    settings.ranks = ranks.clone();
    let images = args.images()?;
    model::check(images.task(), model)?;
    let (splits, normalization) = data::read(args)?;
    if args.balance_classes {
        settings.class_weights = Some(splits.train.balancing_weights());
    }
    let mut net = network(images, model, &settings)?;
    let net = net.as_mut();
    let network = format!("{:?}", args.model).to_lowercase();
    let base = format!("runs/{}-{network}", args.task);
    let loader = |data| loader(args, &normalization, data);
    let train = loader(&splits.train)?.shuffle(args.seed);
    // For `classify`.
    let config = config(args, images, model, &settings, &splits).noted("input", train.input_spec());
    let mut run = Run::start_on(&ranks, base, args.run.options(), config)?;

    let train = train.augment(args.augment, args.seed)?;
    let (validation, test) = (loader(&splits.validation)?, loader(&splits.test)?);
    let mut left_out = data::LeftOut::default();
    run.resume(net)?;
    announce(args, model, &settings, &splits, net)?;
    while let Some(epoch) = run.train(net, args.epochs() as u64, |net, observer| {
        net.train_part(&train, observer)
    })? {
        let found = net.evaluate(&validation)?;
        let measured = [
            ("validation_images", found.images as f64),
            ("validation_loss", found.loss),
            ("validation_accuracy", found.accuracy()),
        ];
        for line in left_out.news(&[&train, &validation]) {
            run.progress().line(&line);
        }
        run.record(net, &epoch, &measured)?;
    }
    say!("\n{}", run.finish()?);

    let best_epoch = run.resume_best(net)?.get("epoch").cloned();
    let (found, confusion) = match splits.test.is_multi_label() {
        true => (net.evaluate(&test)?, None),
        false => {
            let (found, confusion) = net.evaluate_by_class(&test)?;
            (found, Some(confusion))
        }
    };
    let outcome = Outcome {
        test: found,
        records: run.records().to_vec(),
        best_epoch: best_epoch.unwrap_or_default(),
    };
    let result = serde_json::json!({
        "best_epoch": outcome.best_epoch,
        "test_images": outcome.test.images,
        "test_loss": outcome.test.loss,
        "test_accuracy": outcome.test.accuracy(),
        "test_top5_accuracy": outcome.test.top5_accuracy(),
    });
    let file = run.folder().join("test.json");
    ranks.on_first(|| write_file(file, format!("{result:#}\n").as_bytes()))?;
    if let Some(confusion) = &confusion {
        let title = format!("{model} on {}, test images", args.task.info().title);
        let svg = confusion_svg(confusion, splits.test.class_names(), &title);
        let file = run.folder().join("confusion.svg");
        ranks.on_first(|| write_file(file, svg.as_bytes()))?;
    }
    let cost = net.cost()?;
    let dense = |images| cost.per_epoch(images, args.batch_size(), DropRate::DENSE);
    say!("{}", run.savings(dense));
    say!(
        "Test accuracy of the network after epoch {}, the best on the validation images: {:.2}% \
         (loss {:.4}, {} images).",
        outcome.best_epoch,
        100.0 * outcome.test.accuracy(),
        outcome.test.loss,
        outcome.test.images,
    );
    if let Some(confusion) = confusion {
        say!(
            "{}",
            by_class(&outcome.test, &confusion, splits.test.class_names())
        );
    }
    for line in left_out.news(&[&test]) {
        say!("{line}");
    }
    if left_out.count() > 0 {
        say!("Damaged pictures left out: {}.", left_out.count());
    }
    say!("{}", run.written());
    Ok(outcome)
}

/// The accuracy among five guesses, and what is most often taken for what.
fn by_class(found: &Evaluation, confusion: &ConfusionMatrix, names: &[String]) -> String {
    let name = |class: usize| names.get(class).map_or(class.to_string(), String::clone);
    let confusions = confusion.confusions();
    let most = confusions.iter().take(3).map(|&(label, taken, images)| {
        let recall = 100.0 * confusion.recall(label).unwrap_or(0.0);
        let (label, taken) = (name(label), name(taken));
        format!("{label} for {taken} ({images} images, {recall:.1}% of {label} known)")
    });
    let most = most.collect::<Vec<_>>().join(", ");
    let top5 = format!("Top-5 accuracy: {:.2}%.", 100.0 * found.top5_accuracy());
    match most.is_empty() {
        true => top5,
        false => format!("{top5} Classes most often taken for others: {most}."),
    }
}

pub fn loader(
    args: &Args,
    normalization: &Normalization,
    data: &ImageDataset,
) -> ssprop::Result<BatchLoader> {
    let loader = BatchLoader::new(data, args.batch_size())?;
    let loader = loader.normalize(normalization.clone())?;
    Ok(loader.skip_damaged(args.skip_damaged))
}

fn config(
    args: &Args,
    images: Images,
    model: Model,
    settings: &Settings,
    splits: &Splits,
) -> RunConfig {
    let only_weight = match settings.only_weight {
        true => ", dW only",
        false => "",
    };
    let title = format!(
        "{model} on {}: {} training images, {} for validation",
        args.task.info().title,
        splits.train.len(),
        splits.validation.len(),
    );
    let mut config = RunConfig::new(title)
        .fixed("task", images)
        .fixed("model", model)
        .fixed("seed", args.seed)
        .fixed("batch-size", args.batch_size())
        .fixed("dropout", args.dropout)
        .fixed("training images", splits.train.len())
        .changeable("augment", args.augment)
        .changeable("lr", settings.lr)
        .changeable("lr-schedule", settings.lr_schedule)
        .changeable("schedule", &settings.plan)
        .changeable(
            "selection",
            format!(
                "{:?} of {}{only_weight}",
                settings.selection, settings.masking
            ),
        )
        .keep_best_by("validation_accuracy");
    config = args.preparation.record(args.task, config);
    // Runs of before have no such values.
    if settings.optimization != Optimization::default() {
        config = config.changeable("optimization", format!("{:?}", settings.optimization));
    }
    if args.balance_classes {
        config = config.fixed("balance-classes", true);
    }
    if let Some(alpha) = args.mixup {
        config = config.fixed("mixup", alpha);
    }
    match args.patience {
        Some(patience) => config.stop_after(patience as u64),
        None => config,
    }
}

/// Says what is trained, and what its backward passes are going to cost.
fn announce(
    args: &Args,
    model: Model,
    settings: &Settings,
    splits: &Splits,
    net: &mut dyn Network,
) -> ssprop::Result<()> {
    say!(
        "{model} on {}: {} images for training, {} for validation, {} for test, batches of {}",
        args.task.info().title,
        splits.train.len(),
        splits.validation.len(),
        splits.test.len(),
        args.batch_size(),
    );
    let cost = net.cost()?;
    if let Selection::Adaptive(rule) = settings.selection {
        say!(
            "Keeping {} of the importance in every iteration.",
            rule.share()
        );
        return Ok(());
    }
    say!("Schedule: {}", settings.plan);
    // What is counted beforehand knows schedules only.
    if !settings.only_weight {
        let size = RunSize {
            images: splits.train.len(),
            batch: args.batch_size(),
            epochs: args.epochs() as u64,
        };
        let run = cost.on_schedule(&settings.plan, size)?.total;
        say!(
            "Backward FLOPs planned: {:.2} T instead of {:.2} T, {:.1}% saved",
            run.scheduled / 1e12,
            run.dense / 1e12,
            100.0 * run.saved(),
        );
    }
    Ok(())
}
