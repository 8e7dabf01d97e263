use super::*;
use crate::args::conv2d::{Conv2DOp, Conv2DShape, Epilogue, OutputGrad};
use crate::args::{Fill, KeptChannels};
use crate::cpu::conv2d::testing::{error, random, wide};
use crate::cpu::simd::Isa;
use crate::reference::conv2d as reference;
use rand::{rngs::StdRng, SeedableRng};

fn assert_close(found: &[f32], expected: &[f64], what: &str) {
    let error = error(found, expected);
    assert!(error < 1e-5, "{what}: off by {error}");
}

/// All three products against plain loops in f64, with every instruction set of this machine.
fn check(op: [usize; 5], [batch, c_in, h, w]: [usize; 4], c_out: usize, kept: Option<&[usize]>) {
    let [kernel, stride, padding, dilation, groups] = op;
    let op = Conv2DOp {
        kernel,
        stride,
        padding,
        dilation,
        groups,
    };
    let shape = Conv2DShape::new(op, [batch, c_in, h, w], c_out).unwrap();
    let mut rng = StdRng::seed_from_u64(5);
    let kept = kept.map(|kept| KeptChannels::new(kept.to_vec(), c_out).unwrap());
    let kept = kept.as_ref();
    let channels = kept.map_or(c_out, |kept| kept.len());
    let x = random(&mut rng, shape.x().iter().product());
    let weight = random(&mut rng, shape.weight().iter().product());
    let bias = random(&mut rng, c_out);
    let dy = random(&mut rng, shape.y(channels).iter().product());
    let wide_dy = wide(&dy);
    let (grad, wide_grad) = (
        OutputGrad {
            data: &dy[..],
            kept,
        },
        OutputGrad {
            data: &wide_dy[..],
            kept,
        },
    );

    let y = reference::forward(&shape, &wide(&x), &wide(&weight), Some(&wide(&bias)));
    let mut dx = vec![0.0; x.len()];
    reference::backward_input(&shape, &wide(&weight), wide_grad, &mut dx);
    let added: Vec<f64> = dx.iter().map(|dx| dx + 1.0).collect();
    let mut dw = vec![1.0; weight.len()];
    reference::backward_weight(&shape, &wide(&x), wide_grad, &mut dw);

    for isa in Isa::available() {
        let what = |name| format!("{name} of {shape:?}, {isa:?}");
        let mut found = vec![f32::NAN; y.len()];
        let then = Epilogue::bias(Some(&bias[..]));
        forward(isa, &shape, &x, &weight, then, &mut found);
        assert_close(&found, &y, &what("y"));
        let mut found = vec![f32::NAN; x.len()];
        backward_input(isa, &shape, &weight, grad, &mut found, Fill::Overwrite);
        assert_close(&found, &dx, &what("dX"));
        let mut found = vec![1.0; x.len()];
        backward_input(isa, &shape, &weight, grad, &mut found, Fill::Add);
        assert_close(&found, &added, &what("dX added"));
        let mut found = vec![1.0; weight.len()];
        backward_weight(isa, &shape, &x, grad, &mut found);
        assert_close(&found, &dw, &what("dW"));
    }
}

#[test]
fn pointwise_by_either_side() {
    // Whole chunks; parts of one; several images a block; more depth than a part has.
    check([1, 1, 0, 1, 1], [2, 5, 16, 16], 40, None);
    check([1, 1, 0, 1, 1], [3, 40, 7, 5], 6, None);
    check([1, 1, 0, 1, 1], [9, 300, 4, 4], 35, Some(&[0, 3, 20, 34]));
    check([1, 1, 0, 1, 1], [2, 9, 24, 24], 300, None);
}

#[test]
fn strides_split_the_image_into_phases() {
    check([3, 2, 1, 1, 1], [2, 20, 16, 16], 24, None);
    check([3, 2, 1, 1, 1], [5, 33, 9, 7], 10, Some(&[2, 9]));
    check([1, 2, 0, 1, 1], [3, 17, 8, 8], 18, None);
    check([2, 3, 0, 1, 1], [2, 3, 11, 10], 4, None);
    check([5, 3, 4, 1, 1], [2, 3, 8, 9], 5, None);
}

#[test]
fn many_taps_are_multiplied_in_parts() {
    check([3, 1, 1, 1, 1], [2, 70, 6, 6], 9, None);
    check([7, 2, 3, 1, 1], [2, 11, 20, 40], 3, None);
}

#[test]
fn an_image_alone_is_cut_by_channels() {
    check([3, 2, 1, 1, 1], [1, 20, 16, 16], 70, None);
    check([3, 1, 1, 1, 2], [1, 8, 20, 20], 80, None);
    check([1, 1, 0, 1, 1], [1, 9, 4, 4], 50, None);
    check([3, 1, 1, 1, 1], [1, 9, 5, 3], 1, None);
}

#[test]
fn gaps_and_groups() {
    check([3, 1, 2, 2, 1], [2, 4, 10, 12], 8, None);
    check([3, 2, 1, 3, 1], [2, 4, 13, 12], 8, Some(&[7]));
    // All kept channels in one group of two.
    check([3, 1, 1, 1, 2], [2, 8, 6, 5], 12, Some(&[0, 1, 5]));
    check([1, 1, 0, 1, 4], [2, 8, 6, 6], 12, None);
}

#[test]
fn wide_images_are_cut_into_rows() {
    check([3, 1, 1, 1, 1], [1, 2, 5, 300], 3, None);
    check([1, 1, 0, 1, 1], [2, 3, 40, 33], 20, None);
}

#[test]
fn windows_of_padding_alone() {
    check([3, 1, 2, 1, 1], [2, 3, 0, 4], 5, None);
    check([3, 2, 2, 1, 1], [2, 3, 0, 0], 5, None);
}
