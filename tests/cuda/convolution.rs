//! A convolution's kernels on a device, from noise to every gradient.

use ssprop::internals::args::Fill;
use ssprop::internals::{Conv2DKernel, Conv2DOp, Conv2DShape, HostAccess, KeptGrad};

use crate::support::{download, noise, room, upload};

/// Kernel, stride, padding, dilation, groups, image, channels in and out.
pub fn shape(
    [kernel, stride, padding, dilation, groups]: [usize; 5],
    image: [usize; 4],
    c_out: usize,
) -> Conv2DShape {
    let op = Conv2DOp {
        kernel,
        stride,
        padding,
        dilation,
        groups,
    };
    Conv2DShape::new(op, image, c_out).unwrap()
}

pub fn count(sizes: impl IntoIterator<Item = usize>) -> usize {
    sizes.into_iter().product()
}

/// Sets whether cuDNN may be used, if it is there at all.
pub fn use_cudnn(_on: bool) {
    #[cfg(feature = "cudnn")]
    ssprop::use_cudnn(_on);
}

/// What the passes are told.
#[derive(Clone, Debug)]
pub struct Convolution {
    pub shape: Conv2DShape,
    /// The kept channels of dY; all if there are none.
    pub kept: Option<Vec<usize>>,
    /// With the zeros that the device likes behind the kept channels.
    pub padded: bool,
    /// How dX is written.
    pub fill: Fill,
    pub seed: u64,
}

impl Convolution {
    /// y, and dX, dW and db, which held noise before. Whichever channels are kept, a channel of dY is the same.
    pub fn on<D>(&self, dev: &D) -> Vec<(&'static str, Vec<f32>)>
    where
        D: Conv2DKernel<f32> + HostAccess<f32>,
    {
        let shape = &self.shape;
        let (all, pixels) = (shape.c_out(), shape.output_pixels());
        let given = |len, number| upload(dev, &noise(len, 10 * self.seed + number));
        let x = given(count(shape.x()), 1);
        let w = given(count(shape.weight()), 2);
        let bias = given(all, 3);
        let mut y = room(dev, count(shape.y(all)));
        let (from, weight) = (D::buffer(&x), D::buffer(&w));
        let to = D::buffer_mut(&mut y);
        D::conv2d_forward(shape, from, weight, Some(D::buffer(&bias)), to).unwrap();

        let full = given(count(shape.y(all)), 4);
        let kept = self.kept.clone().map(|kept| dev.keep(kept, all).unwrap());
        let shrunk = kept.as_ref().map(|kept| {
            let [channels, _] = D::kept_of(kept);
            let channels = match self.padded {
                true => D::shrunk_channels(shape, channels),
                false => channels,
            };
            let mut shrunk = room(dev, count(shape.y(channels)));
            let to = D::buffer_mut(&mut shrunk);
            D::gather_channels(D::buffer(&full), all, pixels, D::kept(kept), to).unwrap();
            shrunk
        });
        let dy = KeptGrad {
            data: D::buffer(shrunk.as_ref().unwrap_or(&full)),
            kept: kept.as_ref().map(D::kept),
        };
        let mut dx = given(count(shape.x()), 5);
        let [mut dw, mut db] = self.before().map(|values| upload(dev, &values));
        D::conv2d_backward_input(shape, weight, dy, D::buffer_mut(&mut dx), self.fill).unwrap();
        D::conv2d_backward_weight(shape, from, dy, D::buffer_mut(&mut dw)).unwrap();
        D::conv2d_backward_bias(shape, dy, D::buffer_mut(&mut db)).unwrap();
        let results = [("y", &y), ("dx", &dx), ("dw", &dw), ("db", &db)];
        let results = results.map(|(name, at)| (name, download(dev, at)));
        results.to_vec()
    }

    /// What dW and db are added to.
    pub fn before(&self) -> [Vec<f32>; 2] {
        [(count(self.shape.weight()), 6), (self.shape.c_out(), 7)]
            .map(|(len, number)| noise(len, 10 * self.seed + number))
    }
}
