use ssprop::internals::args::Fill;
use ssprop::internals::{Conv2DKernel, Conv2DShape, KeptGrad, Ranking, Views};
use ssprop::prelude::*;
use ssprop::{use_tf32, Tf32};

use crate::convolution::{count, shape, use_cudnn, Convolution};
use crate::support::{agree, download, noise, on_host, room, upload};

fn shapes() -> Vec<Conv2DShape> {
    vec![
        shape([3, 1, 1, 1, 1], [3, 9, 8, 7], 10),
        shape([3, 2, 1, 1, 1], [2, 4, 9, 8], 6),
        shape([1, 1, 0, 1, 1], [2, 5, 6, 6], 7),
        shape([1, 2, 0, 1, 1], [2, 5, 7, 6], 7),
        shape([5, 1, 0, 1, 1], [1, 2, 9, 8], 3),
        shape([3, 1, 2, 2, 1], [2, 3, 9, 9], 4),
        shape([3, 2, 3, 3, 2], [2, 4, 11, 10], 6),
        // By a product for each image; with more channels than pixels dW is not.
        shape([1, 1, 0, 1, 1], [3, 5, 8, 8], 7),
        shape([1, 1, 0, 1, 1], [1, 12, 10, 12], 20),
        shape([1, 1, 0, 1, 1], [2, 129, 8, 8], 140),
        // Each channel by itself.
        shape([3, 1, 1, 1, 8], [2, 8, 6, 5], 8),
        // One output pixel; and padding wider than the image.
        shape([2, 1, 0, 1, 1], [3, 3, 2, 2], 4),
        shape([3, 3, 4, 1, 1], [1, 2, 2, 3], 3),
    ]
}

/// Shapes, with cuDNN and without.
fn cases() -> Vec<(Conv2DShape, bool)> {
    let cases = |shape| [(shape, cfg!(feature = "cudnn")), (shape, false)];
    let mut cases: Vec<_> = shapes().into_iter().flat_map(cases).collect();
    cases.dedup();
    cases
}

#[test]
fn forward() {
    for (shape, with_cudnn) in cases() {
        use_cudnn(with_cudnn);
        for with_bias in [false, true] {
            agree!(1e-5, |dev: D| {
                let x = upload(&dev, &noise(count(shape.x()), 1));
                let w = upload(&dev, &noise(count(shape.weight()), 2));
                let bias = upload(&dev, &noise(shape.c_out(), 3));
                let mut y = room(&dev, count(shape.y(shape.c_out())));
                let bias = with_bias.then(|| D::buffer(&bias));
                let to = D::buffer_mut(&mut y);
                D::conv2d_forward(&shape, D::buffer(&x), D::buffer(&w), bias, to).unwrap();
                vec![("y", download(&dev, &y))]
            });
        }
    }
}

/// All channels, some, one, and with groups only those of one.
fn choices(c_out: usize) -> Vec<Option<Vec<usize>>> {
    let some = (0..c_out).filter(|c| c % 3 != 1).collect();
    vec![None, Some(some), Some(vec![c_out - 1])]
}

#[test]
fn backward() {
    for (shape, with_cudnn) in cases() {
        use_cudnn(with_cudnn);
        for kept in choices(shape.c_out()) {
            for fill in [Fill::Overwrite, Fill::Add] {
                let case = case(shape, kept.clone(), false, fill);
                agree!(1e-5, |dev: D| { case.on(&dev) });
            }
        }
    }
}

fn case(shape: Conv2DShape, kept: Option<Vec<usize>>, padded: bool, fill: Fill) -> Convolution {
    Convolution {
        shape,
        kept,
        padded,
        fill,
        seed: 1,
    }
}

/// What the tiled kernels know: images of every way to cut them, channels that fill no tile.
fn tiled() -> Vec<Conv2DShape> {
    let images = [
        [1, 1, 1, 1],
        [2, 3, 5, 7],
        [3, 20, 4, 4],
        [2, 16, 8, 8],
        [1, 9, 18, 16],
        [1, 2, 10, 32],
        [1, 2, 3, 70],
        [1, 1, 2, 113],
    ];
    let of = |image: [usize; 4]| shape([3, 1, 1, 1, 1], image, 1 + image[1] * 2);
    images.map(of).into()
}

/// What cuBLAS multiplies image by image: channels that are padded, and those that are not.
fn pointwise() -> Vec<Conv2DShape> {
    let of = |[batch, inputs, outputs]: [usize; 3]| {
        shape([1, 1, 0, 1, 1], [batch, inputs, 8, 10], outputs)
    };
    [[1, 3, 5], [3, 6, 20], [2, 20, 9]].map(of).into()
}

#[test]
fn in_tf32() {
    // We round factors to the nearest number; cuBLAS may cut them off.
    let tiled = tiled().into_iter().map(|shape| (shape, 1e-3));
    for (shape, within) in tiled.chain(pointwise().into_iter().map(|shape| (shape, 2e-3))) {
        for kept in choices(shape.c_out()) {
            for fill in [Fill::Overwrite, Fill::Add] {
                let case = case(shape, kept.clone(), true, fill);
                agree!(within, |dev: D| {
                    use_tf32(Tf32::Convolutions);
                    case.on(&dev)
                });
            }
        }
    }
}

