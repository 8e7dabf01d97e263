use dfdx::prelude::*;
use proptest::prelude::*;

use super::*;
use crate::kernels::reference::silu as reference;

fn check<E: crate::kernels::cpu::element::Element + Dtype>(x: Vec<E>, dy: Vec<E>, tolerance: f64)
where
    Cpu: Backend<E>,
{
    let dev = Cpu::default();
    let shape = (x.len(),);
    let (xt, dyt) = (
        dev.tensor_from_vec(x.clone(), shape),
        dev.tensor_from_vec(dy.clone(), shape),
    );
    let wide = |v: Vec<E>| -> Vec<f64> { v.iter().map(|v| v.to_f64().unwrap()).collect() };
    let (x, dy) = (wide(x), wide(dy));
    let y = try_silu(xt.leaky_trace()).unwrap();
    assert_close(wide(y.as_vec()), reference::forward(&x), tolerance);
    let grads = (y * dyt).sum::<Rank0, _>().backward();
    let dx = wide(grads.get(&xt).as_vec());
    assert_close(dx, reference::backward(&x, &dy), tolerance);
}

fn assert_close(found: Vec<f64>, expected: Vec<f64>, tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    for (f, e) in found.iter().zip(&expected) {
        assert!(
            (f - e).abs() <= tolerance * e.abs().max(1.0),
            "{f} is not {e}"
        );
    }
}

proptest! {
    #[test]
    fn kernels_equal_the_plain_loops(
        pairs in proptest::collection::vec((-30.0..30.0f64, -2.0..2.0f64), 1..200),
    ) {
        let (x, dy): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
        let narrow = |v: &[f64]| v.iter().map(|&v| v as f32).collect::<Vec<_>>();
        check(narrow(&x), narrow(&dy), 3e-6);
        check(x, dy, 1e-14);
    }
}

#[test]
fn longer_than_a_block() {
    let len = 2 * crate::kernels::cpu::blocks::ELEMENTS + 7;
    let x: Vec<f32> = (0..len).map(|i| (i as f32).sin()).collect();
    check(x.clone(), x, 1e-6);
}

/// ```python
/// x = torch.tensor([-3.0, -0.5, 0.0, 2.0], dtype=torch.float64, requires_grad=True)
/// y = F.silu(x); y.backward(torch.tensor([1.0, 2.0, 3.0, -1.0])); print(y, x.grad)
/// ```
#[test]
fn numbers_are_those_of_pytorch() {
    let dev = Cpu::default();
    let x = dev.tensor([-3.0f64, -0.5, 0.0, 2.0]);
    let y = try_silu(x.leaky_trace()).unwrap();
    let expected = [-0.142277619533, -0.188770334399, 0.0, 1.761594155956];
    assert_close(y.as_vec(), expected.to_vec(), 1e-11);
    let grads = (y * dev.tensor([1.0, 2.0, 3.0, -1.0]))
        .sum::<Rank0, _>()
        .backward();
    let expected = [-0.088104106015, 0.520077625395, 1.5, -1.090784248785];
    assert_close(grads.get(&x).as_vec(), expected.to_vec(), 1e-11);
}

#[test]
fn nan_stays_and_views_are_copied() {
    let dev = Cpu::default();
    let y = try_silu(dev.tensor([f32::NAN, -200.0, 200.0]))
        .unwrap()
        .array();
    assert!(y[0].is_nan());
    assert_eq!(y[1..], [0.0, 200.0]);
    let x = dev.tensor([[1.0f64, -2.0, 3.0], [-4.0, 5.0, -6.0]]);
    let y = try_silu(x.leaky_trace().permute::<Rank2<3, 2>, _>()).unwrap();
    let expected = reference::forward(&[1.0, -4.0, -2.0, 5.0, 3.0, -6.0]);
    assert_close(y.as_vec(), expected, 1e-14);
    let grads = y.sum::<Rank0, _>().backward();
    let expected = x.as_vec().into_iter().map(reference::derivative).collect();
    assert_close(grads.get(&x).as_vec(), expected, 1e-14);
}
