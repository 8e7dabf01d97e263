use dfdx::prelude::*;
use rand::{rngs::StdRng, Rng, SeedableRng};
use rand_distr::StandardNormal;

use super::*;
use crate::kernels::cpu::element::Element;
use crate::kernels::reference::attention as reference;
use crate::on_threads;
use crate::ops::add::add_hidden;

type Qkv<const C: usize, E> = Tensor<(usize, Triple<C>, usize, usize), E, Cpu>;
type Images<const C: usize, E> = Tensor<(usize, Const<C>, usize, usize), E, Cpu>;

fn qkv<const C: usize, E: Element + Dtype>([b, h, w]: [usize; 3], scale: f64) -> Qkv<C, E> {
    let len = b * 3 * C * h * w;
    let number = |i| E::from_f64(scale * (i as f64 * 0.37).sin()).unwrap();
    Cpu::default().tensor_from_vec((0..len).map(number).collect(), (b, Triple, h, w))
}

fn output_gradient<const C: usize, E: Element + Dtype>([b, h, w]: [usize; 3]) -> Images<C, E> {
    let number = |i| E::from_f64((i as f64 * 0.21).cos()).unwrap();
    let data = (0..b * C * h * w).map(number).collect();
    Cpu::default().tensor_from_vec(data, (b, Const, h, w))
}

fn close<E: Element + Dtype>(found: &[E], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(1.0, |m: f64, e| m.max(e.abs()));
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        let found = found.to_f64().unwrap();
        let error = (found - expected).abs() / largest;
        assert!(error <= tolerance, "{i}: {found}, expected {expected}");
    }
}

/// y and dqkv.
fn run<const HEADS: usize, const C: usize, E: Element + Dtype>(
    size: [usize; 3],
    scale: f64,
) -> (Vec<E>, Vec<E>)
where
    Cpu: Backend<E>,
{
    let x = qkv::<C, E>(size, scale);
    let y = try_attention(x.leaky_trace(), Heads::<HEADS>).unwrap();
    let values = y.as_vec();
    let grads = (y * output_gradient(size)).sum::<Rank0, _>().backward();
    (values, grads.get(&x).as_vec())
}

fn check<const HEADS: usize, const C: usize>([b, h, w]: [usize; 3]) {
    let op = AttentionOp {
        depth: C / HEADS,
        positions: h * w,
        order: QkvOrder::ByHead,
    };
    let x = qkv::<C, f64>([b, h, w], 2.0).as_vec();
    let expected = reference::forward(&op, &x);
    let (y, gradient) = run::<HEADS, C, f64>([b, h, w], 2.0);
    close(&y, &expected, 1e-13);
    let dy = output_gradient::<C, f64>([b, h, w]).as_vec();
    close(&gradient, &reference::backward(&op, &x, &dy), 1e-13);

    // Central differences of the sum of y dy, in some elements of each of q, k and v.
    let loss = |x: &[f64]| -> f64 {
        let y = reference::forward(&op, x);
        y.iter().zip(&dy).map(|(y, dy)| y * dy).sum()
    };
    let step = 1e-5;
    for i in (0..x.len()).step_by(x.len() / 40 + 1) {
        let mut moved = x.clone();
        moved[i] += step;
        let up = loss(&moved);
        moved[i] -= 2.0 * step;
        let slope = (up - loss(&moved)) / (2.0 * step);
        assert!(
            (slope - gradient[i]).abs() < 1e-7,
            "{i}: {slope}, {}",
            gradient[i]
        );
    }

    let (narrow, narrow_gradient) = run::<HEADS, C, f32>([b, h, w], 2.0);
    close(&narrow, &expected, 1e-5);
    close(&narrow_gradient, &gradient, 1e-5);
}

#[test]
fn both_passes_equal_the_plain_loops_and_differences() {
    // Whole and cut vectors of positions and of a head's channels.
    check::<2, 16>([2, 4, 4]);
    check::<2, 4>([1, 1, 1]);
    check::<1, 3>([2, 3, 5]);
    check::<3, 60>([1, 3, 7]);
    check::<1, 8>([1, 8, 8]);
}

