use dfdx::prelude::*;
use proptest::prelude::*;

use super::*;
use crate::kernels::reference::pool as reference;

type Shape4 = (usize, usize, usize, usize);

/// Small integers: many ties.
fn images(shape: Shape4, seed: usize) -> Vec<f64> {
    let len = shape.0 * shape.1 * shape.2 * shape.3;
    (0..len)
        .map(|i| ((i + seed) * 2654435761 % 1000 / 143) as f64 - 3.0)
        .collect()
}

fn check<const K: usize, const S: usize, const P: usize>(shape: Shape4)
where
    usize: ConvDim<K, S, P, 1, Out = usize>,
{
    let Ok((op, out)) = geometry(&shape, Pool2D::<K, S, P>) else {
        return;
    };
    let dev = Cpu::default();
    let planes = shape.0 * shape.1;
    let (x, dy) = (images(shape, 1), images(out, 5));
    let (xt, dyt): (Tensor<Shape4, f64, _>, Tensor<Shape4, f64, _>) = (
        dev.tensor_from_vec(x.clone(), shape),
        dev.tensor_from_vec(dy.clone(), out),
    );

    let y = try_max_pool2d(xt.leaky_trace(), Pool2D::<K, S, P>).unwrap();
    let untraced = try_max_pool2d(xt.clone(), Pool2D::<K, S, P>).unwrap();
    assert_eq!(y.as_vec(), reference::max_forward(&op, planes, &x));
    assert_eq!(untraced.as_vec(), y.as_vec());
    let grads = (y * dyt.clone()).sum::<Rank0, _>().backward();
    let expected = reference::max_backward(&op, planes, &x, &dy);
    assert_eq!(grads.get(&xt).as_vec(), expected);

    let y = try_avg_pool2d(xt.leaky_trace(), Pool2D::<K, S, P>).unwrap();
    let close = |a: Vec<f64>, b: Vec<f64>| {
        assert_eq!(a.len(), b.len());
        assert!(
            a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-12),
            "{a:?} {b:?}"
        );
    };
    close(y.as_vec(), reference::avg_forward(&op, planes, &x));
    let grads = (y * dyt).sum::<Rank0, _>().backward();
    close(
        grads.get(&xt).as_vec(),
        reference::avg_backward(&op, planes, &dy),
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn kernels_equal_the_plain_loops(
        b in 1..3usize, c in 1..4usize, h in 1..12usize, w in 1..12usize,
    ) {
        let shape = (b, c, h, w);
        check::<1, 1, 0>(shape);
        check::<2, 2, 0>(shape);
        check::<3, 2, 1>(shape);
        check::<3, 1, 1>(shape);
        check::<2, 3, 1>(shape);
        check::<5, 2, 2>(shape);
        check::<4, 3, 2>(shape);
    }

    #[test]
    fn global_averages_equal_a_sum(b in 1..4usize, c in 1..5usize, h in 1..40usize, w in 1..40usize) {
        let dev = Cpu::default();
        let shape = (b, c, h, w);
        let data = images(shape, 3);
        let narrow = data.iter().map(|&v| v as f32).collect();
        let x: Tensor<Shape4, f32, _> = dev.tensor_from_vec(narrow, shape);
        let y = try_global_avg_pool2d(x.leaky_trace()).unwrap();
        for (y, plane) in y.as_vec().into_iter().zip(data.chunks(h * w)) {
            let mean = plane.iter().sum::<f64>() / (h * w) as f64;
            prop_assert!((y as f64 - mean).abs() < 1e-6);
        }
        let grads = y.square().sum::<Rank0, _>().backward();
        let dx = grads.get(&x).as_vec();
        for (dx, plane) in dx.chunks(h * w).zip(data.chunks(h * w)) {
            let mean = plane.iter().sum::<f64>() / (h * w) as f64;
            let expected = 2.0 * mean / (h * w) as f64;
            prop_assert!(dx.iter().all(|&dx| (dx as f64 - expected).abs() < 1e-6));
        }
    }
}

