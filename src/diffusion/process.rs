//! The process that turns images into noise, and the coefficients of its reversal.

use crate::backend::Backend;
use dfdx::dtypes::Dtype;
use dfdx::shapes::{Const, Dim, HasShape};
use dfdx::tensor::Tensor;
use num_traits::Float;

use super::{BetaSchedule, Parameterization};
use crate::bridge::{upload, values};
use crate::error::{Error, Result};

/// (B, C, H, W)
type Images<B, const C: usize, H, W, E, D> = Tensor<(B, Const<C>, H, W), E, D>;

/// The smallest share of the image's variance that may be left at the last timestep: the noise is
/// divided by its root, in f32.
const LEAST_ALPHA_BAR: f64 = 1e-70;
/// A variance that stands for 0 where its logarithm is asked for.
const LEAST_VARIANCE: f64 = 1e-20;

/// The diffusion of denoising diffusion probabilistic models
/// ([arXiv 2006.11239](https://arxiv.org/abs/2006.11239)): T timesteps, each of which adds noise of
/// variance beta_t to an image (written x0) with values in -1..=1.
///
/// With alpha_t = 1 - beta_t and alpha_bar_t = alpha_0 ... alpha_t the image at timestep t is
/// x_t = sqrt(alpha_bar_t) x0 + sqrt(1 - alpha_bar_t) noise (Eq. 4). All coefficients are kept in
/// f64. Timesteps count from 0, so timestep t is the paper's t + 1.
///
/// The functions on tensors take images (B, C, H, W) and one timestep an image; they compute on the
/// host. None has a gradient.
///
/// ```
/// use ssprop::diffusion::{BetaSchedule, Diffusion};
/// use ssprop::prelude::*;
///
/// let dev = Cpu::default();
/// let diffusion = Diffusion::new(BetaSchedule::Cosine, 200)?;
/// let x0: Tensor<Rank4<2, 1, 32, 32>, f32, _> = dev.ones();
/// let noise = dev.sample_normal();
/// let t = [3, 177];
/// let x_t = diffusion.q_sample(&x0, &t, &noise)?;
/// // Who knows the noise knows the image.
/// let found = diffusion.predict_x0(&noise, &x_t, &t)?;
/// assert!((found - x0).abs().max::<Rank0, _>().array() < 1e-4);
/// # Ok::<(), ssprop::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Diffusion {
    parameterization: Parameterization,
    betas: Vec<f64>,
    alphas_bar: Vec<f64>,
}

/// What a network's output says of the timestep before: the normal distribution
/// p(x_{t-1} | x_t) of each image.
#[derive(Clone, Debug)]
pub struct PMeanVariance<T> {
    /// The mean, (B, C, H, W).
    pub mean: T,
    /// The logarithm of the variance, which an image's elements share, (B).
    pub log_variance: Vec<f64>,
    /// The image that the output stands for, clipped if that was asked for, (B, C, H, W).
    pub x0: T,
}

impl Diffusion {
    /// With `steps` timesteps on a schedule; the network predicts the noise
    /// ([`Parameterization::Eps`]).
    ///
    /// # Errors
    /// As [`BetaSchedule::betas`] and [`Diffusion::from_betas`].
    pub fn new(schedule: BetaSchedule, steps: usize) -> Result<Self> {
        Self::from_betas(schedule.betas(steps)?)
    }

    /// With the given variances, one a timestep.
    ///
    /// # Errors
    /// [`Error::Parameter`] if there are none, if one is not larger than 0 and less than 1, or if
    /// together they leave less than 1e-70 of the image's variance.
    pub fn from_betas(betas: Vec<f64>) -> Result<Self> {
        if betas.is_empty() {
            return Err(Error::parameter("steps", 0, "at least 1"));
        }
        let mut alphas_bar = Vec::with_capacity(betas.len());
        let mut product = 1.0;
        for &beta in &betas {
            // Not the negation: NaN is refused.
            if !(beta > 0.0 && beta < 1.0) {
                return Err(Error::parameter("beta", beta, "between 0 and 1"));
            }
            product *= 1.0 - beta;
            alphas_bar.push(product);
        }
        if product < LEAST_ALPHA_BAR {
            let range = "at least 1e-70 at the last timestep (fewer timesteps or smaller betas)";
            return Err(Error::parameter("alpha_bar", product, range));
        }
        Ok(Self {
            parameterization: Parameterization::default(),
            betas,
            alphas_bar,
        })
    }

