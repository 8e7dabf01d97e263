//! The variants of the sparse backward pass: what random and adaptive selection keep, masks over
//! positions and elements, dX from the whole of dY.

use dfdx::prelude::*;
use rayon::ThreadPoolBuilder;

use ssprop::nn::builders::{BiasedSparseConv2D, SparseConv2D};
use ssprop::nn::VisitLayers;
use ssprop::ops::SparseBackward;
use ssprop::sparsity::{AdaptiveKeep, Draw, DropRate, Masking, Selection};
use ssprop::Backend;
use support::{Case, Conv, Geometry, Real};

const MASKINGS: [Masking; 3] = [Masking::Channels, Masking::Positions, Masking::Elements];

fn rate(share: f64) -> DropRate {
    DropRate::new(share).unwrap()
}

fn random(seed: u64) -> Selection {
    Selection::Random {
        seed,
        rescale: false,
    }
}

/// The parts of dY that `masking` drops as one, numbered, for each element of dY.
fn parts<E: Real>(case: &Case<E>, masking: Masking) -> (usize, Vec<usize>) {
    let (channels, pixels) = (case.shape.c_out(), case.shape.output_pixels());
    let part = |i: usize| {
        let (channel, pixel) = (i / pixels % channels, i % pixels);
        match masking {
            Masking::Channels => channel,
            Masking::Positions => pixel,
            Masking::Elements => channel * pixels + pixel,
        }
    };
    let count = match masking {
        Masking::Channels => channels,
        Masking::Positions => pixels,
        Masking::Elements => channels * pixels,
    };
    (count, (0..case.dy.len()).map(part).collect())
}

/// What a selection keeps, by another way than the library's: a full sort, or its own draw.
fn kept<E: Real>(case: &Case<E>, backward: &SparseBackward) -> Vec<bool> {
    let (count, parts) = parts(case, backward.masking);
    let mut sums = vec![0.0; count];
    for (&part, g) in parts.iter().zip(&case.dy) {
        sums[part] += g.to_f64().unwrap().abs();
    }
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by(|&a, &b| sums[b].total_cmp(&sums[a]).then(a.cmp(&b)));
    let total: f64 = sums.iter().sum();
    match backward.selection {
        Selection::TopK => order.truncate(backward.drop_rate.kept_of(count)),
        Selection::Random { .. } | Selection::Rotation { .. } => {
            let (rate, draw) = (backward.drop_rate, backward.draw);
            let unneeded = || panic!("not ranked");
            let set = backward.selection.choose(count, rate, draw, unneeded);
            order = set.unwrap().unwrap_or_else(|| (0..count).collect());
        }
        Selection::Adaptive(rule) => {
            // The sums are exact, so the order of adding does not matter.
            let enough = (1..=count).find(|&k| {
                order[..k].iter().map(|&p| sums[p]).sum::<f64>() >= rule.share() * total
            });
            order.truncate(enough.unwrap());
        }
    }
    let mut is_kept = vec![false; count];
    order.into_iter().for_each(|part| is_kept[part] = true);
    is_kept
}

/// Every masking, selection and either dX, against plain loops over dY with zeros.
#[test]
fn gradients_are_the_dense_ones_of_the_masked_dy() {
    fn of<G: Geometry, E: Real>(batch: usize, h: usize, w: usize)
    where
        Cpu: Backend<E>,
    {
        let case = Case::<E>::random(G::shape(batch, h, w), 5);
        let dense = case.reference();
        let adaptive = Selection::Adaptive(AdaptiveKeep::new(0.7).unwrap());
        let rescaled = Selection::Random {
            seed: 4,
            rescale: true,
        };
        let in_turn = Selection::Rotation { rescale: true };
        for masking in MASKINGS {
            for selection in [Selection::TopK, random(4), rescaled, in_turn, adaptive] {
                for only_weight_sparse in [false, true] {
                    let backward = SparseBackward {
                        drop_rate: rate(0.6),
                        selection,
                        masking,
                        only_weight_sparse,
                        draw: Draw::new("conv", 3),
                        ..SparseBackward::default()
                    };
                    let is_kept = kept(&case, &backward);
                    let count = is_kept.iter().filter(|&&kept| kept).count();
                    assert!(0 < count && count < is_kept.len(), "{count} are kept");
                    let scale = match selection == rescaled || selection == in_turn {
                        true => is_kept.len() as f64 / count as f64,
                        false => 1.0,
                    };
                    let mut masked = case.clone();
                    for (g, part) in masked.dy.iter_mut().zip(parts(&case, masking).1) {
                        let factor = if is_kept[part] { scale } else { 0.0 };
                        *g *= E::from_f64(factor).unwrap();
                    }
                    let mut expected = masked.reference();
                    if only_weight_sparse {
                        expected.dx.clone_from(&dense.dx);
                    }
                    let found = G::pass(&case, backward);
                    found.assert_close(&expected, E::TOLERANCE, &format!("{backward:?}"));
                }
            }
        }
    }
    fn both<G: Geometry>(batch: usize, h: usize, w: usize) {
        of::<G, f32>(batch, h, w);
        of::<G, f64>(batch, h, w);
    }
    both::<Conv<3, 10, 3, 1, 1, 1, 1>>(3, 7, 5);
    both::<Conv<5, 9, 3, 2, 1, 1, 1>>(2, 8, 9);
    both::<Conv<6, 12, 3, 1, 1, 1, 3>>(2, 5, 5);
    both::<Conv<4, 6, 1, 1, 0, 1, 1>>(4, 3, 4);
    // Winograd in f32, and more positions than a task sums.
    both::<Conv<9, 17, 3, 1, 1, 1, 1>>(2, 11, 12);
}

