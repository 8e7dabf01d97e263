//! Drawing with a network that is told classes, or with one that is not.

use ssprop::diffusion::{
    ClassDenoiser, Denoiser, Diffusion, Guided, SampleRun, SampleStep, Sampler,
};
use ssprop::distributed::Communicator;
use ssprop::Backend;

use super::CLASSES;

/// What is drawn, and by whom.
pub struct Drawing<'a> {
    pub ranks: &'a Communicator,
    pub sampler: &'a Sampler,
    pub diffusion: &'a Diffusion,
    pub run: SampleRun,
}

/// How a network draws.
pub trait Draws<M, D: Backend<f32>, const C: usize, const H: usize, const W: usize> {
    fn draw(
        &self,
        drawing: &Drawing<'_>,
        model: &M,
        dev: &D,
        observer: &mut dyn FnMut(&SampleStep<'_>),
    ) -> ssprop::Result<Vec<f32>>;
}

/// Which classes in turn, and how strongly.
#[derive(Clone, Debug, PartialEq)]
pub struct Guidance {
    pub classes: Vec<usize>,
    pub scale: f64,
}

/// Without classes.
pub struct Untold;

impl<M, D: Backend<f32>, const C: usize, const H: usize, const W: usize> Draws<M, D, C, H, W>
    for Untold
where
    M: Denoiser<C, H, W, D>,
{
    fn draw(
        &self,
        drawing: &Drawing<'_>,
        model: &M,
        dev: &D,
        observer: &mut dyn FnMut(&SampleStep<'_>),
    ) -> ssprop::Result<Vec<f32>> {
        let Drawing {
            ranks,
            sampler,
            diffusion,
            run,
        } = *drawing;
        sampler.sample_on::<C, H, W, _, _>(ranks, diffusion, model, dev, run, observer)
    }
}

/// With them.
pub struct Told(pub Guidance);

impl<M, D: Backend<f32>, const C: usize, const H: usize, const W: usize> Draws<M, D, C, H, W>
    for Told
where
    M: ClassDenoiser<C, H, W, CLASSES, D>,
{
    fn draw(
        &self,
        drawing: &Drawing<'_>,
        model: &M,
        dev: &D,
        observer: &mut dyn FnMut(&SampleStep<'_>),
    ) -> ssprop::Result<Vec<f32>> {
        let Drawing {
            ranks,
            sampler,
            diffusion,
            run,
        } = *drawing;
        let Guidance { classes, scale } = self.0.clone();
        let guided = Guided {
            model,
            classes,
            scale,
        };
        sampler
            .sample_guided::<C, H, W, CLASSES, _, _>(ranks, diffusion, &guided, dev, run, observer)
    }
}
