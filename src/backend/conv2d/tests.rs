//! What the kernels are asked through the trait, by hand: sizes that do not belong together are
//! errors, whichever algorithm would have served them.

use super::*;
use crate::kernels::args::batch_norm::Activation;
use crate::kernels::args::conv2d::Conv2DOp;

fn grad(data: &[f32]) -> OutputGrad<'_, &[f32]> {
    OutputGrad { data, kept: None }
}

/// One that Winograd serves, and one that it does not.
fn shapes() -> [Conv2DShape; 2] {
    let op = |stride| Conv2DOp {
        kernel: 3,
        stride,
        padding: 1,
        dilation: 1,
        groups: 1,
    };
    [1, 2].map(|stride| Conv2DShape::new(op(stride), [2, 8, 6, 6], 9).unwrap())
}

#[test]
fn buffers_of_the_wrong_size_are_errors() {
    for shape in shapes() {
        let ones = |dims: [usize; 4]| vec![1.0f32; dims.iter().product()];
        let (x, w, dy) = (ones(shape.x()), ones(shape.weight()), ones(shape.y(9)));
        let (short, mut few) = ([1.0; 5], [0.0; 3]);
        for wrong in [
            Cpu::conv2d_backward_input(&shape, &w, grad(&dy), &mut few, Fill::Add),
            Cpu::conv2d_backward_input(&shape, &short, grad(&dy), &mut few, Fill::Add),
            Cpu::conv2d_backward_weight(&shape, &x, grad(&dy), &mut few),
            Cpu::conv2d_backward_weight(&shape, &short, grad(&dy), &mut few),
            Cpu::conv2d_backward_bias(&shape, grad(&dy), &mut few),
            Cpu::conv2d_backward_bias(&shape, grad(&short), &mut few),
        ] {
            let err = wrong.unwrap_err().to_string();
            assert!(
                err.contains("3 elements") || err.contains("5 elements"),
                "{err}"
            );
        }
        let forward = |shape: &Conv2DShape, x: &[f32], len: usize| {
            Cpu::conv2d_forward(shape, x, &w, None, &mut vec![0.0; len])
        };
        assert!(forward(&shape, &short, 9).is_err());
        assert!(forward(&shape, &x, 9).is_err());
    }
}

#[test]
fn kept_channels_out_of_order_or_range_are_errors() {
    for kept in [[3, 3], [4, 3], [3, 9]] {
        let wrong = Cpu::default().keep(kept.to_vec(), 9);
        assert!(wrong.unwrap_err().to_string().contains("kept channels"));
    }
    let kept = Cpu::default().keep(vec![3, 9], 10).unwrap();
    for shape in shapes() {
        let (x, mut dw) = (vec![1.0f32; 2 * 8 * 36], vec![0.0; 9 * 8 * 9]);
        let dy = vec![1.0; shape.y(2).iter().product()];
        let some = OutputGrad {
            data: &dy[..],
            kept: Some(&kept),
        };
        let wrong = Cpu::conv2d_backward_weight(&shape, &x, some, &mut dw);
        let wrong = wrong.unwrap_err().to_string();
        assert!(wrong.contains("expected 9, found 10"), "{wrong}");
    }
}

#[test]
fn sizes_beyond_memory_are_errors() {
    let op = shapes()[0].op();
    for dims in [[usize::MAX, 8, 6, 6], [2, 8, 1 << 40, 1 << 40]] {
        assert!(Conv2DShape::new(op, dims, 9).is_err());
    }
}

/// What is fused is, to the bit, what one after the other gives: with whole vectors and without, several blocks
/// of images, and many output channels (which Winograd cuts into blocks).
#[test]
fn fused_is_what_follows_one_after_the_other() {
    let op = |kernel, stride, groups| Conv2DOp {
        kernel,
        stride,
        padding: kernel / 2,
        dilation: 1,
        groups,
    };
    for (op, x, c_out) in [
        (op(3, 1, 1), [3, 8, 7, 5], 9),
        (op(3, 1, 1), [2, 128, 9, 9], 150),
        (op(3, 1, 1), [5, 16, 32, 32], 16),
        (op(3, 2, 1), [3, 8, 7, 5], 9),
        (op(1, 1, 2), [9, 6, 12, 12], 8),
        // An image alone, whose channels are cut.
        (op(3, 1, 1), [1, 16, 9, 9], 80),
        (op(3, 2, 2), [1, 8, 7, 5], 100),
        (op(3, 2, 1), [1, 8, 40, 30], 70),
    ] {
        let shape = Conv2DShape::new(op, x, c_out).unwrap();
        macro_rules! check {
            ($E:ty) => {{
                let noise = |sizes: &[usize], seed: usize| -> Vec<$E> {
                    let len = sizes.iter().product();
                    (0..len)
                        .map(|i| ((i * 37 + seed) % 101) as $E / 50.5 - 1.0)
                        .collect()
                };
                let (x, w) = (noise(&shape.x(), 1), noise(&shape.weight(), 2));
                let (bias, residual) = (noise(&[c_out], 3), noise(&shape.y(c_out), 4));
                let mut plain = vec![0.0; residual.len()];
                Cpu::conv2d_forward(&shape, &x[..], &w[..], Some(&bias[..]), &mut plain[..])
                    .unwrap();
                for with_residual in [false, true] {
                    for activation in [Activation::Identity, Activation::ReLU] {
                        let then = Epilogue {
                            bias: Some(&bias[..]),
                            residual: with_residual.then_some(&residual[..]),
                            activation,
                        };
                        let mut found = vec![<$E>::NAN; plain.len()];
                        let done = Cpu::conv2d_fused(&shape, &x[..], &w[..], then, &mut found[..]);
                        assert!(done.unwrap());
                        for ((&found, &y), &r) in found.iter().zip(&plain).zip(&residual) {
                            let y = if with_residual { y + r } else { y };
                            let expected = match activation {
                                Activation::Identity => y,
                                Activation::ReLU => y.max(0.0),
                            };
                            assert_eq!(found, expected, "{shape:?}, {activation:?}");
                        }
                    }
                }
                let short = Epilogue {
                    residual: Some(&x[..1]),
                    ..Epilogue::bias(None)
                };
                let err = Cpu::conv2d_fused(&shape, &x[..], &w[..], short, &mut plain[..]);
                assert!(err.unwrap_err().to_string().contains("residual"));
            }};
        }
        check!(f32);
        check!(f64);
    }
}
