//! Which channels a backward pass keeps, and that the host need not know.

use dfdx::tensor_ops::Backward as _;
use ssprop::internals::{
    Buffer, Conv2DKernel, HostAccess, KeptGrad, Ranking, ShrunkGradient, Views,
};
use ssprop::ops::conv2d::{conv2d, Conv2DOp, Conv2DShape, SparseBackward, Window};
use ssprop::prelude::*;
use ssprop::sparsity::{Draw, Masking};

use crate::support::{agree, download, noise, upload};

/// The indices, by what a gather does with them: it copies each channel's own number.
fn indices<D: Conv2DKernel<f32> + HostAccess<f32>>(
    dev: &D,
    kept: &D::Kept,
    n: usize,
) -> Vec<usize> {
    let numbers: Vec<f32> = (0..n).map(|i| i as f32).collect();
    let (from, mut to) = (
        upload(dev, &numbers),
        upload(dev, &vec![-1.0; D::kept_of(kept)[0]]),
    );
    let kept = D::kept(kept);
    D::gather_channels(D::buffer(&from), n, 1, kept, D::buffer_mut(&mut to)).unwrap();
    download(dev, &to).into_iter().map(|i| i as usize).collect()
}

#[test]
fn the_largest_are_those_of_the_cpu() {
    let cuda = crate::support::cuda();
    for n in [1, 2, 31, 64, 257, 1000, 1025] {
        // Each row by itself is a batch of one image; many equal ones, and some NaN.
        let ties: Vec<f32> = (0..n).map(|i| ((i * 37) % 5) as f32).collect();
        let mut broken = noise(n, 3);
        broken
            .iter_mut()
            .skip(1)
            .step_by(11)
            .for_each(|v| *v = f32::NAN);
        broken
            .iter_mut()
            .skip(2)
            .step_by(13)
            .for_each(|v| *v = f32::INFINITY);
        for dy in [ties, broken, vec![0.0; n], noise(n, 4)] {
            let on_device = upload(&cuda, &dy);
            let exact: Vec<f64> = dy.iter().map(|&v| f64::from(v).abs()).collect();
            for count in [1, n.div_ceil(5), n / 2 + 1, n] {
                let importance = cuda
                    .channel_importance(Cuda::buffer(&on_device), n, 1)
                    .unwrap();
                let kept = cuda.largest(importance, n, count).unwrap();
                let expected =
                    <Cpu as Conv2DKernel<f32>>::largest(&Cpu::default(), exact.clone(), n, count)
                        .unwrap();
                assert_eq!(indices(&cuda, &kept, n), expected[..], "{count} of {dy:?}");
            }
        }
    }
    let importance = cuda.take_importance(7).unwrap();
    let err = cuda.largest(importance, 8, 3).unwrap_err().to_string();
    assert!(err.contains("expected 8, found 7"), "{err}");
}

/// Whose sums come in several parts, of which the last one is smaller.
#[test]
fn channels_of_many_pixels() {
    let cuda = crate::support::cuda();
    for (n, pixels, count) in [(3, 9_000, 1), (40, 4_097, 7), (1_030, 4_100, 300)] {
        let dy = noise(n * pixels, 5);
        let on_device = upload(&cuda, &dy);
        let importance = cuda.channel_importance(Cuda::buffer(&on_device), n, pixels);
        let kept = cuda.largest(importance.unwrap(), n, count).unwrap();
        let importance = Cpu::default().channel_importance(&dy, n, pixels).unwrap();
        let expected = <Cpu as Conv2DKernel<f32>>::largest(&Cpu::default(), importance, n, count);
        assert_eq!(indices(&cuda, &kept, n), expected.unwrap()[..], "{n}");
    }
}

#[test]
fn any_number_of_indices_comes_to_the_device() {
    let cuda = crate::support::cuda();
    for n in [1, 959, 960, 961, 3000] {
        let chosen: Vec<usize> = (0..n).map(|i| 2 * i + 1).collect();
        let kept = cuda.keep(chosen.clone(), 2 * n).unwrap();
        assert_eq!(Cuda::kept_of(&kept), [n, 2 * n]);
        assert_eq!(indices(&cuda, &kept, 2 * n), chosen);
        assert_eq!(Cuda::kept_on_host(&kept), Some(&chosen[..]));
    }
}

fn selections() -> [Selection; 5] {
    [
        Selection::TopK,
        Selection::Random {
            seed: 3,
            rescale: true,
        },
        Selection::Random {
            seed: 4,
            rescale: false,
        },
        Selection::Rotation { rescale: true },
        Selection::Adaptive(AdaptiveKeep::new(0.5).unwrap()),
    ]
}

