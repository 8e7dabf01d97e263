//! Batches: which images they have, and their tensors.

use dfdx::prelude::*;

use super::super::batch::Part;
use super::super::{Batch, BatchLoader, Batches, ImageDataset, ImageShape, Normalization};

/// `n` images of 1x2x3 with the pixels 6i.., of class i % 3.
fn numbered(n: usize) -> ImageDataset {
    let images = (0..6 * n).map(|i| i as u8).collect();
    let labels = (0..n).map(|i| (i % 3) as u16).collect();
    ImageDataset::new(images, labels, ImageShape::new(1, 2, 3), 3).unwrap()
}

fn order(batches: Batches) -> Vec<usize> {
    batches
        .flat_map(|b| b.unwrap().indices().to_vec())
        .collect()
}

#[test]
fn each_image_comes_once_an_epoch_with_its_pixels_and_label() {
    let data = numbered(40);
    let loader = BatchLoader::new(&data, 7).unwrap().shuffle(3);
    assert_eq!((loader.len(), loader.epoch(0).len()), (6, 6));
    let mut seen = Vec::new();
    for batch in loader.epoch(5) {
        let batch = batch.unwrap();
        for (k, &i) in batch.indices().iter().enumerate() {
            let pixels: Vec<f32> = data
                .image(i)
                .unwrap()
                .iter()
                .map(|&p| p as f32 / 255.0)
                .collect();
            assert_eq!(&batch.images()[6 * k..6 * k + 6], pixels);
            assert_eq!(Some(batch.labels()[k]), data.label(i));
        }
        seen.extend(batch.indices().to_vec());
    }
    assert_ne!(seen, (0..40).collect::<Vec<_>>(), "shuffled");
    seen.sort_unstable();
    assert_eq!(seen, (0..40).collect::<Vec<_>>());
}

#[test]
fn seed_and_epoch_decide_the_order() {
    let data = numbered(40);
    let with = |seed| BatchLoader::new(&data, 8).unwrap().shuffle(seed);
    assert_eq!(order(with(1).epoch(2)), order(with(1).epoch(2)));
    assert_ne!(order(with(1).epoch(2)), order(with(1).epoch(3)));
    assert_ne!(order(with(1).epoch(2)), order(with(2).epoch(2)));
    assert_ne!(order(with(1).epoch(2)), order(with(2).epoch(1)));
    // The batch size does not change it.
    let other = BatchLoader::new(&data, 3).unwrap().shuffle(1);
    assert_eq!(order(with(1).epoch(2)), order(other.epoch(2)));
    // Pinned: a change of the generator would change every training run.
    let few = numbered(8);
    let pinned = BatchLoader::new(&few, 8).unwrap().shuffle(1).epoch(0);
    assert_eq!(order(pinned), [6, 4, 2, 3, 5, 7, 1, 0]);
    let plain = BatchLoader::new(&data, 8).unwrap();
    assert_eq!(order(plain.epoch(4)), (0..40).collect::<Vec<_>>());
}

#[test]
fn last_batch_is_kept_or_dropped() {
    let data = numbered(10);
    let sizes = |drop, size| -> Vec<usize> {
        let loader = BatchLoader::new(&data, size).unwrap().drop_last(drop);
        let sizes: Vec<usize> = loader.epoch(0).map(|b| b.unwrap().len()).collect();
        assert_eq!(sizes.len(), loader.len());
        sizes
    };
    assert_eq!(sizes(false, 4), [4, 4, 2]);
    assert_eq!(sizes(true, 4), [4, 4]);
    assert_eq!(sizes(false, 5), [5, 5]);
    assert_eq!(sizes(false, usize::MAX), [10]);
    assert!(BatchLoader::new(&data, 0).is_err());
}

#[test]
fn skipping_gives_the_same_batches() {
    let data = numbered(10);
    let loader = BatchLoader::new(&data, 3).unwrap().shuffle(1);
    let all: Vec<Batch> = loader.epoch(0).map(Result::unwrap).collect();
    let skipped: Vec<Batch> = loader.epoch(0).skip(2).map(Result::unwrap).collect();
    assert_eq!(skipped, all[2..]);
    let mut batches = loader.epoch(0);
    assert_eq!(batches.nth(3).unwrap().unwrap(), all[3]);
    assert!(batches.len() == 0 && batches.next().is_none());
    assert!(loader.epoch(0).nth(usize::MAX).is_none());
}

