//! The parsers, and inputs for them.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use dfdx::prelude::*;
use rand::rngs::StdRng;
use rand::Rng;
use ssprop::checkpoint::{self, LoadOptions, Metadata};
use ssprop::data::{self, DatasetKind, ImageDataset, ImageShape, Limits, Task};
use ssprop::diffusion::{BetaSchedule, Parameterization};
use ssprop::optim::{Adam, AdamConfig};
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
    targets.push(records(&folder.join("records")));
    targets.push(texts());
    targets
}

type Net = (Linear<3, 4>, BatchNorm1D<4>, Linear<4, 2>);
type Built = <Net as BuildOnDevice<Cpu, f32>>::Built;

/// The same tensors in a file without a checksum.
fn without_checksum(file: &Path) -> Vec<u8> {
    let bytes = std::fs::read(file).unwrap();
    let stored = ::safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let metadata = checkpoint::read_metadata(file).unwrap();
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
        seeds.push(without_checksum(path));
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
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/weights");
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
    let (image_file, label_file) = (folder.join("images"), folder.join("labels"));
    let pair = (image_file.clone(), label_file.clone());
    let (first, second) = (images.clone(), labels.clone());
    let both = move |bytes: &[u8]| {
        // Once as the images and once as the labels.
        write(&pair.0, bytes);
        write(&pair.1, &second);
        let as_images = data::idx_files(&pair.0, &pair.1, 10).is_ok();
        write(&pair.0, &first);
        write(&pair.1, bytes);
        as_images | data::idx_files(&pair.0, &pair.1, 10).is_ok()
    };
    let (gz_images, gz_labels) = (folder.join("i.gz"), folder.join("l.gz"));
    write(&gz_labels, &repair::gz(&labels));
    let gz = move |bytes: &[u8]| {
        write(&gz_images, bytes);
        data::idx_files(&gz_images, &gz_labels, 10).is_ok()
    };
    vec![
        Target {
            name: "idx",
            seeds: vec![images.clone(), labels.clone()],
            finish: as_is,
            parse: Box::new(both),
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
    // Whole files are 30 MB each; an archive of parts of them ends in an error at its first file.
    let record: Vec<u8> = (0..3 * 3073).map(|i| (i % 10) as u8).collect();
    let folder_name = "cifar-10-batches-bin/data_batch_1.bin";
    let other = "cifar-100-binary/train.bin";
    let files: [(&str, &[u8]); 2] = [(folder_name, &record), (other, &record)];
    let path = folder.join("cifar.tar.gz");
    Target {
        name: "cifar",
        seeds: vec![repair::tar_of(&files), repair::tar_of(&files[1..])],
        finish: |rng, mut bytes| {
            if rng.gen_bool(0.75) {
                repair::tar(&mut bytes);
            }
            repair::gz(&bytes)
        },
        parse: Box::new(move |bytes| {
            write(&path, bytes);
            data::cifar10(&path).is_ok() | data::cifar100(&path).is_ok()
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
                | round_trip::<DatasetKind>(&text)
                | round_trip::<Task>(&text)
        }),
        share: 2.0,
    }
}
