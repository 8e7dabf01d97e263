//! Files that others wrote: the names and types that PyTorch and torchvision have.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ::safetensors::tensor::TensorView;
use ::safetensors::{Dtype as FileDtype, SafeTensors};
use ssprop::checkpoint::{
    load, load_partial, read_metadata, save, save_for_pytorch, LoadOptions, Metadata,
};
use ssprop::models::modules;
use ssprop::prelude::*;
use ssprop::Error;

fn case(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures/weights")
        .join(name)
}

/// A tensor as the safetensors crate takes it.
type Owned = (FileDtype, Vec<usize>, Vec<u8>);

fn tensors(path: &Path) -> BTreeMap<String, Owned> {
    let bytes = std::fs::read(path).unwrap();
    let stored = SafeTensors::deserialize(&bytes).unwrap();
    stored
        .tensors()
        .into_iter()
        .map(|(name, t)| (name, (t.dtype(), t.shape().to_vec(), t.data().to_vec())))
        .collect()
}

/// Writes a file without a checksum, as others do.
fn write(path: &Path, tensors: &BTreeMap<String, Owned>) {
    let views = tensors.iter().map(|(name, (dtype, shape, data))| {
        (name, TensorView::new(*dtype, shape.clone(), data).unwrap())
    });
    std::fs::write(path, ::safetensors::serialize(views, None).unwrap()).unwrap();
}

fn f32s(bytes: &[u8]) -> Vec<f32> {
    let (elements, _) = bytes.as_chunks();
    elements.iter().map(|&b| f32::from_le_bytes(b)).collect()
}

type Conv = BiasedSparseConv2D<3, 4, 3>;

fn conv() -> ssprop::nn::modules::BiasedSparseConv2D<3, 4, 3, 1, 0, 1, 1, f32, Cpu> {
    Cpu::default().build_module::<Conv, f32>()
}

#[test]
fn prefixes_of_all_names_are_taken_off() {
    let (_folder, path) = temporary();
    let plain = |name: &str| {
        let tensors = tensors(&case(name)).into_iter();
        tensors
            .map(|(name, t)| (name.rsplit('.').next().unwrap().to_owned(), t))
            .collect::<BTreeMap<_, _>>()
    };
    for (name, prefix) in [
        ("module.safetensors", ""),
        ("compiled.safetensors", ""),
        ("module.safetensors", "module._orig_mod."),
        ("compiled.safetensors", "_orig_mod.module."),
    ] {
        let expected = plain(name);
        let file = if prefix.is_empty() {
            case(name)
        } else {
            let prefixed = |(name, t)| (format!("{prefix}{name}"), t);
            write(&path, &expected.clone().into_iter().map(prefixed).collect());
            path.clone()
        };
        let (mut strict, mut partial) = (conv(), conv());
        load(&file, &mut strict).unwrap();
        assert_eq!(strict.weight.as_vec(), f32s(&expected["weight"].2));
        assert_eq!(strict.bias.as_vec(), f32s(&expected["bias"].2));
        let found = load_partial(&file, &mut partial).unwrap();
        assert!(found.missing.is_empty() && found.unexpected.is_empty());
        assert_eq!(partial.weight.as_vec(), strict.weight.as_vec());
    }

    // Of some names only, they belong to them.
    let mut mixed = plain("module.safetensors");
    let weight = mixed.remove("weight").unwrap();
    mixed.insert("module.weight".into(), weight);
    write(&path, &mixed);
    let err = load(&path, &mut conv()).unwrap_err().to_string();
    assert!(err.contains("no tensor `weight`"), "{err}");
    let found = load_partial(&path, &mut conv()).unwrap();
    assert_eq!(found.missing, ["weight"]);
    assert_eq!(found.unexpected, ["module.weight"]);
}

#[test]
fn a_file_with_nothing_for_the_model_is_an_error() {
    let file = case("batch_norm.safetensors");
    let mut net = Cpu::default().build_module::<(Conv, Conv), f32>();
    let before = net.0.weight.as_vec();
    for err in [
        load_partial(&file, &mut net).unwrap_err(),
        load(&file, &mut net).unwrap_err(),
    ] {
        let text = err.to_string();
        assert!(matches!(err, Error::NothingMatches { .. }), "{text}");
        for part in ["batch_norm.safetensors", "running_mean", "0.weight"] {
            assert!(text.contains(part), "{text}");
        }
    }
    assert_eq!(net.0.weight.as_vec(), before);
    assert_eq!(read_metadata(&file).unwrap(), Metadata::new());
}

