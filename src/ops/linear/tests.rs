use dfdx::prelude::*;
use num_traits::Float;
use proptest::prelude::*;
use rand::{rngs::StdRng, Rng, SeedableRng};

use super::*;
use crate::backend::LinearKernel;
use crate::bridge::Buffer;
use crate::kernels::args::conv2d::OutputGrad;
use crate::kernels::args::Fill;
use crate::kernels::args::KeptChannels;
use crate::kernels::reference::linear as reference;
use crate::ops::SparseBackward;
use crate::sparsity::{AdaptiveKeep, DropRate, Selection};

/// Holds every element to `tolerance` of the sum of its terms' magnitudes: what rounding can do to a
/// sum that cancels.
fn close<E: Float>(found: &[E], expected: &[f64], magnitudes: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (f, (e, m))) in found
        .iter()
        .zip(expected.iter().zip(magnitudes))
        .enumerate()
    {
        let f = f.to_f64().unwrap();
        assert!((f - e).abs() <= tolerance * m, "{what}[{i}]: {f}, not {e}");
    }
}

/// Forward, and the backward pass of what `backward` keeps, against plain loops.
fn check<const I: usize, const O: usize, E: Dtype + Float>(
    batch: usize,
    backward: SparseBackward,
    seed: u64,
    tolerance: f64,
) where
    Cpu: Backend<E>,
{
    let dev = Cpu::default();
    let mut rng = StdRng::seed_from_u64(seed);
    // Whole quarters in dY, so that importances have no rounding error.
    let mut numbers = |len: usize, unit: f64| -> Vec<E> {
        let number = |_| E::from_f64((rng.gen_range(-9.0..9.0f64) / unit).trunc() * unit).unwrap();
        (0..len).map(number).collect()
    };
    let (x, w) = (numbers(batch * I, 1e-3), numbers(O * I, 1e-3));
    let (b, dy) = (numbers(O, 1e-3), numbers(batch * O, 0.25));
    let shape = LinearShape {
        batch,
        inputs: I,
        outputs: O,
    };
    let xt = dev.tensor_from_vec(x.clone(), (batch, Const::<I>));
    let wt = dev.tensor_from_vec(w.clone(), (Const::<O>, Const::<I>));
    let bt = dev.tensor_from_vec(b.clone(), (Const::<O>,));
    let dyt = dev.tensor_from_vec(dy.clone(), (batch, Const::<O>));

    let wide = |v: &[E]| -> Vec<f64> { v.iter().map(|v| v.to_f64().unwrap()).collect() };
    let absolute = |v: &[f64]| -> Vec<f64> { v.iter().map(|v| v.abs()).collect() };
    let (x, w, b, dy) = (wide(&x), wide(&w), wide(&b), wide(&dy));
    let (abs_x, abs_w, abs_b) = (absolute(&x), absolute(&w), absolute(&b));

    let y = linear(xt.leaky_trace(), &wt, Some(&bt), backward, None).unwrap();
    for (found, bias, abs_bias) in [
        (y.as_vec(), Some(&b[..]), Some(&abs_b[..])),
        (
            linear(xt.clone(), &wt, None, backward, None)
                .unwrap()
                .as_vec(),
            None,
            None,
        ),
    ] {
        let expected = reference::forward(&shape, &x, &w, bias);
        let magnitudes = reference::forward(&shape, &abs_x, &abs_w, abs_bias);
        close(&found, &expected, &magnitudes, tolerance, "y");
    }

    let importance = || {
        let sum = |o| dy.iter().skip(o).step_by(O).map(|g| g.abs()).sum();
        Ok((0..O).map(sum).collect())
    };
    let (rate, draw) = (backward.drop_rate, backward.draw);
    let kept = backward
        .selection
        .choose(O, rate, draw, importance)
        .unwrap();
    let kept = kept.unwrap_or_else(|| (0..O).collect());
    let scale = backward.selection.scale(kept.len(), O);
    let factor = |o: usize| if kept.contains(&o) { scale } else { 0.0 };
    let masked: Vec<f64> = dy
        .iter()
        .enumerate()
        .map(|(i, &g)| g * factor(i % O))
        .collect();
    let gradients = |x: &[f64], w: &[f64], masked: &[f64], dy: &[f64]| {
        let [mut dx, dw, db] = reference::backward(&shape, x, w, masked);
        if backward.only_weight_sparse {
            [dx, ..] = reference::backward(&shape, x, w, dy);
        }
        [dx, dw, db]
    };
    let expected = gradients(&x, &w, &masked, &dy);
    let magnitudes = gradients(&abs_x, &abs_w, &absolute(&masked), &absolute(&dy));
    let grads = (y * dyt).sum::<Rank0, _>().backward();
    let found = [
        grads.get(&xt).as_vec(),
        grads.get(&wt).as_vec(),
        grads.get(&bt).as_vec(),
    ];
    for (i, what) in ["dX", "dW", "db"].into_iter().enumerate() {
        close(&found[i], &expected[i], &magnitudes[i], tolerance, what);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn both_passes_equal_the_plain_loops(
        batch in 1..40usize, rate in 0.0..0.99f64, seed: u64, only_weight_sparse: bool, which in 0..4,
    ) {
        let selection = match which {
            0 => Selection::Random { seed, rescale: false },
            1 => Selection::Random { seed, rescale: true },
            2 => Selection::Adaptive(AdaptiveKeep::new(1.0 - rate).unwrap()),
            _ => Selection::TopK,
        };
        let backward = SparseBackward {
            drop_rate: DropRate::new(rate).unwrap(),
            selection,
            only_weight_sparse,
            ..SparseBackward::default()
        };
        check::<1, 1, f32>(batch, backward, seed, 3e-6);
        check::<9, 7, f32>(batch, backward, seed, 3e-6);
        check::<16, 33, f32>(batch, backward, seed, 3e-6);
        check::<70, 48, f32>(batch, backward, seed, 3e-6);
        check::<9, 7, f64>(batch, backward, seed, 1e-14);
        check::<32, 20, f64>(batch, backward, seed, 1e-14);
    }
}

#[test]
fn masks_over_positions_mask_features() {
    let backward = SparseBackward {
        drop_rate: DropRate::new(0.5).unwrap(),
        masking: Masking::Positions,
        ..SparseBackward::default()
    };
    check::<5, 8, f32>(6, backward, 1, 3e-6);
}

/// (dfdx itself cannot sum an empty tensor, so not on a tape.)
#[test]
fn an_empty_batch_has_no_gradient() {
    let dev = Cpu::default();
    let shape = LinearShape {
        batch: 0,
        inputs: 3,
        outputs: 4,
    };
    let x = dev.tensor_from_vec(Vec::<f32>::new(), (0usize, Const::<3>));
    let w: Tensor<Rank2<4, 3>, f32, _> = dev.sample_normal();
    let b: Tensor<Rank1<4>, f32, _> = dev.sample_normal();
    let y = linear(x.clone(), &w, Some(&b), SparseBackward::default(), None).unwrap();
    assert_eq!(*y.shape(), (0, Const));

    let (mut dx, mut dw, mut db) = ([0.0; 0], [0.0; 12], [0.0; 4]);
    let half = SparseBackward {
        drop_rate: DropRate::new(0.5).unwrap(),
        ..SparseBackward::default()
    };
    let conv = shape.conv().unwrap();
    let dy = Buffer::<f32, Cpu>::take(&dev, 0).unwrap();
    let dy = BackwardGradient::new(&dev, &conv, dy, &half, None).unwrap();
    Cpu::linear_backward_input(&shape, &w.as_vec(), dy.view_for_input(), &mut dx, Fill::Add)
        .unwrap();
    Cpu::linear_backward_weight(&shape, &[], dy.view(), &mut dw).unwrap();
    Cpu::linear_backward_bias(&shape, dy.view(), &mut db).unwrap();
    assert!(dw.iter().chain(db.iter()).all(|&g| g == 0.0));
}

#[test]
fn buffers_of_the_wrong_size_are_errors() {
    let shape = LinearShape {
        batch: 2,
        inputs: 3,
        outputs: 4,
    };
    let two = |all| Some(KeptChannels::new(vec![0, 3], all).unwrap());
    let try_backward = |dy: usize, kept: Option<KeptChannels>, dw: usize| {
        let (dy, mut dw) = (vec![0.0f32; dy], vec![0.0; dw]);
        let dy = OutputGrad {
            data: &dy[..],
            kept: kept.as_ref(),
        };
        let result = Cpu::linear_backward_weight(&shape, &[0.0; 6], dy, &mut dw);
        result.map_err(|err| err.to_string())
    };
    try_backward(8, None, 12).unwrap();
    try_backward(4, two(4), 12).unwrap();
    assert!(try_backward(7, None, 12).unwrap_err().contains("dy"));
    assert!(try_backward(8, None, 11).unwrap_err().contains("dw"));
    assert!(try_backward(8, two(4), 12).is_err());
    let err = try_backward(4, two(5), 12).unwrap_err();
    assert!(err.contains("expected 4, found 5"), "{err}");
    let (wide, w, mut y) = ([0.0f32; 8], [0.0; 12], [0.0; 8]);
    assert!(Cpu::linear_forward(&shape, &wide, &w, None, &mut y).is_err());
}

#[test]
fn bits_do_not_depend_on_threads() {
    let pass = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.unwrap().install(|| {
            let dev = Cpu::seed_from_u64(4);
            let x: Tensor<Rank2<50, 90>, f32, _> = dev.sample_normal();
            let w: Tensor<Rank2<120, 90>, f32, _> = dev.sample_normal();
            let b: Tensor<Rank1<120>, f32, _> = dev.sample_normal();
            let backward = SparseBackward {
                drop_rate: DropRate::new(0.6).unwrap(),
                ..SparseBackward::default()
            };
            let y = linear(x.leaky_trace(), &w, Some(&b), backward, None).unwrap();
            let out = y.as_vec();
            let grads = y.square().sum::<Rank0, _>().backward();
            let (dx, dw) = (grads.get(&x).as_vec(), grads.get(&w).as_vec());
            let all = out
                .into_iter()
                .chain(dx)
                .chain(dw)
                .chain(grads.get(&b).as_vec());
            all.map(f32::to_bits).collect::<Vec<_>>()
        })
    };
    let first = pass(1);
    assert!(first == pass(2) && first == pass(5));
}
