//! PyTorch takes our files (`load_state_dict` with `strict=True`) and we take its, with equal outputs; onnxruntime
//! runs our networks.
//!
//! Runs where `SSPROP_PYTORCH` names a Python with torch and safetensors, and for the latter with onnx and
//! onnxruntime:
//!
//!     SSPROP_PYTORCH=venv/bin/python cargo test --test pytorch_files

use std::path::Path;
use std::process::Command;

use ::safetensors::tensor::TensorView;
use ::safetensors::{Dtype as FileDtype, SafeTensors};
use dfdx::nn::TensorCollection;
use ssprop::checkpoint::{load, save_for_pytorch, save_onnx, LoadOptions, Metadata};
use ssprop::inference::Graph;
use ssprop::nn::builders::BatchNorm2D;
use ssprop::prelude::*;
use support::seem_trained;

/// Of the largest output.
const TOLERANCE: f32 = 2e-4;

fn read(path: &Path) -> Vec<f32> {
    let bytes = std::fs::read(path).unwrap();
    let stored = SafeTensors::deserialize(&bytes).unwrap();
    let (elements, _) = stored.tensor("y").unwrap().data().as_chunks();
    elements.iter().map(|&b| f32::from_le_bytes(b)).collect()
}

fn write_input<S: Shape>(path: &Path, x: &Tensor<S, f32, Cpu>) {
    write_tensors(path, &[("x", x.shape().concrete().into(), x.as_vec())]);
}

fn write_tensors(path: &Path, tensors: &[(&str, Vec<usize>, Vec<f32>)]) {
    let bytes = |values: &[f32]| {
        values
            .iter()
            .flat_map(|x| x.to_le_bytes())
            .collect::<Vec<u8>>()
    };
    let data: Vec<_> = tensors.iter().map(|(.., values)| bytes(values)).collect();
    let views = tensors.iter().zip(&data).map(|((name, shape, _), data)| {
        let view = TensorView::new(FileDtype::F32, shape.clone(), data).unwrap();
        (*name, view)
    });
    std::fs::write(path, ::safetensors::serialize(views, None).unwrap()).unwrap();
}

/// A network's output for its input.
type Forward<M> = Box<dyn Fn(&M) -> Vec<f32>>;
type Floats<S> = Tensor<S, f32, Cpu>;

/// A network, its input, and what it makes of it.
struct Case<'a, M> {
    name: &'static str,
    folder: &'a Path,
    build: fn(u64) -> M,
    forward: Forward<M>,
}

impl<M: TensorCollection<f32, Cpu> + 'static> Case<'_, M> {
    fn new<'a, S: Shape, T: Shape>(
        name: &'static str,
        folder: &'a Path,
        shape: S,
        build: fn(u64) -> M,
        forward: fn(&M, Floats<S>) -> Floats<T>,
    ) -> Case<'a, M> {
        let x = Cpu::seed_from_u64(3).sample_like(&shape, rand_distr::StandardNormal);
        write_input(&folder.join(format!("{name}.input.safetensors")), &x);
        let case = Case {
            name,
            folder,
            build,
            forward: Box::new(move |net| forward(net, x.clone()).as_vec()),
        };
        save_for_pytorch(case.file("ours"), &build(1), &Metadata::new()).unwrap();
        case
    }

    fn file(&self, kind: &str) -> std::path::PathBuf {
        self.folder
            .join(format!("{}.{kind}.safetensors", self.name))
    }

    fn check_output(&self, net: &M, kind: &str) {
        let (found, expected) = ((self.forward)(net), read(&self.file(kind)));
        assert_eq!(found.len(), expected.len());
        let largest = expected.iter().fold(0f32, |m, y| m.max(y.abs()));
        assert!(largest > 0.01, "{}: {kind}: {largest}", self.name);
        let error = found
            .iter()
            .zip(&expected)
            .fold(0f32, |m, (a, b)| m.max((a - b).abs()));
        println!("{} {kind}: error {:.1e} of {largest:.2}", self.name, error);
        assert!(
            error <= TOLERANCE * largest,
            "{}: {kind}: {error}",
            self.name
        );
    }

    /// After PyTorch has run.
    fn check(&self) {
        self.check_output(&(self.build)(1), "ours_output");
        let mut net = (self.build)(2);
        load(self.file("theirs"), &mut net).unwrap();
        self.check_output(&net, "theirs_output");
        let mut net = (self.build)(2);
        load(self.file("parallel"), &mut net).unwrap();
        self.check_output(&net, "theirs_output");
        let mut net = (self.build)(2);
        load(self.file("f64"), &mut net).unwrap_err();
        LoadOptions::new()
            .narrow_f64(true)
            .load(self.file("f64"), &mut net)
            .unwrap();
        self.check_output(&net, "theirs_output");
        load(self.file("bf16"), &mut net).unwrap();
        self.check_output(&net, "bf16_output");
    }
}

