//! What holds of a convolution's two passes whatever the geometry, the sizes and the drop rate.

use dfdx::prelude::Cpu;

use ssprop::sparsity::DropRate;
use ssprop::Backend;
use support::{assert_close, at, run_property, Case, Conv, Geometry, Real};

/// Batch, height, width, drop rate and seed of one random case.
type Sizes = (usize, usize, usize, f64, u64);

/// Runs `property` on a few random sizes of one geometry. Large ones get small images.
fn for_random_sizes<G: Geometry>(cases: u32, property: impl Fn(Sizes)) {
    let weights = G::C_IN * G::C_OUT / G::OP.groups * G::OP.kernel.pow(2);
    let (cases, batch, extra) = match weights {
        0..=2_000 => (cases, 20usize, 12),
        2_001..=40_000 => (cases.div_ceil(3), 5, 7),
        _ => (cases.div_ceil(6), 4, 5),
    };
    let sizes = G::smallest()..=G::smallest() + extra;
    let strategy = (1..=batch, sizes.clone(), sizes, 0.0..0.99f64, 0..u64::MAX);
    let what = format!("{:?} from {} to {}", G::OP, G::C_IN, G::C_OUT);
    run_property(&what, cases, strategy, property);
}

/// Calls `$property::<Conv<...>>()` for every geometry of the list.
macro_rules! on_every_geometry {
    ($property:ident) => {{
        // Channels in and out, kernel, stride, padding, dilation, groups.
        // Matrix products in f32, unfolded in f64: pointwise, even and odd kernels, gaps between windows, wide padding.
        $property::<Conv<3, 5, 1, 1, 0, 1, 1>>();
        $property::<Conv<4, 6, 1, 2, 0, 1, 1>>();
        $property::<Conv<2, 7, 2, 2, 0, 1, 1>>();
        $property::<Conv<3, 4, 2, 1, 1, 1, 1>>();
        $property::<Conv<3, 10, 3, 1, 1, 1, 1>>();
        $property::<Conv<5, 9, 3, 2, 1, 1, 1>>();
        $property::<Conv<2, 3, 3, 1, 0, 1, 1>>();
        $property::<Conv<2, 4, 3, 3, 2, 1, 1>>();
        $property::<Conv<3, 5, 3, 1, 2, 2, 1>>();
        $property::<Conv<2, 6, 3, 2, 1, 3, 1>>();
        $property::<Conv<1, 4, 4, 2, 1, 1, 1>>();
        $property::<Conv<2, 5, 5, 1, 2, 1, 1>>();
        $property::<Conv<2, 3, 5, 3, 4, 1, 1>>();
        $property::<Conv<1, 1, 3, 1, 1, 1, 1>>();
        // Groups, down to one channel each.
        $property::<Conv<6, 12, 3, 1, 1, 1, 3>>();
        $property::<Conv<4, 8, 2, 3, 1, 2, 2>>();
        $property::<Conv<8, 8, 3, 2, 1, 1, 8>>();
        $property::<Conv<8, 16, 1, 1, 0, 1, 4>>();
        // Winograd in f32: whole and cut vectors of channels; few filters and many.
        $property::<Conv<8, 8, 3, 1, 1, 1, 1>>();
        $property::<Conv<17, 9, 3, 1, 1, 1, 1>>();
        $property::<Conv<64, 64, 3, 1, 1, 1, 1>>();
        $property::<Conv<144, 144, 3, 1, 1, 1, 1>>();
    }};
}

fn rate(share: f64) -> DropRate {
    DropRate::new(share).unwrap()
}

fn rows<E>(dw: &[E], channels: usize) -> std::slice::Chunks<'_, E> {
    dw.chunks(dw.len() / channels)
}

/// Both passes against plain loops in f64, with what the drop rate leaves of dY.
#[test]
fn kernels_agree_with_the_reference_loops() {
    fn of<G: Geometry, E: Real>((batch, h, w, share, seed): Sizes)
    where
        Cpu: Backend<E>,
    {
        let case = Case::<E>::random(G::shape(batch, h, w), seed);
        let kept = case.ranked(rate(share).kept_of(G::C_OUT));
        for (case, drop_rate) in [
            (case.clone(), DropRate::DENSE),
            (case.masked(&kept), DropRate::DENSE),
            (case, rate(share)),
        ] {
            let found = G::pass(&case, at(drop_rate));
            let expected = if drop_rate.is_dense() {
                case.reference()
            } else {
                case.masked(&kept).reference()
            };
            found.assert_close(&expected, E::TOLERANCE, &format!("at {drop_rate}"));
        }
    }
    fn property<G: Geometry>() {
        for_random_sizes::<G>(24, |sizes| {
            of::<G, f32>(sizes);
            of::<G, f64>(sizes);
        });
    }
    on_every_geometry!(property);
}