#[test]
fn halves_are_widened_exactly() {
    let text = std::fs::read_to_string(case("bf16.json")).unwrap();
    let expected: BTreeMap<String, Vec<f32>> = serde_json::from_str(&text).unwrap();
    let (mut bf16, mut f16) = (conv(), conv());
    load(case("bf16.safetensors"), &mut bf16).unwrap();
    assert_eq!(bf16.weight.as_vec(), expected["weight"]);
    assert_eq!(bf16.bias.as_vec(), expected["bias"]);

    load(case("f16.safetensors"), &mut f16).unwrap();
    let stored = tensors(&case("f16.safetensors"));
    let (halves, _) = stored["weight"].2.as_chunks();
    for (&half, found) in halves.iter().zip(f16.weight.as_vec()) {
        // The file has normal numbers only.
        let bits = i32::from(u16::from_le_bytes(half));
        let magnitude = (1024 + (bits & 0x3ff)) as f32 * 2f32.powi((bits >> 10 & 31) - 25);
        assert_eq!(found.abs(), magnitude);
        assert_eq!(found < 0.0, bits >> 15 == 1);
    }
    // The same numbers in f64.
    let mut wide = Cpu::default().build_module::<Conv, f64>();
    load(case("bf16.safetensors"), &mut wide).unwrap();
    let narrow: Vec<f32> = wide.weight.as_vec().iter().map(|x| *x as f32).collect();
    assert_eq!(narrow, expected["weight"]);
}

#[test]
fn f64_is_narrowed_on_request() {
    let (_folder, path) = temporary();
    let mut wide = Cpu::default().build_module::<Linear<2, 1>, f64>();
    wide.weight.copy_from(&[0.1, 1e300]);
    save(&path, &wide, &Metadata::new()).unwrap();
    let mut net = Cpu::default().build_module::<Linear<2, 1>, f32>();
    let before = net.weight.as_vec();
    let err = load(&path, &mut net).unwrap_err().to_string();
    for part in ["`weight`", "F64 of shape [1, 2]", "LoadOptions::narrow_f64"] {
        assert!(err.contains(part), "{err}");
    }
    let narrow = LoadOptions::new().narrow_f64(true);
    let err = narrow.load(&path, &mut net).unwrap_err().to_string();
    assert!(err.contains("`weight` = 1e300"), "{err}");
    assert_eq!(net.weight.as_vec(), before);
    wide.weight.copy_from(&[0.1, -3.0]);
    save(&path, &wide, &Metadata::new()).unwrap();
    narrow.load(&path, &mut net).unwrap();
    assert_eq!(net.weight.as_vec(), [0.1, -3.0]);
}

#[test]
fn a_batch_norms_counter_is_left_out() {
    let mut norm = Cpu::default().build_module::<ssprop::nn::builders::BatchNorm2D<4>, f32>();
    load(case("batch_norm.safetensors"), &mut norm).unwrap();
    let stored = tensors(&case("batch_norm.safetensors"));
    assert_eq!(norm.running_var.as_vec(), f32s(&stored["running_var"].2));
    assert_eq!(norm.weight.as_vec(), f32s(&stored["weight"].2));
    let found = load_partial(case("batch_norm.safetensors"), &mut norm).unwrap();
    assert!(found.missing.is_empty() && found.unexpected.is_empty());

    // Of another type it is no counter.
    let (_folder, path) = temporary();
    let mut changed = stored;
    changed.insert(
        "num_batches_tracked".into(),
        (FileDtype::F32, vec![4], vec![0; 16]),
    );
    write(&path, &changed);
    let err = load(&path, &mut norm).unwrap_err().to_string();
    assert!(err.contains("`num_batches_tracked` of shape [4]"), "{err}");
}

type ResNet = modules::ResNet18<10, 3, f32, Cpu>;

fn resnet(seed: u64) -> ResNet {
    Cpu::seed_from_u64(seed).build_module::<ResNet18<10>, f32>()
}

/// The file of `net` with torchvision's names.
fn write_torchvision(path: &Path, net: &ResNet, change: impl Fn(&str, Owned) -> Owned) {
    save_for_pytorch(path, net, &Metadata::new()).unwrap();
    let renamed = tensors(path).into_iter().map(|(name, t)| {
        let name = name
            .replace("shortcut", "downsample")
            .replace("linear", "fc");
        let t = change(&name, t);
        (name, t)
    });
    write(path, &renamed.collect());
}

