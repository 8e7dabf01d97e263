use clap::Parser;
use ssprop::prelude::*;
use ssprop::run::Record;

use crate::args::Args;
use crate::data::{self, LeftOut};
use crate::images::Images;
use crate::model::{check, Model};
use crate::run::{loader, run, Outcome};

fn parse(flags: &[&str]) -> Result<Args, clap::Error> {
    Args::try_parse_from(["train_classifier"].iter().chain(flags))
}

/// What the flags' own check and then their check together say.
fn error(flags: &[&str]) -> String {
    let args = match parse(flags) {
        Ok(args) => args,
        Err(err) => return err.to_string(),
    };
    let together = args.model().and_then(|model| check(args.task, model));
    let together = together.and_then(|()| args.settings().map(|_| ()));
    let together = together.and_then(|()| args.images().map(|_| ()));
    together.expect_err(&format!("{flags:?}")).to_string()
}

fn plan(flags: &[&str]) -> String {
    let args = parse(flags).unwrap();
    args.settings().unwrap().plan.to_string()
}

#[test]
fn values_out_of_range_are_named_with_their_flags() {
    for (flag, value, range) in [
        ("--task", "cifar11", "mnist, fashion-mnist, cifar10"),
        ("--model", "resnet19", "resnet18"),
        ("--drop-rate", "1", "at least 0 and less than 1"),
        ("--start-rate", "-0.1", "at least 0 and less than 1"),
        ("--dropout", "1", "at least 0 and less than 1"),
        ("--dropout", "nan", "at least 0 and less than 1"),
        ("--layers", "1", "in 2..=11"),
        ("--layers", "12", "in 2..=11"),
        ("--epochs", "0", "at least 1"),
        ("--batch-size", "0", "at least 1"),
        ("--period", "0", "at least 1"),
        ("--lr", "0", "greater than 0"),
        ("--curve", "zigzag", "constant, linear, cosine, bar"),
        ("--selection", "best", "top-k, random, rotation, adaptive"),
        ("--masking", "pixels", "channels, positions, elements"),
        ("--lr-schedule", "zigzag", "cosine,epochs=EPOCHS"),
        ("--mode", "sparse", "dense, ssprop"),
        ("--schedule", "zigzag", "dense, paper, constant"),
        ("--warm-up", "-1", "invalid digit"),
        ("--size", "48", "32, 64 or 224"),
        ("--fit", "crop", "squeeze or square"),
        ("--augment", "turn", "crop=PIXELS, flip"),
        ("--optimizer", "lion", "adam, adamw, sgd"),
        ("--lr-factor", "layer1", "path, = and a factor"),
        ("--lr-factor", "layer1=x", "end with a number"),
        ("--accumulate", "0", "at least 1"),
        ("--patience", "0", "at least 1"),
        ("--augment", "resized-crop=2", "at most 1"),
    ] {
        let text = error(&[&format!("{flag}={value}")]);
        for part in [flag, value, range] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}

#[test]
fn flags_that_do_not_go_together_are_named_with_their_values() {
    for (flags, named, why) in [
        (
            "--mode=dense --drop-rate=0.5",
            "--drop-rate = 0.5",
            "--mode dense",
        ),
        (
            "--mode=dense --selection=random",
            "--selection = random",
            "--mode dense",
        ),
        (
            "--mode=dense --dense-layers=stem",
            "--dense-layers = stem",
            "--mode dense",
        ),
        (
            "--mode=dense --schedule=paper",
            "--schedule = constant",
            "--mode dense",
        ),
        (
            "--schedule=paper --curve=bar",
            "--curve = bar",
            "--schedule",
        ),
        (
            "--schedule=paper --interleave",
            "--interleave = true",
            "--schedule",
        ),
        (
            "--period=10",
            "--period = 10",
            "--curve linear, cosine or bar",
        ),
        (
            "--curve=constant --start-rate=0.1",
            "--start-rate = 0.1",
            "--curve linear",
        ),
        ("--rescale", "--rescale = true", "--selection random"),
        ("--fit=square", "--fit = square", "--task celeba"),
        ("--hold-out", "--hold-out = true", "--task imagenet"),
        ("--size=64", "--size = 64", "--task folder"),
        (
            "--task=folder --model=cnn",
            "--model = cnn",
            "resnet18 with --task folder",
        ),
        (
            "--selection=adaptive --keep-share=0.9 --selection-seed=3",
            "--selection-seed = 3",
            "--selection random",
        ),
        (
            "--keep-share=0.9",
            "--keep-share = 0.9",
            "--selection adaptive",
        ),
        (
            "--selection=adaptive",
            "--selection = adaptive",
            "--keep-share",
        ),
        ("--selection=adaptive --keep-share=1.5", "1.5", "at most 1"),
        (
            "--selection=adaptive --keep-share=0.9 --min-keep=0.6 --max-keep=0.4",
            "0.6 to 0.4",
            "lower bound",
        ),
        (
            "--selection=adaptive --keep-share=0.9 --drop-rate=0.5",
            "--drop-rate = 0.5",
            "--selection adaptive",
        ),
        ("--layers=3", "--layers = 3", "--model cnn"),
        (
            "--model=mlp --dropout=0.2",
            "--dropout = 0.2",
            "--model mlp",
        ),
        (
            "--model=vit --dropout=0.2",
            "--dropout = 0.2",
            "--model vit",
        ),
        ("--task=celeba --model=vit", "--model = vit", "celeba"),
        ("--momentum=0.9", "--momentum = 0.9", "--optimizer sgd"),
        (
            "--optimizer=adamw --nesterov",
            "--nesterov = true",
            "--optimizer sgd",
        ),
        (
            "--optimizer=sgd --momentum=1.5",
            "momentum = 1.5",
            "in [0, 1)",
        ),
        ("--optimizer=sgd --lazy", "--lazy = true", "adamw"),
        ("--optimizer=sgd --nesterov", "nesterov = true", "momentum"),
        ("--weight-decay=-1", "weight_decay = -1", "at least 0"),
        ("--task=celeba --model=mlp", "--model = mlp", "celeba"),
        (
            "--task=imagenet --model=resnet34",
            "--model = resnet34",
            "imagenet",
        ),
        ("--task=cifar100 --model=cnn", "--model = cnn", "cifar100"),
        ("--epochs=3 --warm-up=4", "4 of 3", "at most the epochs"),
        (
            "--epochs=3 --schedule=paper,warmup=4",
            "4 of 3",
            "at most the epochs",
        ),
    ] {
        let text = error(&flags.split(' ').collect::<Vec<_>>());
        assert!(
            text.contains(named) && text.contains(why),
            "{flags}: {text}"
        );
    }
}

#[test]
fn schedules_follow_from_the_flags() {
    for (flags, expected) in [
        ("--epochs=9", "constant,drop=0.8,interleave"),
        (
            "--drop-rate=0.6 --warm-up=2",
            "constant,drop=0.6,interleave,warmup=2",
        ),
        ("--curve=constant", "constant,drop=0.8"),
        ("--curve=linear --epochs=9", "linear,drop=0.8,epochs=9"),
        (
            "--curve=cosine --period=100 --start-rate=0.1 --interleave",
            "cosine,drop=0.8,start=0.1,period=100,interleave",
        ),
        (
            "--curve=bar --epochs=9 --warm-up=1",
            "bar,drop=0.8,epochs=9,warmup=1",
        ),
        ("--mode=dense", "dense"),
        ("--selection=adaptive --keep-share=0.9", "dense"),
        (
            "--dense-layers=stem,shortcuts,layer1",
            "constant,drop=0.8,interleave; @stem=dense; @shortcuts=dense; layer1=dense",
        ),
        (
            "--schedule=constant,drop=0.5;layer1=dense --dense-layers=stem",
            "constant,drop=0.5; layer1=dense; @stem=dense",
        ),
    ] {
        let flags: Vec<_> = flags.split(' ').collect();
        assert_eq!(plan(&flags), expected, "{flags:?}");
    }
}

#[test]
fn selections_follow_from_the_flags() {
    let of = |flags: &[&str]| parse(flags).unwrap().settings().unwrap().selection;
    assert_eq!(of(&[]), Selection::TopK);
    let random = |seed, rescale| Selection::Random { seed, rescale };
    assert_eq!(of(&["--selection=random", "--seed=5"]), random(5, false));
    let own = ["--selection=random", "--rescale", "--selection-seed=7"];
    assert_eq!(of(&own), random(7, true));
    let rotation = of(&["--selection=rotation", "--rescale"]);
    assert_eq!(rotation, Selection::Rotation { rescale: true });
    let rule = AdaptiveKeep::new(0.9).unwrap();
    let adaptive = ["--selection=adaptive", "--keep-share=0.9"];
    assert_eq!(of(&adaptive), Selection::Adaptive(rule));
    let bounded = [adaptive[0], adaptive[1], "--max-keep=0.5"];
    let Selection::Adaptive(rule) = of(&bounded) else {
        panic!("not adaptive");
    };
    assert_eq!(rule.kept_of(&[1.0; 8]), 4);
    assert_eq!(rule.kept_of(&[1.0, 0.0, 0.0, 0.0]), 1);
}

#[test]
fn the_papers_hyperparameters_are_the_defaults() {
    let of = |task: &str, model: &str| {
        let args = parse(&["--task", task, "--model", model]).unwrap();
        assert_eq!((args.lr, args.settings().unwrap().lr), (2e-4, 2e-4));
        (args.batch_size(), args.epochs())
    };
    let dropout = |task: &str| {
        let flags = ["--model=resnet50", "--dropout=0.4", "--task", task];
        parse(&flags).unwrap().epochs()
    };
    assert_eq!((dropout("cifar10"), dropout("cifar100")), (4000, 1800));
    assert_eq!(of("mnist", "resnet50"), (128, 50));
    assert_eq!(of("cifar100", "resnet18"), (128, 50));
    assert_eq!(of("cifar10", "resnet26"), (128, 250));
    assert_eq!(of("celeba", "resnet50"), (32, 50));
    assert_eq!(of("imagenet", "resnet18"), (32, 50));
    assert_eq!(of("imagenet", "resnet50"), (16, 50));
    assert_eq!(
        check(ssprop::data::Task::ImageNet, Model::ResNet50).ok(),
        Some(())
    );
}

#[test]
fn pictures_of_a_folder() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().display().to_string();
    let args = |more: &[&str]| {
        let flags = ["--task=folder", "--skip-damaged", "--data", &data];
        parse(&[&flags, more].concat()).unwrap()
    };
    // No classes yet.
    let e = args(&[]).images().unwrap_err().to_string();
    assert!(e.contains(&data) && e.contains("class"), "{e}");
    for i in 0..10u8 {
        for class in ["cat", "dog"] {
            std::fs::create_dir_all(dir.path().join(class)).unwrap();
            let picture = image::RgbImage::from_pixel(9, 12, image::Rgb([i; 3]));
            let path = dir.path().join(class).join(format!("{i}.png"));
            picture.save(path).unwrap();
        }
    }
    std::fs::write(dir.path().join("dog/x.jpg"), b"\xff\xd8\xff").unwrap();
    let images = args(&["--size=32"]).images().unwrap();
    assert_eq!(
        images,
        Images::Folder {
            size: 32,
            classes: 2
        }
    );
    assert_eq!(images.to_string(), "folder of 2 classes at 32x32");

    let (splits, usual) = data::read(&args(&[])).unwrap();
    assert_eq!(splits.train.shape().height, 64);
    // The pictures are grey, of values up to 9, and one of them is damaged.
    let own = args(&["--normalization=own", "--fit=squeeze"]);
    let (squeezed, own) = data::read(&own).unwrap();
    assert_ne!((&squeezed.train, &own), (&splits.train, &usual));
    assert!(own
        .mean()
        .iter()
        .all(|&mean| mean > 0.0 && mean < 9.0 / 255.0));
    let mut left_out = LeftOut::default();
    let mut seen = 0;
    for part in [&splits.train, &splits.validation, &splits.test] {
        let loader = loader(&args(&[]), &usual, part).unwrap();
        seen += loader.epoch(0).map(|b| b.unwrap().len()).sum::<usize>();
        for line in left_out.news(&[&loader]) {
            assert!(line.starts_with("Left out: ") && line.contains("x.jpg"));
        }
        assert!(left_out.news(&[&loader]).is_empty());
    }
    assert_eq!((seen, left_out.count()), (20, 1));

    let nowhere = parse(&["--task=folder", "--data=/nowhere"]).unwrap();
    let e = nowhere.images().unwrap_err().to_string();
    assert!(
        e.contains("/nowhere") && e.contains("for each class"),
        "{e}"
    );
    assert!(Images::of_folder(64, 1001).is_err() && Images::of_folder(63, 2).is_err());
}