#[test]
fn kept_rows_are_the_dense_ones_and_dropped_rows_are_zero() {
    fn of<G: Geometry, E: Real>((batch, h, w, share, seed): Sizes)
    where
        Cpu: Backend<E>,
    {
        let case = Case::<E>::random(G::shape(batch, h, w), seed);
        let kept = case.ranked(rate(share).kept_of(G::C_OUT));
        let dense = G::pass(&case, at(DropRate::DENSE));
        let sparse = G::pass(&case, at(rate(share)));
        assert_eq!(sparse.y, dense.y, "the forward pass knows of no drop rate");
        let mut expected = dense.clone();
        for k in (0..G::C_OUT).filter(|k| !kept.contains(k)) {
            let row = case.shape.filter_len();
            expected.dw[k * row..(k + 1) * row].fill(E::zero());
            expected.db[k] = E::zero();
            let row = rows(&sparse.dw, G::C_OUT).nth(k).unwrap();
            assert!(row.iter().all(|g| g.is_zero()), "dropped row {k} of dW");
            assert!(sparse.db[k].is_zero(), "dropped element {k} of db");
        }
        assert_close(&sparse.dw, &expected.dw, E::TOLERANCE, "kept rows of dW");
        assert_close(
            &sparse.db,
            &expected.db,
            E::TOLERANCE,
            "kept elements of db",
        );
    }
    fn property<G: Geometry>() {
        for_random_sizes::<G>(32, |sizes| {
            of::<G, f32>(sizes);
            of::<G, f64>(sizes);
        });
    }
    on_every_geometry!(property);
}

#[test]
fn sparse_dx_is_the_dense_one_of_the_masked_dy() {
    fn of<G: Geometry, E: Real>((batch, h, w, share, seed): Sizes)
    where
        Cpu: Backend<E>,
    {
        let case = Case::<E>::random(G::shape(batch, h, w), seed);
        let kept = case.ranked(rate(share).kept_of(G::C_OUT));
        let masked = G::pass(&case.masked(&kept), at(DropRate::DENSE));
        let sparse = G::pass(&case, at(rate(share)));
        sparse.assert_close(&masked, E::TOLERANCE, "masked");
    }
    fn property<G: Geometry>() {
        for_random_sizes::<G>(32, |sizes| {
            of::<G, f32>(sizes);
            of::<G, f64>(sizes);
        });
    }
    on_every_geometry!(property);
}

#[test]
fn keeping_every_channel_is_the_dense_path_bit_for_bit() {
    fn of<G: Geometry, E: Real>((batch, h, w, _, seed): Sizes)
    where
        Cpu: Backend<E>,
    {
        let case = Case::<E>::random(G::shape(batch, h, w), seed);
        let dense = G::pass(&case, at(DropRate::DENSE));
        let [dx, dw, db] = G::dense_kernels(&case);
        let y = dense.y.clone();
        let kernels = support::Pass { y, dx, dw, db };
        assert_eq!(dense.bits(), kernels.bits());
        let [dx, dw, db] = G::gathered_kernels(&case);
        let y = dense.y.clone();
        let gathered = support::Pass { y, dx, dw, db };
        assert_eq!(dense.bits(), gathered.bits(), "all channels, gathered");
        // So small a drop rate that it rounds to no channel at all.
        let all = rate(1e-12);
        assert!(!all.is_dense() && all.kept_of(G::C_OUT) == G::C_OUT);
        assert_eq!(G::pass(&case, at(all)).bits(), dense.bits());
    }
    fn property<G: Geometry>() {
        for_random_sizes::<G>(16, |sizes| {
            of::<G, f32>(sizes);
            of::<G, f64>(sizes);
        });
    }
    on_every_geometry!(property);
}

