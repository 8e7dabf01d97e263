//! Data-parallel training: that ranks together do what one process does.

mod diffusion;
mod gradients;
#[cfg(feature = "mpi")]
mod mpi;
mod networks;
mod objective;
mod runs;
mod step;
mod training;

use ssprop::distributed::Communicator;
use ssprop::prelude::*;

/// The network of runs.
type Net = (
    SparseConv2D<1, 8, 3, 1, 1>,
    BatchNorm2D<8>,
    ReLU,
    SparseConv2D<8, 16, 3, 2, 1>,
    GlobalAvgPool,
    Linear<16, 4>,
);

/// Runs `f` on `size` ranks of this process, a thread each, and returns what each of them does.
fn on_ranks<T: Send>(size: usize, f: impl Fn(Communicator) -> T + Sync) -> Vec<T> {
    let ranks = Communicator::threads(size).unwrap();
    std::thread::scope(|scope| {
        let f = &f;
        let threads: Vec<_> = ranks
            .into_iter()
            .map(|rank| scope.spawn(move || f(rank)))
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    })
}

/// Gray 8x8 images of four classes, which differ in more than their place.
fn images(n: usize) -> ssprop::data::ImageDataset {
    let pixel = |k: usize| {
        let (i, y, x) = (k / 64, k / 8 % 8, k % 8);
        let noise = (i * 7919 + y * 104_729 + x * 1_299_709) % 97;
        (((x * (i % 4) + y * (i % 3)) * 23 + noise) % 256) as u8
    };
    let labels = (0..n).map(|i| (i % 4) as u16);
    let shape = ssprop::data::ImageShape::new(1, 8, 8);
    ssprop::data::ImageDataset::new((0..n * 64).map(pixel).collect(), labels.collect(), shape, 4)
        .unwrap()
}
