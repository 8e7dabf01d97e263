use ssprop::internals::args::linear::LinearShape;
use ssprop::internals::args::Fill;
use ssprop::internals::{KeptGrad, LinearKernel, Ranking, Views};

use crate::support::{agree, download, noise, room, upload};

const SHAPES: [LinearShape; 3] = [
    LinearShape {
        batch: 5,
        inputs: 33,
        outputs: 10,
    },
    LinearShape {
        batch: 1,
        inputs: 7,
        outputs: 3,
    },
    LinearShape {
        batch: 0,
        inputs: 4,
        outputs: 3,
    },
];

#[test]
fn forward() {
    for shape in SHAPES {
        for with_bias in [false, true] {
            agree!(1e-5, |dev: D| {
                let x = upload(&dev, &noise(shape.batch * shape.inputs, 1));
                let w = upload(&dev, &noise(shape.outputs * shape.inputs, 2));
                let bias = upload(&dev, &noise(shape.outputs, 3));
                let mut y = room(&dev, shape.batch * shape.outputs);
                let bias = with_bias.then(|| D::buffer(&bias));
                let to = D::buffer_mut(&mut y);
                D::linear_forward(&shape, D::buffer(&x), D::buffer(&w), bias, to).unwrap();
                vec![("y", download(&dev, &y))]
            });
        }
    }
}

#[test]
fn backward() {
    for shape in SHAPES {
        for kept in [None, Some(vec![0, 2])] {
            for fill in [Fill::Overwrite, Fill::Add] {
                agree!(1e-5, |dev: D| {
                    let channels = kept.as_ref().map_or(shape.outputs, Vec::len);
                    let x = upload(&dev, &noise(shape.batch * shape.inputs, 1));
                    let w = upload(&dev, &noise(shape.outputs * shape.inputs, 2));
                    let dy = upload(&dev, &noise(shape.batch * channels, 3));
                    let kept = kept
                        .clone()
                        .map(|kept| dev.keep(kept, shape.outputs).unwrap());
                    let dy = KeptGrad {
                        data: D::buffer(&dy),
                        kept: kept.as_ref().map(D::kept),
                    };
                    let mut dx = upload(&dev, &noise(shape.batch * shape.inputs, 4));
                    let mut dw = upload(&dev, &noise(shape.outputs * shape.inputs, 5));
                    let mut db = upload(&dev, &noise(shape.outputs, 6));
                    let to = D::buffer_mut(&mut dx);
                    D::linear_backward_input(&shape, D::buffer(&w), dy, to, fill).unwrap();
                    let to = D::buffer_mut(&mut dw);
                    D::linear_backward_weight(&shape, D::buffer(&x), dy, to).unwrap();
                    D::linear_backward_bias(&shape, dy, D::buffer_mut(&mut db)).unwrap();
                    vec![
                        ("dx", download(&dev, &dx)),
                        ("dw", download(&dev, &dw)),
                        ("db", download(&dev, &db)),
                    ]
                });
            }
        }
    }
}
