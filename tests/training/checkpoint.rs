//! Checkpoints: round trips, resumed training, and files that do not fit or are damaged.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use ::safetensors::tensor::TensorView;
use ::safetensors::SafeTensors;
use dfdx::nn::modules;
use dfdx::prelude::*;
use proptest::prelude::*;
use ssprop::checkpoint::{load, load_partial, load_training, save, save_training, Metadata};
use ssprop::optim::{Adam, AdamConfig};
use ssprop::Error;

type Net = (Linear<3, 4>, BatchNorm1D<4>, Tanh, Linear<4, 2>);
type BuiltNet<E> = (
    modules::Linear<3, 4, E, Cpu>,
    modules::BatchNorm1D<4, E, Cpu>,
    Tanh,
    modules::Linear<4, 2, E, Cpu>,
);
type Optimizer = Adam<BuiltNet<f32>, f32, Cpu>;

fn build(seed: u64) -> (BuiltNet<f32>, Optimizer) {
    let model: BuiltNet<f32> = Cpu::seed_from_u64(seed).build_module::<Net, f32>();
    let opt = Adam::new(&model, AdamConfig::adamw()).unwrap();
    (model, opt)
}

fn train(model: &mut BuiltNet<f32>, opt: &mut Optimizer, steps: std::ops::Range<u64>) {
    let mut grads = model.alloc_grads();
    for t in steps {
        let x: Tensor<Rank2<6, 3>, f32, _> = Cpu::seed_from_u64(t).sample_normal();
        let loss = model.forward_mut(x.traced(grads)).square().mean();
        grads = loss.backward();
        opt.update_and_zero(model, &mut grads).unwrap();
    }
}

/// Every bit that the model and the optimizer keep.
fn bits(model: &BuiltNet<f32>, opt: &Optimizer) -> Vec<u64> {
    let mut floats = [
        model.0.weight.as_vec(),
        model.0.bias.as_vec(),
        model.1.scale.as_vec(),
        model.1.bias.as_vec(),
        model.1.running_mean.as_vec(),
        model.1.running_var.as_vec(),
        model.3.weight.as_vec(),
        model.3.bias.as_vec(),
    ]
    .concat();
    let mut bits = vec![model.1.epsilon.to_bits(), model.1.momentum.to_bits()];
    for state in opt.state(model).unwrap().parameters.into_values() {
        bits.push(state.step);
        floats.extend(state.buffers.into_values().flatten());
    }
    bits.extend(floats.iter().map(|x| u64::from(x.to_bits())));
    bits
}

fn temporary() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.safetensors");
    (folder, path)
}

fn metadata() -> Metadata {
    [("epoch", "3"), ("seed", "42"), ("note", "a \"quoted\" ✓")]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .into()
}

#[test]
fn resumed_training_equals_uninterrupted_training_bit_for_bit() {
    let (mut model, mut opt) = build(1);
    train(&mut model, &mut opt, 0..10);

    let (_folder, path) = temporary();
    let (mut first, mut first_opt) = build(1);
    train(&mut first, &mut first_opt, 0..4);
    first.1.epsilon = 1e-5;
    save_training(&path, &first, &first_opt, &metadata()).unwrap();

    let (mut resumed, mut resumed_opt) = build(2);
    resumed.1.epsilon = 0.5;
    let loaded = load_training(&path, &mut resumed, &mut resumed_opt).unwrap();
    assert_eq!(loaded, metadata());
    assert_eq!(bits(&resumed, &resumed_opt), bits(&first, &first_opt));
    train(&mut resumed, &mut resumed_opt, 4..10);
    assert_eq!(bits(&resumed, &resumed_opt), bits(&model, &opt));
}

#[test]
fn the_same_training_gives_the_same_file() {
    let file = || {
        let (_folder, path) = temporary();
        let (mut model, mut opt) = build(1);
        train(&mut model, &mut opt, 0..2);
        save_training(&path, &model, &opt, &metadata()).unwrap();
        std::fs::read(path).unwrap()
    };
    let first = file();
    for _ in 0..4 {
        assert!(file() == first);
    }
}

