//! Training of a network that is told classes, or of one that is not.

use common::ddpm::{Draws, Told, Untold, CLASSES};
use common::optimization::BoxedOptimizer;
use ssprop::data::BatchLoader;
use ssprop::diffusion::{TrainableClassDenoiser, TrainableDenoiser};
use ssprop::prelude::*;
use ssprop::Backend;

/// A trainer whose optimizer is chosen at run time.
pub type BoxedDiffusionTrainer<M, D> = DiffusionTrainer<M, D, BoxedOptimizer<M, D>>;

/// How a network is trained, tested and drawn with.
pub trait Teaches<M, D, const C: usize, const H: usize, const W: usize>:
    Draws<M, D, C, H, W>
where
    M: TrainableDenoiser<C, H, W, D>,
    D: Backend<f32>,
{
    fn train_part(
        &self,
        trainer: &mut BoxedDiffusionTrainer<M, D>,
        dev: &D,
        loader: &BatchLoader,
        observer: &mut dyn Observer,
    ) -> ssprop::Result<Option<EpochReport>>;

    fn evaluate(
        &self,
        trainer: &BoxedDiffusionTrainer<M, D>,
        dev: &D,
        loader: &BatchLoader,
    ) -> ssprop::Result<f64>;
}

impl<M, D, const C: usize, const H: usize, const W: usize> Teaches<M, D, C, H, W> for Untold
where
    M: TrainableDenoiser<C, H, W, D>,
    D: Backend<f32>,
{
    fn train_part(
        &self,
        trainer: &mut BoxedDiffusionTrainer<M, D>,
        dev: &D,
        loader: &BatchLoader,
        observer: &mut dyn Observer,
    ) -> ssprop::Result<Option<EpochReport>> {
        trainer.train_part::<C, H, W>(dev, loader, observer)
    }

    fn evaluate(
        &self,
        trainer: &BoxedDiffusionTrainer<M, D>,
        dev: &D,
        loader: &BatchLoader,
    ) -> ssprop::Result<f64> {
        trainer.evaluate::<C, H, W>(dev, loader)
    }
}

impl<M, D, const C: usize, const H: usize, const W: usize> Teaches<M, D, C, H, W> for Told
where
    M: TrainableClassDenoiser<C, H, W, CLASSES, D>,
    D: Backend<f32>,
{
    fn train_part(
        &self,
        trainer: &mut BoxedDiffusionTrainer<M, D>,
        dev: &D,
        loader: &BatchLoader,
        observer: &mut dyn Observer,
    ) -> ssprop::Result<Option<EpochReport>> {
        trainer.train_class_part::<C, H, W, CLASSES>(dev, loader, observer)
    }

    fn evaluate(
        &self,
        trainer: &BoxedDiffusionTrainer<M, D>,
        dev: &D,
        loader: &BatchLoader,
    ) -> ssprop::Result<f64> {
        trainer.evaluate_classes::<C, H, W, CLASSES>(dev, loader)
    }
}
