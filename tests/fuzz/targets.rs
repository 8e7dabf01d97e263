//! The parsers, and inputs for them.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use dfdx::prelude::*;
use rand::rngs::StdRng;
use rand::Rng;
use ssprop::checkpoint::{self, LoadOptions, Metadata};
use ssprop::data::{self, Augmentation, DatasetKind, ImageDataset, ImageShape, Limits, Task};
use ssprop::diffusion::{BetaSchedule, Diffusion, DiffusionTrainer, Parameterization};
use ssprop::optim::{Adam, AdamConfig, LrSchedule};
use ssprop::run::{internals as run, RunConfig};
use ssprop::sparsity::Schedule;
use ssprop::train::Trainer;

use super::repair;

/// Whether an input is taken.
type Parse = Box<dyn FnMut(&[u8]) -> bool>;

/// A parser with inputs that it takes.
pub struct Target {
    pub name: &'static str,
    pub seeds: Vec<Vec<u8>>,
    /// Puts checksums right, or packs.
    pub finish: fn(&mut StdRng, Vec<u8>) -> Vec<u8>,
    pub parse: Parse,
    /// Slower ones get fewer inputs.
    pub share: f64,
}

fn as_is(_: &mut StdRng, bytes: Vec<u8>) -> Vec<u8> {
    bytes
}