#[test]
fn names_types_and_shapes_are_those_of_the_model() {
    let (_folder, path) = temporary();
    let (model, _) = build(1);
    save(&path, &model, &Metadata::new()).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let stored = SafeTensors::deserialize(&bytes).unwrap();
    let mut found: Vec<_> = stored
        .tensors()
        .into_iter()
        .map(|(name, t)| format!("{name} {} {:?}", t.dtype(), t.shape()))
        .collect();
    found.sort();
    assert_eq!(
        found,
        [
            "0.bias F32 [4]",
            "0.weight F32 [4, 3]",
            "1.bias F32 [4]",
            "1.epsilon F64 []",
            "1.momentum F64 []",
            "1.running_mean F32 [4]",
            "1.running_var F32 [4]",
            "1.scale F32 [4]",
            "3.bias F32 [2]",
            "3.weight F32 [2, 4]",
        ]
    );
    let weight = stored.tensor("0.weight").unwrap();
    let expected: Vec<u8> = model
        .0
        .weight
        .as_vec()
        .iter()
        .flat_map(|x| x.to_le_bytes())
        .collect();
    assert_eq!(weight.data(), expected);
}

#[test]
fn a_training_checkpoint_loads_as_a_model() {
    let (_folder, path) = temporary();
    let (mut model, mut opt) = build(1);
    train(&mut model, &mut opt, 0..2);
    save_training(&path, &model, &opt, &metadata()).unwrap();
    let (mut other, other_opt) = build(2);
    assert_eq!(load(&path, &mut other).unwrap(), metadata());
    assert_eq!(other.3.weight.array(), model.3.weight.array());
    assert_eq!(other.1.running_var.array(), model.1.running_var.array());
    assert_eq!(
        other_opt.state(&other).unwrap().parameters["3.bias"].step,
        0
    );

    // But a model alone is no training checkpoint.
    save(&path, &model, &metadata()).unwrap();
    let err = load_training(&path, &mut other, &mut opt)
        .unwrap_err()
        .to_string();
    assert!(
        err.contains("no tensor `optimizer.exp_avg.0.weight`"),
        "{err}"
    );
}

/// A tensor as the safetensors crate takes it.
type Owned = (::safetensors::Dtype, Vec<usize>, Vec<u8>);

/// Rewrites the file with the safetensors crate, after `change`.
fn rewrite(path: &Path, change: impl FnOnce(&mut HashMap<String, Owned>)) {
    let bytes = std::fs::read(path).unwrap();
    let stored = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: HashMap<_, _> = stored
        .tensors()
        .into_iter()
        .map(|(name, t)| (name, (t.dtype(), t.shape().to_vec(), t.data().to_vec())))
        .collect();
    change(&mut tensors);
    let views = tensors.iter().map(|(name, (dtype, shape, data))| {
        (name, TensorView::new(*dtype, shape.clone(), data).unwrap())
    });
    std::fs::write(path, ::safetensors::serialize(views, None).unwrap()).unwrap();
}

#[test]
fn files_that_do_not_fit_are_refused_and_change_nothing() {
    use ::safetensors::Dtype::{F32, F64, I64};
    let (_folder, path) = temporary();
    let (mut saved, mut saved_opt) = build(1);
    train(&mut saved, &mut saved_opt, 0..2);
    let (mut model, mut opt) = build(2);
    let before = bits(&model, &opt);
    let mut refused = |change: &dyn Fn(&mut HashMap<String, Owned>), words: &[&str]| {
        save_training(&path, &saved, &saved_opt, &metadata()).unwrap();
        rewrite(&path, |tensors| change(tensors));
        let err = load_training(&path, &mut model, &mut opt)
            .unwrap_err()
            .to_string();
        assert!(err.contains("net.safetensors"), "{err}");
        for word in words {
            assert!(err.contains(word), "{err}");
        }
        assert!(bits(&model, &opt) == before, "{err}");
    };
    refused(
        &|t| drop(t.remove("3.bias")),
        &["no tensor `3.bias`", "[2]"],
    );
    refused(
        &|t| drop(t.remove("1.epsilon")),
        &["no tensor `1.epsilon`", "[]"],
    );
    refused(
        &|t| drop(t.insert("4.bias".into(), (F32, vec![1], vec![0; 4]))),
        &["`4.bias` of shape [1]", "no counterpart"],
    );
    refused(
        &|t| t.get_mut("3.weight").unwrap().1 = vec![4, 2],
        &["`3.weight`", "expected shape [2, 4], found [4, 2]"],
    );
    refused(
        &|t| drop(t.insert("3.bias".into(), (F64, vec![2], vec![0; 16]))),
        &[
            "`3.bias`",
            "expected F32 of shape [2]",
            "found F64 of shape [2]",
        ],
    );
    refused(
        &|t| drop(t.remove("optimizer.exp_avg_sq.3.weight")),
        &["no tensor `optimizer.exp_avg_sq.3.weight`", "[2, 4]"],
    );
    refused(
        &|t| {
            for kind in ["step", "exp_avg", "exp_avg_sq"] {
                t.remove(&format!("optimizer.{kind}.3.weight")).unwrap();
            }
        },
        &["no tensor `optimizer.exp_avg.3.weight`", "[2, 4]"],
    );
    refused(
        &|t| t.get_mut("optimizer.exp_avg.3.weight").unwrap().1 = vec![8],
        &[
            "`optimizer.exp_avg.3.weight`",
            "expected shape [2, 4], found [8]",
        ],
    );
    refused(
        &|t| {
            drop(t.insert(
                "optimizer.exp_avg.5.bias".into(),
                (F32, vec![1], vec![0; 4]),
            ))
        },
        &["`optimizer.exp_avg.5.bias` of shape [1]", "no counterpart"],
    );
    refused(
        &|t| drop(t.insert("optimizer.lr".into(), (F64, vec![], vec![0; 8]))),
        &["`optimizer.lr`", "no counterpart"],
    );
    refused(
        &|t| {
            for (kind, data) in [("exp_avg", 16), ("exp_avg_sq", 16)] {
                let name = format!("optimizer.{kind}.1.running_mean");
                t.insert(name, (F32, vec![4], vec![0; data]));
            }
            t.insert(
                "optimizer.step.1.running_mean".into(),
                (I64, vec![], vec![0; 8]),
            );
        },
        &["`optimizer.exp_avg.1.running_mean`", "no counterpart"],
    );
    refused(
        &|t| t.get_mut("optimizer.step.0.bias").unwrap().2 = (-3i64).to_le_bytes().to_vec(),
        &["`optimizer.step.0.bias` = -3", "at least 0"],
    );

    // Rewriting without a change is harmless.
    save_training(&path, &saved, &saved_opt, &metadata()).unwrap();
    rewrite(&path, |_| ());
    load_training(&path, &mut model, &mut opt).unwrap();
    assert!(bits(&model, &opt) == bits(&saved, &saved_opt));
}

