//! Adam and AdamW against PyTorch, and what they do with gradients and state.

use std::collections::BTreeMap;

use dfdx::nn::modules;
use dfdx::optim::{Optimizer, OptimizerUpdateError};
use dfdx::prelude::*;
use ssprop::internals::HostAccess;
use ssprop::optim::{Adam, AdamConfig, AdamState};
use ssprop::Error;

// import torch
// def run(cls, dtype, **kw):
//     w = torch.nn.Parameter(torch.tensor([-0.5, -0.25, 0.1, 0.6, 1.0], dtype=dtype))
//     opt = cls([w], **kw)
//     for t in range(10):
//         if t == 5:
//             opt.param_groups[0]["lr"] *= 0.1
//         w.grad = torch.tensor([10.0 ** (i - 4) * ((t * 7 + i * 3) % 11 - 4) for i in range(5)],
//                               dtype=dtype)
//         opt.step()
//         print(w.tolist())
// run(torch.optim.Adam, torch.float64)
// run(torch.optim.Adam, torch.float64, lr=0.01, betas=(0.5, 0.25), eps=1e-6, weight_decay=0.1)
// run(torch.optim.AdamW, torch.float64)
#[rustfmt::skip]
const ADAM: [[f64; 5]; 10] = [
    [-0.499000024999375, -0.2490000099999, 0.09900000049999975, 0.59900000002, 1.0009999999966666],
    [-0.49891070251856795, -0.2496239272161316, 0.09905263205263135, 0.5981969590638465, 1.0008064895880773],
    [-0.49871762309011125, -0.25028168774859577, 0.09851653546715326, 0.5979862461176351, 1.0006569054814796],
    [-0.4990583272018873, -0.25062252646756417, 0.09798418391743786, 0.5975175423392631, 1.000924558875691],
    [-0.49947183660284666, -0.2511796759288412, 0.09783396123859371, 0.597121380770426, 1.00089770913046],
    [-0.49949394150285964, -0.25123355955316357, 0.09779569465750325, 0.5971171550284845, 1.0009027397695638],
    [-0.49953651613839134, -0.2512608686057226, 0.09776227629484245, 0.5970962359529927, 1.0008734894625746],
    [-0.4995789205637603, -0.25130311308662345, 0.09775909262401013, 0.5970835769892536, 1.0008378681992254],
    [-0.4996005677544514, -0.25134061502537847, 0.09774039441524268, 0.5970466715637435, 1.000816970577291],
    [-0.4996362142762917, -0.25135323599475873, 0.09772907229586397, 0.5970053277997021, 1.0007782300559125],
];
#[rustfmt::skip]
const ADAM_L2: [[f64; 5]; 10] = [
    [-0.49000019840876174, -0.24000038460059228, 0.0900003333222226, 0.590000017857111, 1.0099999965517252],
    [-0.47995514864798255, -0.22959447514088738, 0.08839759114550343, 0.5798380650973373, 1.00545739387809],
    [-0.4698986070045106, -0.21953162866905793, 0.08171166936554347, 0.580345168855372, 1.0011695138913985],
    [-0.45978252680462334, -0.20983171603160167, 0.0731520737945967, 0.5746306731521427, 1.0060071869992417],
    [-0.44967013589209, -0.1992320185172289, 0.07281680202751174, 0.5678587462099455, 1.003582681404065],
    [-0.4486598375957795, -0.19821506112755355, 0.07224595085081675, 0.5681847735116767, 1.0036242911772915],
    [-0.447649053198713, -0.19725748904340487, 0.07153898590657252, 0.567813884828061, 1.0030573906007771],
    [-0.44664392322102053, -0.1962084208842465, 0.07182177862103438, 0.5675749596434669, 1.00226462506836],
    [-0.44564311000965834, -0.19521536567382142, 0.07142010721919875, 0.5669666324964231, 1.0021219855635481],
    [-0.4446386679421457, -0.1942709354600631, 0.07110215530274656, 0.5661323990032194, 1.0015268188188553],
];
#[rustfmt::skip]
const ADAMW: [[f64; 5]; 10] = [
    [-0.49899502499937504, -0.2489975099999, 0.09899900049999975, 0.59899400002, 1.0009899999966667],
    [-0.498900712568318, -0.24961893724103162, 0.09905064206262634, 0.5981849691238464, 1.0007864796880774],
    [-0.4987026441327357, -0.2502742015841234, 0.09851355497072764, 0.5979682743279437, 1.0006268877166828],
    [-0.49903836121807044, -0.25061253756107593, 0.09798021828546254, 0.5974935908668285, 1.0008845348420172],
    [-0.4994468802354176, -0.25116718089697737, 0.09782901580443554, 0.5970914543620828, 1.000847676251438],
    [-0.49946848568855035, -0.25122081335411883, 0.09779065139432927, 0.5970866315286869, 1.0008517060428654],
    [-0.49951056085559636, -0.2512478711858645, 0.09775713524101708, 0.5970651153665635, 1.00082145488417],
    [-0.49955246577040446, -0.25128986441889417, 0.0977538538130495, 0.5970518593377091, 1.000784832799366],
    [-0.49957361340862977, -0.25132711506778477, 0.09773505785042824, 0.5970143568603395, 1.0007629343925988],
    [-0.49960876035685664, -0.25133948471004997, 0.09772363799599168, 0.5969724160819413, 1.0007231931082858],
];

