use dfdx::prelude::*;

use super::*;
use crate::kernels::cpu::element::Element;
use crate::kernels::reference::layer_norm as reference;
use crate::on_threads;
use crate::ops::add::add_hidden;

type Images<const C: usize, E> = Tensor<(usize, Const<C>, usize, usize), E, Cpu>;

fn numbers<E: Dtype>(len: usize, seed: f64) -> Vec<E> {
    let number = |i| ((i as f64 + 1.0) * (1.7 + seed)).sin() + seed;
    (0..len).map(|i| E::from_f64(number(i)).unwrap()).collect()
}

fn wide<E: Dtype>(v: Vec<E>) -> Vec<f64> {
    v.iter().map(|v| v.to_f64().unwrap()).collect()
}

fn close(found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(1.0, |m: f64, e| m.max(e.abs()));
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        let error = (found - expected).abs() / largest;
        assert!(error <= tolerance, "{i}: {found}, expected {expected}");
    }
}

/// y, dx, dweight and dbias.
fn run<const C: usize, E: Element + Dtype>([b, h, w]: [usize; 3], offset: f64) -> [Vec<f64>; 4]
where
    Cpu: Backend<E>,
{
    let dev = Cpu::default();
    let len = b * C * h * w;
    let x = numbers(len, 0.3)
        .into_iter()
        .map(|x: E| x + E::from_f64(offset).unwrap());
    let x: Images<C, E> = dev.tensor_from_vec(x.collect(), (b, Const, h, w));
    let weight = dev.tensor_from_vec(numbers(C, 0.7), (Const,));
    let bias = dev.tensor_from_vec(numbers(C, -0.2), (Const,));
    let y = try_layer_norm(x.leaky_trace(), &weight, &bias, LayerNormOp::default()).unwrap();
    let values = y.as_vec();
    let dy: Images<C, E> = dev.tensor_from_vec(numbers(len, 0.45), (b, Const, h, w));
    let grads = (y * dy).sum::<Rank0, _>().backward();
    let found = [
        values,
        grads.get(&x).as_vec(),
        grads.get(&weight).as_vec(),
        grads.get(&bias).as_vec(),
    ];
    found.map(wide)
}

fn check<const C: usize>(sizes: [usize; 3], offset: f64, tolerance: f64) {
    let [b, h, w] = sizes;
    let len = b * C * h * w;
    let input = reference::Input {
        dims: [b, C, h * w],
        eps: 1e-6,
        x: &numbers::<f64>(len, 0.3)
            .into_iter()
            .map(|x| x + offset)
            .collect::<Vec<_>>(),
        weight: &numbers(C, 0.7),
        bias: &numbers(C, -0.2),
    };
    let [dx, dweight, dbias] = reference::backward(&input, &numbers(len, 0.45));
    let expected = [reference::forward(&input), dx, dweight, dbias];
    let found = run::<C, f64>(sizes, offset).into_iter().zip(&expected);
    found.for_each(|(found, expected)| close(&found, expected, 1e-8));
    let found = run::<C, f32>(sizes, offset).into_iter().zip(&expected);
    found.for_each(|(found, expected)| close(&found, expected, tolerance));
}

#[test]
fn kernels_equal_the_plain_loops() {
    // Planes below a vector, of no whole number of vectors, and more than a task takes.
    check::<32>([3, 1, 1], 0.0, 1e-5);
    check::<5>([2, 3, 3], 0.0, 1e-5);
    check::<64>([7, 7, 7], 0.0, 1e-5);
    check::<3>([2, 37, 41], 0.0, 1e-4);
    check::<80>([2, 16, 16], 0.0, 1e-5);
}

#[test]
fn the_variance_survives_a_large_mean() {
    check::<24>([2, 3, 4], 100.0, 1e-3);
}

#[test]
fn features_are_an_image_of_one_position() {
    let dev = Cpu::default();
    let flat: Tensor<Rank2<3, 6>, f32, _> = dev.tensor_from_vec(numbers(18, 0.3), (Const, Const));
    let images: Tensor<Rank4<3, 6, 1, 1>, f32, _> = flat.clone().reshape();
    let (weight, bias) = (dev.sample_normal(), dev.sample_normal());
    let op = LayerNormOp::default();
    let flat = try_layer_norm(flat, &weight, &bias, op).unwrap().as_vec();
    let images = try_layer_norm(images, &weight, &bias, op).unwrap().as_vec();
    assert_eq!(flat, images);
}

