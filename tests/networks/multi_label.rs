//! Training on images that have several labels each.

use ssprop::data::{BatchLoader, ImageDataset, ImageShape};
use ssprop::prelude::*;

/// 32 images of 1x6x6 with a white upper half (attribute 0), a white lower half (1), or both;
/// attribute 2 is that of no image.
fn images() -> ImageDataset {
    let (mut pixels, mut attributes) = (Vec::new(), Vec::new());
    for i in 0..32 {
        let halves = [i % 2 == 0, i / 2 % 2 == 0];
        pixels.extend((0..36).map(|p| {
            if halves[p / 18] {
                255 - i as u8
            } else {
                i as u8
            }
        }));
        attributes.extend([halves[0], halves[1], false]);
    }
    ImageDataset::multi_label(pixels, attributes, ImageShape::new(1, 6, 6), 3).unwrap()
}

#[test]
fn each_label_is_learned_beside_the_others() {
    type Top = (
        SparseConv2D<8, 8, 3, 2, 1>,
        ReLU,
        GlobalAvgPool,
        Linear<8, 3>,
    );
    type Net = (SparseConv2D<1, 8, 3, 2, 1>, ReLU, Top);
    let dev = Cpu::seed_from_u64(1);
    let data = images();
    let loader = BatchLoader::new(&data, 8).unwrap().shuffle(0);
    let model = dev.build_module::<Net, f32>();
    let config = AdamConfig {
        lr: 0.02,
        ..AdamConfig::adam()
    };
    let mut trainer = Trainer::new(model, config).unwrap();
    let before = trainer.evaluate::<1, 6, 6, 3>(&dev, &loader).unwrap();
    assert_eq!((before.images, before.decisions), (32, 96));
    let mut last = 0.0;
    for _ in 0..60 {
        let report = trainer.train_epoch::<1, 6, 6, 3>(&dev, &loader, &mut ());
        last = report.unwrap().loss;
    }
    let after = trainer.evaluate::<1, 6, 6, 3>(&dev, &loader).unwrap();
    assert!(after.accuracy() > 0.9, "{after:?}");
    assert!(after.loss < 0.5 * before.loss, "{before:?} {after:?}");
    // Training's loss is the evaluation's.
    assert!(
        (after.loss - last).abs() < 0.3 * before.loss,
        "{last} {after:?}"
    );

    // Another number of labels than the model's.
    type Two = (SparseConv2D<1, 4, 3, 1, 1>, GlobalAvgPool, Linear<4, 2>);
    let mut two = Trainer::new(dev.build_module::<Two, f32>(), AdamConfig::adam()).unwrap();
    let e = two.evaluate::<1, 6, 6, 2>(&dev, &loader).unwrap_err();
    assert!(e.to_string().contains("expected 2, found 3"), "{e}");
    assert!(two
        .train_epoch::<1, 6, 6, 2>(&dev, &loader, &mut ())
        .is_err());
}