/// By the way that is the default of each shape: tiles, products of images, cuDNN, which also has many channels.
#[test]
fn the_same_bits_each_time() {
    let dev = crate::support::cuda();
    use_tf32(Tf32::Convolutions);
    use_cudnn(cfg!(feature = "cudnn"));
    let by_cudnn = [
        shape([3, 2, 1, 1, 1], [2, 4, 9, 8], 6),
        shape([3, 1, 1, 1, 1], [1, 130, 3, 4], 57),
    ];
    for shape in [&tiled()[1..3], &pointwise(), &by_cudnn].concat() {
        for kept in choices(shape.c_out()) {
            let case = case(shape, kept, true, Fill::Overwrite);
            let bits = || case.on(&dev).into_iter().flat_map(|(_, values)| values);
            assert!(
                bits().map(f32::to_bits).eq(bits().map(f32::to_bits)),
                "{case:?}"
            );
        }
    }
}

#[test]
fn what_is_set_for_a_thread_holds_on_a_pool_that_it_starts() {
    let convolved = || {
        let dev = ssprop::cuda_device(0).unwrap();
        let conv = dev.build_module::<SparseConv2D<16, 16, 3, 1, 1>, f32>();
        let x: Tensor<Rank4<1, 16, 8, 8>, f32, _> = dev.sample_normal();
        conv.forward(x).as_vec()
    };
    let [off, on] = [Tf32::Off, Tf32::Convolutions].map(|tf32| {
        use_tf32(tf32);
        let inside = ssprop::on_threads(Some(2), convolved).unwrap();
        assert_eq!(inside, convolved(), "{tf32:?}");
        inside
    });
    assert_ne!(off, on);
}

#[test]
fn an_empty_batch() {
    let shape = shape([3, 1, 1, 1, 1], [0, 3, 5, 5], 4);
    agree!(0.0, |dev: D| {
        let (none, mut no_y, mut no_dx) = (room(&dev, 0), room(&dev, 0), room(&dev, 0));
        let w = upload(&dev, &noise(count(shape.weight()), 2));
        let mut dw = upload(&dev, &noise(count(shape.weight()), 5));
        let (x, weight) = (D::buffer(&none), D::buffer(&w));
        D::conv2d_forward(&shape, x, weight, None, D::buffer_mut(&mut no_y)).unwrap();
        for kept in [None, Some(vec![1, 2])] {
            let kept = kept.map(|kept| dev.keep(kept, shape.c_out()).unwrap());
            let dy = KeptGrad {
                data: D::buffer(&none),
                kept: kept.as_ref().map(D::kept),
            };
            let to = D::buffer_mut(&mut no_dx);
            D::conv2d_backward_input(&shape, weight, dy, to, Fill::Add).unwrap();
            D::conv2d_backward_weight(&shape, x, dy, D::buffer_mut(&mut dw)).unwrap();
        }
        vec![("dw", download(&dev, &dw))]
    });
}

#[test]
fn what_chooses_channels_and_columns() {
    let (batch, channels, pixels) = (3, 11, 35);
    let len = batch * channels * pixels;
    agree!(1e-6, |dev: D| {
        let dy = upload(&dev, &noise(len, 1));
        let of_channels = dev.channel_importance(D::buffer(&dy), channels, pixels);
        let of_pixels = dev.column_importance(D::buffer(&dy), pixels);
        let of_elements = dev.column_importance(D::buffer(&dy), channels * pixels);
        let kept = dev.keep(vec![0, 3, 4, 10], channels).unwrap();
        let mut shrunk = room(&dev, batch * 4 * pixels);
        let to = D::buffer_mut(&mut shrunk);
        D::gather_channels(D::buffer(&dy), channels, pixels, D::kept(&kept), to).unwrap();
        let mut masked = room(&dev, len);
        let to = D::buffer_mut(&mut masked);
        D::mask_columns(D::buffer(&dy), pixels, D::kept(&kept), to).unwrap();
        let mut zeroed = upload(&dev, &noise(len, 2));
        let to = D::buffer_mut(&mut zeroed);
        D::zero_dropped(to, channels, pixels, D::kept(&kept)).unwrap();
        let mut scaled = upload(&dev, &noise(len, 3));
        D::scale(D::buffer_mut(&mut scaled), 1.7).unwrap();
        vec![
            ("channels", on_host::<D>(of_channels.ok())),
            ("pixels", on_host::<D>(of_pixels.ok())),
            ("elements", on_host::<D>(of_elements.ok())),
            ("shrunk", download(&dev, &shrunk)),
            ("masked", download(&dev, &masked)),
            ("zeroed", download(&dev, &zeroed)),
            ("scaled", download(&dev, &scaled)),
        ]
    });
}

#[test]
fn wrong_sizes_are_errors() {
    let dev = crate::support::cuda();
    type D = dfdx::tensor::Cuda;
    let shape = shape([3, 1, 1, 1, 1], [1, 2, 5, 5], 4);
    let (x, w) = (room(&dev, 50), room(&dev, count(shape.weight()) - 1));
    let mut y = room(&dev, 100);
    let to = D::buffer_mut(&mut y);
    let error = D::conv2d_forward(&shape, D::buffer(&x), D::buffer(&w), None, to).unwrap_err();
    assert!(error.to_string().contains("weight"), "{error}");
}