type Vector<E> = Tensor<Rank1<5>, E, Cpu>;

fn l2_config() -> AdamConfig {
    AdamConfig {
        lr: 0.01,
        betas: [0.5, 0.25],
        eps: 1e-6,
        weight_decay: 0.1,
        ..AdamConfig::adam()
    }
}

/// The gradient of the snippet above in step `t`, counted from 0.
fn gradient(t: usize) -> [f64; 5] {
    std::array::from_fn(|i| 10f64.powi(i as i32 - 4) * (((t * 7 + i * 3) % 11) as f64 - 4.0))
}

/// Ten steps, each compared with `expected` by `check(found, expected)`.
fn replay<E>(cfg: AdamConfig, expected: &[[f64; 5]; 10], tolerance: f64)
where
    E: Dtype + num_traits::Float,
    Cpu: ssprop::Backend<E>,
{
    let dev = Cpu::default();
    let cast = |x: f64| E::from_f64(x).unwrap();
    let mut w: Vector<E> = dev.tensor([-0.5, -0.25, 0.1, 0.6, 1.0].map(cast));
    let mut opt = Adam::new(&w, cfg).unwrap();
    let mut grads = w.alloc_grads();
    for (t, expected) in expected.iter().enumerate() {
        if t == 5 {
            opt.set_lr(cfg.lr * 0.1).unwrap();
        }
        *grads.get_or_alloc_mut(&w).unwrap() =
            dev.buffer_from_host(&gradient(t).map(cast)).unwrap();
        // Each of the three ways to update has to give the same numbers.
        match t % 3 {
            0 => opt.update(&mut w, &grads).unwrap(),
            1 => opt.update_mut(&mut w, &mut grads).unwrap(),
            _ => opt.update_and_zero(&mut w, &mut grads).unwrap(),
        }
        for (found, expected) in w.as_vec().iter().zip(expected) {
            let found = found.to_f64().unwrap();
            assert!(
                (found - expected).abs() <= tolerance,
                "step {t}: {found} instead of {expected}"
            );
        }
    }
}

#[test]
fn ten_steps_equal_pytorchs() {
    for (cfg, expected) in [
        (AdamConfig::adam(), &ADAM),
        (l2_config(), &ADAM_L2),
        (AdamConfig::adamw(), &ADAMW),
    ] {
        replay::<f64>(cfg, expected, 1e-14);
        // PyTorch's own f32 run is up to 3.1e-7 away from its f64 run.
        replay::<f32>(cfg, expected, 4e-7);
    }
}

/// The rows of channels that a sparse backward pass dropped keep their weights and their moments; others go
/// the usual way.
#[test]
fn a_lazy_step_leaves_what_has_no_gradient_alone() {
    for config in [l2_config(), AdamConfig::adamw()] {
        let dev = Cpu::default();
        let start = dev.tensor([-0.5f64, -0.25, 0.1, 0.6, 1.0]);
        let run = |lazy| {
            let mut w = start.clone();
            let mut opt = Adam::new(&w, AdamConfig { lazy, ..config }).unwrap();
            let mut grads = w.alloc_grads();
            let mut after = Vec::new();
            for gradient in [[1.0, 2.0, -1.0, 0.5, 3.0], [0.5, 0.0, 1.0, -0.0, 1.0]] {
                *grads.get_or_alloc_mut(&w).unwrap() = dev.buffer_from_host(&gradient).unwrap();
                opt.update_and_zero(&mut w, &mut grads).unwrap();
                let state = opt.state(&w).unwrap().parameters.remove("").unwrap();
                after.push(Vec::from_iter(
                    [w.as_vec()].into_iter().chain(state.buffers.into_values()),
                ));
            }
            after
        };
        let (lazy, usual) = (run(true), run(false));
        assert_eq!(lazy[0], usual[0]);
        for (i, values) in lazy[1].iter().enumerate() {
            for at in 0..5 {
                let expected = match at {
                    1 | 3 => lazy[0][i][at],
                    _ => usual[1][i][at],
                };
                assert_eq!(values[at], expected, "{i} {at}");
                assert!((at % 2 == 1) == (values[at] != usual[1][i][at]), "{i} {at}");
            }
        }
    }
}