#[test]
fn a_partial_load_takes_what_fits() {
    let (_folder, path) = temporary();
    let (saved, _) = build(1);
    save(&path, &saved, &metadata()).unwrap();
    rewrite(&path, |tensors| {
        tensors.remove("1.epsilon");
        let weight = tensors.remove("3.weight").unwrap();
        tensors.insert("head.weight".into(), weight);
    });
    let (mut model, _) = build(2);
    model.1.epsilon = 0.25;
    let before = model.clone();
    let found = load_partial(&path, &mut model).unwrap();
    assert_eq!(found.missing, ["1.epsilon", "3.weight"]);
    assert_eq!(found.unexpected, ["head.weight"]);
    assert_eq!(model.0.weight.array(), saved.0.weight.array());
    assert_eq!(model.3.weight.array(), before.3.weight.array());
    assert_eq!(model.1.epsilon, 0.25);

    rewrite(&path, |t| t.get_mut("0.weight").unwrap().1 = vec![12]);
    let before = model.clone();
    let err = load_partial(&path, &mut model).unwrap_err();
    assert!(
        matches!(&err, Error::TensorShape { name, .. } if name == "0.weight"),
        "{err}"
    );
    assert_eq!(model.3.bias.array(), before.3.bias.array());
}

#[test]
fn every_cut_is_an_error() {
    let (_folder, path) = temporary();
    let (saved, saved_opt) = build(1);
    save_training(&path, &saved, &saved_opt, &metadata()).unwrap();
    let whole = std::fs::read(&path).unwrap();
    let (mut model, mut opt) = build(2);
    let before = bits(&model, &opt);
    let cuts = (0..whole.len()).step_by(64).chain([whole.len() - 1]);
    for cut in cuts {
        std::fs::write(&path, &whole[..cut]).unwrap();
        let err = load_training(&path, &mut model, &mut opt).unwrap_err();
        assert!(matches!(err, Error::Format { .. }), "cut at {cut}: {err}");
        assert!(err.to_string().contains("net.safetensors"), "{err}");
        load(&path, &mut model).unwrap_err();
    }
    let longer = [&whole[..], &[0]].concat();
    std::fs::write(&path, longer).unwrap();
    load(&path, &mut model).unwrap_err();
    assert!(bits(&model, &opt) == before);
    std::fs::write(&path, &whole).unwrap();
    load_training(&path, &mut model, &mut opt).unwrap();
}

