//! What goes wrong with a device: each a sentence that says what to do. The emulator fails at will, told by
//! its environment, so that each is a process of its own.
#![cfg(cuda_emulator)]

use std::process::Command;

use ssprop::data::{BatchLoader, ImageDataset, ImageShape};
use ssprop::internals::Buffer;
use ssprop::prelude::*;
use ssprop::run::{Run, RunConfig, RunOptions};
use ssprop::Error;

use crate::support::noise;

/// Runs a test below, which is ignored otherwise, with a setting of the emulator.
fn with(setting: (&str, &str), test: &str) {
    let ran = Command::new(std::env::current_exe().unwrap())
        .args([&format!("errors::{test}"), "--exact", "--ignored"])
        .env(setting.0, setting.1)
        .output()
        .unwrap();
    let out = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success() && out.contains("1 passed"), "{out}");
}

fn why_no_device() -> String {
    ssprop::cuda_device(0).unwrap_err().to_string()
}

#[test]
fn devices_that_cannot_be_used() {
    with(("EMU_INIT", "100"), "no_device");
    with(("EMU_DRIVER", "12040"), "an_old_driver");
    #[cfg(feature = "cudnn")]
    with(("EMU_CUDNN", "/no/libcudnn.so.9"), "no_cudnn");
    let memory = ("EMU_MEMORY", "2000000");
    with(memory, "a_training_without_memory_goes_on");
    with(("EMU_MEMORY", "200000"), "a_workspace_takes_what_is_idle");
    #[cfg(feature = "cudnn")]
    with(
        ("EMU_MEMORY", "3500"),
        "a_convolution_without_room_for_cudnn",
    );
}

#[test]
#[ignore = "needs EMU_INIT=100"]
fn no_device() {
    let why = why_no_device();
    let code = "CUDA_ERROR_NO_DEVICE";
    assert!(why.contains("NVIDIA GPU") && why.contains(code), "{why}");
}

#[test]
#[ignore = "needs EMU_DRIVER=12040"]
fn an_old_driver() {
    let why = why_no_device();
    let expected = "runs CUDA 12.4 at most, and this program was compiled with CUDA 13.0: update";
    assert!(why.contains(expected), "{why}");
}

#[cfg(feature = "cudnn")]
#[test]
#[ignore = "needs EMU_CUDNN of no file"]
fn no_cudnn() {
    let why = why_no_device();
    let tells =
        why.contains("cuDNN 9 was not found") && why.contains("without the feature `cudnn`");
    assert!(tells && why.contains("/no/libcudnn.so.9"), "{why}");
}

/// A product of many numbers, after their memory has been in use.
#[test]
#[ignore = "needs EMU_MEMORY=200000"]
fn a_workspace_takes_what_is_idle() {
    let dev = crate::support::cuda();
    drop(Buffer::<f32, Cuda>::take(&dev, 40_000).unwrap());
    let x = dev.ones::<Rank4<1, 1, 9, 9>>();
    let conv = dev.build_module::<SparseConv2D<1, 60, 5, 1, 2>, f32>();
    #[cfg(feature = "cudnn")]
    ssprop::use_cudnn(false);
    conv.forward(x);
}

/// What cuDNN works in is larger than this, columns of images are not.
#[cfg(feature = "cudnn")]
#[test]
#[ignore = "needs EMU_MEMORY=3500"]
fn a_convolution_without_room_for_cudnn() {
    let dev = crate::support::cuda();
    let x: Tensor<Rank4<1, 1, 4, 4>, f32, _> = dev.sample_normal();
    let conv = dev.build_module::<SparseConv2D<1, 4, 3, 2, 1>, f32>();
    let y = conv.forward(x.leaky_trace());
    let grads = y.square().mean().backward();
    assert!(grads.get(&conv.weight).as_vec().iter().all(|g| *g != 0.0));
}

type Net = (
    SparseConv2D<1, 16, 3, 1, 1>,
    ReLU,
    GlobalAvgPool,
    Linear<16, 2>,
);

/// A second epoch with batches that are too large ends with an error; from the first one's checkpoint it goes on
/// with small ones.
#[test]
#[ignore = "needs EMU_MEMORY=2000000"]
fn a_training_without_memory_goes_on() {
    let values = noise(32 * 400, 1).into_iter();
    let pixels = values.map(|v| (v * 60.0 + 128.0) as u8);
    let labels = (0..32).map(|i| i % 2).collect();
    let shape = ImageShape::new(1, 20, 20);
    let data = ImageDataset::new(pixels.collect(), labels, shape, 2).unwrap();
    let loader = |batch| BatchLoader::new(&data, batch).unwrap().shuffle(1);
    let (small, large) = (loader(2), loader(32));
    let dev = crate::support::cuda();
    let new = || Trainer::new(dev.build_module::<Net, f32>(), AdamConfig::adam()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("run");
    let start = |resume| {
        let options = RunOptions {
            resume,
            ..RunOptions::default()
        };
        Run::start(&base, options, RunConfig::new("Halves")).unwrap()
    };

    let mut run = start(None);
    let mut trainer = new();
    run.resume(&mut trainer).unwrap();
    let epoch = |run: &mut Run, trainer: &mut Trainer<_, Cuda>, loader: &BatchLoader| {
        let done = run.train(trainer, 2, |trainer, observer| {
            trainer.train_part::<1, 20, 20, 2>(&dev, loader, observer)
        })?;
        let done = done.expect("an epoch");
        run.record(trainer, &done, &[("loss", done.loss)])
    };
    epoch(&mut run, &mut trainer, &small).unwrap();
    let err = epoch(&mut run, &mut trainer, &large).unwrap_err();
    assert!(matches!(err, Error::Device(_)), "{err}");
    let (err, advice) = (err.to_string(), "memory has run out: end what else uses it");
    assert!(
        err.contains(advice) && err.contains("OUT_OF_MEMORY"),
        "{err}"
    );
    drop((run, trainer));

    let mut run = start(Some(base.clone()));
    let mut trainer = new();
    assert!(run.resume(&mut trainer).unwrap());
    assert_eq!((trainer.epoch(), run.records().len()), (1, 1));
    epoch(&mut run, &mut trainer, &small).unwrap();
    assert_eq!(trainer.epoch(), 2);
}