    /// The same for networks that predict something else.
    pub fn with_parameterization(self, parameterization: Parameterization) -> Self {
        Self {
            parameterization,
            ..self
        }
    }

    /// What the network predicts.
    pub fn parameterization(&self) -> Parameterization {
        self.parameterization
    }

    /// T, the number of timesteps.
    pub fn steps(&self) -> usize {
        self.betas.len()
    }

    /// beta_t, the variance of the noise that each timestep adds.
    pub fn betas(&self) -> &[f64] {
        &self.betas
    }

    /// alpha_bar_t, the share of the image's variance that is left at each timestep.
    pub fn alphas_bar(&self) -> &[f64] {
        &self.alphas_bar
    }

    /// sqrt(alpha_bar_t) and sqrt(1 - alpha_bar_t): what x_t has of the image and of the noise.
    pub(super) fn signal_and_noise(&self, t: usize) -> (f64, f64) {
        let alpha_bar = self.alphas_bar[t];
        (alpha_bar.sqrt(), (1.0 - alpha_bar).sqrt())
    }

    /// alpha_bar of the timestep before, 1 before the first.
    fn alpha_bar_before(&self, t: usize) -> f64 {
        t.checked_sub(1).map_or(1.0, |t| self.alphas_bar[t])
    }

    /// a and b of x0 = a x_t + b output.
    pub(super) fn x0_coefficients(&self, t: usize) -> (f64, f64) {
        let (signal, noise) = self.signal_and_noise(t);
        match self.parameterization {
            Parameterization::Eps => (signal.recip(), -noise / signal),
            Parameterization::X0 => (0.0, 1.0),
            Parameterization::V => (signal, -noise),
        }
    }

    /// a and b of the mean a x0 + b x_t of q(x_{t-1} | x_t, x0) (Eq. 7).
    pub(super) fn posterior_mean_coefficients(&self, t: usize) -> (f64, f64) {
        let (beta, before, now) = (self.betas[t], self.alpha_bar_before(t), self.alphas_bar[t]);
        (
            beta * before.sqrt() / (1.0 - now),
            (1.0 - before) * (1.0 - beta).sqrt() / (1.0 - now),
        )
    }

    /// The variance of q(x_{t-1} | x_t, x0), (1 - alpha_bar_{t-1}) / (1 - alpha_bar_t) beta_t
    /// (Eq. 7). 0 at t = 0, where nothing is left to draw.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a timestep that is not less than T.
    pub fn posterior_variance(&self, t: usize) -> Result<f64> {
        self.check_timestep(t)?;
        let (before, now) = (self.alpha_bar_before(t), self.alphas_bar[t]);
        Ok(self.betas[t] * (1.0 - before) / (1.0 - now))
    }

    /// The logarithm of [`posterior_variance`](Self::posterior_variance), with that of t = 1 in
    /// place of the infinite one at t = 0.
    ///
    /// # Errors
    /// As [`posterior_variance`](Self::posterior_variance).
    pub fn posterior_log_variance(&self, t: usize) -> Result<f64> {
        self.check_timestep(t)?;
        let variance = self.posterior_variance(t.max(1).min(self.steps() - 1))?;
        Ok(variance.max(LEAST_VARIANCE).ln())
    }

