//! The error of a network's prediction, in training and in evaluation.

use dfdx::nn::ModuleMut;
use dfdx::shapes::{Const, HasShape};
use dfdx::tensor::{Gradients, NoneTape, Trace};
use rand::rngs::StdRng;
use rand::Rng;

use super::model::{Classes, Denoiser, Timesteps, TrainableClassDenoiser, TrainableDenoiser};
use super::noise::{fill_normal, Draw};
use super::parameterization::Loss;
use super::process::Diffusion;
use crate::backend::Backend;
use crate::bridge::{unneeded, upload};
use crate::data::{Batch, BatchLoader, ImageShape};
use crate::error::{DataError, Error, Result};
use crate::ops::distance::try_distance;
use crate::train::{Images, LossTensor, Objective, Place};

/// A batch noised: the network's input and what it should answer.
pub(super) struct Noised<const C: usize, const H: usize, const W: usize, D: Backend<f32>> {
    x_t: Images<C, H, W, D, NoneTape>,
    t: Timesteps<D>,
    target: Images<C, H, W, D, NoneTape>,
}

impl<const C: usize, const H: usize, const W: usize, D: Backend<f32>> Noised<C, H, W, D> {
    /// Noises each image to its timestep.
    fn new(
        diffusion: &Diffusion,
        dev: &D,
        batch: &Batch,
        t: &[usize],
        noise: &[f32],
    ) -> Result<Self> {
        batch.check_shape("Batch::image_tensor", ImageShape::new(C, H, W))?;
        let shape = (batch.len(), Const, Const, Const);
        // Before they go to the device, so that nothing comes back from it.
        let [x_t, target] = diffusion.noised(batch.images(), t, noise)?;
        let floats: Vec<f32> = t.iter().map(|&t| t as f32).collect();
        Ok(Self {
            x_t: upload(dev, shape, &x_t)?,
            t: upload(dev, (t.len(),), &floats)?,
            target: upload(dev, shape, &target)?,
        })
    }
}

/// A timestep, each as likely.
fn timestep(rng: &mut StdRng, diffusion: &Diffusion) -> usize {
    // As a u64: a usize would be drawn otherwise on other machines.
    rng.gen_range(0..diffusion.steps() as u64) as usize
}

/// Denoising at random timesteps (Algorithm 1 of arXiv 2006.11239).
pub(super) struct Denoising<'a, const C: usize, const H: usize, const W: usize> {
    pub(super) diffusion: &'a Diffusion,
    pub(super) loss: Loss,
    pub(super) seed: u64,
}

impl<const C: usize, const H: usize, const W: usize, M, D> Objective<M, D>
    for Denoising<'_, C, H, W>
where
    M: TrainableDenoiser<C, H, W, D>,
    D: Backend<f32>,
{
    type Input = Noised<C, H, W, D>;

    fn input(&mut self, dev: &D, batch: &Batch, place: Place) -> Result<Self::Input> {
        self.noised(dev, batch, place)
    }

    fn loss(
        &mut self,
        model: &mut M,
        input: Self::Input,
        grads: Gradients<f32, D>,
    ) -> Result<LossTensor<D>> {
        unneeded::add(&input.x_t);
        let x = (input.x_t.traced(grads), input.t);
        let output = ModuleMut::try_forward_mut(model, x).map_err(Into::into)?;
        check_output(output.shape(), input.target.shape())?;
        try_distance(self.loss, output, input.target)
    }
}

impl<const C: usize, const H: usize, const W: usize> Denoising<'_, C, H, W> {
    /// A batch at random timesteps.
    fn noised<D: Backend<f32>>(
        &self,
        dev: &D,
        batch: &Batch,
        place: Place,
    ) -> Result<Noised<C, H, W, D>> {
        let draw = Draw::Training {
            epoch: place.epoch,
            batch: place.batch as u64,
        };
        let mut rng = draw.rng(self.seed);
        // Drawn for the whole batch, of which this may be a rank's share.
        let images = 0..batch.whole_len();
        let t: Vec<usize> = images.map(|_| timestep(&mut rng, self.diffusion)).collect();
        let mut noise = vec![0.0; batch.images().len()];
        let (first, len) = (batch.first_place(), batch.len());
        for _ in 0..first {
            fill_normal(&mut rng, &mut noise[..batch.images().len() / len.max(1)]);
        }
        fill_normal(&mut rng, &mut noise);
        Noised::new(self.diffusion, dev, batch, &t[first..first + len], &noise)
    }
}

/// [`Denoising`] of images whose classes the network is told, but for some (Algorithm 1 of arXiv
/// 2207.12598).
pub(super) struct ClassDenoising<
    'a,
    const C: usize,
    const H: usize,
    const W: usize,
    const CLASSES: usize,
> {
    pub(super) denoising: Denoising<'a, C, H, W>,
    /// The probability that an image is trained on as one of no class.
    pub(super) dropout: f64,
}

impl<const C: usize, const H: usize, const W: usize, const CLASSES: usize, M, D> Objective<M, D>
    for ClassDenoising<'_, C, H, W, CLASSES>
