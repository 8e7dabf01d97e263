use dfdx::prelude::*;

use super::*;

#[test]
fn both_passes_equal_dfdx() {
    let dev = Cpu::default();
    let x: Tensor<Rank4<3, 5, 2, 4>, f64, _> = dev.sample_normal();
    let embedding: Tensor<Rank3<1, 8, 5>, f64, _> = dev.sample_normal();
    let dy: Tensor<Rank4<3, 5, 2, 4>, f64, _> = dev.sample_normal();
    let y = try_position_embedding(x.leaky_trace(), &embedding).unwrap();
    let plain = embedding
        .leaky_trace()
        .permute::<Rank3<1, 5, 8>, _>()
        .reshape::<Rank3<5, 2, 4>>()
        .broadcast::<Rank4<3, 5, 2, 4>, _>()
        + x.clone();
    assert_eq!(y.as_vec(), plain.as_vec());
    let found = (y * dy.clone()).sum::<Rank0, _>().backward();
    let expected = (plain * dy).sum::<Rank0, _>().backward();
    assert_eq!(found.get(&x).as_vec(), expected.get(&x).as_vec());
    let (found, expected) = (
        found.get(&embedding).as_vec(),
        expected.get(&embedding).as_vec(),
    );
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() < 1e-14, "{found}, {expected}");
    }
}

#[test]
fn another_number_of_positions_is_an_error() {
    let dev = Cpu::default();
    let x: Tensor<(usize, Const<3>, usize, usize), f32, _> = dev.zeros_like(&(2, Const, 2, 2));
    let embedding: Tensor<Rank3<1, 5, 3>, f32, _> = dev.zeros();
    let err = try_position_embedding(x, &embedding)
        .unwrap_err()
        .to_string();
    assert!(err.contains("expected 4, found 5"), "{err}");
    let none: Tensor<(usize, Const<3>, usize, usize), f32, _> = dev.zeros_like(&(0, Const, 1, 5));
    assert_eq!(
        try_position_embedding(none, &embedding).unwrap().shape().0,
        0
    );
}
