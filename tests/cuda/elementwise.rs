//! Operations that go element by element, and the loss.

use ssprop::internals::args::concat::Part;
use ssprop::internals::args::distance::Distance;
use ssprop::internals::args::dropout::DropoutMask;
use ssprop::internals::args::{Fill, ImageDims};
use ssprop::internals::{
    AddReLUKernel, ConcatKernel, CrossEntropyKernel, DistanceKernel, DropoutKernel, GELUKernel,
    PositionEmbeddingKernel, SiLUKernel, UpsampleKernel, Views,
};

use crate::support::{agree, download, noise, room, upload};

const FILLS: [Fill; 2] = [Fill::Overwrite, Fill::Add];

#[test]
fn add_relu() {
    let len = 5000;
    agree!(0.0, |dev: D| {
        let (a, b) = (upload(&dev, &noise(len, 1)), upload(&dev, &noise(len, 2)));
        let mut y = room(&dev, len);
        D::add_relu_forward(D::buffer(&a), D::buffer(&b), D::buffer_mut(&mut y)).unwrap();
        let mut dy = upload(&dev, &noise(len, 3));
        D::add_relu_backward(D::buffer(&y), D::buffer_mut(&mut dy)).unwrap();
        vec![("y", download(&dev, &y)), ("dy", download(&dev, &dy))]
    });
}

#[test]
fn silu() {
    let len = 5000;
    for fill in FILLS {
        agree!(1e-6, |dev: D| {
            let x: Vec<f32> = noise(len, 1).iter().map(|v| v * 20.0).collect();
            let (x, dy) = (upload(&dev, &x), upload(&dev, &noise(len, 2)));
            let mut y = room(&dev, len);
            D::silu_forward(D::buffer(&x), D::buffer_mut(&mut y)).unwrap();
            let mut dx = upload(&dev, &noise(len, 3));
            let to = D::buffer_mut(&mut dx);
            D::silu_backward(D::buffer(&x), D::buffer(&dy), to, fill).unwrap();
            vec![("y", download(&dev, &y)), ("dx", download(&dev, &dx))]
        });
    }
}

#[test]
fn gelu() {
    let len = 5000;
    for fill in FILLS {
        agree!(1e-6, |dev: D| {
            let x: Vec<f32> = noise(len, 1).iter().map(|v| v * 4.0).collect();
            let (x, dy) = (upload(&dev, &x), upload(&dev, &noise(len, 2)));
            let mut y = room(&dev, len);
            D::gelu_forward(D::buffer(&x), D::buffer_mut(&mut y)).unwrap();
            let mut dx = upload(&dev, &noise(len, 3));
            let to = D::buffer_mut(&mut dx);
            D::gelu_backward(D::buffer(&x), D::buffer(&dy), to, fill).unwrap();
            vec![("y", download(&dev, &y)), ("dx", download(&dev, &dx))]
        });
    }
}

#[test]
fn position_embedding() {
    for [batch, channels, plane] in [[3, 5, 49], [2, 64, 9], [0, 4, 6]] {
        let dims = ImageDims {
            batch,
            channels,
            plane,
        };
        let (len, image) = (batch * channels * plane, channels * plane);
        agree!(1e-6, |dev: D| {
            let x = upload(&dev, &noise(len, 1));
            let embedding = upload(&dev, &noise(image, 2));
            let mut y = room(&dev, len);
            let (from, to) = (D::buffer(&embedding), D::buffer_mut(&mut y));
            D::position_embedding_forward(dims, D::buffer(&x), from, to).unwrap();
            let mut gradient = upload(&dev, &noise(image, 3));
            let to = D::buffer_mut(&mut gradient);
            D::position_embedding_backward(dims, D::buffer(&y), to).unwrap();
            vec![
                ("y", download(&dev, &y)),
                ("gradient", download(&dev, &gradient)),
            ]
        });
    }
}

