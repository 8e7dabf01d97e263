use dfdx::prelude::*;
use proptest::prelude::*;

use super::*;
use crate::kernels::cpu::element::Element;
use crate::kernels::reference::upsample as reference;
use crate::ops::add::add_hidden;

type Images<E> = Tensor<(usize, usize, usize, usize), E, Cpu>;

fn images<E: Element + Dtype>(shape: [usize; 4], seed: f64) -> Images<E> {
    let number = |i| E::from_f64((i as f64 * 0.37 + seed).sin()).unwrap();
    let data = (0..shape.iter().product()).map(number).collect();
    let [b, c, h, w] = shape;
    Cpu::default().tensor_from_vec(data, (b, c, h, w))
}

fn check<E: Element + Dtype>([b, c, h, w]: [usize; 4])
where
    Cpu: Backend<E>,
{
    let x = images::<E>([b, c, h, w], 0.0);
    let dy = images::<E>([b, c, 2 * h, 2 * w], 1.0);
    let close = |a: Vec<E>, b: Vec<E>| {
        let eps = E::epsilon() * E::from_f64(8.0).unwrap();
        a.len() == b.len() && a.iter().zip(b).all(|(&a, b)| (a - b).abs() < eps)
    };
    let y = try_upsample_nearest2d(x.leaky_trace(), (2 * h, 2 * w)).unwrap();
    assert_eq!(y.as_vec(), reference::forward([h, w], &x.as_vec()));
    let grads = (y * dy.clone()).sum::<Rank0, _>().backward();
    let expected = reference::backward([h, w], &dy.as_vec());
    assert!(close(grads.get(&x).as_vec(), expected.clone()));

    // Over a link: into an empty one, and on top of that.
    let zeros: Images<E> = Cpu::default().zeros_like(x.shape());
    let z = add_hidden(x.leaky_trace().into(), zeros.into()).unwrap();
    let again = z.with_empty_tape();
    let y = upsample_nearest2d_hidden(z, (2 * h, 2 * w)).unwrap();
    let y = add_hidden(y, upsample_nearest2d_hidden(again, (2 * h, 2 * w)).unwrap()).unwrap();
    let grads = (y.into_tensor().unwrap() * dy).sum::<Rank0, _>().backward();
    let twice = expected.iter().map(|&g| g + g).collect();
    assert!(close(grads.get(&x).as_vec(), twice));
}

proptest! {
    #[test]
    fn kernels_equal_the_plain_loops(b in 1..3usize, c in 1..4usize, h in 1..9usize, w in 1..40usize) {
        check::<f32>([b, c, h, w]);
        check::<f64>([b, c, h, w]);
    }
}

#[test]
fn more_rows_than_a_task_takes() {
    check::<f32>([4, 5, 32, 32]);
}

#[test]
fn sizes_that_are_not_twice_the_images_are_errors() {
    for to in [(4, 7), (5, 6), (2, 3), (0, 0)] {
        let error = try_upsample_nearest2d(images::<f32>([1, 1, 2, 3], 0.0), to);
        let error = error.unwrap_err().to_string();
        assert!(error.contains("twice [2, 3]"), "{error}");
    }
}