/// A short run of the CNN; `flags` are more of them.
fn train(out: &std::path::Path, flags: &[&str]) -> ssprop::Result<Outcome> {
    let out = format!("--out={}", out.display());
    let short = [
        "--model=cnn",
        "--layers=2",
        "--train-limit=80",
        "--test-limit=20",
        "--batch-size=32",
        &out,
    ];
    run(&parse(&[&short, flags].concat()).unwrap())
}

/// The tensors and the epoch: all that a further run depends on.
fn state(file: &std::path::Path) -> Vec<u8> {
    let bytes = std::fs::read(file).unwrap();
    // An 8-byte length and a header, which holds the times of the epochs.
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    bytes[8 + header..].to_vec()
}

#[test]
fn a_resumed_run_is_the_same_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    let [whole, part, other] = ["whole", "part", "other"].map(|name| folder.path().join(name));
    let flags = ["--dropout=0.1", "--selection=random", "--curve=constant"];
    let with = |more: &[&'static str]| [&flags[..], more].concat();

    let expected = train(&whole, &with(&["--epochs=2"])).unwrap();
    for name in [
        "best.safetensors",
        "metrics.csv",
        "curves.svg",
        "confusion.svg",
    ] {
        assert!(whole.join(name).is_file(), "{name}");
    }
    let csv = std::fs::read_to_string(whole.join("metrics.csv")).unwrap();
    assert!(csv.contains(",validation_accuracy,") && csv.lines().count() == 3);
    assert_eq!(expected.records[0].get("train_images"), Some(64.0));
    assert_eq!(
        (
            expected.records[0].get("validation_images"),
            expected.test.images
        ),
        (Some(16.0), 20)
    );

    train(&part, &with(&["--epochs=1"])).unwrap();
    let last = format!("--resume={}", part.join("checkpoint.safetensors").display());
    let resumed = with(&["--epochs=2"]);
    let found = train(&other, &[&resumed[..], &[&last]].concat()).unwrap();
    assert_eq!(found.test, expected.test);
    assert_eq!(found.best_epoch, expected.best_epoch);
    let losses = |o: &Outcome| {
        o.records
            .iter()
            .map(|r| r.get("train_loss"))
            .collect::<Vec<_>>()
    };
    assert_eq!(losses(&found), losses(&expected));
    let file = "checkpoint.safetensors";
    assert!(state(&other.join(file)) == state(&whole.join(file)));
    assert!(state(&part.join(file)) != state(&whole.join(file)));

    let seed = [&resumed[..], &[&last, "--seed=1"]].concat();
    let err = train(&folder.path().join("again"), &seed)
        .unwrap_err()
        .to_string();
    assert!(err.contains("seed = 0, now 1"), "{err}");
}