#[test]
fn without_drops_every_variant_is_the_dense_pass_bit_for_bit() {
    type G = Conv<8, 12, 3, 1, 1, 1, 1>;
    let case = Case::<f32>::random(G::shape(3, 6, 6), 2);
    let dense = G::pass(&case, SparseBackward::default()).bits();
    let rescaled = Selection::Random {
        seed: 1,
        rescale: true,
    };
    let whole = Selection::Adaptive(AdaptiveKeep::new(1.0).unwrap());
    for masking in MASKINGS {
        for selection in [Selection::TopK, rescaled, whole] {
            for only_weight_sparse in [false, true] {
                let backward = SparseBackward {
                    selection,
                    masking,
                    only_weight_sparse,
                    ..SparseBackward::default()
                };
                assert_eq!(G::pass(&case, backward).bits(), dense, "{backward:?}");
            }
        }
    }
}

/// The mean of rescaled random gradients is the dense gradient, as far as its own spread tells.
#[test]
fn rescaled_random_gradients_are_unbiased() {
    type G = Conv<3, 10, 3, 1, 1, 1, 1>;
    const DRAWS: u64 = 400;
    let case = Case::<f64>::random(G::shape(2, 5, 5), 8);
    let dense = case.reference();
    for masking in MASKINGS {
        for rescale in [true, false] {
            // Sums and sums of squares of each element of dX, dW and db.
            let target: Vec<f64> = [&dense.dx[..], &dense.dw, &dense.db].concat();
            let mut sums = vec![[0.0; 2]; target.len()];
            for iteration in 0..DRAWS {
                let pass = G::pass(
                    &case,
                    SparseBackward {
                        drop_rate: rate(0.7),
                        selection: Selection::Random { seed: 9, rescale },
                        masking,
                        draw: Draw::new("", iteration),
                        ..SparseBackward::default()
                    },
                );
                let found = [&pass.dx[..], &pass.dw, &pass.db].concat();
                for ([sum, squares], g) in sums.iter_mut().zip(found) {
                    *sum += g;
                    *squares += g * g;
                }
            }
            let n = DRAWS as f64;
            // The squared z-score of an unbiased mean is 1 on average. (Over masks of 10 channels
            // the elements' are not independent: about a chi-squared of 9 degrees, by 9.)
            let scores = sums.iter().zip(&target).filter_map(|(&[sum, squares], t)| {
                let mean = sum / n;
                let variance = (squares / n - mean * mean) / (n - 1.0);
                (variance > 1e-12).then(|| (mean - t).powi(2) / variance)
            });
            let scores: Vec<f64> = scores.collect();
            let score = scores.iter().sum::<f64>() / scores.len() as f64;
            let max = scores.iter().copied().fold(0.0, f64::max);
            let what = format!("{masking}, rescaled {rescale}: {score}, at most {max}");
            if rescale {
                assert!((0.1..2.5).contains(&score) && max < 25.0, "{what}");
            } else {
                assert!(score > 20.0, "a bias would not be seen: {what}");
            }
        }
    }
}

/// The rows of dW that a layer's backward pass keeps in each of a few iterations.
fn sets(iterations: u64, seed: u64) -> Vec<Vec<Vec<bool>>> {
    type Net = (
        BiasedSparseConv2D<4, 16, 3, 1, 1>,
        SparseConv2D<16, 16, 3, 1, 1>,
    );
    let dev = Cpu::seed_from_u64(1);
    let mut net = dev.build_module::<Net, f32>();
    net.set_drop_rate(rate(0.75));
    net.set_selection(random(seed));
    let x: Tensor<Rank4<2, 4, 6, 6>, f32, _> = dev.sample_normal();
    let of = |iteration| {
        net.set_iteration(iteration);
        let grads = net.forward(x.leaky_trace()).square().sum().backward();
        let rows = |dw: Vec<f32>| {
            dw.chunks(dw.len() / 16)
                .map(|row| row.iter().any(|&g| g != 0.0))
                .collect::<Vec<_>>()
        };
        vec![
            rows(grads.get(&net.0.weight).as_vec()),
            rows(grads.get(&net.1.weight).as_vec()),
        ]
    };
    (0..iterations).map(of).collect()
}