#[test]
fn torchvisions_names_are_mapped() {
    let (_folder, path) = temporary();
    let saved = resnet(1);
    write_torchvision(&path, &saved, |_, t| t);
    assert!(tensors(&path).contains_key("layer2.0.downsample.1.num_batches_tracked"));
    let mut net = resnet(2);
    load(&path, &mut net).unwrap();
    assert_eq!(net.linear.weight.as_vec(), saved.linear.weight.as_vec());
    let shortcut = |net: &ResNet| net.layer3.0.shortcut.0.weight.as_vec();
    assert_eq!(shortcut(&net), shortcut(&saved));
}

#[test]
fn what_torchvision_has_otherwise_is_explained() {
    let (_folder, path) = temporary();
    let saved = resnet(1);
    let of_1000_classes = |name: &str, t: Owned| match name {
        "fc.weight" => (FileDtype::F32, vec![1000, 512], vec![0; 4 * 1000 * 512]),
        "fc.bias" => (FileDtype::F32, vec![1000], vec![0; 4000]),
        _ => t,
    };
    write_torchvision(&path, &saved, of_1000_classes);
    let mut net = resnet(2);
    let err = load(&path, &mut net).unwrap_err().to_string();
    for part in ["`fc.weight`", "[10, 512]", "[1000, 512]", "10 classes"] {
        assert!(err.contains(part), "{err}");
    }
    write_torchvision(&path, &saved, |name, t| match name {
        "conv1.weight" => (FileDtype::F32, vec![64, 3, 7, 7], vec![0; 4 * 64 * 147]),
        _ => of_1000_classes(name, t),
    });
    let before = (net.conv1.weight.as_vec(), net.linear.bias.as_vec());
    for err in [
        load(&path, &mut net).unwrap_err(),
        load_partial(&path, &mut net).unwrap_err(),
    ] {
        let err = err.to_string();
        for part in [
            "`conv1.weight`",
            "[64, 3, 3, 3]",
            "[64, 3, 7, 7]",
            "7x7",
            "torchvision",
        ] {
            assert!(err.contains(part), "{err}");
        }
    }
    let options = LoadOptions::new().skip_mismatched(true);
    let found = options.load_partial(&path, &mut net).unwrap();
    assert_eq!(found.mismatched, ["conv1.weight", "fc.weight", "fc.bias"]);
    assert_eq!(
        found.missing,
        ["conv1.weight", "linear.weight", "linear.bias"]
    );
    assert!(found.unexpected.is_empty());
    assert_eq!(
        before,
        (net.conv1.weight.as_vec(), net.linear.bias.as_vec())
    );
    let deep = |net: &ResNet| net.layer4.1.conv2.weight.as_vec();
    assert_eq!(deep(&net), deep(&saved));
}

#[test]
fn a_file_for_pytorch_has_what_pytorch_has() {
    type Net = (Linear<3, 4>, BatchNorm1D<4>, LayerNorm1D<4>, Linear<4, 2>);
    let (_folder, path) = temporary();
    let mut saved = Cpu::default().build_module::<Net, f32>();
    saved.1.scale.copy_from(&[1.0, 2.0, 3.0, 4.0]);
    saved.2.beta.copy_from(&[5.0, 6.0, 7.0, 8.0]);
    let metadata = Metadata::from([("epochs".to_owned(), "3".to_owned())]);
    save_for_pytorch(&path, &saved, &metadata).unwrap();
    let stored = tensors(&path);
    let names: Vec<_> = stored.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "0.bias",
            "0.weight",
            "1.bias",
            "1.num_batches_tracked",
            "1.running_mean",
            "1.running_var",
            "1.weight",
            "2.bias",
            "2.weight",
            "3.bias",
            "3.weight"
        ]
    );
    assert_eq!(f32s(&stored["1.weight"].2), [1.0, 2.0, 3.0, 4.0]);
    let mut net = Cpu::default().build_module::<Net, f32>();
    net.1.epsilon = 0.25;
    let found = load(&path, &mut net).unwrap();
    assert_eq!((&found["format"][..], &found["epochs"][..]), ("pt", "3"));
    assert_eq!(net.1.scale.array(), saved.1.scale.array());
    assert_eq!(net.2.beta.array(), saved.2.beta.array());
    assert_eq!(net.1.epsilon, 0.25);
}

fn temporary() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.safetensors");
    (folder, path)
}