#[test]
fn padding_is_black_and_a_grey_channel_is_repeated() {
    let data = ImageDataset::new(vec![255, 51], vec![0], ImageShape::new(1, 1, 2), 1).unwrap();
    let norm = Normalization::new(vec![0.2], vec![0.4]).unwrap();
    let loader = BatchLoader::new(&data, 1)
        .unwrap()
        .normalize(norm)
        .unwrap()
        .fit_to(ImageShape::new(2, 3, 5))
        .unwrap();
    let batch = loader.epoch(0).next().unwrap().unwrap();
    let dev = Cpu::default();
    let x: Tensor<(usize, Const<2>, Const<3>, Const<5>), f64, _> =
        batch.image_tensor(&dev).unwrap();
    assert_eq!(x.shape().0, 1);
    let x = x.as_vec();
    let black = [-0.5; 5];
    for channel in x.chunks(15) {
        assert_eq!(channel[..5], black);
        for (v, want) in channel[5..10].iter().zip([-0.5, 2.0, 0.0, -0.5, -0.5]) {
            assert!((v - want).abs() < 1e-6, "{v} {want}");
        }
        assert_eq!(channel[10..], black);
    }
}

#[test]
fn attributes_come_with_their_images_as_targets() {
    let attributes: Vec<bool> = (0..5).flat_map(|i| [i % 2 == 0, i == 3]).collect();
    let shape = ImageShape::new(1, 1, 1);
    let data = ImageDataset::multi_label((0..5).collect(), attributes, shape, 2).unwrap();
    let loader = BatchLoader::new(&data, 2).unwrap().shuffle(4);
    let dev = Cpu::default();
    let mut seen = 0;
    for batch in loader.epoch(0) {
        let batch = batch.unwrap();
        assert!(batch.is_multi_label() && batch.labels().is_empty());
        let wanted = batch.indices().iter();
        let wanted = wanted.flat_map(|&i| [i % 2 == 0, i == 3].map(|has| has as u8 as f32));
        let targets = batch.targets::<2, f32, _>(&dev).unwrap();
        assert_eq!(targets.as_vec(), wanted.collect::<Vec<f32>>());
        let e = batch.targets::<3, f32, _>(&dev).unwrap_err().to_string();
        assert!(e.contains("expected 3, found 2"), "{e}");
        seen += batch.len();
    }
    assert_eq!(seen, 5);
}

#[test]
fn what_does_not_fit_is_refused() {
    let data = ImageDataset::new(vec![0; 12], vec![0], ImageShape::new(3, 2, 2), 1).unwrap();
    let loader = BatchLoader::new(&data, 1).unwrap();
    for (c, h, w) in [(3, 1, 2), (3, 2, 1), (1, 2, 2), (6, 2, 2), (3, 0, 0)] {
        let fitted = loader.clone().fit_to(ImageShape::new(c, h, w));
        assert!(fitted.is_err(), "{c} {h} {w}");
    }
    let m = loader.normalize(Normalization::unit(1)).unwrap_err();
    assert!(m.to_string().contains("expected 3, found 1"), "{m}");
}

#[test]
fn tensors_of_another_shape_are_refused() {
    let data = numbered(4);
    let batch = BatchLoader::new(&data, 3)
        .unwrap()
        .epoch(0)
        .next()
        .unwrap()
        .unwrap();
    let dev = Cpu::default();
    let m = batch.image_tensor::<1, 3, 2, f32, _>(&dev).unwrap_err();
    assert!(m.to_string().contains("expected 1x3x2, found 1x2x3"), "{m}");
    let x = batch.image_tensor::<1, 2, 3, f32, _>(&dev).unwrap();
    assert_eq!(x.as_vec(), batch.images());

    let y = batch.one_hot::<4, f32, _>(&dev).unwrap();
    let want = [1., 0., 0., 0., 0., 1., 0., 0., 0., 0., 1., 0.];
    assert_eq!(y.as_vec(), want);
    let m = batch.one_hot::<2, f32, _>(&dev).unwrap_err();
    assert!(m.to_string().contains("label 2 of image 2"), "{m}");
    assert!(batch.one_hot::<0, f32, _>(&dev).is_err());
}

#[test]
fn an_epoch_of_nothing_is_an_error() {
    let data = numbered(10);
    let loader = |data: &ImageDataset, size| BatchLoader::new(data, size).unwrap().drop_last(true);
    for (data, size, parts) in [
        (
            &data,
            11,
            &["10 images", "batches of 11", "whole ones only"][..],
        ),
        (&data.take(0), 2, &["0 images", "batches of 2"]),
    ] {
        for workers in [0, 2] {
            let mut batches = loader(data, size).workers(workers).epoch(0);
            assert_eq!(batches.len(), 1);
            let e = super::data_error(batches.next().unwrap());
            super::says(e, parts);
            assert!(batches.next().is_none() && batches.len() == 0);
        }
    }
    // The end of an epoch that is resumed there is none.
    assert!(loader(&data, 5).epoch(0).nth(2).is_none());
}

