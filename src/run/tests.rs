//! Runs of a training that only counts, and what its files hold.

use std::path::Path;
use std::time::Duration;

use super::history::{from_csv, to_csv, to_jsonl};
use super::*;
use crate::checkpoint::{write_file, Metadata};
use crate::error::Error;
use crate::sparsity::DropRate;
use crate::train::{EpochReport, Seconds};

/// A record whose seconds are 0.125 + 1 + `backward` + 0.25.
pub(super) fn record(epoch: u64, drop_rate: f64, backward: f64) -> Record {
    let report = EpochReport {
        epoch: epoch.saturating_sub(1),
        images: 10,
        loss: 0.1 + epoch as f64 / 3.0,
        drop_rate: DropRate::new(drop_rate).unwrap(),
        mean_drop_rate: drop_rate / 3.0,
        seconds: Seconds {
            data: 0.125,
            forward: 1.0,
            backward,
            optimizer: 0.25,
        },
        backward_flops: 1e12 / 3.0,
        lr: 2e-4,
        grad_norm: Some(1.0 / 7.0),
        ..Default::default()
    };
    let measured = [
        ("test_images", 7.0),
        ("test_loss", 1.0 / 3.0),
        ("test_accuracy", 3.0 / 7.0),
    ];
    Record::new(&report, &measured)
}

#[test]
fn csv_is_read_back_as_it_was() {
    let mut records = vec![record(1, 0.0, 2.0), record(2, 0.8, 1.0)];
    assert_eq!(from_csv(&to_csv(&records)), Some(records.clone()));
    assert_eq!(from_csv(&to_csv(&[])), Some(Vec::new()));
    // On another machine, from then on.
    records[1].0.push(("joules".into(), 0.5));
    let csv = to_csv(&records);
    assert!(
        csv.lines()
            .next()
            .unwrap()
            .ends_with("backward_flops,joules"),
        "{csv}"
    );
    assert_eq!(from_csv(&csv), Some(records));
    let cut = csv.trim_end().rsplit_once(',').unwrap().0;
    for broken in [
        "",
        &csv.replace("0.8", "x"),
        cut,
        &csv.replace("epoch", "era"),
    ] {
        assert_eq!(from_csv(broken), None, "{broken}");
    }
}

#[test]
fn the_columns_of_earlier_checkpoints_are_read() {
    let csv = "epoch,drop_rate,train_images,train_loss,test_images,test_loss,test_accuracy,data_s,\
               forward_s,backward_s,optimizer_s,backward_flops\n\
               1,0.8,100,2.5,10,2.25,0.5,0.010,1.000,2.000,0.500,1e12\n";
    let records = from_csv(csv).unwrap();
    let record = &records[0];
    assert_eq!((record.epoch(), record.is_dense()), (1, false));
    assert_eq!((record.seconds(), record.backward_flops()), (3.51, 1e12));
    assert_eq!(record.get("test_accuracy"), Some(0.5));
}

#[test]
fn json_has_a_line_an_epoch() {
    let text = to_jsonl(&[record(1, 0.0, 2.0), record(2, 0.8, f64::NAN)]);
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(
        (&lines[1]["epoch"], &lines[1]["drop_rate"]),
        (&2.into(), &0.8.into())
    );
    assert!(lines[1]["backward_s"].is_null());
}

#[test]
fn an_event_file_is_what_tensorboard_reads() {
    // By hand from event.proto and the record format; both checksums as TensorFlow computes them.
    let file = tensorboard::event_file(&[], 1.5);
    let event = b"\x09\0\0\0\0\0\0\xf8\x3f\x10\0\x1a\x0dbrain.Event:2";
    assert_eq!(file[..8], (event.len() as u64).to_le_bytes());
    assert_eq!(&file[12..12 + event.len()], event);
    assert_eq!(file.len(), 16 + event.len());
    let with = tensorboard::event_file(&[record(300, 0.8, 1.0)], 1.5);
    assert!(with.starts_with(&file));
    // Step 300, and a scalar.
    let contains = |part: &[u8]| with.windows(part.len()).any(|bytes| bytes == part);
    assert!(contains(&[0x10, 0xac, 0x02, 0x2a]));
    let loss = [
        b"\x0a\x0atrain/loss\x15",
        &(0.1f32 + 100.0).to_le_bytes()[..],
    ]
    .concat();
    assert!(contains(&loss));
}

/// Counts batches: 3 an epoch, and saves as text.
struct Counter {
    epoch: u64,
    batch: usize,
}

