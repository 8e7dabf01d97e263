use dfdx::prelude::*;
use proptest::prelude::*;

use super::*;
use crate::kernels::reference::relu as reference;

fn check<E: crate::kernels::cpu::element::Element + Dtype>(x: Vec<E>, dy: Vec<E>)
where
    Cpu: Backend<E>,
{
    let dev = Cpu::default();
    let shape = (x.len(),);
    let (xt, dyt) = (
        dev.tensor_from_vec(x.clone(), shape),
        dev.tensor_from_vec(dy.clone(), shape),
    );
    let y = try_relu(xt.leaky_trace()).unwrap();
    assert_eq!(y.as_vec(), reference::forward(&x));
    let grads = (y * dyt).sum::<Rank0, _>().backward();
    assert_eq!(grads.get(&xt).as_vec(), reference::backward(&x, &dy));
}

proptest! {
    #[test]
    fn kernels_equal_the_plain_loops(
        pairs in proptest::collection::vec((-1.0..1.0f64, -1.0..1.0f64), 1..200),
    ) {
        let (x, dy): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
        let narrow = |v: &[f64]| v.iter().map(|&v| v as f32).collect::<Vec<_>>();
        check(narrow(&x), narrow(&dy));
        check(x, dy);
    }
}

#[test]
fn longer_than_a_block() {
    let len = 2 * crate::kernels::cpu::blocks::ELEMENTS + 7;
    let x: Vec<f32> = (0..len).map(|i| (i as f32).sin()).collect();
    check(x.clone(), x);
}

#[test]
fn nan_stays_and_views_are_copied() {
    let dev = Cpu::default();
    let y = try_relu(dev.tensor([f32::NAN, -0.0])).unwrap().array();
    assert!(y[0].is_nan() && y[1] == 0.0);
    let x = dev.tensor([[1.0f32, -2.0, 3.0], [-4.0, 5.0, -6.0]]);
    let y = try_relu(x.leaky_trace().permute::<Rank2<3, 2>, _>()).unwrap();
    assert_eq!(y.array(), [[1.0, 0.0], [0.0, 5.0], [3.0, 0.0]]);
    let grads = y.sum::<Rank0, _>().backward();
    assert_eq!(grads.get(&x).array(), [[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]);
}