#[test]
fn kept_channels_are_those_of_an_independent_ranking() {
    fn of<G: Geometry, E: Real>((batch, h, w, share, seed): Sizes)
    where
        Cpu: Backend<E>,
    {
        let case = Case::<E>::random(G::shape(batch, h, w), seed);
        let count = (((1.0 - share) * G::C_OUT as f64) as usize).max(1);
        let expected = case.ranked(count);
        let kept = G::kept(&case, at(rate(share))).unwrap_or_else(|| (0..G::C_OUT).collect());
        assert_eq!(kept, expected);
        // And it is they whose filters change, all of them: x is random, so no kept row of dW is
        // zero unless its channel of dY is. db tells nothing, where dY may cancel.
        let has_gradient = |k| {
            let planes = case.dy.chunks(case.shape.output_pixels());
            let mut own = planes.skip(k).step_by(G::C_OUT);
            own.any(|plane| plane.iter().any(|g| !g.is_zero()))
        };
        let sparse = G::pass(&case, at(rate(share)));
        for (k, row) in rows(&sparse.dw, G::C_OUT).enumerate() {
            let changed = row.iter().any(|g| !g.is_zero());
            let is_kept = expected.contains(&k);
            assert!(!changed || is_kept, "row {k} of dW changed");
            // Every window then covers a pixel of x.
            let reaches_x = G::OP.padding < G::OP.kernel && G::OP.dilation == 1;
            if is_kept && has_gradient(k) && reaches_x {
                assert!(changed, "row {k} of dW did not change");
            }
        }
    }
    fn property<G: Geometry>() {
        for_random_sizes::<G>(32, |sizes| {
            of::<G, f32>(sizes);
            of::<G, f64>(sizes);
        });
    }
    on_every_geometry!(property);
}

#[test]
fn without_an_input_gradient_the_others_are_the_same() {
    fn property<G: Geometry>() {
        for_random_sizes::<G>(3, |(batch, h, w, share, seed)| {
            let case = Case::<f32>::random(G::shape(batch, h, w), seed);
            let with = G::pass(&case, at(rate(share)));
            let mut skip = at(rate(share));
            skip.input_gradient = false;
            let without = G::pass(&case, skip);
            assert!(without.dx.iter().all(|&g| g == 0.0));
            assert_eq!(without.y, with.y);
            assert_eq!(without.dw, with.dw);
            assert_eq!(without.db, with.db);
        });
    }
    on_every_geometry!(property);
}

#[test]
fn two_uses_of_the_same_tensors_add_their_gradients() {
    fn of<G: Geometry, E: Real>((batch, h, w, share, seed): Sizes)
    where
        Cpu: Backend<E>,
    {
        let first = Case::<E>::random(G::shape(batch, h, w), seed);
        let mut second = first.clone();
        second.dy = Case::random(first.shape, seed ^ 1).dy;
        for drop_rate in [DropRate::DENSE, rate(share)] {
            let (a, b) = (
                G::pass(&first, at(drop_rate)),
                G::pass(&second, at(drop_rate)),
            );
            let sum = |a: &[E], b: &[E]| a.iter().zip(b).map(|(&a, &b)| a + b).collect::<Vec<_>>();
            let [dx, dw, db] = G::two_uses(&first, &second.dy, at(drop_rate));
            assert_close(&dx, &sum(&a.dx, &b.dx), E::TOLERANCE, "dX");
            assert_close(&dw, &sum(&a.dw, &b.dw), E::TOLERANCE, "dW");
            assert_close(&db, &sum(&a.db, &b.db), E::TOLERANCE, "db");
        }
    }
    fn property<G: Geometry>() {
        for_random_sizes::<G>(12, |sizes| {
            of::<G, f32>(sizes);
            of::<G, f64>(sizes);
        });
    }
    on_every_geometry!(property);
}

/// The loss is quadratic in each tensor, so a central difference has no truncation error and the
/// step can be large.
#[test]
fn dense_gradients_are_the_finite_differences() {
    const STEP: f64 = 0.5;
    fn property<G: Geometry>() {
        for_random_sizes::<G>(6, |(batch, h, w, _, seed)| {
            let case = Case::<f64>::random(G::shape(batch.min(3), h, w), seed);
            let (loss, analytic) = G::quadratic(&case);
            for (tensor, analytic) in analytic.iter().enumerate() {
                let scale = analytic.iter().fold(1.0f64, |m, g| m.max(g.abs()));
                // The first, the last, and one between, elsewhere each time.
                let middle = seed as usize % analytic.len();
                for i in [0, middle, analytic.len() - 1] {
                    let moved = |by: f64| {
                        let mut case = case.clone();
                        [&mut case.x, &mut case.weight, &mut case.bias][tensor][i] += by;
                        G::quadratic(&case).0
                    };
                    let numeric = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
                    let error = (numeric - analytic[i]).abs() / (scale + loss.abs());
                    let name = ["dX", "dW", "db"][tensor];
                    assert!(
                        error < 1e-11,
                        "{name}[{i}] is {}, the difference {numeric}",
                        analytic[i]
                    );
                }
            }
        });
    }
    on_every_geometry!(property);
}