#[test]
fn each_layer_and_iteration_draws_afresh_and_reproducibly() {
    let on = |threads| {
        let pool = ThreadPoolBuilder::new().num_threads(threads).build();
        pool.unwrap().install(|| sets(40, 3))
    };
    let drawn = on(1);
    assert_eq!(drawn, on(1));
    assert_eq!(drawn, on(4));
    assert_ne!(drawn, sets(40, 4), "another seed, other sets");
    for layer in 0..2 {
        let mut times = [0; 16];
        for iteration in &drawn {
            let kept: Vec<usize> = (0..16).filter(|&c| iteration[layer][c]).collect();
            assert_eq!(kept.len(), 4);
            kept.into_iter().for_each(|c| times[c] += 1);
        }
        assert!(times.iter().all(|&n| n > 0), "never chosen: {times:?}");
        let repeats = drawn.windows(2).filter(|p| p[0][layer] == p[1][layer]);
        assert!(repeats.count() <= 1);
    }
    // 4 of 16: two layers with the same set are one in 1820.
    let alike = drawn.iter().filter(|sets| sets[0] == sets[1]).count();
    assert!(alike <= 1, "the layers draw the same");
}

#[test]
fn counts_tell_what_adaptive_selection_keeps() {
    type G = Conv<3, 10, 3, 1, 1, 1, 1>;
    let case = Case::<f32>::random(G::shape(2, 5, 4), 6);
    let dev = Cpu::default();
    let x = dev.tensor_from_vec(case.x.clone(), (2usize, Const::<3>, 5usize, 4usize));
    let mut conv = dev.build_module::<SparseConv2D<3, 10, 3, 1, 1>, f32>();
    conv.weight.copy_from(&case.weight);
    let mut counted = Vec::new();
    for masking in MASKINGS {
        let rule = AdaptiveKeep::new(0.5).unwrap();
        conv.backward = SparseBackward {
            selection: Selection::Adaptive(rule),
            masking,
            ..SparseBackward::default()
        };
        let (_, count) = conv.count_kept().remove(0);
        let y = conv.forward(x.leaky_trace());
        let dy = dev.tensor_from_vec(case.dy.clone(), (2usize, Const::<10>, 5usize, 4usize));
        (y * dy).sum().backward();
        let expected = kept(&case, &conv.backward);
        let number = expected.iter().filter(|&&kept| kept).count();
        assert_eq!((count.passes(), count.kept()), (1, number as u64));
        let keep = number as f64 / expected.len() as f64;
        assert!((count.drop_rate().keep() - keep).abs() < 1e-12);
        counted.push(number);
    }
    assert!(
        counted.windows(2).all(|pair| pair[0] < pair[1]),
        "{counted:?}"
    );
}

#[test]
fn a_diverged_gradient_is_not_an_error() {
    type G = Conv<2, 6, 3, 1, 1, 1, 1>;
    let mut case = Case::<f32>::random(G::shape(1, 4, 4), 1);
    case.dy[20] = f32::NAN;
    for masking in MASKINGS {
        let rule = AdaptiveKeep::new(0.5).unwrap().with_bounds(0.2, 0.5);
        for selection in [Selection::TopK, Selection::Adaptive(rule.unwrap())] {
            let backward = SparseBackward {
                drop_rate: rate(0.8),
                selection,
                masking,
                ..SparseBackward::default()
            };
            let pass = G::pass(&case, backward);
            assert!(pass.dw.iter().any(|g| g.is_nan()), "{backward:?}");
        }
    }
}

#[test]
fn empty_batches_do_not_panic() {
    type G = Conv<2, 6, 3, 1, 1, 1, 1>;
    for masking in MASKINGS {
        let adaptive = Selection::Adaptive(AdaptiveKeep::new(0.5).unwrap());
        for selection in [Selection::TopK, random(1), adaptive] {
            let backward = SparseBackward {
                drop_rate: rate(0.8),
                selection,
                masking,
                only_weight_sparse: true,
                ..SparseBackward::default()
            };
            let case = Case::<f32>::random(G::shape(0, 4, 4), 1);
            assert!(case.dy.is_empty());
            G::kept(&case, backward);
        }
    }
}
