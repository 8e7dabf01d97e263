//! Two and three channels, side by side as six.
use ssprop::ops::concat::try_concat_channels;
use ssprop::prelude::*;

fn main() {
    let dev = Cpu::default();
    let (a, b) = (
        dev.zeros::<Rank4<1, 2, 4, 4>>(),
        dev.zeros::<Rank4<1, 3, 4, 4>>(),
    );
    let _: Tensor<Rank4<1, 6, 4, 4>, f32, _> = try_concat_channels(a, b, Const::<6>).unwrap();
}
