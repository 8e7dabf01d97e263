use ssprop::data::{Fit, ImageShape, Normalization};
use ssprop::prelude::*;

use super::*;

fn input() -> InputSpec {
    InputSpec {
        shape: ImageShape::new(1, 28, 28),
        image: ImageShape::new(1, 28, 28),
        fit: Fit::Square,
        share: 1.0,
        normalization: Normalization::unit(1),
        classes: ["left", "right"].map(str::to_owned).to_vec(),
        multi_label: false,
    }
}

/// A run's folder whose network has larger logits for the first class where the left of a picture is white.
fn run_folder(metadata: &Metadata) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut net = Cpu::seed_from_u64(0).build_module::<MLP<10, 784>, f32>();
    let mut first = vec![0.0; 512 * 784];
    for (i, weight) in first[..784].iter_mut().enumerate() {
        *weight = if i % 28 < 14 { 0.1 } else { -0.1 };
    }
    net.input.weight.copy_from(&first);
    net.input.bias.copy_from(&[0.0; 512]);
    let mut second = vec![0.0; 512 * 512];
    second[0] = 1.0;
    net.hidden.modules[0].weight.copy_from(&second);
    net.hidden.modules[0].bias.copy_from(&[0.0; 512]);
    let mut last = vec![0.0; 10 * 512];
    last[0] = 1.0;
    net.linear.weight.copy_from(&last);
    let mut bias = vec![9.0; 10];
    bias[..2].copy_from_slice(&[0.0, 4.0]);
    net.linear.bias.copy_from(&bias);
    ssprop::checkpoint::save(folder.path().join("best.safetensors"), &net, metadata).unwrap();
    for (name, left) in [("left.png", true), ("right.png", false)] {
        let white = |x| (x < 50) == left;
        let picture =
            image::GrayImage::from_fn(100, 70, |x, _| image::Luma([255 * u8::from(white(x))]));
        picture.save(folder.path().join(name)).unwrap();
    }
    std::fs::write(folder.path().join("bad.jpg"), "no picture").unwrap();
    folder
}

fn args(folder: &Path, more: &[&str]) -> Args {
    let folder = folder.to_str().unwrap();
    let first = ["classify", "--checkpoint", folder];
    Args::try_parse_from(first.iter().chain(more)).unwrap()
}

fn metadata(model: &str) -> Metadata {
    Metadata::from([
        ("model".to_owned(), model.to_owned()),
        ("input".to_owned(), input().to_string()),
    ])
}

#[test]
fn pictures_of_any_size_are_told_apart_and_bad_ones_counted() {
    let folder = run_folder(&metadata("MLP"));
    let path = |name: &str| folder.path().join(name);
    let source = Source {
        path: &path("best.safetensors"),
        model: "MLP",
        input: &input(),
        pytorch: None,
    };
    let graph = source.load().unwrap();
    let classifier = PictureClassifier::new(&Cpu::default(), &graph, input()).unwrap();
    let pictures = ["left.png", "bad.jpg", "right.png"].map(path);
    let found = classifier.classify(&pictures).unwrap();
    let best = |i: usize| &found[i].as_ref().unwrap()[0];
    assert_eq!((&*best(0).name, &*best(2).name), ("left", "right"));
    // The logits of a picture of black and white halves are 14 * 28 * 0.1 and 4, and 0 and 4; what has no name
    // has no probability.
    let right = 1.0 / (1.0 + (-4.0f64).exp());
    assert!((best(2).probability - right).abs() < 1e-6, "{:?}", best(2));
    assert!(best(0).probability > 0.999 && found[0].as_ref().unwrap().len() == 2);
    let err = found[1].as_ref().unwrap_err().to_string();
    assert!(err.contains("bad.jpg"), "{err}");

    let pictures = pictures.each_ref().map(|path| path.to_str().unwrap());
    let bad = run(&args(folder.path(), &pictures)).unwrap();
    assert_eq!(bad, 1);
    let one_by_one = [&["--batch-size", "1"][..], &pictures].concat();
    assert_eq!(run(&args(folder.path(), &one_by_one)).unwrap(), 1);
}

#[test]
fn networks_for_others_and_from_them() {
    let folder = run_folder(&metadata("MLP"));
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (onnx, pytorch) = (path("net.onnx"), path("net.safetensors"));
    let written = ["--onnx", &onnx, "--pytorch", &pytorch];
    assert_eq!(run(&args(folder.path(), &written)).unwrap(), 0);
    assert!(Path::new(&onnx).metadata().unwrap().len() > 4 * 669_706);
    // PyTorch's files do not say what they are.
    let picture = path("left.png");
    let err = run(&args(Path::new(&pytorch), &[&picture])).unwrap_err();
    let m = err.to_string();
    assert!(m.contains("net.safetensors") && m.contains("--like"), "{m}");
    let like = ["--like", folder.path().to_str().unwrap(), &picture];
    assert_eq!(run(&args(Path::new(&pytorch), &like)).unwrap(), 0);
}

#[test]
fn checkpoints_that_do_not_say_enough() {
    let mut old = metadata("MLP");
    old.remove("input");
    let folder = run_folder(&old);
    let message = |folder: &Path, more: &[&str]| run(&args(folder, more)).unwrap_err().to_string();
    let m = message(folder.path(), &["a.png"]);
    assert!(
        m.contains("best.safetensors") && m.contains("--input"),
        "{m}"
    );
    let said = input().to_string();
    let picture = folder.path().join("left.png");
    let with = ["--input", &said, picture.to_str().unwrap()];
    assert_eq!(run(&args(folder.path(), &with)).unwrap(), 0);

    let m = message(run_folder(&metadata("VGG")).path(), &["a.png"]);
    assert!(m.contains("\"VGG\"") && m.contains("2 classes"), "{m}");
    let m = message(run_folder(&metadata("ResNet-18")).path(), &["a.png"]);
    assert!(m.contains("conv1.weight"), "{m}");
    let m = message(Path::new("no/such/run"), &["a.png"]);
    assert!(m.contains("no/such/run"), "{m}");
}

#[test]
fn pictures_or_a_file_to_write_are_needed() {
    let err = Args::try_parse_from(["classify", "--checkpoint", "a"]).unwrap_err();
    assert!(err.to_string().contains("PICTURES"), "{err}");
    let err = Args::try_parse_from(["classify", "--checkpoint", "a", "--input", "{}", "b"]);
    assert!(err.unwrap_err().to_string().contains("classes = null"));
}