#[test]
fn numbers_are_those_of_pytorch() {
    // x = torch.sin(0.37 * torch.arange(144)).reshape(2, 12, 6), requiring its gradient
    // q, k, v = (3 * x).reshape(4, 6, 6).split(2, dim=1)
    // w = torch.einsum("bct,bcs->bts", q * 2 ** -0.25, k * 2 ** -0.25).softmax(-1)
    // y = torch.einsum("bts,bcs->bct", w, v).reshape(2, 4, 6)
    // (y * torch.cos(0.21 * torch.arange(48)).reshape(2, 4, 6)).sum().backward()
    #[rustfmt::skip]
    let y = [
        -1.588816508, -2.214383999, -2.638826799, -2.78416314, -2.810912473, -2.755308743,
        -0.818938338, 0.040506977, 0.695006508, 0.941285075, 1.00149244, 0.957018854,
        -2.738012476, -2.683711661, -2.663616984, -2.658140423, -2.658022354, -2.66299505,
        2.385599066, 2.643449089, 2.693426202, 2.70529669, 2.705385901, 2.693029513,
    ];
    // x.grad[1, :6] / 3
    #[rustfmt::skip]
    let gradient = [
        0.008494992, 0.007758655, 0.008809016, 0.013406352, 0.031901847, 0.226945418,
        -0.024714602, -0.026028127, -0.03040019, -0.044939662, -0.093445447, -0.410491278,
        0.009188207, 0.010983975, 0.015272149, -0.003569611, -0.190348463, 0.158473742,
        0.028334987, 0.035327271, 0.063378949, 0.170499761, 0.534725014, -0.832265981,
        0.008340385, 0.010635689, 0.022001386, 0.078481035, 0.515154556, 3.598175973,
        0.004115501, 0.005293237, 0.011642622, 0.055860194, 0.542103859, 4.197106194,
    ];
    let (found, found_gradient) = run::<2, 4, f64>([2, 2, 3], 3.0);
    close(&found[..24], &y, 1e-9);
    close(&found_gradient[72..108], &gradient, 1e-9);
    let (found, found_gradient) = run::<2, 4, f32>([2, 2, 3], 3.0);
    close(&found[..24], &y, 1e-5);
    close(&found_gradient[72..108], &gradient, 1e-5);
}

#[test]
fn large_scores_do_not_overflow() {
    // Scores of thousands: every query takes its best key's value. Positions that fill no vector.
    let (y, gradient) = run::<1, 2, f32>([1, 3, 3], 60.0);
    assert!(y.iter().all(|y| y.is_finite() && y.abs() <= 60.0));
    assert!(gradient.iter().all(|g| g.is_finite()));
}

/// The largest error of any head's queries, keys or values, as a share of the largest element there,
/// but for heads in which that is `negligible`.
fn error_by_head(op: &AttentionOp, found: &[f32], expected: &[f64], negligible: f64) -> f64 {
    let len = op.depth * op.positions;
    let parts = found.chunks(len).zip(expected.chunks(len));
    let errors = parts.map(|(found, expected)| {
        let largest = expected.iter().fold(0.0, |m: f64, e| m.max(e.abs()));
        let errors = found
            .iter()
            .zip(expected)
            .map(|(&f, e)| (f64::from(f) - e).abs());
        match largest < negligible {
            true => 0.0,
            false => errors.fold(0.0, f64::max) / largest,
        }
    });
    errors.fold(0.0, f64::max)
}