    /// x_t, drawn from q(x_t | x0) with the given standard normal noise:
    /// sqrt(alpha_bar_t) x0 + sqrt(1 - alpha_bar_t) noise (Eq. 4). One timestep an image.
    ///
    /// # Errors
    /// [`Error::Shape`] if the tensors' shapes differ or there are not as many timesteps as images,
    /// [`Error::Parameter`] for a timestep that is not less than T, [`Error::Device`] if memory runs
    /// out.
    pub fn q_sample<B: Dim, const C: usize, H: Dim, W: Dim, E: Dtype + Float, D: Backend<E>>(
        &self,
        x0: &Images<B, C, H, W, E, D>,
        t: &[usize],
        noise: &Images<B, C, H, W, E, D>,
    ) -> Result<Images<B, C, H, W, E, D>> {
        self.combine("q_sample", x0, noise, t, |t| self.signal_and_noise(t))
    }

    /// What the network's output for x_t should be: the noise, the image, or v.
    ///
    /// # Errors
    /// As [`q_sample`](Self::q_sample).
    pub fn target<B: Dim, const C: usize, H: Dim, W: Dim, E: Dtype + Float, D: Backend<E>>(
        &self,
        x0: &Images<B, C, H, W, E, D>,
        t: &[usize],
        noise: &Images<B, C, H, W, E, D>,
    ) -> Result<Images<B, C, H, W, E, D>> {
        self.combine("target", x0, noise, t, |t| self.target_coefficients(t))
    }

    /// [`q_sample`](Self::q_sample) and [`target`](Self::target) of images that the host has.
    pub(super) fn noised(&self, x0: &[f32], t: &[usize], noise: &[f32]) -> Result<[Vec<f32>; 2]> {
        let (mut x_t, mut target) = (x0.to_vec(), x0.to_vec());
        let signal_and_noise = |t| self.signal_and_noise(t);
        self.combine_values("q_sample", &mut x_t, noise, t, signal_and_noise)?;
        self.combine_values("target", &mut target, noise, t, |t| {
            self.target_coefficients(t)
        })?;
        Ok([x_t, target])
    }

    /// The shares of image and noise in the target.
    fn target_coefficients(&self, t: usize) -> (f64, f64) {
        let (signal, noise) = self.signal_and_noise(t);
        match self.parameterization {
            Parameterization::Eps => (0.0, 1.0),
            Parameterization::X0 => (1.0, 0.0),
            Parameterization::V => (-noise, signal),
        }
    }

    /// The image that the network's output for x_t stands for (for noise: Eq. 15). Not clipped.
    ///
    /// # Errors
    /// As [`q_sample`](Self::q_sample).
    pub fn predict_x0<B: Dim, const C: usize, H: Dim, W: Dim, E: Dtype + Float, D: Backend<E>>(
        &self,
        output: &Images<B, C, H, W, E, D>,
        x_t: &Images<B, C, H, W, E, D>,
        t: &[usize],
    ) -> Result<Images<B, C, H, W, E, D>> {
        self.combine("predict_x0", x_t, output, t, |t| self.x0_coefficients(t))
    }

    /// The noise that makes x_t of this image: (x_t - sqrt(alpha_bar_t) x0) / sqrt(1 - alpha_bar_t).
    ///
    /// # Errors
    /// As [`q_sample`](Self::q_sample).
    pub fn predict_eps<B: Dim, const C: usize, H: Dim, W: Dim, E: Dtype + Float, D: Backend<E>>(
        &self,
        x0: &Images<B, C, H, W, E, D>,
        x_t: &Images<B, C, H, W, E, D>,
        t: &[usize],
    ) -> Result<Images<B, C, H, W, E, D>> {
        self.combine("predict_eps", x_t, x0, t, |t| self.eps_coefficients(t))
    }

    /// a and b of noise = a x_t + b x0.
    pub(super) fn eps_coefficients(&self, t: usize) -> (f64, f64) {
        let (signal, noise) = self.signal_and_noise(t);
        (noise.recip(), -signal / noise)
    }