#[test]
fn a_run_with_every_option_is_resumed_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    let [whole, part, other] = ["whole", "part", "other"].map(|name| folder.path().join(name));
    let flags = [
        "--optimizer=sgd",
        "--lr=0.05",
        "--momentum=0.9",
        "--nesterov",
        "--weight-decay=0.001",
        "--no-norm-decay",
        "--lr-factor=layer1=0.5",
        "--clip-norm=1",
        "--label-smoothing=0.1",
        "--mixup=0.4",
        "--ema=0.9",
        "--accumulate=2",
        "--patience=3",
    ];
    // A path that the network has not.
    let err = train(&whole, &[&flags[..], &["--freeze=stem"]].concat()).unwrap_err();
    assert!(err.to_string().contains("`stem`"), "{err}");
    let err = train(&whole, &["--mixup=-1"]).unwrap_err().to_string();
    assert!(err.starts_with("mixup = -1: must be"), "{err}");
    let with =
        |more: &[&str], out: &std::path::Path| train(out, &[&flags[..], more].concat()).unwrap();
    let expected = with(&["--epochs=2"], &whole);
    with(&["--epochs=1"], &part);
    let last = format!("--resume={}", part.display());
    let found = with(&["--epochs=2", &last], &other);
    assert_eq!(found.test, expected.test);
    assert!(found.test.correct_top5 >= found.test.correct);
    let file = "checkpoint.safetensors";
    assert!(state(&other.join(file)) == state(&whole.join(file)));
}

