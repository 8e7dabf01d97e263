//! Other ways to the same gradients.

use dfdx::tensor::Storage;
use dfdx::tensor_ops::Backward as _;
use ssprop::internals::{BackwardGradient, Buffer};
use ssprop::ops::conv2d::{conv2d, Conv2DOp, Conv2DShape, SparseBackward, Window};
use ssprop::prelude::*;

type Pass = [Vec<f32>; 3];

/// y, dX and dW of one layer.
fn pass(backward: SparseBackward) -> Pass {
    let dev = Cpu::seed_from_u64(3);
    let x: Tensor<Rank4<2, 16, 10, 10>, f32, _> = dev.sample_normal();
    let w: Tensor<Rank4<20, 16, 3, 3>, f32, _> = dev.sample_normal();
    let dy: Tensor<Rank4<2, 20, 10, 10>, f32, _> = dev.sample_normal();
    let y = conv2d(x.leaky_trace(), &w, None, Window::<1, 1>, backward).unwrap();
    let values = y.as_vec();
    let grads = (y * dy).sum::<Rank0, _>().backward();
    [values, grads.get(&x).as_vec(), grads.get(&w).as_vec()]
}

/// The channels of dY that go into the products.
fn channels_of_products(backward: SparseBackward) -> usize {
    let dev = Cpu::default();
    let op = Conv2DOp {
        kernel: 3,
        stride: 1,
        padding: 1,
        dilation: 1,
        groups: 1,
    };
    let shape = Conv2DShape::new(op, [2, 16, 10, 10], 20).unwrap();
    let dy = Storage::<f32>::try_alloc_len(&dev, 2 * 20 * 100).unwrap();
    let dy = Buffer::from_dfdx(dy);
    let dy = BackwardGradient::new(&dev, &shape, dy, &backward, None).unwrap();
    dy.view().channels(20)
}

/// The largest difference, as a share of the largest element.
fn apart(a: &[f32], b: &[f32]) -> f32 {
    let largest = a.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    let differences = a.iter().zip(b).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, f32::max) / largest
}

#[test]
fn other_algorithms_give_the_same_gradients() {
    let sparse = SparseBackward {
        drop_rate: DropRate::new(0.4).unwrap(),
        ..SparseBackward::default()
    };
    let found = pass(sparse);

    // Dense products on dY with zeros: 12 of 20 rows are left either way.
    let below = SparseBackward {
        dense_below: DropRate::new(0.5).unwrap(),
        ..sparse
    };
    let masked = pass(below);
    let rows = |pass: &Pass| -> Vec<bool> {
        let rows = pass[2].chunks(16 * 9);
        rows.map(|row| row.iter().any(|&g| g != 0.0)).collect()
    };
    assert_eq!(rows(&found).iter().filter(|&&left| left).count(), 12);
    assert_eq!(rows(&found), rows(&masked));
    let differences: Vec<f32> = (0..3).map(|i| apart(&found[i], &masked[i])).collect();
    assert_eq!(differences[0], 0.0);
    assert!(differences.iter().all(|&d| d < 1e-5), "{differences:?}");

    assert_eq!(channels_of_products(sparse), 12);
    assert_eq!(channels_of_products(below), 20);

    // At or above the bound nothing changes.
    let above = pass(SparseBackward {
        dense_below: sparse.drop_rate,
        ..sparse
    });
    assert_eq!(found, above);

    let plain = pass(SparseBackward {
        winograd: false,
        ..sparse
    });
    let differences: Vec<f32> = (0..3).map(|i| apart(&found[i], &plain[i])).collect();
    assert!(differences[0] > 0.0, "the algorithm is another");
    assert!(differences.iter().all(|&d| d < 1e-5), "{differences:?}");
    assert_eq!(found, pass(sparse));
}
