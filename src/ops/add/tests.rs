use dfdx::prelude::*;

use super::*;
use crate::ops::relu::try_relu;

type Numbers = Tensor<(usize,), f32, Cpu>;

fn numbers(len: usize, seed: f32) -> Numbers {
    let data = (0..len).map(|i| (i as f32 * 0.37 + seed).sin()).collect();
    Cpu::default().tensor_from_vec(data, (len,))
}

/// A hidden tensor: the sum of `x` and zeros.
fn hidden<T: Tape<f32, Cpu> + Merge<NoneTape>>(
    x: Tensor<(usize,), f32, Cpu, T>,
) -> Hidden<(usize,), f32, Cpu, T> {
    let zeros: Numbers = Cpu::default().zeros_like(x.shape());
    add_hidden(x.into(), zeros.into()).unwrap()
}

fn sum(a: Vec<f32>, b: Vec<f32>) -> Vec<f32> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

#[test]
fn both_terms_get_the_whole_gradient() {
    // One and several blocks of elements.
    for len in [1, 100, 40_000] {
        let (a, b, dy) = (numbers(len, 0.0), numbers(len, 1.0), numbers(len, 2.0));
        let y = try_add(a.leaky_trace(), b.leaky_trace()).unwrap();
        assert_eq!(y.as_vec(), sum(a.as_vec(), b.as_vec()));
        let grads = (y * dy.clone()).sum::<Rank0, _>().backward();
        assert_eq!(grads.get(&a).as_vec(), dy.as_vec());
        assert_eq!(grads.get(&b).as_vec(), dy.as_vec());
    }
}

#[test]
fn hidden_terms_in_every_combination() {
    let (a, b, dy) = (numbers(50, 0.0), numbers(50, 1.0), numbers(50, 2.0));
    let expected = dy.as_vec();
    let check = |y: Hidden<_, _, _, OwnedTape<f32, Cpu>>| {
        let grads = (y.into_tensor().unwrap() * dy.clone())
            .sum::<Rank0, _>()
            .backward();
        assert_eq!(grads.get(&a).as_vec(), expected);
        assert_eq!(grads.get(&b).as_vec(), expected);
    };
    check(add_hidden(hidden(a.leaky_trace()), b.leaky_trace().into()).unwrap());
    check(add_hidden(a.leaky_trace().into(), hidden(b.leaky_trace())).unwrap());
    check(add_hidden(hidden(a.leaky_trace()), hidden(b.leaky_trace())).unwrap());
}

#[test]
fn a_term_with_other_users_collects_their_gradients() {
    let (a, b, dy) = (numbers(50, 0.0), numbers(50, 1.0), numbers(50, 2.0));
    // z = f(a); y = (z + b) + z, with either order of the terms: z's link is empty, then not.
    for turn in [false, true] {
        let z = hidden(a.leaky_trace());
        let again = z.with_empty_tape();
        let inner = add_hidden(z, hidden(b.leaky_trace())).unwrap();
        let y = match turn {
            false => add_hidden(inner, again).unwrap(),
            true => add_hidden(again, inner).unwrap(),
        };
        let grads = (y.into_tensor().unwrap() * dy.clone())
            .sum::<Rank0, _>()
            .backward();
        assert_eq!(grads.get(&a).as_vec(), sum(dy.as_vec(), dy.as_vec()));
        assert_eq!(grads.get(&b).as_vec(), dy.as_vec());
    }
    // Both terms the same tensor, hidden and not.
    let twice = sum(dy.as_vec(), dy.as_vec());
    let z = hidden(a.leaky_trace());
    let again = z.with_empty_tape();
    let y = add_hidden(z, again).unwrap().into_tensor().unwrap();
    let grads = (y * dy.clone()).sum::<Rank0, _>().backward();
    assert_eq!(grads.get(&a).as_vec(), twice);
    let y = try_add(a.leaky_trace(), a.clone()).unwrap();
    let grads = (y * dy.clone()).sum::<Rank0, _>().backward();
    assert_eq!(grads.get(&a).as_vec(), twice);
}

#[test]
fn users_outside_this_crate_count_too() {
    let (a, b) = (numbers(50, 0.0), numbers(50, 1.0));
    let y = try_add(a.leaky_trace(), b.clone()).unwrap();
    let y = try_relu(y).unwrap() + a.clone();
    let grads = y.sum::<Rank0, _>().backward();
    let open = sum(a.as_vec(), b.as_vec());
    let open: Vec<f32> = open.iter().map(|&s| f32::from(s > 0.0)).collect();
    assert_eq!(grads.get(&b).as_vec(), open);
    assert_eq!(grads.get(&a).as_vec(), sum(open, vec![1.0; 50]));
}

#[test]
fn terms_of_different_shapes_are_an_error() {
    let error = try_add(numbers(3, 0.0), numbers(4, 0.0)).unwrap_err();
    let error = error.to_string();
    assert!(error.contains("(3,)") && error.contains("(4,)"), "{error}");
}
