use super::*;
use crate::kernels::args::conv2d::{Conv2DOp, Conv2DShape, OutputGrad};
use crate::kernels::cpu::conv2d::testing::{error, random, wide};
use crate::kernels::cpu::simd::Isa;
use crate::kernels::reference::conv2d as reference;
use rand::{rngs::StdRng, SeedableRng};

const OP: Conv2DOp = Conv2DOp {
    kernel: 3,
    stride: 1,
    padding: 1,
    dilation: 1,
    groups: 1,
};

/// All three products against the reference in f64, for every instruction set.
fn check(batch: usize, c_in: usize, [h, w]: [usize; 2], c_out: usize, kept: Option<Vec<usize>>) {
    let mut rng = StdRng::seed_from_u64(7);
    let shape = Conv2DShape::new(OP, [batch, c_in, h, w], c_out).unwrap();
    let x = random(&mut rng, batch * c_in * h * w);
    let weight = random(&mut rng, c_out * c_in * 9);
    let bias = random(&mut rng, c_out);
    let kept = kept.as_deref();
    let n = kept.map_or(c_out, <[usize]>::len);
    let dy = random(&mut rng, batch * n * h * w);
    let wide_dy = wide(&dy);
    let wide_grad = OutputGrad {
        data: &wide_dy[..],
        kept,
    };

    let y = reference::forward(&shape, &wide(&x), &wide(&weight), Some(&wide(&bias)));
    let mut dx = vec![1.0; x.len()];
    reference::backward_input(&shape, &wide(&weight), wide_grad, &mut dx);
    let mut dw = vec![1.0; weight.len()];
    reference::backward_weight(&shape, &wide(&x), wide_grad, &mut dw);

    for isa in Isa::available() {
        let planes = Planes {
            batch,
            size: [h, w],
            from: c_in,
            to: c_out,
        };
        let mut found = vec![f32::NAN; y.len()];
        let filters = Filters::Forward { w: &weight, c_in };
        conv(
            isa,
            planes,
            &x,
            filters,
            &mut found,
            Write::Bias(Some(&bias)),
        );
        assert!(
            error(&found, &y) < 5e-6,
            "y, {isa:?}: {}",
            error(&found, &y)
        );

        let mut found = vec![1.0; x.len()];
        let filters = Filters::Backward {
            w: &weight,
            c_in,
            kept,
        };
        let turned = Planes {
            from: n,
            to: c_in,
            ..planes
        };
        conv(isa, turned, &dy, filters, &mut found, Write::Accumulate);
        assert!(
            error(&found, &dx) < 5e-6,
            "dX, {isa:?}: {}",
            error(&found, &dx)
        );

        let mut found = vec![1.0; weight.len()];
        let planes = Planes { to: n, ..planes };
        gradient(isa, planes, &x, &dy, kept, &mut found);
        assert!(
            error(&found, &dw) < 5e-6,
            "dW, {isa:?}: {}",
            error(&found, &dw)
        );
    }
}

#[test]
fn whole_tiles_and_vectors() {
    check(2, 16, [8, 8], 32, None);
}

#[test]
fn cut_tiles_and_vectors() {
    check(3, 5, [7, 9], 18, None);
    check(1, 17, [5, 3], 3, Some(vec![1]));
    check(2, 20, [1, 6], 33, Some(vec![0, 7, 32]));
}

#[test]
fn many_filters_go_by_channels() {
    check(3, 136, [6, 5], 150, None);
    check(40, 150, [4, 4], 141, Some((0..128).collect()));
}

#[test]
fn many_tiles_are_cut_into_chunks() {
    check(300, 130, [4, 4], 140, None);
}

#[test]
fn many_images_are_summed_in_parts() {
    check(70, 8, [9, 9], 12, Some(vec![2, 3, 11]));
}

#[test]
fn large_images_go_by_channels() {
    check(1, 9, [70, 68], 10, None);
}

#[test]
fn a_pixel_that_is_not_finite_stays_near() {
    let mut x = vec![1.0f32; 8 * 16 * 16];
    x[8 * 16 + 9] = f32::INFINITY;
    let w = vec![1.0; 8 * 8 * 9];
    let planes = Planes {
        batch: 1,
        size: [16, 16],
        from: 8,
        to: 8,
    };
    let mut y = vec![0.0; 8 * 16 * 16];
    let filters = Filters::Forward { w: &w, c_in: 8 };
    conv(
        Isa::detect(),
        planes,
        &x,
        filters,
        &mut y,
        Write::Bias(None),
    );
    // Channel 0's pixel (8, 9) lies in the tiles of rows and columns 4..12 and 8..12.
    assert!(!y[8 * 16 + 9].is_finite());
    assert!(y[..4 * 16].iter().all(|y| y.is_finite()));
    assert!(y[12 * 16..16 * 16].iter().all(|y| y.is_finite()));
}
