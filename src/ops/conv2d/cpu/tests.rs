//! What the kernels are asked through the trait, by hand: sizes that do not belong together are
//! errors, whichever algorithm would have served them.

use dfdx::prelude::*;

use super::*;
use crate::ops::conv2d::Conv2DOp;

type Vector = Tensor<(usize,), f32, Cpu>;

fn ones(dev: &Cpu, len: usize) -> Vector {
    dev.ones_like(&(len,))
}

fn grad(dev: &Cpu, len: usize) -> <Cpu as Storage<f32>>::Vec {
    dev.try_alloc_len(len).unwrap()
}

/// One of each algorithm.
fn shapes() -> [Conv2DShape; 2] {
    let op = |stride| Conv2DOp {
        kernel: 3,
        stride,
        padding: 1,
        dilation: 1,
        groups: 1,
    };
    let shapes = [1, 2].map(|stride| Conv2DShape::new(op(stride), [2, 8, 6, 6], 9).unwrap());
    assert_eq!(
        shapes.map(|s| algorithm(&s)),
        [Algorithm::Winograd, Algorithm::Gemm]
    );
    shapes
}

#[test]
fn buffers_of_the_wrong_size_are_errors() {
    let dev = Cpu::default();
    for shape in shapes() {
        let len = |dims: [usize; 4]| dims.iter().product::<usize>();
        let (x, w) = (ones(&dev, len(shape.x())), ones(&dev, len(shape.weight())));
        let short = ones(&dev, 5);
        let dy = grad(&dev, len(shape.y(9)));
        let whole = OutputGrad {
            data: &dy,
            kept: None,
        };
        let mut few = grad(&dev, 3);
        for wrong in [
            dev.conv2d_backward(
                &shape,
                &x,
                &w,
                whole,
                Conv2DGrads::Input(&mut few, Fill::Add),
            ),
            dev.conv2d_backward(&shape, &x, &w, whole, Conv2DGrads::Weight(&mut few)),
            dev.conv2d_backward(&shape, &x, &w, whole, Conv2DGrads::Bias(&mut few)),
            dev.conv2d_backward(&shape, &short, &w, whole, Conv2DGrads::Bias(&mut few)),
            dev.conv2d_backward(&shape, &x, &short, whole, Conv2DGrads::Bias(&mut few)),
        ] {
            let err = wrong.unwrap_err().to_string();
            assert!(
                err.contains("3 elements") || err.contains("5 elements"),
                "{err}"
            );
        }
        let none: Option<&Vector> = None;
        let forward = |shape: &Conv2DShape, x: &Vector, len: usize| {
            let mut y: Vector = dev.zeros_like(&(len,));
            dev.conv2d_forward(shape, x, &w, none, &mut y)
        };
        assert!(forward(&shape, &short, 9).is_err());
        assert!(forward(&shape, &x, 9).is_err());
        let mut torn = shape;
        torn.output = [100, 100];
        assert!(forward(&torn, &x, 180_000).is_err());
    }
}

#[test]
fn kept_channels_out_of_order_or_range_are_errors() {
    let dev = Cpu::default();
    for shape in shapes() {
        let (x, w) = (ones(&dev, 2 * 8 * 36), ones(&dev, 9 * 8 * 9));
        let dy = grad(&dev, shape.y(2).iter().product());
        let mut dw = grad(&dev, 9 * 8 * 9);
        for kept in [[3, 3], [4, 3], [3, 9]] {
            let some = OutputGrad {
                data: &dy,
                kept: Some(&kept[..]),
            };
            let wrong = dev.conv2d_backward(&shape, &x, &w, some, Conv2DGrads::Weight(&mut dw));
            assert!(wrong.unwrap_err().to_string().contains("kept channels"));
        }
    }
}

#[test]
fn sizes_beyond_memory_are_errors() {
    let op = shapes()[0].op;
    for dims in [[usize::MAX, 8, 6, 6], [2, 8, 1 << 40, 1 << 40]] {
        assert!(Conv2DShape::new(op, dims, 9).is_err());
    }
}
