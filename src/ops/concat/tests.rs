use dfdx::prelude::*;

use super::*;
use crate::ops::add::add_hidden;

type Images<const C: usize> = Tensor<(usize, Const<C>, usize, usize), f64, Cpu>;

fn images<const C: usize>(batch: usize, h: usize, w: usize, seed: f64) -> Images<C> {
    let len = batch * C * h * w;
    let data = (0..len).map(|i| (i as f64 * 0.37 + seed).sin()).collect();
    Cpu::default().tensor_from_vec(data, (batch, Const, h, w))
}

/// The images' elements one after the other: those of `a`, then those of `b`, image by image.
fn interleaved(batch: usize, a: &[f64], b: &[f64]) -> Vec<f64> {
    let (a, b) = (a.chunks(a.len() / batch), b.chunks(b.len() / batch));
    a.zip(b).flat_map(|(a, b)| [a, b].concat()).collect()
}

#[test]
fn images_lie_side_by_side_and_so_do_their_gradients() {
    for (batch, h, w) in [(1, 1, 1), (3, 4, 5), (2, 8, 8)] {
        let (a, b) = (images::<2>(batch, h, w, 0.0), images::<3>(batch, h, w, 1.0));
        let (da, db) = (images::<2>(batch, h, w, 2.0), images::<3>(batch, h, w, 3.0));
        let dy = interleaved(batch, &da.as_vec(), &db.as_vec());
        let dy: Images<5> = Cpu::default().tensor_from_vec(dy, (batch, Const, h, w));

        let y = try_concat_channels(a.leaky_trace(), b.clone(), Const::<5>);
        let y = y.unwrap();
        assert_eq!(y.as_vec(), interleaved(batch, &a.as_vec(), &b.as_vec()));
        let grads = (y * dy.clone()).sum::<Rank0, _>().backward();
        assert_eq!(grads.get(&a).as_vec(), da.as_vec());
        assert_eq!(grads.get(&b).as_vec(), db.as_vec());

        // Over links: first into an empty one, then on top of another user's share.
        let zeros: Images<2> = Cpu::default().zeros_like(a.shape());
        let z = add_hidden(a.leaky_trace().into(), zeros.into()).unwrap();
        let (again, other) = (z.with_empty_tape(), z.with_empty_tape());
        let first = concat_channels_hidden(z, b.clone().into(), Const::<5>).unwrap();
        let second = concat_channels_hidden(again, other, Const::<4>).unwrap();
        let loss = (first.into_tensor().unwrap() * dy).sum::<Rank0, _>()
            + second.into_tensor().unwrap().sum::<Rank0, _>();
        let grads = loss.backward();
        let expected: Vec<f64> = da.as_vec().iter().map(|da| da + 2.0).collect();
        let found = grads.get(&a).as_vec();
        assert!(found
            .iter()
            .zip(expected)
            .all(|(f, e)| (f - e).abs() < 1e-14));
    }
}

#[test]
fn images_of_different_sizes_are_an_error() {
    for (batch, h, w) in [(1, 4, 5), (2, 3, 5), (2, 4, 4)] {
        let (a, b) = (images::<1>(2, 4, 5, 0.0), images::<1>(batch, h, w, 0.0));
        let error = try_concat_channels(a, b, Const::<2>).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("(2, 1, 4, 5)"), "{error}");
    }
    let none = images::<1>(0, 4, 5, 0.0);
    let y = try_concat_channels(none.clone(), none, Const::<2>).unwrap();
    assert_eq!(*y.shape(), (0, Const, 4, 5));
}