fn write(path: &Path, bytes: &[u8]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

pub fn all(folder: &Path) -> Vec<Target> {
    let mut targets = checkpoints(&folder.join("checkpoints"));
    targets.extend(mnist(&folder.join("mnist")));
    targets.push(cifar(&folder.join("cifar")));
    targets.extend(pictures(&folder.join("pictures")));
    targets.extend(celeba(&folder.join("celeba")));
    targets.push(class_folders(&folder.join("folders")));
    targets.push(records(&folder.join("records")));
    targets.extend(runs(&folder.join("runs")));
    targets.push(texts());
    targets
}

type Net = (Linear<3, 4>, BatchNorm1D<4>, Linear<4, 2>);
type Built = <Net as BuildOnDevice<Cpu, f32>>::Built;

/// The same tensors in a file without a checksum, with more metadata.
fn without_checksum(file: &Path, more: &[(&str, &str)]) -> Vec<u8> {
    let bytes = std::fs::read(file).unwrap();
    let stored = ::safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut metadata = checkpoint::read_metadata(file).unwrap();
    metadata.extend(
        more.iter()
            .map(|(key, text)| (key.to_string(), text.to_string())),
    );
    let metadata = metadata.into_iter().collect();
    ::safetensors::serialize(stored.tensors(), Some(metadata)).unwrap()
}

fn checkpoints(folder: &Path) -> Vec<Target> {
    let dev = Cpu::seed_from_u64(0);
    let build = || Cpu::seed_from_u64(1).build_module::<Net, f32>();
    std::fs::create_dir_all(folder).unwrap();
    let path = folder.join("net.safetensors");
    let metadata = Metadata::from([("seed".to_owned(), "7".to_owned())]);
    let mut seeds = Vec::new();
    let model: Built = dev.build_module::<Net, f32>();
    let mut keep = |path: &Path| {
        seeds.push(std::fs::read(path).unwrap());
        seeds.push(without_checksum(path, &[]));
    };
    checkpoint::save(&path, &model, &metadata).unwrap();
    keep(&path);
    checkpoint::save_for_pytorch(&path, &model, &metadata).unwrap();
    keep(&path);
    let optimizer = Adam::new(&model, AdamConfig::adam()).unwrap();
    checkpoint::save_training(&path, &model, &optimizer, &metadata).unwrap();
    keep(&path);
    let trainer = Trainer::new(model.clone(), AdamConfig::adam()).unwrap();
    trainer.save(&path, &metadata).unwrap();
    keep(&path);
    for name in ["module", "bf16", "f16", "batch_norm"] {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/weights");
        seeds.push(std::fs::read(fixtures.join(format!("{name}.safetensors"))).unwrap());
    }
    let (mut model, mut optimizer, mut trainer) = (build(), optimizer, trainer);
    let parse = move |bytes: &[u8]| {
        write(&path, bytes);
        let narrow = LoadOptions::new().narrow_f64(true).skip_mismatched(true);
        let loaded = [
            checkpoint::load(&path, &mut model).is_ok(),
            narrow.load(&path, &mut model).is_ok(),
            narrow.load_partial(&path, &mut model).is_ok(),
            checkpoint::load_training(&path, &mut model, &mut optimizer).is_ok(),
            checkpoint::load_average(&path, &mut model).is_ok(),
            checkpoint::read_metadata(&path).is_ok(),
            trainer.resume(&path).is_ok(),
        ];
        loaded.contains(&true)
    };
    vec![Target {
        name: "safetensors",
        seeds,
        finish: as_is,
        parse: Box::new(parse),
        share: 1.0,
    }]
}

/// Images and labels in the IDX format.
fn small_idx() -> (Vec<u8>, Vec<u8>) {
    let shape = ImageShape::new(1, 3, 2);
    let data = ImageDataset::new((0..30).collect(), vec![0, 9, 3, 4, 1], shape, 10).unwrap();
    data::encode_idx(&data).unwrap()
}

const IDX_NAMES: [&str; 4] = [
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
];

fn mnist(folder: &Path) -> Vec<Target> {
    let (images, labels) = small_idx();
    let files: Vec<(&str, &[u8])> = IDX_NAMES
        .iter()
        .map(|name| {
            (
                *name,
                if name.contains("images") {
                    &images[..]
                } else {
                    &labels[..]
                },
            )
        })
        .collect();
    let read = |path: PathBuf| {
        move |bytes: &[u8]| {
            write(&path, bytes);
            data::load(&path, DatasetKind::Mnist).is_ok()
        }
    };
    let packed = |rng: &mut StdRng, bytes: Vec<u8>| match rng.gen() {
        true => repair::gz(&bytes),
        false => bytes,
    };
    // Once as the images and once as the labels, beside whole ones.
    let both = |name: &str, images: Vec<u8>, labels: Vec<u8>| {
        let (first, second) = (folder.join(name), folder.join(format!("{name}-labels")));
        move |bytes: &[u8]| {
            write(&first, bytes);
            write(&second, &labels);
            let as_images = data::idx_files(&first, &second, 10).is_ok();
            write(&first, &images);
            write(&second, bytes);
            as_images | data::idx_files(&first, &second, 10).is_ok()
        }
    };
    let plain = both("plain", images.clone(), labels.clone());
    let gz = both("gz", repair::gz(&images), repair::gz(&labels));
    vec![
        Target {
            name: "idx",
            seeds: vec![images.clone(), labels.clone()],
            finish: as_is,
            parse: Box::new(plain),
            share: 1.0,
        },
        Target {
            name: "idx.gz",
            seeds: vec![images.clone(), labels.clone(), repair::gz(&images)],
            finish: packed,
            parse: Box::new(gz),
            share: 1.0,
        },
        Target {
            name: "zip",
            seeds: vec![repair::zip(&files, true), repair::zip(&files, false)],
            finish: as_is,
            parse: Box::new(read(folder.join("data.zip"))),
            share: 1.0,
        },
        Target {
            name: "tar.gz",
            seeds: vec![repair::tar_of(&files), repair::gz(&repair::tar_of(&files))],
            finish: |rng, mut bytes| {
                if bytes.starts_with(&[0x1f, 0x8b]) {
                    return bytes;
                }
                if rng.gen_bool(0.75) {
                    repair::tar(&mut bytes);
                }
                match rng.gen_bool(0.75) {
                    true => repair::gz(&bytes),
                    false => bytes,
                }
            },
            parse: Box::new(read(folder.join("data.tar.gz"))),
            share: 1.0,
        },
    ]
}

fn cifar(folder: &Path) -> Target {
    // As `few_records` reads them: two records in each file, one in the last.
    let records = |labels: &[u8], count: usize| {
        let pixels = (0..3072).map(|i| (i % 251) as u8);
        let record: Vec<u8> = labels.iter().copied().chain(pixels).collect();
        record.repeat(count)
    };
    let inside = |folder: &str, names: &[&str], labels: &[u8]| {
        let last = names.len() - 1;
        let file = |(i, name): (usize, &&str)| {
            let count = if i == last { 1 } else { 2 };
            (format!("{folder}/{name}"), records(labels, count))
        };
        names.iter().enumerate().map(file).collect::<Vec<_>>()
    };
    let ten = [
        "data_batch_1.bin",
        "data_batch_2.bin",
        "data_batch_3.bin",
        "data_batch_4.bin",
        "data_batch_5.bin",
        "test_batch.bin",
    ];
    let ten = inside("cifar-10-batches-bin", &ten, &[9]);
    let hundred = inside("cifar-100-binary", &["train.bin", "test.bin"], &[19, 99]);
    fn refs(files: &[(String, Vec<u8>)]) -> Vec<(&str, &[u8])> {
        files
            .iter()
            .map(|(name, bytes)| (&**name, &**bytes))
            .collect()
    }
    let path = folder.join("cifar");
    Target {
        name: "cifar",
        seeds: vec![
            repair::tar_of(&refs(&ten)),
            repair::tar_of(&refs(&hundred)),
            repair::zip(&refs(&hundred), true),
        ],
        finish: |rng, mut bytes| {
            if bytes.starts_with(b"PK") {
                return bytes;
            }
            if rng.gen_bool(0.75) {
                repair::tar(&mut bytes);
            }
            match rng.gen_bool(0.25) {
                true => repair::gz(&bytes),
                false => bytes,
            }
        },
        parse: Box::new(move |bytes| {
            write(&path, bytes);
            let read = |fine| data::internals::few_records(&path, fine).is_ok();
            read(false) | read(true)
        }),
        share: 0.5,
    }
}

fn picture(format: image::ImageFormat) -> Vec<u8> {
    let picture = image::RgbImage::from_fn(24, 17, |x, y| {
        image::Rgb([(10 * x) as u8, (15 * y) as u8, (x * y) as u8])
    });
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn pictures(folder: &Path) -> Vec<Target> {
    let (jpeg, png) = (
        picture(image::ImageFormat::Jpeg),
        picture(image::ImageFormat::Png),
    );
    write(&folder.join("val/a/x.jpg"), &jpeg);
    let path = folder.join("train/a/x.jpg");
    let folder = folder.to_owned();
    let limits = Limits {
        train: Some(1),
        test: Some(0),
    };
    vec![Target {
        name: "pictures",
        seeds: vec![jpeg, png],
        finish: |rng, mut bytes| {
            if bytes.starts_with(&[0x89, b'P']) && rng.gen_bool(0.75) {
                repair::png(&mut bytes);
            }
            bytes
        },
        parse: Box::new(move |bytes| {
            write(&path, bytes);
            let found = data::imagenet(&folder, limits);
            found.is_ok_and(|(train, _)| train.pixels().is_ok())
        }),
        share: 0.3,
    }]
}

fn celeba(folder: &Path) -> Vec<Target> {
    let jpeg = picture(image::ImageFormat::Jpeg);
    let mut attributes = "3\nBald Smiling Young\n".to_owned();
    let mut partition = String::new();
    for i in 0..3 {
        attributes += &format!("{i:06}.jpg  1 -1  1\n");
        partition += &format!("{i:06}.jpg {i}\n");
    }
    let csv = |text: &str| {
        let lines = text
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(","));
        lines.collect::<Vec<_>>().join("\n").into_bytes()
    };
    let header = "image_id,Bald,Smiling,Young\n".as_bytes();
    let attributes_csv = [
        header,
        &csv(&attributes).split_off("3\nBald,Smiling,Young\n".len()),
    ]
    .concat();
    let partition_csv = [&b"image_id,partition\n"[..], &csv(&partition)].concat();
    let lists = [
        (
            "celeba attributes",
            "list_attr_celeba.txt",
            attributes.clone().into_bytes(),
        ),
        (
            "celeba partition",
            "list_eval_partition.txt",
            partition.clone().into_bytes(),
        ),
        (
            "celeba attributes, csv",
            "list_attr_celeba.csv",
            attributes_csv,
        ),
        (
            "celeba partition, csv",
            "list_eval_partition.csv",
            partition_csv,
        ),
    ];
    let limits = Limits {
        train: Some(2),
        test: Some(1),
    };
    let mut targets = Vec::new();
    for (name, file, seed) in &lists {
        // A folder with this list, and the other one as text.
        let folder = folder.join(name.replace(' ', "-"));
        for i in 0..3 {
            write(&folder.join(format!("img_align_celeba/{i:06}.jpg")), &jpeg);
        }
        let other = match file.contains("attr") {
            true => ("list_eval_partition.txt", &partition),
            false => ("list_attr_celeba.txt", &attributes),
        };
        write(&folder.join(other.0), other.1.as_bytes());
        let path = folder.join(file);
        targets.push(Target {
            name,
            seeds: vec![seed.clone()],
            finish: as_is,
            parse: Box::new(move |bytes| {
                write(&path, bytes);
                let found = data::celeba(&folder, limits);
                found.is_ok_and(|splits| splits.train.pixels().is_ok())
            }),
            share: 0.3,
        });
    }
    // The pictures' zip, which is not unpacked; and one of everything.
    let pictures: Vec<(&str, &[u8])> = vec![
        ("img_align_celeba/000000.jpg", &jpeg),
        ("img_align_celeba/000001.jpg", &jpeg),
        ("img_align_celeba/000002.jpg", &jpeg),
    ];
    let mut everything = pictures.clone();
    everything.push(("list_attr_celeba.txt", attributes.as_bytes()));
    everything.push(("list_eval_partition.txt", partition.as_bytes()));
    let zipped = folder.join("zipped");
    write(&zipped.join("list_attr_celeba.txt"), attributes.as_bytes());
    write(
        &zipped.join("list_eval_partition.txt"),
        partition.as_bytes(),
    );
    let (inner, outer) = (zipped.join("img_align_celeba.zip"), folder.join("all.zip"));
    let zips = |files: &[_]| vec![repair::zip(files, true), repair::zip(files, false)];
    targets.push(Target {
        name: "celeba.zip",
        seeds: [zips(&pictures), zips(&everything)].concat(),
        finish: as_is,
        parse: Box::new(move |bytes| {
            write(&inner, bytes);
            write(&outer, bytes);
            [&zipped, &outer].into_iter().any(|path| {
                let found = data::celeba(path, limits);
                found.is_ok_and(|splits| splits.train.pixels().is_ok())
            })
        }),
        share: 0.3,
    });
    targets
}

/// Any folder of pictures, as a zip: its table of contents, names and pictures.
fn class_folders(folder: &Path) -> Target {
    let (jpeg, png) = (
        picture(image::ImageFormat::Jpeg),
        picture(image::ImageFormat::Png),
    );
    let parts: [(&str, &[u8]); 5] = [
        ("top/train/a/x.jpg", &jpeg),
        ("top/train/b/deeper/y.png", &png),
        ("top/val/a/x.jpeg", &jpeg),
        ("top/val/b/y.png", &png),
        ("top/train/a/notes.txt", b"no picture"),
    ];
    let plain: [(&str, &[u8]); 3] = [("a/x.png", &png), ("b/y.jpg", &jpeg), ("b/z.jpg", &jpeg)];
    let path = folder.join("pictures.zip");
    Target {
        name: "class folders",
        seeds: vec![
            repair::zip(&parts, true),
            repair::zip(&parts, false),
            repair::zip(&plain, true),
        ],
        finish: as_is,
        parse: Box::new(move |bytes| {
            write(&path, bytes);
            let found = data::folder(&path, 16, Limits::default(), 0).is_ok_and(|splits| {
                let whole = [&splits.train, &splits.test].map(|part| part.pixels().is_ok());
                splits.train.without_damaged().is_ok() & !whole.contains(&false)
            });
            found | data::folder_classes(&path).is_ok()
        }),
        share: 0.3,
    }
}

/// The records of a run.
fn records(folder: &Path) -> Target {
    let path = folder.join("metrics.csv");
    let seeds = [
        "epoch,loss,rate\n1,0.5,0.8\n2,0.25,\n3,NaN,0\n",
        "epoch\n1\n",
    ];
    Target {
        name: "records",
        seeds: seeds.map(|text| text.as_bytes().to_vec()).to_vec(),
        finish: as_is,
        parse: Box::new(move |bytes| {
            write(&path, bytes);
            ssprop::run::read_records(&path).is_ok()
        }),
        share: 1.0,
    }
}

/// What a run goes on from: its checkpoint with records, configuration and an unfinished epoch.
fn runs(folder: &Path) -> Vec<Target> {
    let dev = Cpu::seed_from_u64(0);
    std::fs::create_dir_all(folder).unwrap();
    // By another name than a run's newest, so that none before it is looked for, which is told.
    let (newest, path) = (
        folder.join("checkpoint.safetensors"),
        folder.join("given.safetensors"),
    );
    let config = RunConfig::new("a run").fixed("seed", 7);
    let csv = "epoch,drop_rate,train_loss,joules\n1,0.8,0.5,\n2,0,0.25,3\n";
    write(&folder.join("metrics.csv"), csv.as_bytes());
    let records = ssprop::run::read_records(folder.join("metrics.csv")).unwrap();
    let model: Built = dev.build_module::<Net, f32>();
    let new = || Trainer::new(model.clone(), AdamConfig::adam()).unwrap();
    let (mut trainer, mut other) = (new(), new());
    let diffusion = Diffusion::new(BetaSchedule::Cosine, 10).unwrap();
    let mut denoiser =
        DiffusionTrainer::new(model.clone(), AdamConfig::adamw(), diffusion, 0).unwrap();
    denoiser = denoiser.with_ema(0.9).unwrap();
    let mut seeds = Vec::new();
    // After two epochs, and in the third: what a training would have written.
    let state = [("epoch", "2"), ("seed", "7"), ("history", csv)];
    let unfinished = ("unfinished", "3 21 0.5 0.8 1.2 0 0.1 0.2 0.3 1e9 0.001 2.5");
    for more in [&state[..], &[&state[..], &[unfinished]].concat()] {
        denoiser.save(&path, &Metadata::new()).unwrap();
        let bytes = without_checksum(&path, more);
        write(&path, &bytes);
        run::resume(&path, &mut denoiser, &config).unwrap();
        // As a run writes it.
        run::save(folder, &denoiser, &config, &records).unwrap();
        seeds.extend([bytes, std::fs::read(&newest).unwrap()]);
    }
    // Its texts alone, in a file that is whole.
    let whole = seeds[2].clone();
    let (text_path, text_config) = (folder.join("texts.safetensors"), config.clone());
    let texts = move |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        let mut parts = text.split('|');
        let mut more: Vec<(&str, &str)> = vec![("seed", "7")];
        more.extend(
            ["epoch", "unfinished", "history"]
                .into_iter()
                .zip(&mut parts),
        );
        write(&text_path, &whole);
        let bytes = without_checksum(&text_path, &more);
        write(&text_path, &bytes);
        run::resume(&text_path, &mut other, &text_config).is_ok()
    };
    let text = format!("2|{}|{csv}", unfinished.1);
    vec![
        Target {
            name: "runs",
            seeds,
            finish: as_is,
            parse: Box::new(move |bytes| {
                write(&path, bytes);
                run::resume(&path, &mut trainer, &config).is_ok()
                    | run::resume(&path, &mut denoiser, &config).is_ok()
            }),
            share: 0.5,
        },
        Target {
            name: "run texts",
            seeds: vec![text.into_bytes()],
            finish: as_is,
            parse: Box::new(texts),
            share: 1.0,
        },
    ]
}

