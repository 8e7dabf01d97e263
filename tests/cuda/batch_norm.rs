use ssprop::internals::args::batch_norm::{Activation, BatchNorm2DOp, Input, Saved, Statistics};
use ssprop::internals::args::{Fill, ImageDims};
use ssprop::internals::{BatchNorm2DKernel, Ranking, Views};

use crate::support::{agree, download, noise, on_host, room, upload};

/// B, C, H W
const SIZES: [[usize; 3]; 4] = [[3, 5, 63], [2, 3, 4], [4, 33, 1], [5, 2, 2500]];

fn dims([batch, channels, plane]: [usize; 3]) -> ImageDims {
    ImageDims {
        batch,
        channels,
        plane,
    }
}

/// With and without a residual, with and without a ReLU.
fn forms() -> impl Iterator<Item = (bool, BatchNorm2DOp)> {
    [false, true].into_iter().flat_map(|residual| {
        [Activation::Identity, Activation::ReLU].map(|activation| {
            let op = BatchNorm2DOp {
                activation,
                ..Default::default()
            };
            (residual, op)
        })
    })
}

/// Not around 0, and of another size in each channel.
fn images([batch, channels, plane]: [usize; 3], seed: u64) -> Vec<f32> {
    let mut x = noise(batch * channels * plane, seed);
    for (i, x) in x.iter_mut().enumerate() {
        let channel = (i / plane % channels) as f32;
        *x = *x * (0.1 + channel) + 3.0 * channel - 5.0;
    }
    x
}

#[test]
fn train_forward() {
    for size in SIZES {
        for (residual, op) in forms() {
            agree!(1e-5, |dev: D| {
                let [b, c, plane] = size;
                let x = upload(&dev, &images(size, 1));
                let r = upload(&dev, &noise(b * c * plane, 2));
                let (weight, bias) = (upload(&dev, &noise(c, 3)), upload(&dev, &noise(c, 4)));
                let mut running = [upload(&dev, &noise(c, 5)), upload(&dev, &vec![1.5; c])];
                let mut y = room(&dev, b * c * plane);
                let mut saved = [(); 2].map(|()| room(&dev, c));
                let input = Input {
                    x: D::buffer(&x),
                    residual: residual.then(|| D::buffer(&r)),
                    weight: D::buffer(&weight),
                    bias: D::buffer(&bias),
                };
                let [to_running, to_saved] =
                    [&mut running, &mut saved].map(|buffers| buffers.each_mut().map(D::buffer_mut));
                let to = D::buffer_mut(&mut y);
                D::batch_norm2d_train(&op, dims(size), input, to_running, to, to_saved, None)
                    .unwrap();
                vec![
                    ("y", download(&dev, &y)),
                    ("running mean", download(&dev, &running[0])),
                    ("running variance", download(&dev, &running[1])),
                    ("mean", download(&dev, &saved[0])),
                    ("inv_std", download(&dev, &saved[1])),
                ]
            });
        }
    }
}

#[test]
fn eval_forward() {
    for size in SIZES.into_iter().chain([[0, 3, 4]]) {
        for (residual, op) in forms() {
            agree!(1e-5, |dev: D| {
                let [b, c, plane] = size;
                let x = upload(&dev, &images(size, 1));
                let r = upload(&dev, &noise(b * c * plane, 2));
                let (weight, bias) = (upload(&dev, &noise(c, 3)), upload(&dev, &noise(c, 4)));
                let running = [upload(&dev, &noise(c, 5)), upload(&dev, &vec![1.5; c])];
                let (mut y, mut inv_std) = (room(&dev, b * c * plane), room(&dev, c));
                let input = Input {
                    x: D::buffer(&x),
                    residual: residual.then(|| D::buffer(&r)),
                    weight: D::buffer(&weight),
                    bias: D::buffer(&bias),
                };
                let running = running.each_ref().map(D::buffer);
                let (to, to_inv_std) = (D::buffer_mut(&mut y), D::buffer_mut(&mut inv_std));
                D::batch_norm2d_eval(&op, dims(size), input, running, to, to_inv_std).unwrap();
                vec![
                    ("y", download(&dev, &y)),
                    ("inv_std", download(&dev, &inv_std)),
                ]
            });
        }
    }
}

/// Where the gradient of x goes.
const PLACES: [Option<Fill>; 3] = [None, Some(Fill::Add), Some(Fill::Overwrite)];

fn check_backward(size: [usize; 3], statistics: Statistics, (residual, op): (bool, BatchNorm2DOp)) {
    let [b, c, plane] = size;
    let len = b * c * plane;
    for (place, importance) in PLACES.iter().flat_map(|p| [(*p, false), (*p, true)]) {
        agree!(1e-5, |dev: D| {
            let x = upload(&dev, &noise(len, 1));
            let y = upload(&dev, &noise(len, 2));
            let (weight, bias) = (upload(&dev, &noise(c, 3)), upload(&dev, &noise(c, 4)));
            let (mean, inv_std) = (
                upload(&dev, &noise(c, 5)),
                upload(
                    &dev,
                    &noise(c, 6).iter().map(|v| v.abs()).collect::<Vec<_>>(),
                ),
            );
            let saved = Saved {
                x: D::buffer(&x),
                y: (residual && op.activation == Activation::ReLU).then(|| D::buffer(&y)),
                weight: D::buffer(&weight),
                bias: D::buffer(&bias),
                mean: D::buffer(&mean),
                inv_std: D::buffer(&inv_std),
            };
            let mut dy = upload(&dev, &noise(len, 7));
            let mut dx = upload(&dev, &noise(len, 8));
            let mut params = [9, 10].map(|seed| upload(&dev, &noise(c, seed)));
            let mut mean_dx = importance.then(|| dev.take_importance(c).unwrap());
            let to_importance = mean_dx.as_mut().map(D::importance_mut);
            let to_dy = D::buffer_mut(&mut dy);
            let to_dx = place.map(|fill| (D::buffer_mut(&mut dx), fill));
            let to_params = params.each_mut().map(D::buffer_mut);
            D::batch_norm2d_backward(
                &op,
                statistics,
                dims(size),
                saved,
                to_dy,
                to_dx,
                to_importance,
                to_params,
                None,
            )
            .unwrap();
            vec![
                ("dy", download(&dev, &dy)),
                ("dx", download(&dev, &dx)),
                ("importance", on_host::<D>(mean_dx)),
                ("dweight", download(&dev, &params[0])),
                ("dbias", download(&dev, &params[1])),
            ]
        });
    }
}

#[test]
fn backward() {
    for size in SIZES {
        for form in forms() {
            for statistics in [Statistics::Batch, Statistics::Running] {
                check_backward(size, statistics, form);
            }
        }
    }
}

#[test]
fn a_wrong_size_is_an_error() {
    type D = dfdx::tensor::Cuda;
    let dev = crate::support::cuda();
    let [x, weight, bias] = [24, 2, 3].map(|len| room(&dev, len));
    let [mut y, mut inv_std] = [24, 3].map(|len| room(&dev, len));
    let input = Input {
        x: D::buffer(&x),
        residual: None,
        weight: D::buffer(&weight),
        bias: D::buffer(&bias),
    };
    let error = D::batch_norm2d_eval(
        &BatchNorm2DOp::default(),
        dims([2, 3, 4]),
        input,
        [D::buffer(&bias); 2],
        D::buffer_mut(&mut y),
        D::buffer_mut(&mut inv_std),
    );
    assert!(error.unwrap_err().to_string().contains("weight"));
}