#[test]
fn zeroing_in_the_pass_equals_zeroing_after_it() {
    let dev = Cpu::default();
    let mut w: Vector<f32> = dev.ones();
    let mut opt = Adam::new(&w, AdamConfig::default()).unwrap();
    let mut grads = w.alloc_grads();
    grads.get_or_alloc_mut(&w).unwrap().fill(3.0);
    opt.update_mut(&mut w, &mut grads).unwrap();
    assert_eq!(grads.get(&w).array(), [3.0; 5]);
    opt.update_and_zero(&mut w, &mut grads).unwrap();
    assert_eq!(grads.get(&w).array(), [0.0; 5]);
}

type Mlp = (Linear<3, 4>, ReLU, Linear<4, 2>);
type BuiltMlp<E> = (
    modules::Linear<3, 4, E, Cpu>,
    ReLU,
    modules::Linear<4, 2, E, Cpu>,
);

#[test]
fn parameters_without_a_gradient_are_reported_and_left_alone() {
    let dev = Cpu::default();
    let mut model: BuiltMlp<f32> = dev.build_module::<Mlp, f32>();
    let mut opt = Adam::new(&model, AdamConfig::adamw()).unwrap();
    let x: Tensor<Rank2<6, 3>, f32, _> = dev.sample_normal();
    let before = model.clone();

    // Only the first layer is in the graph.
    let loss = |m: &BuiltMlp<f32>| m.0.forward(x.leaky_trace()).square().mean().backward();
    let err = opt.update_mut(&mut model, &mut loss(&before)).unwrap_err();
    assert!(
        matches!(&err, Error::UnusedParameters { names } if names[..] == ["2.weight", "2.bias"]),
        "{err}"
    );
    assert_eq!(opt.unused_names(), ["2.weight", "2.bias"]);
    assert_ne!(model.0.weight.array(), before.0.weight.array());
    assert_eq!(model.2.weight.array(), before.2.weight.array());

    let grads = loss(&model);
    match opt.update(&mut model, &grads) {
        Err(OptimizerUpdateError::UnusedParams(unused)) => assert_eq!(unused.ids.len(), 2),
        other => panic!("{other:?}"),
    }
    let state = opt.state(&model).unwrap();
    assert_eq!(state.parameters["0.weight"].step, 2);
    assert_eq!(state.parameters["2.weight"].step, 0);
    assert_eq!(model.2.weight.array(), before.2.weight.array());

    // In gradients allocated for another model, every parameter is absent, in every update.
    let mut others = x.alloc_grads();
    for _ in 0..2 {
        opt.update_mut(&mut model, &mut others).unwrap_err();
        assert_eq!(opt.unused_names().len(), 4);
    }

    // A parameter in use is no longer reported.
    let mut grads = model.forward(x.leaky_trace()).square().mean().backward();
    opt.update_mut(&mut model, &mut grads).unwrap();
    assert!(opt.unused_names().is_empty());
    assert_ne!(model.2.weight.array(), before.2.weight.array());
}

/// A model with two runs of gradients that are easy to make.
fn trained(steps: usize) -> (BuiltMlp<f32>, Adam<BuiltMlp<f32>, f32, Cpu>) {
    let dev = Cpu::seed_from_u64(1);
    let mut model: BuiltMlp<f32> = dev.build_module::<Mlp, f32>();
    let mut opt = Adam::new(&model, AdamConfig::adamw()).unwrap();
    train(&mut model, &mut opt, 0, steps);
    (model, opt)
}

fn train(
    model: &mut BuiltMlp<f32>,
    opt: &mut Adam<BuiltMlp<f32>, f32, Cpu>,
    from: usize,
    steps: usize,
) {
    let mut grads = model.alloc_grads();
    for t in from..from + steps {
        let dev = Cpu::seed_from_u64(t as u64);
        let x: Tensor<Rank2<6, 3>, f32, _> = dev.sample_normal();
        grads = model.forward(x.traced(grads)).square().mean().backward();
        opt.update_and_zero(model, &mut grads).unwrap();
    }
}

fn bits(model: &BuiltMlp<f32>) -> Vec<u32> {
    [
        model.0.weight.as_vec(),
        model.0.bias.as_vec(),
        model.2.weight.as_vec(),
        model.2.bias.as_vec(),
    ]
    .concat()
    .iter()
    .map(|x| x.to_bits())
    .collect()
}

