//! What holds of a convolution's kernels whatever the geometry, the sizes and the kept channels.

use dfdx::tensor::Cpu;
use proptest::prelude::*;
use proptest::strategy::Union;
use ssprop::internals::args::Fill;
use ssprop::{use_tf32, Tf32};
use support::run_property;

use crate::convolution::{shape, use_cudnn, Convolution};
use crate::support::{close, cuda};

/// Windows; a group's channels in and out; batch; rows and columns beyond the smallest.
type Geometry = ([usize; 5], [usize; 2], usize, [usize; 2]);

/// What is done by a way of its own comes often: 3x3 windows of stride and padding 1, and 1x1 of large images.
fn geometries() -> impl Strategy<Value = Geometry> {
    let window = |kernel: BoxedStrategy<[usize; 5]>, channels: usize, extra: [usize; 2]| {
        let extra = extra[0]..=extra[1];
        let channels = [1..=channels, 1..=channels];
        (kernel, channels, 1..=3usize, [extra.clone(), extra]).boxed()
    };
    let any = (1..=5usize, 1..=3usize, 0..=4usize, 1..=3usize, 1..=1usize);
    let any = any.prop_map(|(k, s, p, d, g)| [k, s, p, d, g]).boxed();
    let grouped = (1..=4usize, 1..=2usize, 0..=2usize, 1..=2usize, 2..=4usize);
    let grouped = grouped.prop_map(|(k, s, p, d, g)| [k, s, p, d, g]).boxed();
    Union::new_weighted(vec![
        (2, window(Just([3, 1, 1, 1, 1]).boxed(), 24, [0, 9])),
        (2, window(Just([1, 1, 0, 1, 1]).boxed(), 24, [7, 11])),
        (3, window(any, 12, [0, 7])),
        (2, window(grouped, 4, [0, 7])),
    ])
}

fn convolutions(geometries: impl Strategy<Value = Geometry>) -> impl Strategy<Value = Convolution> {
    let further = (any::<u64>(), 0..4u8, any::<bool>(), any::<bool>());
    (geometries, further).prop_map(|(geometry, (seed, keep, padded, add))| {
        let (window, [c_in, c_out], batch, extra) = geometry;
        let [kernel, _, padding, dilation, groups] = window;
        let smallest = (dilation * (kernel - 1) + 1).saturating_sub(2 * padding);
        let [h, w] = extra.map(|extra| smallest.max(1) + extra);
        let shape = shape(window, [batch, groups * c_in, h, w], groups * c_out);
        // All channels, or each with a probability of a half, a quarter or an eighth, and the last.
        let last = shape.c_out() - 1;
        let is_kept = |c: &usize| {
            let dice = seed.wrapping_mul(2 * *c as u64 + 1) >> 32;
            *c == last || dice.is_multiple_of(1 << keep)
        };
        Convolution {
            shape,
            kept: (keep > 0).then(|| (0..=last).filter(is_kept).collect()),
            padded,
            fill: [Fill::Overwrite, Fill::Add][usize::from(add)],
            seed: seed % 1000,
        }
    })
}

/// The CPU's numbers, and of a sparse pass the dense one's in the kept rows of dW and db, and nothing in the others.
fn check(within: f64, tf32: Tf32, case: &Convolution) {
    let dev = cuda();
    use_tf32(tf32);
    let expected = case.on(&Cpu::default());
    let found = case.on(&dev);
    close(within, &expected, &found);
    let Some(kept) = &case.kept else { return };
    let all = Convolution {
        kept: None,
        ..case.clone()
    };
    let dense = all.on(&dev);
    for (i, before) in [2, 3].into_iter().zip(case.before()) {
        let (name, mut expected) = dense[i].clone();
        let row = expected.len() / case.shape.c_out();
        let rows = expected.chunks_mut(row).zip(before.chunks(row));
        for (c, (expected, before)) in rows.enumerate() {
            if !kept.contains(&c) {
                expected.copy_from_slice(before);
                let found = &found[i].1[c * row..][..row];
                assert_eq!(found, before, "dropped channel {c} of {name}");
            }
        }
        close(within, &[(name, expected)], &found[i..=i]);
    }
}

#[test]
fn kernels_agree_with_those_of_the_cpu() {
    run_property("kernels", 100, convolutions(geometries()), |case| {
        for with_cudnn in [cfg!(feature = "cudnn"), false] {
            use_cudnn(with_cudnn);
            check(1e-5, Tf32::Off, &case);
        }
    });
}

/// By the tiled kernels: tiles of several images, of a whole one and of some of its rows.
#[test]
fn tiles_agree_with_the_kernels_of_the_cpu() {
    let sizes = ([1..=70usize, 1..=20usize], 0..=9usize, 0..=30usize);
    let geometries = sizes.prop_map(|(channels, height, width)| {
        let batch = 1 + channels[0] % 3;
        ([3, 1, 1, 1, 1], channels, batch, [height, width])
    });
    run_property("tiles", 20, convolutions(geometries), |case| {
        check(1e-3, Tf32::Convolutions, &case)
    });
}
