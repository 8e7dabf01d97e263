//! The layers are dfdx modules like any other: saved, loaded, converted, reset, nested, trained.

use dfdx::optim::{Momentum, Optimizer, Sgd, SgdConfig};
use dfdx::prelude::*;

use ssprop::nn::builders::{BiasedSparseConv2D, SparseConv2D};
use ssprop::nn::VisitLayers;
use ssprop::sparsity::DropRate;

type Images<const C: usize, const S: usize> = Tensor<Rank4<2, C, S, S>, f32, Cpu>;

type Net = (
    BiasedSparseConv2D<3, 8, 3, 1, 1>,
    ReLU,
    Residual<SparseConv2D<8, 8, 3, 1, 1>>,
    Repeated<(SparseConv2D<8, 8, 3, 1, 1, 1, 2>, Tanh), 2>,
    BiasedSparseConv2D<8, 12, 3, 2, 1>,
    (AvgPoolGlobal, Linear<12, 4>),
);

fn random_net(dev: &Cpu) -> <Net as BuildOnDevice<Cpu, f32>>::Built {
    let mut net = dev.build_module::<Net, f32>();
    // A bias starts from zero, which would hide one that is not saved.
    net.0.bias.fill_with_distr(rand_distr::StandardNormal);
    net.4.bias.fill_with_distr(rand_distr::StandardNormal);
    net
}

#[test]
fn saved_weights_are_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("net.safetensors");
    let dev = Cpu::seed_from_u64(1);
    let saved = random_net(&dev);
    saved.save_safetensors(&path).unwrap();

    let mut loaded = random_net(&dev);
    let x: Images<3, 8> = dev.sample_normal();
    assert_ne!(
        loaded.forward(x.clone()).array(),
        saved.forward(x.clone()).array()
    );
    loaded.set_drop_rate(DropRate::new(0.5).unwrap());
    loaded.load_safetensors(&path).unwrap();
    assert_eq!(loaded.forward(x.clone()).array(), saved.forward(x).array());
    // Loading replaces tensors, not how the next backward pass goes.
    assert_eq!(loaded.0.backward.drop_rate.rate(), 0.5);

    let bytes = std::fs::read(&path).unwrap();
    let file = ::safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: Vec<_> = file
        .tensors()
        .into_iter()
        .map(|(name, view)| (name, view.shape().to_vec()))
        .collect();
    tensors.sort();
    let expected: [(&str, &[usize]); 9] = [
        ("0.bias", &[8]),
        ("0.weight", &[8, 3, 3, 3]),
        ("2.0.weight", &[8, 8, 3, 3]),
        ("3.0.0.weight", &[8, 4, 3, 3]),
        ("3.1.0.weight", &[8, 4, 3, 3]),
        ("4.bias", &[12]),
        ("4.weight", &[12, 8, 3, 3]),
        ("5.1.bias", &[4]),
        ("5.1.weight", &[4, 12]),
    ];
    let expected = expected.map(|(name, shape)| (name.to_string(), shape.to_vec()));
    assert_eq!(tensors, expected);
}

#[test]
fn a_file_of_other_shapes_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("conv.safetensors");
    let dev = Cpu::default();
    let small = dev.build_module::<BiasedSparseConv2D<3, 8, 3>, f32>();
    small.save_safetensors(&path).unwrap();
    let mut large = dev.build_module::<BiasedSparseConv2D<3, 9, 3>, f32>();
    assert!(large.load_safetensors(&path).is_err());
}

#[test]
fn layers_convert_to_another_type() {
    let dev = Cpu::seed_from_u64(2);
    let narrow = random_net(&dev).0;
    let wide = narrow.to_dtype::<f64>();
    let widened: Vec<f64> = narrow.weight.as_vec().into_iter().map(f64::from).collect();
    assert_eq!(wide.weight.as_vec(), widened);
    let x: Images<3, 7> = dev.sample_normal();
    let y = narrow.forward(x.clone()).as_vec();
    let wide_y = wide.forward(x.to_dtype::<f64>()).as_vec();
    for (y, wide_y) in y.into_iter().zip(wide_y) {
        assert!((y as f64 - wide_y).abs() < 1e-5, "{y} and {wide_y}");
    }
}

#[test]
fn parameters_are_counted() {
    let dev = Cpu::default();
    let plain = dev.build_module::<SparseConv2D<3, 8, 5>, f32>();
    assert_eq!(plain.num_trainable_params(), 8 * 3 * 25);
    let biased = dev.build_module::<BiasedSparseConv2D<6, 12, 3, 1, 1, 1, 3>, f32>();
    assert_eq!(biased.num_trainable_params(), 12 * 2 * 9 + 12);
    let depthwise = dev.build_module::<SparseConv2D<8, 8, 3, 2, 1, 1, 8>, f32>();
    assert_eq!(depthwise.num_trainable_params(), 8 * 9);
    let expected = (8 * 27 + 8) + 8 * 72 + 2 * (8 * 36) + (12 * 72 + 12) + (12 * 4 + 4);
    assert_eq!(random_net(&dev).num_trainable_params(), expected);
}