impl Resumable for Counter {
    fn epoch(&self) -> u64 {
        self.epoch
    }

    fn batches_done(&self) -> usize {
        self.batch
    }

    fn save(&self, path: &Path, metadata: &Metadata) -> Result<()> {
        let history = &metadata["history"];
        let text = format!(
            "{} {} {}\n{history}",
            self.epoch, self.batch, metadata["seed"]
        );
        write_file(path, text.as_bytes())
    }

    fn resume(&mut self, path: &Path) -> Result<Metadata> {
        let damaged = || Error::Format {
            path: path.to_owned(),
            what: "damaged".into(),
        };
        let text = std::fs::read_to_string(path).map_err(|_| damaged())?;
        let (head, history) = text.split_once('\n').ok_or_else(damaged)?;
        let words: Vec<u64> = head
            .split(' ')
            .filter_map(|word| word.parse().ok())
            .collect();
        let &[epoch, batch, seed] = &words[..] else {
            return Err(damaged());
        };
        (self.epoch, self.batch) = (epoch, batch as usize);
        let values = [("seed", seed.to_string()), ("history", history.to_owned())];
        Ok(values.map(|(key, value)| (key.to_owned(), value)).into())
    }
}

/// Trains to the end, with accuracies by epoch; `after` is called after each epoch.
fn count(
    counter: &mut Counter,
    options: RunOptions,
    seed: u64,
    mut after: impl FnMut(&Run),
) -> Result<String> {
    let config = RunConfig::new("counting")
        .fixed("seed", seed)
        .keep_best_by("test_accuracy");
    let mut run = Run::start("unused", options, config)?;
    run.resume(counter)?;
    while let Some(report) = run.train(counter, 3, |counter, observer| {
        while counter.batch < 2 {
            counter.batch += 1;
            if observer.pause() {
                return Ok(None);
            }
        }
        (counter.epoch, counter.batch) = (counter.epoch + 1, 0);
        Ok(Some(EpochReport {
            epoch: counter.epoch - 1,
            ..Default::default()
        }))
    })? {
        let accuracy = [0.5, 0.75, 0.75][report.epoch as usize];
        run.record(counter, &report, &[("test_accuracy", accuracy)])?;
        after(&run);
    }
    run.finish()
}

#[test]
fn a_run_without_progress_is_stopped_also_when_it_is_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let losses = [0.9, 0.7, f64::NAN, 0.7, 0.8, 0.1];
    // Trains up to `most` epochs; how many were done.
    let train = |out: &Path, resume: Option<&Path>, most: u64| {
        let config = RunConfig::new("stopping").fixed("seed", 7);
        let config = config.keep_best_by_least("test_loss");
        let mut run = Run::start("unused", options(out, resume), config.stop_after(3)).unwrap();
        let mut counter = new();
        run.resume(&mut counter).unwrap();
        while let Some(report) = run
            .train(&mut counter, most, |counter, _| {
                counter.epoch += 1;
                Ok(Some(EpochReport {
                    epoch: counter.epoch - 1,
                    ..Default::default()
                }))
            })
            .unwrap()
        {
            let loss = losses[report.epoch as usize];
            run.record(&counter, &report, &[("test_loss", loss)])
                .unwrap();
        }
        counter.epoch
    };
    let [whole, part, resumed] = ["whole", "part", "resumed"].map(|name| folder.path().join(name));
    assert_eq!(train(&whole, None, 6), 5);
    let best = std::fs::read_to_string(whole.join("best.safetensors")).unwrap();
    assert!(best.starts_with("2 0"), "{best}");
    assert_eq!(train(&part, None, 4), 4);
    assert_eq!(train(&resumed, Some(&part), 6), 5);

    for (config, named) in [
        (RunConfig::new("x").stop_after(3), "stop_after = 3"),
        (
            RunConfig::new("x").keep_best_by("test_loss").stop_after(0),
            "patience = 0",
        ),
    ] {
        let out = folder.path().join("x");
        let err = Run::start("unused", options(&out, None), config).unwrap_err();
        assert!(err.to_string().starts_with(named), "{err}");
    }
}

fn new() -> Counter {
    Counter { epoch: 0, batch: 0 }
}

fn options(out: &Path, resume: Option<&Path>) -> RunOptions {
    RunOptions {
        out: Some(out.to_owned()),
        resume: resume.map(Path::to_owned),
        save_every: Some(Duration::ZERO),
        keep_last: 2,
        ..RunOptions::default()
    }
}

