//! Drawing images.

use std::ops::Range;

use rand::rngs::StdRng;

use super::guidance::Guided;
use super::model::{ClassDenoiser, Denoiser};
use super::noise::{fill_normal, Draw};
use super::predict::predict;
use super::process::{combine_slices, Diffusion};
use crate::backend::Backend;
use crate::distributed::Communicator;
use crate::error::{Error, Result};

/// How images are drawn from noise. Both clip the image that each step predicts to -1..=1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Sampler {
    /// Every timestep back to the one before, with noise of the posterior's variance: Algorithm 2
    /// of [arXiv 2006.11239](https://arxiv.org/abs/2006.11239).
    #[default]
    Ancestral,
    /// Denoising diffusion implicit models ([arXiv 2010.02502](https://arxiv.org/abs/2010.02502),
    /// Eq. 12), which can leave timesteps out.
    Ddim {
        /// S, the number of timesteps visited, evenly spaced: the last of each of S equal parts of
        /// the diffusion's T. At least 1 and at most T.
        steps: usize,
        /// The share of noise, in 0..=1: 0 draws none after the first, 1 as much as ancestral
        /// sampling (Eq. 16).
        eta: f64,
    },
}

/// Which images to draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SampleRun {
    /// Decides the noise, together with each image's number.
    pub seed: u64,
    /// Images to draw.
    pub count: usize,
    /// Images that go through the network at once, at least 1.
    pub batch: usize,
}

/// What sampling tells after each step of a batch.
#[derive(Clone, Copy, Debug)]
pub struct SampleStep<'a> {
    /// The number of the batch's first image.
    pub first: usize,
    /// Images in the batch.
    pub images: usize,
    /// Steps done of this batch: 0 at first, where `x` is noise.
    pub step: usize,
    /// Steps that each batch takes.
    pub steps: usize,
    /// The images as they are now, (B, C, H, W).
    pub x: &'a [f32],
    /// The images that the network predicted in this step, clipped, (B, C, H, W). Empty before the
    /// first step.
    pub x0: &'a [f32],
}

/// One step back from timestep t: x = a x0 + b x_t + sigma noise.
#[derive(Clone, Copy, Debug, PartialEq)]
struct ReverseStep {
    t: usize,
    x0: f64,
    x_t: f64,
    sigma: f64,
}

impl Sampler {
    /// The timesteps that it visits on this diffusion, the noisiest first.
    ///
    /// ```
    /// use ssprop::diffusion::{BetaSchedule, Diffusion, Sampler};
    ///
    /// let diffusion = Diffusion::new(BetaSchedule::Cosine, 200)?;
    /// let sampler = Sampler::Ddim { steps: 4, eta: 0.0 };
    /// assert_eq!(sampler.timesteps(&diffusion)?, [199, 149, 99, 49]);
    /// assert_eq!(Sampler::Ancestral.timesteps(&diffusion)?.len(), 200);
    /// # Ok::<(), ssprop::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Parameter`] if the number of steps or eta is outside its range.
    pub fn timesteps(&self, diffusion: &Diffusion) -> Result<Vec<usize>> {
        let all = diffusion.steps();
        match *self {
            Self::Ancestral => Ok((0..all).rev().collect()),
            Self::Ddim { steps, eta } => {
                if steps == 0 || steps > all {
                    let range = "at least 1 and at most the diffusion's timesteps";
                    let value = format_args!("{steps} of {all}");
                    return Err(Error::parameter("steps", value, range));
                }
                if !(0.0..=1.0).contains(&eta) {
                    return Err(Error::parameter("eta", eta, "in 0..=1"));
                }
                // In u128 no number of timesteps overflows.
                let end = |part: usize| (part as u128 * all as u128 / steps as u128) as usize;
                Ok((1..=steps).rev().map(|part| end(part) - 1).collect())
            }
        }
    }

    fn reverse_steps(&self, diffusion: &Diffusion) -> Result<Vec<ReverseStep>> {
        let visited = self.timesteps(diffusion)?;
        let next = visited.iter().skip(1).map(|&t| Some(t)).chain([None]);
        let steps = visited.iter().zip(next);
        steps
            .map(|(&t, next)| match *self {
                Self::Ancestral => ancestral_step(diffusion, t),
                Self::Ddim { eta, .. } => Ok(ddim_step(diffusion, t, next, eta)),
            })
            .collect()
    }