/// He's initialisation: deviation sqrt(2 / fan-in), where groups divide the fan-in. Bias 0.
#[test]
fn reset_draws_new_weights_from_hes_distribution() {
    let dev = Cpu::seed_from_u64(3);
    let mut conv = dev.build_module::<BiasedSparseConv2D<32, 64, 3, 1, 1, 1, 2>, f32>();
    let before = conv.weight.as_vec();
    conv.bias.fill_with_ones();
    conv.reset_params();
    let after = conv.weight.as_vec();
    assert_ne!(before, after);
    assert!(conv.bias.as_vec().iter().all(|&b| b == 0.0));
    for weight in [before, after] {
        let n = weight.len() as f64;
        let mean = weight.iter().map(|&w| w as f64).sum::<f64>() / n;
        let variance = weight
            .iter()
            .map(|&w| (w as f64 - mean).powi(2))
            .sum::<f64>()
            / n;
        let expected = 2.0 / (16.0 * 9.0);
        // Four standard errors of each.
        assert!(mean.abs() < 4.0 * (expected / n).sqrt(), "{mean}");
        assert!(
            (variance / expected - 1.0).abs() < 4.0 * (2.0 / n).sqrt(),
            "{variance}"
        );
    }
}

#[test]
fn layers_nest_in_dfdx_containers() {
    let dev = Cpu::seed_from_u64(4);
    let x: Images<8, 6> = dev.sample_normal();

    let residual = dev.build_module::<Residual<SparseConv2D<8, 8, 3, 1, 1>>, f32>();
    let expected = x.clone() + residual.0.forward(x.clone());
    assert_eq!(residual.forward(x.clone()).array(), expected.array());

    let repeated = dev.build_module::<Repeated<SparseConv2D<8, 8, 3, 1, 1>, 3>, f32>();
    let mut expected = x.clone();
    for conv in &repeated.modules {
        expected = conv.forward(expected);
    }
    assert_eq!(repeated.forward(x.clone()).array(), expected.array());

    type Down = GeneralizedResidual<SparseConv2D<8, 16, 3, 2, 1>, SparseConv2D<8, 16, 1, 2>>;
    let mut down = dev.build_module::<Down, f32>();
    let expected = down.f.forward(x.clone()) + down.r.forward(x.clone());
    let y: Images<16, 3> = down.forward_mut(x);
    assert_eq!(y.array(), expected.array());
}

#[test]
fn a_drop_rate_reaches_every_layer_under_its_path() {
    let mut net = random_net(&Cpu::default());
    net.set_drop_rate(DropRate::new(0.8).unwrap());
    let mut seen = Vec::new();
    net.visit_sparse(&mut |layer| {
        assert_eq!(layer.backward.drop_rate.rate(), 0.8);
        seen.push((layer.path.to_string(), layer.channels));
    });
    let expected = [("0", 8), ("2.0", 8), ("3.0.0", 8), ("3.1.0", 8), ("4", 12)];
    assert_eq!(
        seen,
        expected.map(|(path, channels)| (path.to_string(), channels))
    );
}

/// dfdx's optimizers report parameters without a gradient, so that none is forgotten silently.
#[test]
fn every_parameter_learns_in_a_dense_and_in_a_sparse_step() {
    for share in [0.0, 0.8] {
        let drop_rate = DropRate::new(share).unwrap();
        let dev = Cpu::seed_from_u64(5);
        let mut net = random_net(&dev);
        net.set_drop_rate(drop_rate);
        let before = net.clone();
        let x: Images<3, 8> = dev.sample_normal();

        let mut grads = net.alloc_grads();
        let loss = net.forward_mut(x.traced(grads)).square().sum();
        grads = loss.backward();
        let config = SgdConfig {
            lr: 1e-2,
            momentum: None::<Momentum>,
            weight_decay: None,
        };
        let mut sgd = Sgd::new(&net, config);
        sgd.update(&mut net, &grads)
            .expect("no parameter without a gradient");

        // (before, after, output channels): as many rows change as channels are kept.
        let moved = |before: Vec<f32>, after: Vec<f32>, channels: usize| {
            let len = before.len() / channels;
            let rows = before.chunks(len).zip(after.chunks(len));
            rows.filter(|(before, after)| before != after).count()
        };
        macro_rules! check {
            ($channels:literal: $($path:tt)+) => {
                let rows = moved(before.$($path)+.as_vec(), net.$($path)+.as_vec(), $channels);
                assert_eq!(rows, drop_rate.kept_of($channels), stringify!($($path)+));
            };
        }
        check!(8: 0.weight);
        check!(8: 0.bias);
        check!(8: 2.0.weight);
        check!(8: 3.modules[0].0.weight);
        check!(8: 3.modules[1].0.weight);
        check!(12: 4.weight);
        check!(12: 4.bias);
        assert_ne!(before.5 .1.weight.array(), net.5 .1.weight.array());
    }
}

#[test]
fn gradients_accumulate_over_steps_until_they_are_zeroed() {
    let dev = Cpu::seed_from_u64(6);
    let mut conv = dev.build_module::<BiasedSparseConv2D<8, 10, 3, 1, 1>, f32>();
    for share in [0.0, 0.8] {
        conv.backward.drop_rate = DropRate::new(share).unwrap();
        let x: Images<8, 6> = dev.sample_normal();
        let step = |grads| {
            let y = conv.forward(x.clone().traced(grads));
            y.square().sum().backward()
        };
        let once = step(conv.alloc_grads());
        let dw = once.get(&conv.weight).as_vec();
        let mut grads = step(once);
        let twice = grads.get(&conv.weight).as_vec();
        assert!(dw.iter().any(|&g| g != 0.0));
        for (once, twice) in dw.iter().zip(&twice) {
            assert!(
                (2.0 * once - twice).abs() <= 1e-5 * (1.0 + twice.abs()),
                "{once} {twice}"
            );
        }
        conv.zero_grads(&mut grads);
        for zeroed in [
            grads.get(&conv.weight).as_vec(),
            grads.get(&conv.bias).as_vec(),
        ] {
            assert!(zeroed.iter().all(|&g| g == 0.0));
        }
        assert_eq!(step(grads).get(&conv.weight).as_vec(), dw);
    }
}
