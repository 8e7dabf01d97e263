//! The gradient of a bias, of channels whose sums take several blocks.

use ssprop::internals::{Conv2DKernel, KeptGrad, Ranking, Views};

use crate::convolution::shape;
use crate::support::{agree, download, noise, upload};

#[test]
fn of_many_pixels() {
    let shape = shape([1, 1, 0, 1, 1], [3, 1, 61, 60], 5);
    for kept in [None, Some(vec![0, 3]), Some(vec![4])] {
        agree!(1e-6, |dev: D| {
            let channels = kept.as_ref().map_or(5, Vec::len);
            let dy = upload(&dev, &noise(shape.y(channels).iter().product(), 1));
            let mut db = upload(&dev, &noise(5, 2));
            let kept = kept.clone().map(|kept| dev.keep(kept, 5).unwrap());
            // Again: what counts the blocks has to be zeros then.
            for _ in 0..2 {
                let dy = KeptGrad {
                    data: D::buffer(&dy),
                    kept: kept.as_ref().map(D::kept),
                };
                D::conv2d_backward_bias(&shape, dy, D::buffer_mut(&mut db)).unwrap();
            }
            vec![("db", download(&dev, &db))]
        });
    }
}
