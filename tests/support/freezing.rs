//! A step of a training of which a part is frozen.

use ssprop::data::{BatchLoader, ImageDataset, ImageShape};
use ssprop::optim::{ParameterGroups, Sgd, SgdConfig};
use ssprop::train::{ImageClassifier, Trainer};
use ssprop::Backend;

/// The model after a step on four images in which only parameters that match `trained` are.
pub fn trained<D, M>(dev: &D, model: M, trained: &[&str]) -> M
where
    D: Backend<f32>,
    M: ImageClassifier<1, 8, 8, 2, D>,
{
    let pixels = (0..4 * 64).map(|i: usize| (i * 7919 % 251) as u8).collect();
    let data = ImageDataset::new(pixels, vec![0, 1, 1, 0], ImageShape::new(1, 8, 8), 2).unwrap();
    let sgd = Sgd::new(&model, SgdConfig::default()).unwrap();
    let groups = trained
        .iter()
        .fold(ParameterGroups::new().freeze("**"), |groups, path| {
            groups.unfreeze(*path)
        });
    let mut trainer = Trainer::with_optimizer(model, sgd)
        .with_parameter_groups(&groups)
        .unwrap();
    let loader = BatchLoader::new(&data, 4).unwrap();
    let done = trainer.train_epoch::<1, 8, 8, 2>(dev, &loader, &mut ());
    done.unwrap();
    trainer.model
}