#[test]
fn dropout_has_the_masks_of_the_cpu() {
    // Several blocks of the mask.
    let len = 40_000;
    let mask = DropoutMask::new(0.3, 0x1234_5678_9abc_def0).unwrap();
    for fill in FILLS {
        agree!(0.0, |dev: D| {
            let (x, dy) = (upload(&dev, &noise(len, 1)), upload(&dev, &noise(len, 2)));
            let mut y = room(&dev, len);
            D::dropout_forward(&mask, D::buffer(&x), D::buffer_mut(&mut y)).unwrap();
            let mut dx = upload(&dev, &noise(len, 3));
            D::dropout_backward(&mask, D::buffer(&dy), D::buffer_mut(&mut dx), fill).unwrap();
            vec![("y", download(&dev, &y)), ("dx", download(&dev, &dx))]
        });
    }
}

#[test]
fn concat() {
    let (images, left, right) = (3, 35, 21);
    let whole = left + right;
    let parts = [0..left, left..whole].map(|range| Part { whole, range });
    for fill in FILLS {
        agree!(0.0, |dev: D| {
            let mut y = room(&dev, images * whole);
            let mut found = vec![];
            for (part, seed) in parts.iter().zip(1..) {
                let x = upload(&dev, &noise(images * part.range.len(), seed));
                D::concat_forward(part, D::buffer(&x), D::buffer_mut(&mut y)).unwrap();
            }
            for part in &parts {
                let mut dx = upload(&dev, &noise(images * part.range.len(), 3));
                D::concat_backward(part, D::buffer(&y), D::buffer_mut(&mut dx), fill).unwrap();
                found.push(("dx", download(&dev, &dx)));
            }
            found.push(("y", download(&dev, &y)));
            found
        });
    }
}

#[test]
fn upsample() {
    let (planes, [h, w]) = (6, [5, 7]);
    let len = planes * h * w;
    for fill in FILLS {
        agree!(1e-6, |dev: D| {
            let (x, dy) = (
                upload(&dev, &noise(len, 1)),
                upload(&dev, &noise(4 * len, 2)),
            );
            let mut y = room(&dev, 4 * len);
            D::upsample_nearest2d_forward(w, D::buffer(&x), D::buffer_mut(&mut y)).unwrap();
            let mut dx = upload(&dev, &noise(len, 3));
            let to = D::buffer_mut(&mut dx);
            D::upsample_nearest2d_backward(w, D::buffer(&dy), to, fill).unwrap();
            vec![("y", download(&dev, &y)), ("dx", download(&dev, &dx))]
        });
    }
}

#[test]
fn distance() {
    for distance in [Distance::L1, Distance::L2] {
        for (len, fill) in [(1, FILLS[0]), (50_000, FILLS[0]), (777, FILLS[1])] {
            agree!(1e-6, |dev: D| {
                let (x, target) = (upload(&dev, &noise(len, 1)), upload(&dev, &noise(len, 2)));
                let mut y = room(&dev, 1);
                let to = D::buffer_mut(&mut y);
                D::distance_forward(distance, D::buffer(&x), D::buffer(&target), to).unwrap();
                let dy = upload(&dev, &[0.7]);
                let mut dx = upload(&dev, &noise(len, 3));
                D::distance_backward(
                    distance,
                    D::buffer(&x),
                    D::buffer(&target),
                    D::buffer(&dy),
                    D::buffer_mut(&mut dx),
                    fill,
                )
                .unwrap();
                vec![("y", download(&dev, &y)), ("dx", download(&dev, &dx))]
            });
        }
    }
}

#[test]
fn cross_entropy() {
    for (rows, classes, fill) in [
        (1, 1, FILLS[0]),
        (9, 10, FILLS[1]),
        (3, 100, FILLS[0]),
        (0, 5, FILLS[1]),
    ] {
        let len = rows * classes;
        agree!(1e-6, |dev: D| {
            let (x, target) = (upload(&dev, &noise(len, 1)), upload(&dev, &noise(len, 2)));
            let (x, target) = (D::buffer(&x), D::buffer(&target));
            let mut y = room(&dev, 1);
            D::cross_entropy_forward(classes, x, target, D::buffer_mut(&mut y)).unwrap();
            let dy = upload(&dev, &[0.7]);
            let mut dx = upload(&dev, &noise(len, 3));
            let (dy, to) = (D::buffer(&dy), D::buffer_mut(&mut dx));
            D::cross_entropy_backward(classes, x, target, dy, to, fill).unwrap();
            vec![("y", download(&dev, &y)), ("dx", download(&dev, &dx))]
        });
    }
}