where
    M: TrainableClassDenoiser<C, H, W, CLASSES, D>,
    D: Backend<f32>,
{
    type Input = (Noised<C, H, W, D>, Classes<CLASSES, D>);

    fn input(&mut self, dev: &D, batch: &Batch, place: Place) -> Result<Self::Input> {
        let labels = labels::<CLASSES>(batch)?;
        let draw = Draw::Classes {
            epoch: place.epoch,
            batch: place.batch as u64,
        };
        let mut rng = draw.rng(self.denoising.seed);
        // Drawn for the whole batch, as the timesteps are.
        let images = 0..batch.whole_len();
        let dropped: Vec<bool> = images.map(|_| rng.gen_bool(self.dropout)).collect();
        let dropped = &dropped[batch.first_place()..];
        let told = labels.iter().zip(dropped);
        let told = told.map(|(&label, &dropped)| (!dropped).then_some(label));
        let noised = self.denoising.noised(dev, batch, place)?;
        Ok((noised, class_rows(dev, told)?))
    }

    fn loss(
        &mut self,
        model: &mut M,
        (input, classes): Self::Input,
        grads: Gradients<f32, D>,
    ) -> Result<LossTensor<D>> {
        unneeded::add(&input.x_t);
        let x = (input.x_t.traced(grads), input.t, classes);
        let output = ModuleMut::try_forward_mut(model, x).map_err(Into::into)?;
        check_output(output.shape(), input.target.shape())?;
        try_distance(self.denoising.loss, output, input.target)
    }
}

/// A batch's labels.
///
/// # Errors
/// [`DataError::ImageLabel`] for one that is no class, [`Error::Parameter`] for a multi-label batch.
pub(super) fn labels<const CLASSES: usize>(batch: &Batch) -> Result<&[usize]> {
    if batch.is_multi_label() {
        let range = "one class an image";
        return Err(Error::parameter("labels", "attributes", range));
    }
    let labels = batch.labels();
    match labels.iter().position(|&label| label >= CLASSES) {
        None => Ok(labels),
        Some(index) => Err(DataError::ImageLabel {
            index,
            label: labels[index],
            classes: CLASSES,
        }
        .into()),
    }
}

/// What a network is told of images of these classes, which are less than CLASSES, or of none.
pub(super) fn class_rows<const CLASSES: usize, D: Backend<f32>>(
    dev: &D,
    classes: impl ExactSizeIterator<Item = Option<usize>>,
) -> Result<Classes<CLASSES, D>> {
    let images = classes.len();
    let mut rows = vec![0.0; images * CLASSES];
    for (image, class) in classes.enumerate() {
        if let Some(class) = class {
            rows[image * CLASSES + class] = 1.0;
        }
    }
    upload(dev, (images, Const), &rows)
}

/// (B, C, H, W)
type Shape<const C: usize, const H: usize, const W: usize> = (usize, Const<C>, Const<H>, Const<W>);

/// dfdx's arithmetic panics at shapes that differ.
fn check_output<const C: usize, const H: usize, const W: usize>(
    output: &Shape<C, H, W>,
    target: &Shape<C, H, W>,
) -> Result<()> {
    if output == target {
        return Ok(());
    }
    let what = "images of the network's output";
    Err(Error::shape("denoising loss", what, target.0, output.0))
}

/// A network's loss on images.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Found {
    pub(super) sum: f64,
    pub(super) images: usize,
}

/// The mean loss of a network over the images of `loader`, in evaluation mode, each at one timestep
/// and with noise that follow from the seed and the image's place in the data set: the same for
/// every network, whatever the batches and their order. 0 without images.
///
/// # Errors
/// As [`Batch::image_tensor`], and those of the network.
pub fn evaluate<const C: usize, const H: usize, const W: usize, M, D>(
    model: &M,
    diffusion: &Diffusion,
    loss: Loss,
    dev: &D,
    loader: &BatchLoader,
    seed: u64,
) -> Result<f64>
where
    M: Denoiser<C, H, W, D>,
    D: Backend<f32>,
{
    let mut predict = |_: &Batch, x_t, t| model.try_forward((x_t, t)).map_err(Into::into);
    let found = found_on::<C, H, W, D>(diffusion, loss, dev, loader, seed, &mut predict)?;
    Ok(found.sum / found.images.max(1) as f64)
}

/// A network's answer to the noised images of a batch.
pub(super) type Predict<'a, const C: usize, const H: usize, const W: usize, D> =
    dyn FnMut(
            &Batch,
            Images<C, H, W, D, NoneTape>,
            Timesteps<D>,
        ) -> Result<Images<C, H, W, D, NoneTape>>
        + 'a;

/// The loss on a loader's images, which may be a rank's share.
pub(super) fn found_on<const C: usize, const H: usize, const W: usize, D: Backend<f32>>(
    diffusion: &Diffusion,
    loss: Loss,
    dev: &D,
    loader: &BatchLoader,
    seed: u64,
    predict: &mut Predict<'_, C, H, W, D>,
) -> Result<Found> {
    let mut found = Found::default();
    for batch in loader.epoch(0) {
        let batch = batch?;
        if batch.share() == 0.0 {
            continue;
        }
        let mut t = Vec::with_capacity(batch.len());
        let mut noise = vec![0.0; batch.images().len()];
        let len = (noise.len() / batch.len().max(1)).max(1);
        for (&image, noise) in batch.indices().iter().zip(noise.chunks_mut(len)) {
            let image = image as u64;
            let mut rng = Draw::Evaluation { image }.rng(seed);
            t.push(timestep(&mut rng, diffusion));
            fill_normal(&mut rng, noise);
        }
        let Noised { x_t, t, target } =
            Noised::<C, H, W, D>::new(diffusion, dev, &batch, &t, &noise)?;
        let output = predict(&batch, x_t, t)?;
        check_output(output.shape(), target.shape())?;
        let (output, target) = (output.as_vec(), target.as_vec());
        for (output, target) in output.chunks(len).zip(target.chunks(len)) {
            let errors = output.iter().zip(target).map(|(&output, &target)| {
                let error = f64::from(output) - f64::from(target);
                match loss {
                    Loss::L1 => error.abs(),
                    Loss::L2 => error * error,
                }
            });
            found.sum += errors.sum::<f64>() / len as f64;
        }
        found.images += batch.len();
    }
    Ok(found)
}
