use dfdx::prelude::*;
use proptest::prelude::*;

use super::*;
use crate::kernels::reference::add_relu as reference;

fn check<E: crate::kernels::cpu::element::Element + Dtype>(a: Vec<E>, b: Vec<E>, dy: Vec<E>)
where
    Cpu: Backend<E>,
{
    let dev = Cpu::default();
    let tensor = |v: &Vec<E>| dev.tensor_from_vec(v.clone(), (v.len(),));
    let (at, bt, dyt) = (tensor(&a), tensor(&b), tensor(&dy));
    let y = try_add_relu(at.leaky_trace(), bt.leaky_trace()).unwrap();
    assert_eq!(y.as_vec(), reference::forward(&a, &b));
    let grads = (y * dyt.clone()).sum::<Rank0, _>().backward();
    let expected = reference::backward(&a, &b, &dy);
    assert_eq!(grads.get(&at).as_vec(), expected);
    assert_eq!(grads.get(&bt).as_vec(), expected);

    // The same tensor twice gets both shares.
    let y = try_add_relu(at.leaky_trace(), at.clone()).unwrap();
    let grads = (y * dyt).sum::<Rank0, _>().backward();
    let expected: Vec<E> = reference::backward(&a, &a, &dy)
        .into_iter()
        .map(|v| v + v)
        .collect();
    assert_eq!(grads.get(&at).as_vec(), expected);
}

proptest! {
    #[test]
    fn kernels_equal_the_plain_loops(
        triples in proptest::collection::vec((-1.0..1.0f64, -1.0..1.0f64, -1.0..1.0f64), 1..200),
    ) {
        let a: Vec<f64> = triples.iter().map(|t| t.0).collect();
        let b: Vec<f64> = triples.iter().map(|t| t.1).collect();
        let dy: Vec<f64> = triples.iter().map(|t| t.2).collect();
        let narrow = |v: &[f64]| v.iter().map(|&v| v as f32).collect::<Vec<_>>();
        check(narrow(&a), narrow(&b), narrow(&dy));
        check(a, b, dy);
    }
}

#[test]
fn terms_of_different_shapes_are_an_error() {
    let dev = Cpu::default();
    let (a, b): (Tensor<(usize,), f32, _>, Tensor<(usize,), f32, _>) =
        (dev.zeros_like(&(3,)), dev.zeros_like(&(4,)));
    let error = try_add_relu(a, b).unwrap_err().to_string();
    assert!(error.contains("(3,)") && error.contains("(4,)"), "{error}");
}