#[test]
fn an_empty_batch_has_empty_tensors() {
    let dev = Cpu::default();
    for multi_label in [false, true] {
        let batch = Batch {
            images: Default::default(),
            labels: vec![],
            attributes: vec![],
            multi_label,
            indices: vec![],
            shape: ImageShape::new(1, 2, 3),
            part: Part::of(0, [0, 1]).1,
        };
        let x = batch.image_tensor::<1, 2, 3, f32, _>(&dev).unwrap();
        assert_eq!(x.shape().0, 0);
        assert!(batch.image_tensor::<1, 2, 3, f64, _>(&dev).is_ok());
        assert_eq!(batch.targets::<4, f32, _>(&dev).unwrap().shape().0, 0);
        assert_eq!(batch.one_hot::<4, f32, _>(&dev).unwrap().shape().0, 0);
    }
}

#[test]
fn the_ranks_shares_are_the_whole_batch() {
    let data = numbered(23);
    let augmentation: crate::data::Augmentation = "crop=1,flip".parse().unwrap();
    let loader = || {
        let loader = BatchLoader::new(&data, 7).unwrap().shuffle(3);
        loader.augment(augmentation, 5).unwrap()
    };
    for ranks in 1..=5 {
        let shares: Vec<Vec<Batch>> = (0..ranks)
            .map(|rank| loader().share_of(rank, ranks).unwrap().epoch(2))
            .map(|batches| batches.map(Result::unwrap).collect())
            .collect();
        for (number, whole) in loader().epoch(2).map(Result::unwrap).enumerate() {
            assert_eq!((whole.whole_len(), whole.first_place()), (whole.len(), 0));
            assert_eq!(whole.share(), 1.0);
            let parts: Vec<_> = shares.iter().map(|share| &share[number]).collect();
            let counted: Vec<_> = parts.iter().filter(|part| part.share() > 0.0).collect();
            let images: Vec<f32> = counted.iter().flat_map(|p| p.images()).copied().collect();
            assert_eq!(images, whole.images());
            let labels: Vec<_> = counted.iter().flat_map(|p| p.labels()).copied().collect();
            assert_eq!(labels, whole.labels());
            let sum: f64 = parts.iter().map(|part| part.share()).sum();
            assert!((sum - 1.0).abs() < 1e-12);
            for part in parts {
                assert_eq!(part.whole_len(), whole.len());
                // One that has none of its own goes along with another's.
                let first = part.first_place();
                assert_eq!(part.indices(), &whole.indices()[first..first + part.len()]);
                assert!(!part.is_empty());
            }
        }
    }
    let err = loader().share_of(2, 2).unwrap_err().to_string();
    assert!(err.contains("rank = 2"), "{err}");
}

#[test]
fn workers_and_prefetch_change_nothing() {
    let data = numbered(50);
    let augmentation = "crop=1,flip,resized-crop=0.5".parse().unwrap();
    let loader = |workers, prefetch| {
        let loader = BatchLoader::new(&data, 7).unwrap().shuffle(3);
        let loader = loader.augment(augmentation, 5).unwrap();
        loader.workers(workers).prefetch(prefetch)
    };
    let all = |batches: Batches| batches.map(Result::unwrap).collect::<Vec<Batch>>();
    let wanted = all(loader(0, 1).epoch(2));
    for (workers, prefetch) in [(1, 1), (1, 3), (2, 2), (4, 2), (8, 20)] {
        let loader = loader(workers, prefetch);
        assert_eq!(all(loader.epoch(2)), wanted);
        let mut batches = loader.epoch(2);
        assert_eq!(batches.next().unwrap().unwrap(), wanted[0]);
        assert_eq!(batches.nth(2).unwrap().unwrap(), wanted[3]);
        assert_eq!(batches.nth(1).unwrap().unwrap(), wanted[5]);
        drop(batches);
        assert_eq!(loader.epoch(2).nth(7).unwrap().unwrap(), wanted[7]);
    }
    assert_ne!(all(loader(0, 1).epoch(3))[0].images(), wanted[0].images());
}

#[test]
fn what_happens_to_an_image_follows_from_its_place_and_the_epoch() {
    let data = numbered(20);
    let images = |size, order: Option<u64>, seed, epoch| {
        let loader = BatchLoader::new(&data, size).unwrap();
        let loader = loader
            .augment("crop=1,flip".parse().unwrap(), seed)
            .unwrap();
        let loader = match order {
            Some(order) => loader.shuffle(order),
            None => loader,
        };
        let mut found = vec![Vec::new(); data.len()];
        for batch in loader.epoch(epoch) {
            let batch = batch.unwrap();
            for (&i, image) in batch.indices().iter().zip(batch.images().chunks(6)) {
                found[i] = image.to_vec();
            }
        }
        found
    };
    let wanted = images(20, None, 1, 0);
    assert_eq!(images(3, Some(8), 1, 0), wanted);
    assert_ne!(images(20, None, 2, 0), wanted);
    assert_ne!(images(20, None, 1, 1), wanted);
}