/// Whether `text` is a `T`, which then reads back what it writes.
fn round_trip<T: FromStr + Display>(text: &str) -> bool {
    let Ok(value) = text.parse::<T>() else {
        return false;
    };
    let written = value.to_string();
    match written.parse::<T>() {
        Ok(again) => assert_eq!(again.to_string(), written, "{text:?}"),
        Err(_) => panic!("{text:?} is written as {written:?}, which is not read"),
    }
    true
}

fn texts() -> Target {
    let seeds = [
        "paper",
        "dense",
        "cosine,drop=0.8,period=100,interleave,warmup=2",
        "linear,drop=0.8,epochs=9; layer1.*.conv1=constant,drop=0.5; @stem=dense; @shortcuts=dense",
        "bar,drop=0.8,start=0.2,epochs=2,interleave",
        "constant,drop=0.5",
        "sqrt-linear",
        "fashion-mnist",
        "eps",
        "crop=4,flip,resized-crop=0.25",
        "resized-crop",
        "cosine,epochs=50,warmup=3,from=0.1",
    ];
    Target {
        name: "texts",
        seeds: seeds.map(|text| text.as_bytes().to_vec()).to_vec(),
        finish: as_is,
        parse: Box::new(|bytes| {
            let text = String::from_utf8_lossy(bytes);
            if let Ok(plan) = text.parse::<ssprop::nn::SchedulePlan>() {
                // What it says of a run has to be sayable, too.
                let _ = plan.check_run(3);
                let _ = plan.varies_within(1);
            }
            round_trip::<ssprop::nn::SchedulePlan>(&text)
                | round_trip::<Schedule>(&text)
                | round_trip::<BetaSchedule>(&text)
                | round_trip::<Parameterization>(&text)
                | round_trip::<Augmentation>(&text)
                | round_trip::<LrSchedule>(&text)
                | round_trip::<DatasetKind>(&text)
                | round_trip::<Task>(&text)
        }),
        share: 2.0,
    }
}