/// ```python
/// x = torch.tensor([1., 3, 3, 2, 5, 5, -1, 0, 4, 4, 4, 4, 9, 2, 7, 7, 1, 1, 1, 1, 0, 3, 3, 8, 2])
/// for pool in (torch.nn.MaxPool2d(3, 2, 1), torch.nn.AvgPool2d(3, 2, 1)):
///     x = x.detach().reshape(1, 1, 5, 5).requires_grad_()
///     y = pool(x); y.backward(torch.arange(1., 10).reshape(y.shape))
///     print(y, x.grad)
/// ```
#[test]
#[rustfmt::skip]
fn numbers_are_those_of_pytorch() {
    let dev = Cpu::default();
    let x = dev.tensor([[[
        [1.0f32, 3.0, 3.0, 2.0, 5.0], [5.0, -1.0, 0.0, 4.0, 4.0], [4.0, 4.0, 9.0, 2.0, 7.0],
        [7.0, 1.0, 1.0, 1.0, 1.0], [0.0, 3.0, 3.0, 8.0, 2.0],
    ]]]);
    let g = dev.tensor([[[[1.0f32, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]]]]);
    let y = crate::nn::modules::MaxPool2D::<3, 2, 1>.forward(x.leaky_trace());
    assert_eq!(y.as_vec(), [5.0, 4.0, 5.0, 7.0, 9.0, 7.0, 7.0, 8.0, 8.0]);
    let y = y.realize::<Rank4<1, 1, 3, 3>>();
    let grads = (y * g.clone()).sum::<Rank0, _>().backward();
    assert_eq!(grads.get(&x).as_vec(), [
        0.0, 0.0, 0.0, 0.0, 3.0, 1.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0, 5.0, 0.0, 6.0, 11.0, 0.0, 0.0,
        0.0, 0.0, 0.0, 0.0, 0.0, 17.0, 0.0,
    ]);

    let y = crate::nn::modules::AvgPool2D::<3, 2, 1>.forward(x.leaky_trace());
    let close = |a: Vec<f32>, b: &[f32]| {
        assert!(a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5), "{a:?}");
    };
    close(y.as_vec(), &[
        0.888889, 1.222222, 1.666667, 2.222222, 2.333333, 2.111111, 1.222222, 1.888889, 1.333333,
    ]);
    let grads = (y * g).sum::<Rank0, _>().backward();
    close(grads.get(&x).as_vec(), &[
        0.111111, 0.333333, 0.222222, 0.555556, 0.333333, 0.555556, 1.333333, 0.777778, 1.777778,
        1.0, 0.444444, 1.0, 0.555556, 1.222222, 0.666667, 1.222222, 2.666667, 1.444444, 3.111111,
        1.666667, 0.777778, 1.666667, 0.888889, 1.888889, 1.0,
    ]);
}

#[test]
fn nan_and_negative_infinity() {
    let dev = Cpu::default();
    let low = f32::NEG_INFINITY;
    let x = dev.tensor([[[[f32::NAN, 1.0, low, low], [2.0, 3.0, low, low]]]]);
    let y = crate::nn::modules::MaxPool2D::<2, 2, 0>.forward(x.leaky_trace());
    let maxima = y.as_vec();
    assert!(maxima[0].is_nan() && maxima[1] == low);
    let grads = y.sum::<Rank0, _>().backward();
    let expected = [1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0];
    assert_eq!(grads.get(&x).as_vec(), expected);
}

#[test]
fn errors_name_the_value() {
    let dev = Cpu::default();
    let x: Tensor<Shape4, f32, _> = dev.zeros_like(&(1, 1, 2, 2));
    let error = try_max_pool2d(x.clone(), Pool2D::<3, 1, 2>).unwrap_err();
    assert!(error.to_string().contains("padding = 2"), "{error}");
    let error = try_avg_pool2d(x, Pool2D::<3, 1, 0>).unwrap_err();
    assert!(error.to_string().contains("found 2"), "{error}");
    let x: Tensor<Shape4, f32, _> = dev.zeros_like(&(2, 1, 0, 2));
    let error = try_global_avg_pool2d(x).unwrap_err();
    assert!(error.to_string().contains("(0, 2)"), "{error}");
}

#[test]
fn results_do_not_depend_on_the_threads() {
    let dev = Cpu::default();
    let x: Tensor<Rank4<3, 7, 64, 64>, f32, _> = dev.sample_normal();
    let runs = [1, 2, 4].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build().unwrap().install(|| {
            let y = crate::nn::modules::MaxPool2D::<3, 2, 1>.forward(x.leaky_trace());
            let y = crate::nn::modules::AvgPool2D::<2, 2, 0>.forward(y);
            let y = try_global_avg_pool2d(y).unwrap();
            let out = y.as_vec();
            let dx = y.square().sum::<Rank0, _>().backward().get(&x).as_vec();
            out.into_iter()
                .chain(dx)
                .map(f32::to_bits)
                .collect::<Vec<_>>()
        })
    });
    assert_eq!(runs[0], runs[1]);
    assert_eq!(runs[0], runs[2]);
}
