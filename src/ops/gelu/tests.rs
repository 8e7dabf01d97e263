use dfdx::prelude::*;

use super::*;
use crate::kernels::cpu::element::Element;
use crate::kernels::reference::gelu as reference;

/// Against the plain loops, and that the relative error of y is no larger than `tail` on the left, where y is
/// almost nothing.
fn check<E: Element + Dtype>(x: &[f64], tolerance: f64, tail: f64)
where
    Cpu: Backend<E>,
{
    let dev = Cpu::default();
    let narrow = |v: &[f64]| -> Vec<E> { v.iter().map(|&v| E::from_f64(v).unwrap()).collect() };
    let wide = |v: Vec<E>| -> Vec<f64> { v.iter().map(|v| v.to_f64().unwrap()).collect() };
    let dy: Vec<f64> = (0..x.len()).map(|i| (i as f64 * 0.7).cos() + 0.1).collect();
    let xt = dev.tensor_from_vec(narrow(x), (x.len(),));
    let dyt = dev.tensor_from_vec(narrow(&dy), (x.len(),));
    let (x, dy) = (wide(xt.as_vec()), wide(dyt.as_vec()));
    let y = try_gelu(xt.leaky_trace()).unwrap();
    for ((found, expected), x) in wide(y.as_vec()).iter().zip(reference::forward(&x)).zip(&x) {
        let allowed = match *x < -1.0 {
            true => tail * expected.abs(),
            false => tolerance * expected.abs().max(1.0),
        };
        assert!(
            (found - expected).abs() <= allowed,
            "{x}: {found} is not {expected}"
        );
    }
    let grads = (y * dyt).sum::<Rank0, _>().backward();
    let expected = reference::backward(&x, &dy);
    for ((found, expected), x) in wide(grads.get(&xt).as_vec()).iter().zip(expected).zip(&x) {
        let allowed = tolerance * expected.abs().max(1.0);
        assert!(
            (found - expected).abs() <= allowed,
            "{x}: {found} is not {expected}"
        );
    }
}

#[test]
fn kernels_equal_the_plain_loops() {
    let x: Vec<f64> = (-1200..=1200)
        .map(|i| f64::from(i) * 0.01 + 0.001)
        .collect();
    check::<f32>(&x, 5e-7, 1e-5);
    check::<f64>(&x, 2e-14, 1e-12);
    let far = [-30.0, -20.0, 15.0, 40.0, 1e3, 1e30];
    check::<f64>(&far, 1e-14, 1e-12);
}

#[test]
fn longer_than_a_block() {
    let len = 2 * crate::kernels::cpu::blocks::ELEMENTS + 7;
    let x: Vec<f32> = (0..len).map(|i| (i as f32).sin()).collect();
    let dev = Cpu::default();
    let y = try_gelu(dev.tensor_from_vec(x.clone(), (len,)))
        .unwrap()
        .as_vec();
    for start in [0, len - 9] {
        let part = dev.tensor_from_vec(x[start..start + 9].to_vec(), (9,));
        assert_eq!(try_gelu(part).unwrap().as_vec(), y[start..start + 9]);
    }
}

/// ```python
/// x = torch.tensor([-3.0, -0.5, 0.0, 2.0], dtype=torch.float64, requires_grad=True)
/// y = F.gelu(x); y.backward(torch.tensor([1.0, 2.0, 3.0, -1.0])); print(y, x.grad)
/// ```
#[test]
fn numbers_are_those_of_pytorch() {
    let dev = Cpu::default();
    let x = dev.tensor([-3.0f64, -0.5, 0.0, 2.0]);
    let y = try_gelu(x.leaky_trace()).unwrap();
    let close = |found: Vec<f64>, expected: [f64; 4]| {
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-12, "{found}, {expected}");
        }
    };
    close(
        y.as_vec(),
        [
            -0.00404969409489,
            -0.15426876936299,
            0.00000000000000,
            1.95449973610364,
        ],
    );
    let grads = (y * dev.tensor([1.0, 2.0, 3.0, -1.0]))
        .sum::<Rank0, _>()
        .backward();
    close(
        grads.get(&x).as_vec(),
        [
            -0.01194564720418,
            0.26500975068767,
            1.50000000000000,
            -1.08523180107820,
        ],
    );
}

#[test]
fn nan_stays_and_large_numbers_are_finite() {
    let dev = Cpu::default();
    let y = try_gelu(dev.tensor([f32::NAN, -1e30, 1e30, -200.0]))
        .unwrap()
        .array();
    assert!(y[0].is_nan());
    assert!(
        y[1].abs() < 1e-30 && y[2] == 1e30 && y[3].abs() < 1e-30,
        "{y:?}"
    );
}
