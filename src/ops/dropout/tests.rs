use dfdx::prelude::*;
use proptest::prelude::*;

use super::*;
use crate::kernels::args::dropout::BLOCK as ELEMENTS;
use crate::kernels::reference::dropout as reference;

fn check<E: crate::kernels::cpu::element::Element + Dtype>(x: Vec<E>, dy: Vec<E>, mask: DropoutMask)
where
    Cpu: Backend<E>,
{
    let dev = Cpu::default();
    let shape = (x.len(),);
    let (xt, dyt) = (
        dev.tensor_from_vec(x.clone(), shape),
        dev.tensor_from_vec(dy.clone(), shape),
    );
    let kept: Vec<bool> = (0..x.len()).map(|i| mask.keeps(i)).collect();
    let scale = <E as num_traits::FromPrimitive>::from_f64(mask.scale()).unwrap();
    let y = try_dropout(xt.leaky_trace(), mask).unwrap();
    assert_eq!(y.as_vec(), reference::forward(&kept, scale, &x));
    let grads = (y * dyt).sum::<Rank0, _>().backward();
    assert_eq!(
        grads.get(&xt).as_vec(),
        reference::backward(&kept, scale, &dy)
    );
}

proptest! {
    #[test]
    fn kernels_equal_the_plain_loops(
        pairs in proptest::collection::vec((-1.0..1.0f64, -1.0..1.0f64), 1..200),
        rate in 0.0..0.99f64,
        key: u64,
    ) {
        let mask = DropoutMask::new(rate, key).unwrap();
        let (x, dy): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
        let narrow = |v: &[f64]| v.iter().map(|&v| v as f32).collect::<Vec<_>>();
        check(narrow(&x), narrow(&dy), mask);
        check(x, dy, mask);
    }
}

#[test]
fn longer_than_a_block() {
    let x: Vec<f32> = (0..2 * ELEMENTS + 7).map(|i| (i as f32).sin()).collect();
    check(x.clone(), x, DropoutMask::new(0.3, 5).unwrap());
}

fn kept(mask: DropoutMask, len: usize) -> Vec<bool> {
    (0..len).map(|i| mask.keeps(i)).collect()
}

#[test]
fn the_share_dropped_is_the_rate_in_the_whole_and_in_every_block() {
    let blocks = 64;
    for rate in [0.01, 0.2, 0.4, 0.5, 0.9] {
        let mask = kept(DropoutMask::new(rate, 11).unwrap(), blocks * ELEMENTS);
        let share =
            |part: &[bool]| part.iter().filter(|&&kept| !kept).count() as f64 / part.len() as f64;
        // Five standard deviations.
        let near = |n: usize| 5.0 * (rate * (1.0 - rate) / n as f64).sqrt();
        assert!((share(&mask) - rate).abs() < near(mask.len()), "{rate}");
        for block in mask.chunks(ELEMENTS) {
            assert!((share(block) - rate).abs() < near(ELEMENTS), "{rate}");
        }
    }
}

/// Whether two masks of rate 1/2 agree about half as often as not.
#[track_caller]
fn independent(a: &[bool], b: &[bool]) {
    let n = a.len().min(b.len());
    let same = a.iter().zip(b).filter(|(a, b)| a == b).count() as f64;
    let distance = (same / n as f64 - 0.5).abs();
    assert!(distance < 5.0 * 0.5 / (n as f64).sqrt(), "{distance}");
}

#[test]
fn neighbours_blocks_and_keys_are_independent() {
    let n = 1 << 16;
    let a = kept(DropoutMask::new(0.5, 0).unwrap(), n);
    for lag in [1, 2, 3, 16, 32, 784, ELEMENTS, ELEMENTS + 1] {
        independent(&a, &a[lag..]);
    }
    for key in [1, 2, 1 << 32, u64::MAX] {
        independent(&a, &kept(DropoutMask::new(0.5, key).unwrap(), n));
    }
}

#[test]
fn the_same_key_gives_the_same_bits_on_1_2_and_4_threads() {
    let on = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build().unwrap().install(|| {
            let dev = Cpu::seed_from_u64(1);
            let x: Tensor<Rank2<100, 1000>, f32, _> = dev.sample_normal();
            let mask = DropoutMask::new(0.4, 3).unwrap();
            let y = try_dropout(x.leaky_trace(), mask).unwrap();
            let values = y.as_vec();
            (
                values,
                y.square().sum::<Rank0, _>().backward().get(&x).as_vec(),
            )
        })
    };
    let one = on(1);
    assert_eq!(one, on(2));
    assert_eq!(one, on(4));
    // Pinned: a change of the generator would change every training run with dropout.
    let first: Vec<usize> = (0..40)
        .filter(|&i| !DropoutMask::new(0.4, 3).unwrap().keeps(i))
        .collect();
    assert_eq!(first, PINNED);
}

const PINNED: [usize; 14] = [0, 7, 8, 10, 11, 12, 13, 17, 22, 25, 29, 30, 34, 37];

#[test]
fn rate_0_is_x_itself_and_rates_are_checked() {
    let dev = Cpu::default();
    let x = dev.tensor([1.0f32, f32::NAN]);
    let y = try_dropout(x.clone(), DropoutMask::new(0.0, 1).unwrap()).unwrap();
    assert_eq!(&y[[0]] as *const f32, &x[[0]] as *const f32);
    for rate in [-0.1, 1.0, f64::NAN, f64::INFINITY] {
        let e = DropoutMask::new(rate, 0).unwrap_err().to_string();
        assert!(
            e.contains("dropout rate") && e.contains("less than 1"),
            "{e}"
        );
    }
    let almost = DropoutMask::new(1.0 - 1e-16, 0).unwrap();
    assert_eq!((0..1000).filter(|&i| almost.keeps(i)).count(), 0);
}

#[test]
fn the_mask_of_a_part_of_a_batch_is_that_part_of_the_whole_mask() {
    // Images that blocks of the mask do not divide, and parts longer than one.
    const IMAGE: usize = 5000;
    let dev = Cpu::default();
    let mask = DropoutMask::new(0.3, 9).unwrap();
    let kept = |images: usize, mask| {
        let x = dev.ones_like(&(images, Const::<IMAGE>));
        let y: Tensor<(usize, Const<IMAGE>), f32, _, _> =
            try_dropout(x.leaky_trace(), mask).unwrap();
        let kept = y.as_vec();
        assert_eq!(y.sum::<Rank0, _>().backward().get(&x).as_vec(), kept);
        kept
    };
    let whole = kept(12, mask);
    for (first, images) in [(0, 12), (1, 1), (3, 9), (7, 5)] {
        let part = kept(images, mask.after_images(first));
        assert_eq!(part, whole[first * IMAGE..][..images * IMAGE]);
    }
}