/// All that a convolution's backward pass can be told.
fn ways() -> Vec<SparseBackward> {
    let mut ways = Vec::new();
    for selection in selections() {
        let plain = SparseBackward {
            drop_rate: DropRate::new(0.6).unwrap(),
            selection,
            draw: Draw::new("conv", 5),
            ..SparseBackward::default()
        };
        let only_weight = SparseBackward {
            only_weight_sparse: true,
            ..plain
        };
        let dense_products = SparseBackward {
            dense_below: DropRate::new(0.9).unwrap(),
            ..plain
        };
        let masks = [Masking::Positions, Masking::Elements];
        let masked = masks.map(|masking| SparseBackward { masking, ..plain });
        ways.extend([plain, only_weight, dense_products]);
        ways.extend(masked);
    }
    ways
}

type Images<D> = Tensor<Rank4<3, 4, 7, 6>, f32, D>;

/// The gradients of a convolution in two groups and of one in one.
fn gradients<D: ssprop::Backend<f32>>(
    dev: &D,
    backward: SparseBackward,
) -> Vec<(&'static str, Vec<f32>)> {
    let x: Images<D> = dev.tensor_from_vec(noise(504, 1), Default::default());
    let w: Tensor<Rank4<10, 2, 3, 3>, f32, D> =
        dev.tensor_from_vec(noise(180, 2), Default::default());
    let b: Tensor<Rank1<10>, f32, D> = dev.tensor_from_vec(noise(10, 3), Default::default());
    let narrow: Tensor<Rank4<6, 10, 1, 1>, f32, D> =
        dev.tensor_from_vec(noise(60, 4), Default::default());
    let window = Window::<1, 1, 1, 2>;
    let y = conv2d(x.leaky_trace(), &w, Some(&b), window, backward).unwrap();
    let y = conv2d(y, &narrow, None, Window::<2, 0>, backward).unwrap();
    let grads = y.square().mean().backward();
    vec![
        ("dx", grads.get(&x).as_vec()),
        ("dw", grads.get(&w).as_vec()),
        ("db", grads.get(&b).as_vec()),
        ("dw of one group", grads.get(&narrow).as_vec()),
    ]
}

#[test]
fn every_selection_and_mask_has_the_gradients_of_the_cpu() {
    for backward in ways() {
        agree!(1e-5, |dev: D| { gradients(&dev, backward) });
    }
}

#[test]
fn the_same_bits_each_time() {
    let dev = crate::support::cuda();
    for backward in ways() {
        assert_eq!(gradients(&dev, backward), gradients(&dev, backward));
    }
}

#[test]
fn kept_channels_that_are_none_are_refused() {
    let dev = crate::support::cuda();
    let op = Conv2DOp {
        kernel: 1,
        stride: 1,
        padding: 0,
        dilation: 1,
        groups: 1,
    };
    let shape = Conv2DShape::new(op, [2, 1, 1, 1], 4).unwrap();
    for (indices, is_right) in [(vec![1, 4], false), (vec![2, 1], false), (vec![1, 3], true)] {
        let dy = Buffer::from_dfdx(upload(&dev, &noise(8, 1)));
        let kept = dev.keep(indices.clone(), 4);
        let shrunk = kept.and_then(|kept| ShrunkGradient::gather(&dev, &shape, &dy, kept));
        assert_eq!(shrunk.is_ok(), is_right, "{indices:?}");
        let of_others = dev.keep(vec![1, 3], 5).unwrap();
        assert!(ShrunkGradient::gather(&dev, &shape, &dy, of_others).is_err());
        if let Ok(shrunk) = shrunk {
            let KeptGrad { kept, .. } = shrunk.view();
            assert_eq!(kept.map(|kept| kept.len()), Some(2));
        }
    }
}

/// Nothing comes back to the host where it knows how many are kept.
#[cfg(cuda_emulator)]
#[test]
fn the_host_reads_nothing() {
    use crate::support::DriverCalls;
    use ssprop::internals::BackwardGradient;

    let dev = crate::support::cuda();
    let op = Conv2DOp {
        kernel: 3,
        stride: 1,
        padding: 1,
        dilation: 1,
        groups: 1,
    };
    let shape = Conv2DShape::new(op, [2, 3, 5, 5], 12).unwrap();
    let choose = |backward: &SparseBackward| {
        let dy = Buffer::from_dfdx(upload(&dev, &noise(600, 1)));
        DriverCalls::of(|| {
            BackwardGradient::new(&dev, &shape, dy, backward, None).unwrap();
        })
    };
    for backward in ways() {
        let adaptive = matches!(backward.selection, Selection::Adaptive(_));
        let found = choose(&backward);
        assert_eq!(found.copies_to_host > 0, adaptive, "{backward:?}");
        assert_eq!(found.synchronisations, 0);
    }
}