#[test]
fn what_cannot_be_written_or_read_is_an_error_with_the_path_and_the_cause() {
    let (model, mut other) = (build(1).0, build(2).0);
    let (folder, path) = temporary();
    save(&path, &model, &metadata()).unwrap();
    let whole = std::fs::read(&path).unwrap();

    let absent = folder.path().join("absent/net.safetensors");
    let err = save(&absent, &model, &metadata()).unwrap_err().to_string();
    assert!(
        err.contains("absent/net.safetensors: cannot create"),
        "{err}"
    );
    let err = load(&absent, &mut other).unwrap_err().to_string();
    assert!(err.contains("absent/net.safetensors: cannot read"), "{err}");
    // A file where the folder should be.
    save(path.join("net.safetensors"), &model, &metadata()).unwrap_err();
    assert_eq!(std::fs::read(&path).unwrap(), whole);
}

#[cfg(unix)]
#[test]
fn a_folder_that_cannot_be_written_to_keeps_its_old_file() {
    use std::os::unix::fs::PermissionsExt;
    let (model, other) = (build(1).0, build(2).0);
    let (folder, path) = temporary();
    save(&path, &model, &metadata()).unwrap();
    let whole = std::fs::read(&path).unwrap();
    let mode =
        |bits| std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(bits));
    mode(0o555).unwrap();
    // Permissions do not bind the superuser, who overwrites the file.
    let bound = std::fs::File::create(folder.path().join("probe")).is_err();
    let saved = save(&path, &other, &metadata());
    mode(0o755).unwrap();
    let found = std::fs::read(&path).unwrap();
    if bound {
        let err = saved.unwrap_err().to_string();
        assert!(err.contains("net.safetensors: cannot create"), "{err}");
        assert!(found == whole);
    } else {
        saved.unwrap();
        assert!(found != whole);
    }
}

#[cfg(unix)]
#[test]
fn a_saved_file_has_an_ordinary_files_permissions() {
    use std::os::unix::fs::PermissionsExt;
    let (folder, path) = temporary();
    save(&path, &build(1).0, &Metadata::new()).unwrap();
    let ordinary = folder.path().join("ordinary");
    std::fs::write(&ordinary, "").unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&path), mode(&ordinary));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Any bits, NaNs included, in both element types, and any metadata.
    #[test]
    fn round_trips_keep_every_bit(
        a in prop::collection::vec(any::<u32>(), 12),
        b in prop::collection::vec(any::<u64>(), 12),
        epsilon in any::<f64>(),
        metadata in prop::collection::btree_map(any::<String>(), any::<String>(), 0..4),
    ) {
        let dev = Cpu::default();
        let (_folder, path) = temporary();

        let mut saved: BuiltNet<f32> = dev.build_module::<Net, f32>();
        let a: Vec<_> = a.into_iter().map(f32::from_bits).collect();
        saved.0.weight.copy_from(&a);
        saved.1.epsilon = epsilon;
        save(&path, &saved, &metadata).unwrap();
        let mut loaded: BuiltNet<f32> = dev.build_module::<Net, f32>();
        prop_assert_eq!(load(&path, &mut loaded).unwrap(), metadata.clone());
        for (x, y) in loaded.0.weight.as_vec().iter().zip(&a) {
            prop_assert_eq!(x.to_bits(), y.to_bits());
        }
        prop_assert_eq!(loaded.1.epsilon.to_bits(), epsilon.to_bits());

        let mut saved: BuiltNet<f64> = dev.build_module::<Net, f64>();
        let b: Vec<_> = b.into_iter().map(f64::from_bits).collect();
        saved.0.weight.copy_from(&b);
        save(&path, &saved, &metadata).unwrap();
        let mut loaded: BuiltNet<f64> = dev.build_module::<Net, f64>();
        load(&path, &mut loaded).unwrap();
        for (x, y) in loaded.0.weight.as_vec().iter().zip(&b) {
            prop_assert_eq!(x.to_bits(), y.to_bits());
        }
    }

    /// A byte changed anywhere gives an error or another model, never a panic; an error changes
    /// nothing.
    #[test]
    fn damaged_bytes_never_panic(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let (_folder, path) = temporary();
        let (saved, saved_opt) = build(1);
        save_training(&path, &saved, &saved_opt, &Metadata::new()).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        // Mostly the header: the data take any bytes.
        let at = at.index(bytes.len() * 3 / 4);
        bytes[at] = byte;
        std::fs::write(&path, &bytes).unwrap();
        let (mut model, mut opt) = build(2);
        let before = bits(&model, &opt);
        if load_training(&path, &mut model, &mut opt).is_err() {
            prop_assert!(bits(&model, &opt) == before);
        } else {
            prop_assert!(bits(&model, &opt) != before);
        }
    }
}