#[test]
fn as_many_epochs_are_kept_as_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let kept = |count, upto| {
        for epoch in 1..=upto {
            write_file(folder.path().join(checkpoints::NEWEST), b"x").unwrap();
            checkpoints::keep_epoch(folder.path(), epoch, count).unwrap();
        }
        let mut kept = epochs::in_folder(folder.path()).unwrap();
        kept.sort_unstable();
        kept
    };
    std::fs::write(folder.path().join("epoch-1.safetensors"), "a user's own").unwrap();
    assert_eq!(kept(u64::MAX, 4), [1, 2, 3, 4]);
    // Later ones are of a run that was gone back from.
    assert_eq!(kept(2, 3), [2, 3]);
    assert!(folder.path().join("epoch-1.safetensors").exists());
}

#[test]
fn a_run_leaves_its_files_and_goes_on_from_them() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let read = |name: &str| std::fs::read_to_string(out.join(name)).unwrap();
    let mut within = Vec::new();
    let table = count(&mut new(), options(&out, None), 7, |_| {
        within.push((
            read("checkpoint.safetensors"),
            read("checkpoint.previous.safetensors"),
        ));
    })
    .unwrap();
    assert_eq!(table.lines().count(), 4, "{table}");
    // The checkpoint before that of an epoch's end is from within the epoch.
    let heads = within.iter().map(|(a, b)| (&a[..5], &b[..5]));
    let expected = [("1 0 7", "0 2 7"), ("2 0 7", "1 2 7"), ("3 0 7", "2 2 7")];
    assert_eq!(heads.collect::<Vec<_>>(), expected);
    // Those of the last two epochs, by which a run goes on too.
    let kept = |epoch| std::fs::read_to_string(out.join(epochs::file(epoch))).ok();
    let heads = [1, 2, 3].map(|epoch| kept(epoch).map(|text| text[..5].to_owned()));
    assert_eq!(heads, [None, Some("2 0 7".into()), Some("3 0 7".into())]);
    // The first of the two best.
    assert!(read("best.safetensors").starts_with("2 0 7"));
    assert_eq!(read("metrics.csv").lines().count(), 4);
    assert_eq!(read("metrics.jsonl").lines().count(), 3);
    assert!(read("curves.svg").contains("counting"));
    let config: serde_json::Value = serde_json::from_str(&read("config.json")).unwrap();
    assert_eq!(config["configuration"]["seed"], "7");

    // From the checkpoint before, as if the other were damaged.
    let damaged = out.join("checkpoint.safetensors");
    std::fs::write(&damaged, "x").unwrap();
    let mut counter = new();
    count(&mut counter, options(&out, Some(&out)), 7, |_| {}).unwrap();
    assert_eq!(counter.epoch, 3);
    assert_eq!(read("metrics.csv").lines().count(), 4);

    // The best so far is of that epoch, whatever has become of the run since.
    write_file(out.join("best.safetensors"), b"of a later epoch").unwrap();
    let mut counter = new();
    let second = out.join(epochs::file(2));
    count(
        &mut counter,
        options(&folder.path().join("again"), Some(&second)),
        7,
        |_| {},
    )
    .unwrap();
    assert_eq!(counter.epoch, 3);
    let best = std::fs::read_to_string(folder.path().join("again/best.safetensors")).unwrap();
    assert!(best.starts_with("2 0 7"), "{best}");
    std::fs::copy(&second, out.join("best.safetensors")).unwrap();

    // Of another run, into another folder, and where there is none.
    let err = count(&mut new(), options(&out, Some(&damaged)), 8, |_| {}).unwrap_err();
    assert!(err.to_string().contains("seed = 7, now 8"), "{err}");
    let other = folder.path().join("other");
    count(&mut new(), options(&other, Some(&out)), 7, |_| {}).unwrap();
    assert!(std::fs::read_to_string(other.join("best.safetensors"))
        .unwrap()
        .starts_with("2 0 7"));
    let err = count(&mut new(), options(&other, Some(&out)), 7, |_| {}).unwrap_err();
    assert!(err.to_string().contains("earlier run's results"), "{err}");
    // A name that is not there is no damaged checkpoint.
    let typo = out.join("chekpoint.safetensors");
    assert!(count(&mut new(), options(&out, Some(&typo)), 7, |_| {}).is_err());
    let nothing = folder.path().join("nothing");
    assert!(count(&mut new(), options(&other, Some(&nothing)), 7, |_| {}).is_err());
}
