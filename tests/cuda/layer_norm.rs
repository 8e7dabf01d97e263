use ssprop::internals::args::layer_norm::{LayerNormOp, Saved};
use ssprop::internals::args::{Fill, ImageDims};
use ssprop::internals::{LayerNormKernel, Views};

use crate::support::{agree, download, noise, room, upload};

#[test]
fn forward_and_backward() {
    for [batch, channels, plane] in [
        [3, 6, 49],
        [7, 64, 1],
        [2, 80, 33],
        [1, 1, 5],
        [33, 12, 300],
        [0, 4, 9],
    ] {
        let dims = ImageDims {
            batch,
            channels,
            plane,
        };
        let (len, positions) = (batch * channels * plane, batch * plane);
        for fill in [Fill::Overwrite, Fill::Add] {
            agree!(1e-5, |dev: D| {
                let x = upload(&dev, &noise(len, 1));
                let weight = upload(&dev, &noise(channels, 2));
                let bias = upload(&dev, &noise(channels, 3));
                let mut y = room(&dev, len);
                let [mut mean, mut inv_std] = [(); 2].map(|()| room(&dev, positions));
                // One channel has no variance: an eps that leaves numbers to compare.
                let op = LayerNormOp { eps: 1e-2 };
                let saved = [D::buffer_mut(&mut mean), D::buffer_mut(&mut inv_std)];
                let (from, to) = (D::buffer(&x), D::buffer_mut(&mut y));
                let (scale, shift) = (D::buffer(&weight), D::buffer(&bias));
                D::layer_norm_forward(&op, dims, from, scale, shift, to, saved).unwrap();
                let dy = upload(&dev, &noise(len, 4));
                let mut dx = upload(&dev, &noise(len, 5));
                let [mut dweight, mut dbias] =
                    [8, 9].map(|seed| upload(&dev, &noise(channels, seed)));
                let saved = Saved {
                    x: D::buffer(&x),
                    weight: D::buffer(&weight),
                    mean: D::buffer(&mean),
                    inv_std: D::buffer(&inv_std),
                };
                let grads = [D::buffer_mut(&mut dweight), D::buffer_mut(&mut dbias)];
                let to = (D::buffer_mut(&mut dx), fill);
                D::layer_norm_backward(dims, saved, D::buffer(&dy), to, grads).unwrap();
                vec![
                    ("y", download(&dev, &y)),
                    ("mean", download(&dev, &mean)),
                    ("inv_std", download(&dev, &inv_std)),
                    ("dx", download(&dev, &dx)),
                    ("dweight", download(&dev, &dweight)),
                    ("dbias", download(&dev, &dbias)),
                ]
            });
        }
    }
}