#[test]
fn gradients_of_saturated_softmaxes_are_as_precise_as_the_scores() {
    const HEADS: usize = 4;
    const C: usize = 64;
    for size in [[16, 2, 3], [16, 4, 4]] {
        let [b, h, w] = size;
        let op = AttentionOp {
            depth: C / HEADS,
            positions: h * w,
            order: QkvOrder::ByHead,
        };
        let dy = output_gradient::<C, f32>(size);
        let wide_dy: Vec<f64> = dy.as_vec().iter().map(|&v| v.into()).collect();
        // The scores' standard deviation. Their rounding errors, about 1e-7 of the scores, are the
        // weights' relative errors, whatever comes after.
        for logits in [1.0, 100.0, 300.0, 1e3, 1e4] {
            let mut rng = StdRng::seed_from_u64(5);
            let scale = f64::sqrt(logits) as f32;
            let mut normal = |_| scale * rng.sample::<f32, _>(StandardNormal);
            let data: Vec<f32> = (0..b * 3 * C * h * w).map(&mut normal).collect();
            let wide: Vec<f64> = data.iter().map(|&v| v.into()).collect();
            let expected = reference::backward(&op, &wide, &wide_dy);
            let x: Qkv<C, f32> = Cpu::default().tensor_from_vec(data, (b, Triple, h, w));
            let y = try_attention(x.leaky_trace(), Heads::<HEADS>).unwrap();
            let grads = (y * dy.clone()).sum::<Rank0, _>().backward();
            // Queries, keys and values grow with the root of the scores. A second weight of less than
            // about 1e-12 leaves a gradient of nothing.
            let negligible = 1e-12 * logits;
            let error = error_by_head(&op, &grads.get(&x).as_vec(), &expected, negligible);
            assert!(error < 1e-6 + 1e-5 * logits, "logits of {logits}: {error}");
        }
    }
}

#[test]
fn bits_do_not_depend_on_threads() {
    let bits = |threads| {
        let (y, gradient) =
            on_threads(Some(threads), || run::<4, 32, f32>([5, 8, 8], 2.0)).unwrap();
        let all = y.into_iter().chain(gradient);
        all.map(f32::to_bits).collect::<Vec<_>>()
    };
    let one = bits(1);
    assert_eq!(one, bits(2));
    assert_eq!(one, bits(3));
}

#[test]
fn gradients_over_links_add_up() {
    let size = [2, 3, 3];
    let x = qkv::<8, f32>(size, 1.0);
    let zeros: Qkv<8, f32> = Cpu::default().zeros_like(x.shape());
    let z = add_hidden(x.leaky_trace().into(), zeros.into()).unwrap();
    let again = z.with_empty_tape();
    let y = attention_hidden(z, Heads::<2>, QkvOrder::ByHead).unwrap();
    let other = attention_hidden(again, Heads::<2>, QkvOrder::ByHead).unwrap();
    let y = add_hidden(y, other).unwrap().into_tensor().unwrap();
    let grads = (y * output_gradient(size)).sum::<Rank0, _>().backward();
    let (_, once) = run::<2, 8, f32>(size, 1.0);
    let twice: Vec<f64> = once.iter().map(|&g| 2.0 * f64::from(g)).collect();
    close(&grads.get(&x).as_vec(), &twice, 1e-6);
}

#[test]
fn empty_batches_and_images_have_empty_outputs() {
    for size in [[0, 2, 2], [2, 0, 2]] {
        let x = qkv::<4, f32>(size, 1.0);
        let y = try_attention(x, Heads::<2>).unwrap();
        assert_eq!(*y.shape(), (size[0], Const, size[1], size[2]));
    }
}

#[test]
fn queries_of_all_heads_before_their_keys_and_values() {
    const HEADS: usize = 3;
    const C: usize = 12;
    let (size, len) = ([2, 3, 5], C / HEADS * 15);
    // Parts (head, kind) of an image to parts (kind, head).
    let reordered = |by_head: &[f64]| -> Vec<f64> {
        let images = by_head.chunks(3 * HEADS * len);
        let parts = images.flat_map(|image| {
            let part = |i: usize| image.chunks(len).nth(i).unwrap();
            (0..3 * HEADS).flat_map(move |i| part(i % HEADS * 3 + i / HEADS))
        });
        parts.copied().collect()
    };
    let x = qkv::<C, f64>(size, 1.5);
    let by_kind = reordered(&x.as_vec());
    assert_ne!(by_kind, x.as_vec());
    let by_kind = Cpu::default().tensor_from_vec(by_kind, *x.shape());
    let y = try_attention_by_kind(by_kind.leaky_trace(), Heads::<HEADS>).unwrap();
    let (expected, expected_gradient) = run::<HEADS, C, f64>(size, 1.5);
    assert_eq!(y.as_vec(), expected);
    let grads = (y * output_gradient(size)).sum::<Rank0, _>().backward();
    assert_eq!(grads.get(&by_kind).as_vec(), reordered(&expected_gradient));
}
