use super::*;
use crate::args::conv2d::{Conv2DOp, Conv2DShape, Epilogue, OutputGrad};
use crate::args::KeptChannels;
use crate::cpu::conv2d::testing::{error, random, wide};
use crate::cpu::simd::Isa;
use crate::reference::conv2d as reference;
use rand::{rngs::StdRng, SeedableRng};

const OP: Conv2DOp = Conv2DOp {
    kernel: 3,
    stride: 1,
    padding: 1,
    dilation: 1,
    groups: 1,
};

/// What the documentation of `ops::conv2d::conv2d` promises, as a share of the largest element.
const TOLERANCE: f64 = 5e-6;

/// All three products against the reference in f64, for every instruction set.
fn check(batch: usize, c_in: usize, [h, w]: [usize; 2], c_out: usize, kept: Option<Vec<usize>>) {
    let mut rng = StdRng::seed_from_u64(7);
    let shape = Conv2DShape::new(OP, [batch, c_in, h, w], c_out).unwrap();
    let x = random(&mut rng, batch * c_in * h * w);
    let weight = random(&mut rng, c_out * c_in * 9);
    let bias = random(&mut rng, c_out);
    let kept = kept.map(|kept| KeptChannels::new(kept, c_out).unwrap());
    let kept = kept.as_ref();
    let n = kept.map_or(c_out, |kept| kept.len());
    let dy = random(&mut rng, batch * n * h * w);
    let wide_dy = wide(&dy);
    let wide_grad = OutputGrad {
        data: &wide_dy[..],
        kept,
    };

    let y = reference::forward(&shape, &wide(&x), &wide(&weight), Some(&wide(&bias)));
    let mut dx = vec![1.0; x.len()];
    reference::backward_input(&shape, &wide(&weight), wide_grad, &mut dx);
    let mut dw = vec![1.0; weight.len()];
    reference::backward_weight(&shape, &wide(&x), wide_grad, &mut dw);

    for isa in Isa::available() {
        let planes = Planes {
            batch,
            size: [h, w],
            from: c_in,
            to: c_out,
        };
        let mut found = vec![f32::NAN; y.len()];
        let filters = Filters::Forward { w: &weight, c_in };
        conv(
            isa,
            planes,
            &x,
            filters,
            &mut found,
            Write::Overwrite(Epilogue::bias(Some(&bias))),
        );
        let e = error(&found, &y);
        println!("y, {isa:?}: {e:.1e}");
        assert!(e < TOLERANCE, "y, {isa:?}: {e}");

        let mut found = vec![1.0; x.len()];
        let filters = Filters::Backward {
            w: &weight,
            c_in,
            kept,
        };
        let turned = Planes {
            from: n,
            to: c_in,
            ..planes
        };
        conv(isa, turned, &dy, filters, &mut found, Write::Accumulate);
        let e = error(&found, &dx);
        println!("dX, {isa:?}: {e:.1e}");
        assert!(e < TOLERANCE, "dX, {isa:?}: {e}");

        let mut found = vec![1.0; weight.len()];
        let planes = Planes { to: n, ..planes };
        let grad = OutputGrad {
            data: &dy[..],
            kept,
        };
        gradient(isa, planes, &x, grad, &mut found);
        let e = error(&found, &dw);
        println!("dW, {isa:?}: {e:.1e}");
        assert!(e < TOLERANCE, "dW, {isa:?}: {e}");
    }
}

#[test]
fn whole_tiles_and_vectors() {
    check(2, 16, [8, 8], 32, None);
}

#[test]
fn cut_tiles_and_vectors() {
    check(3, 5, [7, 9], 18, None);
    check(1, 17, [5, 3], 3, Some(vec![1]));
    check(2, 20, [1, 6], 33, Some(vec![0, 7, 32]));
}

#[test]
fn many_filters_go_by_channels() {
    check(3, 136, [6, 5], 150, None);
    check(40, 150, [4, 4], 141, Some((0..128).collect()));
}

#[test]
fn many_tiles_are_cut_into_chunks() {
    check(300, 130, [4, 4], 140, None);
}

#[test]
fn many_images_are_summed_in_parts() {
    check(70, 8, [9, 9], 12, Some(vec![2, 3, 11]));
}

#[test]
fn large_images_go_by_channels() {
    check(1, 9, [70, 68], 10, None);
}

#[test]
fn errors_with_many_channels_are_small() {
    for channels in [512, 2048] {
        check(1, channels, [8, 8], 16, None);
        check(1, 16, [8, 8], channels, None);
    }
}

#[test]
fn a_pixel_that_is_not_finite_stays_near() {
    let mut x = vec![1.0f32; 8 * 16 * 16];
    x[8 * 16 + 9] = f32::INFINITY;
    let w = vec![1.0; 8 * 8 * 9];
    let planes = Planes {
        batch: 1,
        size: [16, 16],
        from: 8,
        to: 8,
    };
    let mut y = vec![0.0; 8 * 16 * 16];
    let filters = Filters::Forward { w: &w, c_in: 8 };
    conv(
        Isa::detect(),
        planes,
        &x,
        filters,
        &mut y,
        Write::Overwrite(Epilogue::bias(None)),
    );
    // Channel 0's pixel (8, 9) lies in the tiles of rows and columns 4..12 and 8..12.
    assert!(!y[8 * 16 + 9].is_finite());
    assert!(y[..4 * 16].iter().all(|y| y.is_finite()));
    assert!(y[12 * 16..16 * 16].iter().all(|y| y.is_finite()));
}

