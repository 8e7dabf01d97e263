//! PyTorch takes our files (`load_state_dict` with `strict=True`) and we take its, with equal outputs.
//!
//! Runs where `SSPROP_PYTORCH` names a Python with torch and safetensors:
//!
//!     SSPROP_PYTORCH=venv/bin/python cargo test --test pytorch_files

use std::path::Path;
use std::process::Command;

use ::safetensors::tensor::TensorView;
use ::safetensors::{Dtype as FileDtype, SafeTensors};
use dfdx::nn::TensorCollection;
use ssprop::checkpoint::{load, save_for_pytorch, LoadOptions, Metadata};
use ssprop::prelude::*;

/// Of the largest output.
const TOLERANCE: f32 = 2e-4;

fn read(path: &Path) -> Vec<f32> {
    let bytes = std::fs::read(path).unwrap();
    let stored = SafeTensors::deserialize(&bytes).unwrap();
    let (elements, _) = stored.tensor("y").unwrap().data().as_chunks();
    elements.iter().map(|&b| f32::from_le_bytes(b)).collect()
}

fn write_input<S: Shape>(path: &Path, x: &Tensor<S, f32, Cpu>) {
    let data: Vec<u8> = x.as_vec().iter().flat_map(|x| x.to_le_bytes()).collect();
    let shape = x.shape().concrete().into();
    let view = TensorView::new(FileDtype::F32, shape, &data).unwrap();
    let file = ::safetensors::serialize([("x", view)], None).unwrap();
    std::fs::write(path, file).unwrap();
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
    resnet50.check();
    unet.check();
    norms.check();
}