#[test]
fn an_adaptive_run_counts_what_it_kept() {
    let folder = tempfile::tempdir().unwrap();
    let train = |name: &str, flags: &[&str]| {
        let outcome = train(
            &folder.path().join(name),
            &[flags, &["--epochs=1"]].concat(),
        );
        outcome.unwrap().records.swap_remove(0)
    };
    let dense = train("dense", &["--mode=dense"]);
    assert!(dense.is_dense());
    let adaptive = ["--selection=adaptive", "--keep-share=0.5"];
    let half = train("half", &adaptive);
    let rate = |r: &Record| r.get("drop_rate").unwrap();
    assert!(rate(&half) > 0.5 && rate(&half) < 1.0);
    assert!(half.backward_flops() < 0.6 * dense.backward_flops());
    // Only the first convolution is sparse then, which is the cheap one.
    let one = train("one", &[adaptive[0], adaptive[1], "--dense-layers=layer2"]);
    assert!(one.backward_flops() > half.backward_flops());
    assert!(one.backward_flops() < dense.backward_flops());
    assert!(rate(&one) > 0.0 && rate(&one) < rate(&half));
}

#[test]
fn layers_that_the_network_has_not_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let err = train(&folder.path().join("a"), &["--dense-layers=shortcuts"]);
    let err = err.unwrap_err().to_string();
    assert!(
        err.contains("`@shortcuts`") && err.contains("layer1.conv"),
        "{err}"
    );
}

#[test]
fn a_missing_data_set_says_where_to_get_it() {
    let args = parse(&["--data=no/such/folder", "--model=mlp"]).unwrap();
    let err = run(&args).unwrap_err().to_string();
    for part in ["no/such/folder", "github.com", "train-images-idx3-ubyte"] {
        assert!(err.contains(part), "{part}: {err}");
    }
}

#[test]
fn what_is_unlike_runs_of_before_is_recorded() {
    let config = |flags: &[&str]| {
        let args = parse(flags).unwrap();
        let config = ssprop::run::RunConfig::new("t");
        let recorded = args.preparation.record(args.task, config.clone());
        format!("{recorded:?}").replace(&format!("{config:?}"), "as before")
    };
    assert_eq!(config(&["--task=mnist"]), "as before");
    let before = ["--fit=square", "--normalization=usual"];
    for task in ["--task=celeba", "--task=imagenet", "--task=folder"] {
        assert_eq!(config(&[task, before[0], before[1]]), "as before");
    }
    let celeba = config(&["--task=celeba"]);
    assert!(
        celeba.contains("squeeze") && celeba.contains("own"),
        "{celeba}"
    );
    assert!(config(&["--task=imagenet"]).contains("squeeze"));
}