/// ```python
/// x = torch.sin(torch.arange(6.0, dtype=torch.float64)).reshape(2, 3).requires_grad_()
/// w, b = torch.tensor([1.0, 2.0, -0.5]).double(), torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)
/// y = F.layer_norm(x, (3,), w, b, 1e-6); (y * torch.tensor([1.0, -2.0, 0.5])).sum().backward()
/// ```
#[test]
fn numbers_are_those_of_pytorch() {
    let dev = Cpu::default();
    let x: Vec<f64> = (0..6).map(|i| f64::from(i).sin()).collect();
    let x: Tensor<Rank2<2, 3>, f64, _> = dev.tensor_from_vec(x, (Const, Const));
    let (weight, bias) = (dev.tensor([1.0, 2.0, -0.5]), dev.tensor([0.1, 0.2, 0.3]));
    let y = try_layer_norm(x.leaky_trace(), &weight, &bias, LayerNormOp::default()).unwrap();
    close(
        &y.as_vec(),
        &[
            -1.3110363408143,
            1.4470416503928,
            -0.0937577578090,
            1.4929881586987,
            -0.7702285104147,
            0.7539369517457,
        ],
        1e-11,
    );
    let dy: Tensor<Rank2<2, 3>, f64, _> = dev.tensor([[1.0, -2.0, 0.5]; 2]);
    let grads = (y * dy).sum::<Rank0, _>().backward();
    close(
        &grads.get(&x).as_vec(),
        &[
            0.3722945013482,
            -4.9907151487695,
            4.6184206474213,
            0.8996607672558,
            -4.8963110772878,
            3.9966503100321,
        ],
        1e-11,
    );
}

#[test]
fn gradients_over_links_add_up_and_bits_do_not_depend_on_threads() {
    let bits = |threads| {
        on_threads(Some(threads), || {
            let dev = Cpu::default();
            let x: Images<12, f32> =
                dev.tensor_from_vec(numbers(9 * 12 * 64, 0.3), (9, Const, 8, 8));
            let zeros: Images<12, f32> = dev.zeros_like(x.shape());
            let (weight, bias) = (dev.tensor([1.5; 12]), dev.zeros());
            let norm = |x| layer_norm_hidden(x, &weight, &bias, LayerNormOp::default()).unwrap();
            let once = norm(x.leaky_trace().into()).into_tensor().unwrap();
            let once = once.exp().sum::<Rank0, _>().backward().get(&x).as_vec();
            // A slot that two write to.
            let z = add_hidden(x.leaky_trace().into(), zeros.into()).unwrap();
            let again = z.with_empty_tape();
            let y = add_hidden(norm(z), norm(again))
                .unwrap()
                .into_tensor()
                .unwrap();
            let twice = (y * 0.5)
                .exp()
                .sum::<Rank0, _>()
                .backward()
                .get(&x)
                .as_vec();
            close(&wide(twice.clone()), &wide(once), 1e-5);
            twice.into_iter().map(f32::to_bits).collect::<Vec<_>>()
        })
        .unwrap()
    };
    assert_eq!(bits(1), bits(2));
}

#[test]
fn empty_batches_and_wrong_options() {
    let dev = Cpu::default();
    for [b, h, w] in [[0, 2, 2], [2, 0, 2]] {
        let x: Images<3, f32> = dev.zeros_like(&(b, Const, h, w));
        let (weight, bias) = (dev.ones(), dev.zeros());
        let y = try_layer_norm(x.leaky_trace(), &weight, &bias, LayerNormOp::default()).unwrap();
        assert_eq!(*y.shape(), (b, Const, h, w));
    }
    for eps in [-1.0, f64::NAN] {
        let x: Tensor<Rank2<1, 3>, f32, _> = dev.zeros();
        let err = try_layer_norm(x, &dev.ones(), &dev.zeros(), LayerNormOp { eps }).unwrap_err();
        assert!(err.to_string().contains("eps"), "{err}");
    }
}