    /// Draws images: their values (count, C, H, W), those of the data set's images, -1..=1.
    ///
    /// The noise of an image follows from the seed and the image's number and from nothing else: not
    /// from how many are drawn, nor how many at once. `observer` is told of every step of every
    /// batch.
    ///
    /// ```
    /// use ssprop::diffusion::{BetaSchedule, Diffusion, SampleRun, Sampler, Timesteps};
    /// use ssprop::prelude::*;
    ///
    /// /// Sees no noise in anything.
    /// struct Blind;
    /// type Images = Tensor<(usize, Const<1>, Const<4>, Const<4>), f32, Cpu>;
    /// impl Module<(Images, Timesteps<Cpu>)> for Blind {
    ///     type Output = Images;
    ///     type Error = ssprop::Error;
    ///     fn try_forward(&self, (x, _t): (Images, Timesteps<Cpu>)) -> ssprop::Result<Images> {
    ///         Ok(x * 0.0)
    ///     }
    /// }
    ///
    /// let diffusion = Diffusion::new(BetaSchedule::Cosine, 50)?;
    /// let run = SampleRun { seed: 0, count: 3, batch: 2 };
    /// let mut steps = 0;
    /// let images = Sampler::Ddim { steps: 10, eta: 0.0 }.sample::<1, 4, 4, _, _>(
    ///     &diffusion,
    ///     &Blind,
    ///     &Cpu::default(),
    ///     run,
    ///     &mut |done| steps = steps.max(done.step),
    /// )?;
    /// assert_eq!((images.len(), steps), (3 * 16, 10));
    /// # Ok::<(), ssprop::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`timesteps`](Self::timesteps); [`Error::Parameter`] for a batch of 0; those of the
    /// network.
    pub fn sample<const C: usize, const H: usize, const W: usize, M, D>(
        &self,
        diffusion: &Diffusion,
        model: &M,
        dev: &D,
        run: SampleRun,
        observer: &mut dyn FnMut(&SampleStep<'_>),
    ) -> Result<Vec<f32>>
    where
        M: Denoiser<C, H, W, D>,
        D: Backend<f32>,
    {
        let alone = &Communicator::alone();
        self.sample_on::<C, H, W, M, D>(alone, diffusion, model, dev, run, observer)
    }

    /// [`sample`](Self::sample) by several ranks: each draws its share, and all have the same images, those
    /// of one rank. The observer is told of its own rank's.
    ///
    /// # Errors
    /// As [`sample`](Self::sample); [`Error::Distributed`] if a rank is lost.
    pub fn sample_on<const C: usize, const H: usize, const W: usize, M, D>(
        &self,
        communicator: &Communicator,
        diffusion: &Diffusion,
        model: &M,
        dev: &D,
        run: SampleRun,
        observer: &mut dyn FnMut(&SampleStep<'_>),
    ) -> Result<Vec<f32>>
    where
        M: Denoiser<C, H, W, D>,
        D: Backend<f32>,
    {
        let predict = |x: &[f32], _: Range<usize>, t| {
            predict(dev, x, t, |x_t, t| {
                model.try_forward((x_t, t)).map_err(Into::into)
            })
        };
        let len = C * H * W;
        self.draw_on(communicator, diffusion, len, run, &predict, observer)
    }

    /// [`sample_on`](Self::sample_on) of images of given classes, by classifier-free guidance.
    ///
    /// ```
    /// use ssprop::diffusion::{BetaSchedule, Diffusion, Guided, SampleRun, Sampler};
    /// use ssprop::distributed::Communicator;
    /// use ssprop::prelude::*;
    ///
    /// let dev = Cpu::default();
    /// // One that has been trained by `DiffusionTrainer::train_class_epoch`.
    /// let net = dev.build_module::<ClassConditional<MnistUNet, 10, 64>, f32>();
    /// let diffusion = Diffusion::new(BetaSchedule::Cosine, 50)?;
    /// let run = SampleRun { seed: 0, count: 2, batch: 2 };
    /// let images = Sampler::Ddim { steps: 2, eta: 0.0 }.sample_guided::<1, 8, 8, 10, _, _>(
    ///     &Communicator::alone(),
    ///     &diffusion,
    ///     &Guided { model: &net, classes: vec![8], scale: 3.0 },
    ///     &dev,
    ///     run,
    ///     &mut |_| (),
    /// )?;
    /// assert_eq!(images.len(), 2 * 64);
    /// # Ok::<(), ssprop::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`sample_on`](Self::sample_on); [`Error::Parameter`] if there is no class, for a class that is
    /// not less than CLASSES, and for a scale that is negative or not finite.
    pub fn sample_guided<
        const C: usize,
        const H: usize,
        const W: usize,
        const CLASSES: usize,
        M,
        D,
    >(
        &self,
        communicator: &Communicator,
        diffusion: &Diffusion,
        guided: &Guided<'_, M>,
        dev: &D,
        run: SampleRun,
        observer: &mut dyn FnMut(&SampleStep<'_>),
    ) -> Result<Vec<f32>>
    where
        M: ClassDenoiser<C, H, W, CLASSES, D>,
        D: Backend<f32>,
    {
        guided.check(CLASSES)?;
        let predict = |x: &[f32], images: Range<usize>, t| {
            guided.predict::<C, H, W, CLASSES, D>(dev, x, images, t)
        };
        let len = C * H * W;
        self.draw_on(communicator, diffusion, len, run, &predict, observer)
    }

    /// Draws images of `len` values, by several ranks.
    fn draw_on(
        &self,
        communicator: &Communicator,
        diffusion: &Diffusion,
        len: usize,
        run: SampleRun,
        predict: &Predict<'_>,
        observer: &mut dyn FnMut(&SampleStep<'_>),
    ) -> Result<Vec<f32>> {
        let [rank, ranks] = [communicator.rank(), communicator.size()];
        let part = run.count * rank / ranks..run.count * (rank + 1) / ranks;
        let draw = || self.draw_part(diffusion, len, run, part, predict, observer);
        let own = communicator.together(draw)?;
        if communicator.is_alone() {
            return Ok(own);
        }
        let bytes = own.iter().flat_map(|value| value.to_le_bytes()).collect();
        let all = communicator.gather(bytes)?.concat();
        let values = all.as_chunks().0.iter();
        Ok(values.map(|&value| f32::from_le_bytes(value)).collect())
    }

    /// The images of these numbers.
    fn draw_part(
        &self,
        diffusion: &Diffusion,
        len: usize,
        run: SampleRun,
        part: Range<usize>,
        predict: &Predict<'_>,
        observer: &mut dyn FnMut(&SampleStep<'_>),
    ) -> Result<Vec<f32>> {
        if run.batch == 0 {
            return Err(Error::parameter("batch", run.batch, "at least 1"));
        }
        let steps = self.reverse_steps(diffusion)?;
        let mut samples = Vec::new();
        for first in part.clone().step_by(run.batch) {
            let images = run.batch.min(part.end - first);
            let rng = |image| {
                let image = image as u64;
                Draw::Sample { image }.rng(run.seed)
            };
            let mut rngs: Vec<StdRng> = (first..first + images).map(rng).collect();
            let mut x = vec![0.0; images * len];
            draw(&mut rngs, &mut x, len);
            let mut tell = |step, x: &[f32], x0: &[f32]| {
                observer(&SampleStep {
                    first,
                    images,
                    step,
                    steps: steps.len(),
                    x,
                    x0,
                })
            };
            tell(0, &x, &[]);
            let mut noise = vec![0.0; x.len()];
            for (i, step) in steps.iter().enumerate() {
                let output = predict(&x, first..first + images, step.t)?;
                let (a, b) = diffusion.x0_coefficients(step.t);
                let mut x0 = x.clone();
                combine_slices(a as f32, &mut x0, b as f32, &output);
                for value in &mut x0 {
                    *value = value.clamp(-1.0, 1.0);
                }
                combine_slices(step.x_t as f32, &mut x, step.x0 as f32, &x0);
                if step.sigma > 0.0 {
                    draw(&mut rngs, &mut noise, len);
                    combine_slices(1.0, &mut x, step.sigma as f32, &noise);
                }
                tell(i + 1, &x, &x0);
            }
            samples.append(&mut x);
        }
        Ok(samples)
    }
}

/// What a network answers of the images of these numbers, (B, C, H, W), at timestep t.
type Predict<'a> = dyn Fn(&[f32], Range<usize>, usize) -> Result<Vec<f32>> + 'a;

/// The next normal values of each image's generator.
fn draw(rngs: &mut [StdRng], values: &mut [f32], len: usize) {
    for (rng, values) in rngs.iter_mut().zip(values.chunks_mut(len.max(1))) {
        fill_normal(rng, values);
    }
}

/// The posterior's mean, and its deviation but at the last step.
fn ancestral_step(diffusion: &Diffusion, t: usize) -> Result<ReverseStep> {
    let (x0, x_t) = diffusion.posterior_mean_coefficients(t);
    let sigma = if t == 0 {
        0.0
    } else {
        (0.5 * diffusion.posterior_log_variance(t)?).exp()
    };
    Ok(ReverseStep { t, x0, x_t, sigma })
}

/// Eq. 12 and 16 of DDIM from timestep `t` to `next`, or to the image itself, with the noise that
/// belongs to the clipped image.
fn ddim_step(diffusion: &Diffusion, t: usize, next: Option<usize>, eta: f64) -> ReverseStep {
    let now = diffusion.alphas_bar()[t];
    let next = next.map_or(1.0, |next| diffusion.alphas_bar()[next]);
    let sigma = eta * ((1.0 - next) / (1.0 - now) * (1.0 - now / next)).sqrt();
    // The share of the predicted noise. Rounding must not make it negative.
    let direction = (1.0 - next - sigma * sigma).max(0.0).sqrt();
    let (eps_of_x, eps_of_x0) = diffusion.eps_coefficients(t);
    ReverseStep {
        t,
        x0: next.sqrt() + direction * eps_of_x0,
        x_t: direction * eps_of_x,
        sigma,
    }
}

#[cfg(test)]
mod tests {
    use super::super::BetaSchedule;
    use super::*;

    fn ddim(steps: usize, eta: f64) -> Sampler {
        Sampler::Ddim { steps, eta }
    }

    /// Section 4.1 of DDIM: with eta = 1 and all timesteps it is the ancestral sampler.
    #[test]
    fn ddim_with_all_noise_and_all_steps_is_ancestral() {
        for schedule in BetaSchedule::ALL {
            let diffusion = Diffusion::new(schedule, 60).unwrap();
            let a = Sampler::Ancestral.reverse_steps(&diffusion).unwrap();
            let b = ddim(60, 1.0).reverse_steps(&diffusion).unwrap();
            assert_eq!((a.len(), b.len()), (60, 60));
            for (a, b) in a.iter().zip(&b) {
                assert_eq!(a.t, b.t);
                for (a, b) in [(a.x0, b.x0), (a.x_t, b.x_t), (a.sigma, b.sigma)] {
                    assert!((a - b).abs() < 1e-6, "{schedule}: {a} {b}");
                }
            }
        }
    }

    /// Whatever the steps, an image that was noised by the process stays one: the mean and the
    /// variance after a step are those of q(x_next | x0).
    #[test]
    fn every_step_keeps_the_marginal_distribution() {
        let diffusion = Diffusion::new(BetaSchedule::Cosine, 100).unwrap();
        for sampler in [
            Sampler::Ancestral,
            ddim(100, 0.0),
            ddim(30, 0.5),
            ddim(7, 1.0),
            ddim(1, 0.0),
        ] {
            let steps = sampler.reverse_steps(&diffusion).unwrap();
            for (i, step) in steps.iter().enumerate() {
                let now = diffusion.alphas_bar()[step.t];
                let next = steps
                    .get(i + 1)
                    .map_or(1.0, |next| diffusion.alphas_bar()[next.t]);
                let mean = step.x0 + step.x_t * now.sqrt();
                let variance = step.x_t.powi(2) * (1.0 - now) + step.sigma.powi(2);
                assert!((mean - next.sqrt()).abs() < 1e-9, "{sampler:?} {i}");
                assert!((variance - (1.0 - next)).abs() < 1e-9, "{sampler:?} {i}");
            }
        }
    }

    #[test]
    fn steps_and_eta_outside_their_range_are_named() {
        let diffusion = Diffusion::new(BetaSchedule::Cosine, 100).unwrap();
        for (sampler, named) in [
            (ddim(0, 0.0), "steps = 0 of 100"),
            (ddim(101, 0.0), "steps = 101 of 100"),
            (ddim(5, f64::NAN), "eta = NaN"),
            (ddim(5, -0.1), "eta = -0.1"),
            (ddim(5, 1.1), "eta = 1.1"),
        ] {
            let err = sampler.timesteps(&diffusion).unwrap_err().to_string();
            assert!(err.starts_with(named), "{err}");
        }
        for steps in 1..=100 {
            let t = ddim(steps, 0.0).timesteps(&diffusion).unwrap();
            assert_eq!((t.len(), t[0]), (steps, 99));
            assert!(t.windows(2).all(|w| w[0] > w[1]));
        }
    }
}