#[test]
fn files_go_both_ways() {
    let Some(python) = std::env::var_os("SSPROP_PYTORCH") else {
        eprintln!("not run: SSPROP_PYTORCH names no Python with torch");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    type Images<const C: usize, const S: usize> = (usize, Const<C>, Const<S>, Const<S>);
    let images = (2, Const::<3>, Const::<16>, Const::<16>);
    let resnet18 = Case::new(
        "resnet18",
        folder,
        images,
        |seed| Cpu::seed_from_u64(seed).build_module::<ResNet18<10>, f32>(),
        |net, x: Tensor<Images<3, 16>, f32, Cpu>| net.try_forward(x).unwrap(),
    );
    let resnet50 = Case::new(
        "resnet50",
        folder,
        images,
        |seed| Cpu::seed_from_u64(seed).build_module::<ResNet50<7>, f32>(),
        |net, x: Tensor<Images<3, 16>, f32, Cpu>| net.try_forward(x).unwrap(),
    );
    let unet = Case::new(
        "unet",
        folder,
        (2, Const::<1>, Const::<32>, Const::<32>),
        |seed| Cpu::seed_from_u64(seed).build_module::<MnistUNet, f32>(),
        |net, x: Tensor<Images<1, 32>, f32, Cpu>| {
            let timesteps = x.device().tensor_from_vec(vec![7.0; 2], (2,));
            net.try_apply(x, &timesteps).unwrap()
        },
    );
    let norms = Case::new(
        "norms",
        folder,
        (6, Const::<3>),
        |seed| {
            type Net = (
                Linear<3, 4>,
                BatchNorm1D<4>,
                Tanh,
                LayerNorm1D<4>,
                Linear<4, 2>,
            );
            Cpu::seed_from_u64(seed).build_module::<Net, f32>()
        },
        |net, x: Tensor<(usize, Const<3>), f32, Cpu>| net.forward(x),
    );

    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/pytorch_files.py");
    let status = Command::new(python)
        .arg(script)
        .arg(folder)
        .status()
        .unwrap();
    assert!(status.success(), "{script}: {status}");
    resnet18.check();
    // By the lines in docs/training.md.
    let mut net = (resnet18.build)(2);
    load(folder.join("back.safetensors"), &mut net).unwrap();
    resnet18.check_output(&net, "ours_output");
    resnet50.check();
    unet.check();
    norms.check();
}

/// Writes a network's graph as it is and with its norms folded, and three images with their logits.
macro_rules! onnx {
    ($folder:expr, $name:literal, $Net:ty, $C:literal, $size:literal, $classes:literal) => {{
        let dev = Cpu::seed_from_u64(2);
        let mut net = dev.build_module::<$Net, f32>();
        seem_trained(&mut net, 3);
        let x: Tensor<Rank4<3, $C, $size, $size>, f32, _> = dev.sample_normal();
        let y: Tensor<Rank2<3, $classes>, f32, _> = net.try_forward(x.clone()).unwrap();
        let graph = Graph::of(&net).unwrap();
        let about = [("made for", "a test"), ("é", "ü")];
        let about = about.map(|(key, value)| (key.to_owned(), value.to_owned()));
        for (form, graph) in [("as_it_is", &graph), ("folded", &graph.fold_batch_norms())] {
            let file = $folder.join(format!("{}_{form}.onnx", $name));
            save_onnx(&file, graph, [$C, $size, $size], &about.clone().into()).unwrap();
            let images = ("x", vec![3, $C, $size, $size], x.as_vec());
            let logits = ("y", vec![3, $classes], y.as_vec());
            write_tensors(&file.with_extension("safetensors"), &[images, logits]);
        }
    }};
}

/// What the paper's networks have not: branches, pools with padding, groups and biases.
type Tuples = (
    (
        BiasedSparseConv2D<4, 8, 3, 1, 2, 2, 2>,
        ReLU,
        BatchNorm2D<8>,
    ),
    Residual<(SparseConv2D<8, 8, 3, 1, 1>, BatchNorm2D<8>)>,
    (MaxPool2D<3, 2, 1>, AvgPool2D<3, 1, 1>),
    GeneralizedResidual<SparseConv2D<8, 6, 1>, SparseConv2D<8, 6, 3, 1, 1>>,
    (Flatten<96>, UnbiasedSparseLinear<96, 12>),
    SparseLinear<12, 5>,
);

#[test]
fn onnxruntime_has_our_logits() {
    let Some(python) = std::env::var_os("SSPROP_PYTORCH") else {
        eprintln!("not run: SSPROP_PYTORCH names no Python with onnxruntime");
        return;
    };
    let has = Command::new(&python)
        .args(["-c", "import onnx, onnxruntime, safetensors"])
        .output();
    if !has.unwrap().status.success() {
        eprintln!("not run: the Python that SSPROP_PYTORCH names has no onnx and onnxruntime");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    onnx!(folder, "resnet18", ResNet18<10>, 3, 32, 10);
    onnx!(folder, "resnet50", ResNet50<7>, 3, 16, 7);
    onnx!(folder, "cnn", Cnn<4, 10, 1>, 1, 28, 10);
    onnx!(folder, "mlp", MLP<10, 784>, 1, 28, 10);
    onnx!(folder, "vit", ViT<10, 3, 32, 8, 32, 48, 4, 2>, 3, 32, 10);
    onnx!(folder, "tuples", Tuples, 4, 8, 5);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/onnx_files.py");
    let status = Command::new(python)
        .arg(script)
        .arg(folder)
        .status()
        .unwrap();
    assert!(status.success(), "{script}: {status}");
}

#[test]
fn no_file_is_written_of_what_does_not_fit() {
    let dev = Cpu::default();
    let graph = Graph::of(&dev.build_module::<MLP<10, 784>, f32>()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.onnx");
    let err = save_onnx(&path, &graph, [3, 28, 28], &Metadata::new()).unwrap_err();
    assert!(err.to_string().contains("(B, 784) at `input`"), "{err}");
    assert!(!path.exists());
}