/// Where a pixel's window leaves the image along one axis.
fn edge(i: usize, len: usize) -> [bool; 2] {
    [i == 0, i + 1 == len]
}

#[test]
fn flat_images_stay_flat_to_the_bit() {
    let mut rng = StdRng::seed_from_u64(3);
    let (c_in, c_out) = (19, 24);
    let weight = random(&mut rng, c_out * c_in * 9);
    let bias = random(&mut rng, c_out);
    for [h, w] in [[8, 8], [16, 12], [7, 14], [28, 5], [4, 9], [3, 8]] {
        // One level a channel, as a background is after a few layers.
        let levels = random(&mut rng, c_in);
        let plane = |&level: &f32| std::iter::repeat_n(level, h * w);
        let x: Vec<f32> = [0, 1]
            .iter()
            .flat_map(|_| levels.iter().flat_map(plane))
            .collect();
        for isa in Isa::available() {
            for (filters, channels) in [
                (Filters::Forward { w: &weight, c_in }, [c_in, c_out]),
                (
                    Filters::Backward {
                        w: &weight,
                        c_in: c_out,
                        kept: None,
                    },
                    [c_in, c_out],
                ),
            ] {
                let planes = Planes {
                    batch: 2,
                    size: [h, w],
                    from: channels[0],
                    to: channels[1],
                };
                let mut y = vec![f32::NAN; 2 * c_out * h * w];
                conv(
                    isa,
                    planes,
                    &x,
                    filters,
                    &mut y,
                    Write::Overwrite(Epilogue::bias(Some(&bias))),
                );
                for (nth, plane) in y.chunks(h * w).enumerate() {
                    let first = &y[nth % c_out * h * w..][..h * w];
                    for (q, &y) in plane.iter().enumerate() {
                        // The first pixel of the first image whose window is cut alike.
                        let alike = |&p: &usize| {
                            edge(p / w, h) == edge(q / w, h) && edge(p % w, w) == edge(q % w, w)
                        };
                        let alike = (0..h * w).find(alike).unwrap();
                        assert_eq!(y, first[alike], "{isa:?} {h}x{w}, {nth}: {q}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_flat_part_of_an_image_stays_flat_to_the_bit() {
    // The lower right of a picture: from pixel (10, 9) on there is nothing but background.
    let mut rng = StdRng::seed_from_u64(4);
    let (c, n) = (16, 24);
    let weight = random(&mut rng, c * c * 9);
    let mut x = random(&mut rng, c * n * n);
    for plane in x.chunks_mut(n * n) {
        for (q, x) in plane.iter_mut().enumerate() {
            if q / n >= 10 && q % n >= 9 {
                *x = 0.7;
            }
        }
    }
    let planes = Planes {
        batch: 1,
        size: [n, n],
        from: c,
        to: c,
    };
    let mut y = vec![f32::NAN; c * n * n];
    let filters = Filters::Forward {
        w: &weight,
        c_in: c,
    };
    conv(
        Isa::detect(),
        planes,
        &x,
        filters,
        &mut y,
        Write::Overwrite(Epilogue::bias(None)),
    );
    for plane in y.chunks(n * n) {
        // From the first whole tile in the background on.
        for row in 12..n - 1 {
            for col in 12..n - 1 {
                assert_eq!(plane[row * n + col], plane[12 * n + 12], "{row}, {col}");
            }
        }
    }
}

#[test]
fn numbers_up_to_the_documented_limit_stay_finite() {
    let (c, [h, w]) = (8, [9, 10]);
    let shape = Conv2DShape::new(OP, [1, c, h, w], c).unwrap();
    let mut rng = StdRng::seed_from_u64(6);
    let mut signs = |len: usize, size: f64| -> Vec<f32> {
        let sign = |s: f32| size as f32 * s.signum();
        random(&mut rng, len).into_iter().map(sign).collect()
    };
    // A thousand times the terms of a sum, times the largest factors, is f32's largest number.
    let large = 1e36;
    let small = |terms: usize| f64::from(f32::MAX) / (1000.0 * terms as f64 * large);
    let planes = Planes {
        batch: 1,
        size: [h, w],
        from: c,
        to: c,
    };
    let (len, weights) = (c * h * w, c * c * 9);
    for isa in Isa::available() {
        for _ in 0..20 {
            let (x, weight) = (signs(len, large), signs(weights, small(9 * c)));
            let expected = reference::forward(&shape, &wide(&x), &wide(&weight), None);
            let mut found = vec![f32::NAN; len];
            let filters = Filters::Forward {
                w: &weight,
                c_in: c,
            };
            conv(
                isa,
                planes,
                &x,
                filters,
                &mut found,
                Write::Overwrite(Epilogue::bias(None)),
            );
            assert!(error(&found, &expected) < TOLERANCE, "y, {isa:?}");

            for (x, dy) in [(large, small(h * w)), (small(h * w), large)] {
                let (x, dy) = (signs(len, x), signs(len, dy));
                let mut expected = vec![0.0; weights];
                let wide_dy = wide(&dy);
                let grad = OutputGrad {
                    data: &wide_dy[..],
                    kept: None,
                };
                reference::backward_weight(&shape, &wide(&x), grad, &mut expected);
                let mut found = vec![0.0; weights];
                let grad = OutputGrad {
                    data: &dy[..],
                    kept: None,
                };
                gradient(isa, planes, &x, grad, &mut found);
                assert!(error(&found, &expected) < TOLERANCE, "dW, {isa:?}");
            }
        }
    }
}
