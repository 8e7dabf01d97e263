//! The gradient of a step on several ranks is that of one process on the whole batch.

use ssprop::data::BatchLoader;
use ssprop::distributed::{Communicator, Traffic};
use ssprop::ops::SparseBackward;
use ssprop::prelude::*;
use ssprop::sparsity::{AdaptiveKeep, Masking, Selection};

use crate::step::{difference, step_of, Step};
use crate::{images, on_ranks};

type Net = (
    BiasedSparseConv2D<1, 8, 3, 1, 1>,
    ReLU,
    SparseConv2D<8, 16, 3, 2, 1>,
    ReLU,
    (GlobalAvgPool, SparseLinear<16, 12>, ReLU),
    Linear<12, 4>,
);

/// One step of the optimizer after `batches` batches of `batch` images.
fn step(
    communicator: &Communicator,
    batch: usize,
    batches: usize,
    backward: SparseBackward,
) -> Step {
    let mut model = Cpu::seed_from_u64(5).build_module::<Net, f32>();
    model.visit_sparse(&mut |layer| {
        let (draw, input_gradient) = (layer.backward.draw, layer.backward.input_gradient);
        *layer.backward = SparseBackward {
            draw,
            input_gradient,
            ..backward
        };
    });
    let data = images(batch * batches);
    step_of::<_, 1, 8, 8, 4>(communicator, model, &data, batch, batches)
}

fn check(what: &str, batch: usize, batches: usize, backward: SparseBackward) {
    let expected = step(&Communicator::alone(), batch, batches, backward);
    assert_eq!(expected.traffic, Traffic::default());
    for size in 1..=4 {
        let found = on_ranks(size, |rank| step(&rank, batch, batches, backward));
        for step in &found {
            let far = difference(&step.gradients, &expected.gradients);
            assert!(far < 1e-6, "{what}, {size} ranks: {far}");
            assert!((step.loss - expected.loss).abs() < 1e-6, "{what}");
            assert!(step.saved == found[0].saved, "{what}, {size} ranks");
        }
        // The same from run to run, to the bit.
        let again = on_ranks(size, |rank| step(&rank, batch, batches, backward));
        assert!(found[0].saved == again[0].saved, "{what}, {size} ranks");
    }
}

fn at(drop_rate: f64) -> SparseBackward {
    SparseBackward {
        drop_rate: DropRate::new(drop_rate).unwrap(),
        ..SparseBackward::default()
    }
}

#[test]
fn dense() {
    check("dense", 12, 1, at(0.0));
    check("dense, uneven", 11, 1, at(0.0));
}

#[test]
fn every_selection() {
    check("top-k", 12, 1, at(0.8));
    check("top-k, uneven", 10, 1, at(0.8));
    for rescale in [false, true] {
        let selection = Selection::Random { seed: 3, rescale };
        check(
            "random",
            10,
            1,
            SparseBackward {
                selection,
                ..at(0.6)
            },
        );
    }
    let rule = AdaptiveKeep::new(0.7)
        .unwrap()
        .with_bounds(0.1, 0.6)
        .unwrap();
    let selection = Selection::Adaptive(rule);
    check(
        "adaptive",
        10,
        1,
        SparseBackward {
            selection,
            ..at(0.6)
        },
    );
}

#[test]
fn every_masking_and_way_of_computing() {
    for masking in [Masking::Positions, Masking::Elements] {
        check("masked", 10, 1, SparseBackward { masking, ..at(0.7) });
    }
    let dense_below = DropRate::new(0.9).unwrap();
    check(
        "dense products",
        10,
        1,
        SparseBackward {
            dense_below,
            ..at(0.8)
        },
    );
    let only_weight_sparse = true;
    check(
        "only dW",
        10,
        1,
        SparseBackward {
            only_weight_sparse,
            ..at(0.8)
        },
    );
}

#[test]
fn accumulated_gradients_whose_kept_channels_differ() {
    let selection = Selection::Random {
        seed: 3,
        rescale: false,
    };
    check(
        "accumulated, random",
        7,
        3,
        SparseBackward {
            selection,
            ..at(0.8)
        },
    );
    check("accumulated", 7, 3, at(0.8));
}

#[test]
fn a_batch_of_fewer_images_than_ranks() {
    check("two images", 2, 1, at(0.5));
    check("one image", 1, 1, at(0.0));
}

#[test]
fn only_kept_rows_travel() {
    let sent = |backward| {
        let found = on_ranks(3, |rank| step(&rank, 12, 1, backward).traffic);
        found.iter().map(|traffic| traffic.bytes).sum::<u64>()
    };
    let (dense, sparse) = (sent(at(0.0)), sent(at(0.8)));
    // What both send: the dfdx layer's 12 * 4 + 4 values, the importances, the losses, the hashes.
    let rows = |kept: [u64; 3]| kept[0] * 10 + kept[1] * 72 + kept[2] * 17;
    let saved = 4 * 4 * (rows([8, 16, 12]) - rows([1, 3, 2]));
    let importances = 6 * 8 * (8 + 16 + 12);
    assert_eq!(dense - sparse, saved - importances);
}

#[test]
fn frozen_layers_are_not_sent() {
    let train = |rank: &Communicator, frozen: bool| {
        let dev = Cpu::seed_from_u64(5);
        let model = dev.build_module::<Net, f32>();
        let mut groups = ParameterGroups::new();
        if frozen {
            groups = groups.freeze("2");
        }
        let mut trainer = Trainer::new(model, AdamConfig::adam())
            .and_then(|t| t.with_parameter_groups(&groups))
            .and_then(|t| t.with_communicator(rank))
            .unwrap();
        let before = rank.traffic().bytes;
        let data = images(12);
        let loader = BatchLoader::new(&data, 12).unwrap();
        let report = trainer.train_epoch::<1, 8, 8, 4>(&dev, &loader, &mut ());
        report.unwrap();
        rank.traffic().bytes - before
    };
    let [all, frozen] = [false, true].map(|frozen| on_ranks(2, |rank| train(&rank, frozen)));
    assert_eq!(all[0] + all[1] - frozen[0] - frozen[1], 2 * 4 * 16 * 72);
}