    /// The mean of q(x_{t-1} | x_t, x0) (Eq. 7). Its variance is
    /// [`posterior_variance`](Self::posterior_variance).
    ///
    /// # Errors
    /// As [`q_sample`](Self::q_sample).
    pub fn posterior_mean<
        B: Dim,
        const C: usize,
        H: Dim,
        W: Dim,
        E: Dtype + Float,
        D: Backend<E>,
    >(
        &self,
        x0: &Images<B, C, H, W, E, D>,
        x_t: &Images<B, C, H, W, E, D>,
        t: &[usize],
    ) -> Result<Images<B, C, H, W, E, D>> {
        self.combine("posterior_mean", x0, x_t, t, |t| {
            self.posterior_mean_coefficients(t)
        })
    }

    /// p(x_{t-1} | x_t) by the network's output for x_t: the posterior of the image that it stands
    /// for, which is clipped to -1..=1 first if `clip`.
    ///
    /// # Errors
    /// As [`q_sample`](Self::q_sample).
    pub fn p_mean_variance<
        B: Dim,
        const C: usize,
        H: Dim,
        W: Dim,
        E: Dtype + Float,
        D: Backend<E>,
    >(
        &self,
        output: &Images<B, C, H, W, E, D>,
        x_t: &Images<B, C, H, W, E, D>,
        t: &[usize],
        clip: bool,
    ) -> Result<PMeanVariance<Images<B, C, H, W, E, D>>> {
        let mut x0 = self.predict_x0(output, x_t, t)?;
        if clip {
            let mut values = values(&x0);
            for value in &mut values {
                *value = num_traits::clamp(*value, -E::one(), E::one());
            }
            if !values.is_empty() {
                x0.copy_from(&values);
            }
        }
        let log_variance = t.iter().map(|&t| self.posterior_log_variance(t));
        Ok(PMeanVariance {
            mean: self.posterior_mean(&x0, x_t, t)?,
            log_variance: log_variance.collect::<Result<_>>()?,
            x0,
        })
    }

    fn check_timestep(&self, t: usize) -> Result<()> {
        if t < self.steps() {
            return Ok(());
        }
        Err(Error::parameter(
            "timestep",
            format_args!("{t} of {}", self.steps()),
            "less than the number of timesteps",
        ))
    }

    /// a x + b y, with a and b by the image's timestep.
    fn combine<B: Dim, const C: usize, H: Dim, W: Dim, E: Dtype + Float, D: Backend<E>>(
        &self,
        op: &'static str,
        x: &Images<B, C, H, W, E, D>,
        y: &Images<B, C, H, W, E, D>,
        t: &[usize],
        coefficients: impl Fn(usize) -> (f64, f64),
    ) -> Result<Images<B, C, H, W, E, D>> {
        if x.shape() != y.shape() {
            return Err(Error::shape(op, "images", x.shape(), y.shape()));
        }
        let images = x.shape().0.size();
        if t.len() != images {
            return Err(Error::shape(op, "timesteps", images, t.len()));
        }
        let mut x_values = values(x);
        self.combine_values(op, &mut x_values, &values(y), t, coefficients)?;
        upload(x.device(), *x.shape(), &x_values)
    }

    /// x = a x + b y for each of `t.len()` images.
    fn combine_values<E: Dtype + Float>(
        &self,
        op: &'static str,
        x: &mut [E],
        y: &[E],
        t: &[usize],
        coefficients: impl Fn(usize) -> (f64, f64),
    ) -> Result<()> {
        let len = (x.len() / t.len().max(1)).max(1);
        for (&t, (x, y)) in t.iter().zip(x.chunks_mut(len).zip(y.chunks(len))) {
            self.check_timestep(t)?;
            let (a, b) = coefficients(t);
            let real = |v: f64| E::from_f64(v).ok_or_else(|| Error::parameter(op, v, "finite"));
            combine_slices(real(a)?, x, real(b)?, y);
        }
        Ok(())
    }
}

/// x = a x + b y
pub(super) fn combine_slices<E: Float>(a: E, x: &mut [E], b: E, y: &[E]) {
    for (x, &y) in x.iter_mut().zip(y) {
        *x = a * *x + b * y;
    }
}
