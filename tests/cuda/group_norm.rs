use ssprop::internals::args::group_norm::{Activation, Grads, GroupNormOp, Input, Saved};
use ssprop::internals::args::{Fill, ImageDims};
use ssprop::internals::{GroupNormKernel, Ranking, Views};

use crate::support::{agree, download, noise, on_host, room, upload};

/// B, C, H W, and the groups. A warp's lanes are fewer and more than elements of a plane, channels of a group
/// and images.
const SIZES: [([usize; 3], usize); 5] = [
    ([3, 6, 63], 2),
    ([2, 4, 9], 4),
    ([1, 80, 33], 2),
    ([33, 8, 4], 1),
    ([2, 4, 1600], 2),
];

fn check([batch, channels, plane]: [usize; 3], groups: usize, shifted: bool, op: GroupNormOp) {
    let dims = ImageDims {
        batch,
        channels,
        plane,
    };
    let (len, places) = (batch * channels * plane, batch * channels);
    for (fill, importance) in [
        (Fill::Overwrite, false),
        (Fill::Overwrite, true),
        (Fill::Add, true),
    ] {
        agree!(1e-5, |dev: D| {
            let x = upload(&dev, &noise(len, 1));
            let shift = upload(&dev, &noise(places, 2));
            let weight = upload(&dev, &noise(channels, 3));
            let bias = upload(&dev, &noise(channels, 4));
            let mut y = room(&dev, len);
            let mut saved = [(); 2].map(|()| room(&dev, batch * groups));
            let input = Input {
                x: D::buffer(&x),
                shift: shifted.then(|| D::buffer(&shift)),
                weight: D::buffer(&weight),
                bias: D::buffer(&bias),
            };
            let to = D::buffer_mut(&mut y);
            let to_saved = saved.each_mut().map(D::buffer_mut);
            D::group_norm_forward(&op, dims, groups, input, to, to_saved).unwrap();

            let dy = upload(&dev, &noise(len, 5));
            let mut dx = upload(&dev, &noise(len, 6));
            let mut dshift = room(&dev, if shifted { places } else { 0 });
            let [mut dweight, mut dbias] = [8, 9].map(|seed| upload(&dev, &noise(channels, seed)));
            let mut mean_dx = importance.then(|| dev.take_importance(channels).unwrap());
            let forward = Saved {
                input,
                y: (op.activation == Activation::SiLU).then(|| D::buffer(&y)),
                mean: D::buffer(&saved[0]),
                inv_std: D::buffer(&saved[1]),
            };
            let grads = Grads {
                importance: mean_dx.as_mut().map(D::importance_mut),
                dshift: shifted.then(|| D::buffer_mut(&mut dshift)),
            };
            let params = [&mut dweight, &mut dbias].map(D::buffer_mut);
            let to = (D::buffer_mut(&mut dx), fill);
            D::group_norm_backward(dims, groups, forward, D::buffer(&dy), to, grads, params)
                .unwrap();
            // The shift's gradient is 0 where a group is one channel: held against dx, of which it is a sum.
            let mut dshift = download(&dev, &dshift);
            dshift.push(plane as f32);
            vec![
                ("y", download(&dev, &y)),
                ("mean", download(&dev, &saved[0])),
                ("inv_std", download(&dev, &saved[1])),
                ("dx", download(&dev, &dx)),
                ("importance", on_host::<D>(mean_dx)),
                ("dshift", dshift),
                ("dweight", download(&dev, &dweight)),
                ("dbias", download(&dev, &dbias)),
            ]
        });
    }
}

#[test]
fn forward_and_backward() {
    for (size, groups) in SIZES {
        for shifted in [false, true] {
            for activation in [Activation::Identity, Activation::SiLU] {
                let eps = 1e-5;
                check(size, groups, shifted, GroupNormOp { eps, activation });
            }
        }
    }
}

#[test]
fn no_images() {
    agree!(0.0, |dev: D| {
        let dims = ImageDims {
            batch: 0,
            channels: 4,
            plane: 9,
        };
        let (none, of_channels) = (room(&dev, 0), upload(&dev, &[1.0; 4]));
        let [mut dx, mut dshift] = [(); 2].map(|()| room(&dev, 0));
        let [mut dweight, mut dbias] = [8, 9].map(|seed| upload(&dev, &noise(4, seed)));
        let mut importance = dev.take_importance(4).unwrap();
        let saved = Saved {
            input: Input {
                x: D::buffer(&none),
                shift: Some(D::buffer(&none)),
                weight: D::buffer(&of_channels),
                bias: D::buffer(&of_channels),
            },
            y: None,
            mean: D::buffer(&none),
            inv_std: D::buffer(&none),
        };
        let grads = Grads {
            importance: Some(D::importance_mut(&mut importance)),
            dshift: Some(D::buffer_mut(&mut dshift)),
        };
        let params = [&mut dweight, &mut dbias].map(D::buffer_mut);
        let to = (D::buffer_mut(&mut dx), Fill::Overwrite);
        D::group_norm_backward(dims, 2, saved, D::buffer(&none), to, grads, params).unwrap();
        vec![
            ("dweight", download(&dev, &dweight)),
            ("dbias", download(&dev, &dbias)),
            ("importance", on_host::<D>(Some(importance))),
        ]
    });
}
