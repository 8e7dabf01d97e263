use ssprop::internals::args::pool::Pool2DOp;
use ssprop::internals::args::{window_count, Fill};
use ssprop::internals::{Pool2DKernel, Views};

use crate::support::{agree, download, noise, room, upload};

const PLANES: usize = 5;
const FILLS: [Fill; 2] = [Fill::Overwrite, Fill::Add];

/// Windows that meet, overlap and leave gaps, with and without padding.
fn ops() -> impl Iterator<Item = Pool2DOp> {
    let windows = [
        [2, 2, 0],
        [3, 2, 1],
        [3, 1, 1],
        [1, 2, 0],
        [4, 3, 2],
        [2, 5, 1],
        [5, 1, 0],
    ];
    windows.into_iter().flat_map(|[kernel, stride, padding]| {
        [[7, 9], [8, 5], [19, 20]].map(|input| Pool2DOp {
            kernel,
            stride,
            padding,
            input,
            output: input.map(|size| window_count(size, kernel, stride, padding, 1).unwrap()),
        })
    })
}

fn elements([h, w]: [usize; 2]) -> usize {
    PLANES * h * w
}

/// Numbers; such with many equal ones; with NaN; nothing but -inf.
fn images(op: &Pool2DOp) -> [Vec<f32>; 4] {
    let x = noise(elements(op.input), 1);
    let equal = x.iter().map(|v| v.round()).collect();
    let nan = |(i, &v)| if i % 5 == 0 { f32::NAN } else { v };
    let with_nan = x.iter().enumerate().map(nan).collect();
    let low = vec![f32::NEG_INFINITY; x.len()];
    [x, equal, with_nan, low]
}

/// Numbers that can be compared, in place of those that cannot.
fn comparable(y: Vec<f32>) -> Vec<f32> {
    let number = |v: f32| match v {
        _ if v.is_nan() => 1000.0,
        f32::NEG_INFINITY => -1000.0,
        _ => v,
    };
    y.into_iter().map(number).collect()
}

#[test]
fn max() {
    for op in ops() {
        for (x, fill) in images(&op).iter().flat_map(|x| FILLS.map(|fill| (x, fill))) {
            agree!(1e-6, |dev: D| {
                let x = upload(&dev, x);
                let [mut y, mut alone, mut argmax] =
                    [(); 3].map(|()| room(&dev, elements(op.output)));
                let to_argmax = Some(D::buffer_mut(&mut argmax));
                D::max_pool2d_forward(&op, D::buffer(&x), D::buffer_mut(&mut y), to_argmax)
                    .unwrap();
                D::max_pool2d_forward(&op, D::buffer(&x), D::buffer_mut(&mut alone), None).unwrap();
                let dy = upload(&dev, &noise(elements(op.output), 2));
                let mut dx = upload(&dev, &noise(elements(op.input), 3));
                let (argmaxes, to) = (D::buffer(&argmax), D::buffer_mut(&mut dx));
                D::max_pool2d_backward(&op, argmaxes, D::buffer(&dy), to, fill).unwrap();
                vec![
                    ("y", comparable(download(&dev, &y))),
                    ("y without argmax", comparable(download(&dev, &alone))),
                    ("argmax", download(&dev, &argmax)),
                    ("dx", download(&dev, &dx)),
                ]
            });
        }
    }
}

#[test]
fn average() {
    for op in ops() {
        for fill in FILLS {
            agree!(1e-6, |dev: D| {
                let x = upload(&dev, &noise(elements(op.input), 1));
                let mut y = room(&dev, elements(op.output));
                D::avg_pool2d_forward(&op, D::buffer(&x), D::buffer_mut(&mut y)).unwrap();
                let dy = upload(&dev, &noise(elements(op.output), 2));
                let mut dx = upload(&dev, &noise(elements(op.input), 3));
                let to = D::buffer_mut(&mut dx);
                D::avg_pool2d_backward(&op, D::buffer(&dy), to, fill).unwrap();
                vec![("y", download(&dev, &y)), ("dx", download(&dev, &dx))]
            });
        }
    }
}

#[test]
fn global_average() {
    for (planes, plane) in [(7, 1), (3, 20), (1, 49), (33, 1000), (0, 4)] {
        for fill in FILLS {
            agree!(1e-6, |dev: D| {
                let x = upload(&dev, &noise(planes * plane, 1));
                let mut y = room(&dev, planes);
                D::global_avg_pool2d_forward(plane, D::buffer(&x), D::buffer_mut(&mut y)).unwrap();
                let dy = upload(&dev, &noise(planes, 2));
                let mut dx = upload(&dev, &noise(planes * plane, 3));
                let to = D::buffer_mut(&mut dx);
                D::global_avg_pool2d_backward(plane, D::buffer(&dy), to, fill).unwrap();
                vec![("y", download(&dev, &y)), ("dx", download(&dev, &dx))]
            });
        }
    }
}
