//! Networks with batch norms, synchronized over the ranks, with dropout: their steps are one process's.

use ssprop::data::{ImageDataset, ImageShape};
use ssprop::distributed::Communicator;
use ssprop::prelude::*;
use ssprop::train::ImageClassifier;

use crate::on_ranks;
use crate::step::{difference, step_of};

fn images(n: usize, shape: ImageShape) -> ImageDataset {
    let len = shape.channels * shape.height * shape.width;
    let pixel = |i: usize| ((i / len * 7919 + i % len * 104_729 + i * i) % 251) as u8;
    let labels = (0..n).map(|i| (i % 10) as u16).collect();
    ImageDataset::new((0..n * len).map(pixel).collect(), labels, shape, 10).unwrap()
}

/// That a step on `batch` images is the same, up to `tolerance`, for these numbers of ranks.
fn check<M, const C: usize, const H: usize, const W: usize>(
    build: impl Fn() -> M + Sync,
    batch: usize,
    ranks: &[usize],
    tolerance: f64,
) where
    M: ImageClassifier<C, H, W, 10, Cpu>,
{
    let data = images(batch, ImageShape::new(C, H, W));
    for (drop_rate, dropout) in [(0.0, 0.0), (0.8, 0.0), (0.8, 0.3)] {
        let step = |rank: &Communicator| {
            let mut model = build();
            model.set_drop_rate(DropRate::new(drop_rate).unwrap());
            model.set_dropout(dropout, 3).unwrap();
            model.set_synchronized(true);
            step_of::<_, C, H, W, 10>(rank, model, &data, batch, 1)
        };
        let expected = step(&Communicator::alone());
        for &size in ranks {
            let found = on_ranks(size, |rank| step(&rank));
            for step in &found {
                let far = difference(&step.gradients, &expected.gradients);
                assert!(
                    far < tolerance,
                    "{size} ranks, {drop_rate}, {dropout}: {far}"
                );
                assert!((step.loss - expected.loss).abs() < 1e-5);
                assert!(step.saved == found[0].saved);
            }
        }
    }
}

/// Without a kink.
type Smooth = (
    SparseConv2D<1, 8, 3, 1, 1>,
    BatchNorm2D<8>,
    SparseConv2D<8, 16, 3, 2, 1>,
    BatchNorm2D<16>,
    GlobalAvgPool,
    Linear<16, 10>,
);

#[test]
fn batch_norms() {
    let build = || Cpu::seed_from_u64(1).build_module::<Smooth, f32>();
    check::<_, 1, 12, 12>(build, 7, &[2, 3, 4], 1e-6);
    // More ranks than images.
    check::<_, 1, 12, 12>(build, 2, &[3], 1e-6);
}

// Where the rounding of a sum over ranks takes a unit over the kink of its ReLU, a gradient changes by that
// unit's part. A fault of the exchange changes it by more.

#[test]
fn a_cnn() {
    let build = || Cpu::seed_from_u64(1).build_module::<Cnn<3, 10, 1>, f32>();
    check::<_, 1, 12, 12>(build, 7, &[2, 3, 4], 1e-2);
    check::<_, 1, 12, 12>(build, 2, &[3], 1e-2);
}

#[test]
fn a_resnet() {
    let build = || Cpu::seed_from_u64(1).build_module::<ResNet18<10>, f32>();
    check::<_, 3, 32, 32>(build, 5, &[2], 3e-2);
}