#[test]
fn restored_state_continues_bit_for_bit() {
    let (uninterrupted, _) = trained(8);
    let (mut model, opt) = trained(3);
    let state = opt.state(&model).unwrap();
    let mut resumed = Adam::new(&model, AdamConfig::adamw()).unwrap();
    resumed.restore(&model, state.clone()).unwrap();
    assert_eq!(resumed.state(&model).unwrap(), state);
    train(&mut model, &mut resumed, 3, 5);
    assert_eq!(bits(&model), bits(&uninterrupted));

    // The test can tell: without the state the result differs.
    let (mut model, _) = trained(3);
    let mut fresh = Adam::new(&model, AdamConfig::adamw()).unwrap();
    train(&mut model, &mut fresh, 3, 5);
    assert_ne!(bits(&model), bits(&uninterrupted));
}

#[test]
fn state_that_does_not_fit_is_refused_and_changes_nothing() {
    let (model, opt) = trained(2);
    let good = opt.state(&model).unwrap();
    let mut opt = Adam::new(&model, AdamConfig::adamw()).unwrap();
    let mut refused = |change: &dyn Fn(&mut AdamState<f32>), words: &[&str]| {
        let mut state = good.clone();
        change(&mut state);
        let err = opt.restore(&model, state).unwrap_err().to_string();
        for word in words {
            assert!(err.contains(word), "{err}");
        }
        let kept = opt.state(&model).unwrap().parameters;
        assert!(kept.values().all(|p| p.step == 0));
    };
    refused(
        &|s| drop(s.parameters.remove("2.bias")),
        &["2.bias", "[2]", "no tensor"],
    );
    refused(
        &|s| {
            let p = s.parameters["2.bias"].clone();
            s.parameters.insert("7.bias".into(), p);
        },
        &["7.bias", "no counterpart", "[2]"],
    );
    refused(
        &|s| s.parameters.get_mut("0.weight").unwrap().shape = vec![3, 4],
        &["0.weight", "[4, 3]", "[3, 4]"],
    );
    refused(
        &|s| {
            s.parameters
                .get_mut("0.bias")
                .unwrap()
                .buffers
                .get_mut("exp_avg_sq")
                .unwrap()
                .truncate(1)
        },
        &["0.bias", "[4]", "[1]"],
    );
    opt.restore(&model, good).unwrap();
}

#[test]
fn bits_do_not_depend_on_the_number_of_threads() {
    // Several blocks and a rest.
    const N: usize = 5 * 16 * 1024 + 77;
    type Big = Tensor<Rank1<N>, f32, Cpu>;
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build().unwrap().install(|| {
            let dev = Cpu::seed_from_u64(3);
            let mut w: Big = dev.sample_normal();
            let mut opt = Adam::new(&w, l2_config()).unwrap();
            let mut grads = w.alloc_grads();
            for _ in 0..3 {
                let g: Big = dev.sample_normal();
                grads
                    .get_or_alloc_mut(&w)
                    .unwrap()
                    .copy_from_slice(&g.as_vec());
                opt.update_mut(&mut w, &mut grads).unwrap();
            }
            w.as_vec().iter().map(|x| x.to_bits()).collect::<Vec<_>>()
        })
    };
    let one = run(1);
    assert!(one == run(2));
    assert!(one == run(4));
}

#[test]
fn a_bad_learning_rate_is_refused() {
    let (_, mut opt) = trained(0);
    let err = opt.set_lr(f64::NAN).unwrap_err().to_string();
    assert!(err.contains("lr = NaN"), "{err}");
    assert_eq!(opt.config().lr, 1e-3);
}

#[test]
fn a_parameter_that_is_a_view_is_refused() {
    let dev = Cpu::default();
    let t: Tensor<Rank2<2, 3>, f32, _> = dev.ones();
    let mut view = t.permute::<Rank2<3, 2>, _>();
    let mut opt = Adam::new(&view, AdamConfig::default()).unwrap();
    let mut grads = view.alloc_grads();
    let err = opt.update_mut(&mut view, &mut grads).unwrap_err();
    assert!(err.to_string().contains("contiguous"), "{err}");
}

#[test]
fn state_lists_every_parameter_before_the_first_step() {
    let (model, opt) = trained(0);
    let shapes: BTreeMap<_, _> = opt
        .state(&model)
        .unwrap()
        .parameters
        .into_iter()
        .map(|(name, p)| (name, p.shape))
        .collect();
    assert_eq!(shapes["0.weight"], [4, 3]);
    assert_eq!(shapes["2.bias"], [2]);
    assert_eq!(shapes.len(), 4);
}
