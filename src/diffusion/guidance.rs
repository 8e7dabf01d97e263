//! Drawing images of given classes.

use std::ops::Range;

use super::model::{ClassDenoiser, Classes};
use super::objective::class_rows;
use super::predict::predict;
use super::process::combine_slices;
use crate::backend::Backend;
use crate::error::{Error, Result};

/// A network with the classes to draw, for [`Sampler::sample_guided`](super::Sampler::sample_guided), by
/// classifier-free guidance ([arXiv 2207.12598](https://arxiv.org/abs/2207.12598)): each step goes by
/// u + scale (c - u), where c is the network's answer for the image's class and u that for no class.
///
/// The network's answer may be the noise, the image or v: each is linear in the others, so guidance of
/// one is guidance of all.
#[derive(Clone, Debug)]
pub struct Guided<'a, M> {
    /// The network.
    pub model: &'a M,
    /// The classes in turn: image number i is of `classes[i % classes.len()]`.
    pub classes: Vec<usize>,
    /// How strongly images are drawn to their class, at least 0: 1 goes by c alone, 0 by u alone, and more
    /// than 1 leads away from what images have in common, to clearer and less varied ones of the class. It
    /// is 1 + w of the paper's w. Other scales than 0 and 1 take two passes of the network instead of one.
    pub scale: f64,
}

impl<M> Guided<'_, M> {
    /// That it fits a network of this many classes.
    pub(super) fn check(&self, classes: usize) -> Result<()> {
        if self.classes.is_empty() {
            return Err(Error::parameter("classes", "none", "at least one class"));
        }
        if let Some(class) = self.classes.iter().find(|&&class| class >= classes) {
            let value = format_args!("{class} of {classes}");
            let range = "less than the network's number of classes";
            return Err(Error::parameter("class", value, range));
        }
        match self.scale.is_finite() && self.scale >= 0.0 {
            true => Ok(()),
            false => {
                let range = "a finite number of at least 0";
                Err(Error::parameter("guidance scale", self.scale, range))
            }
        }
    }

    /// What the network answers of the images of these numbers at timestep t.
    pub(super) fn predict<
        const C: usize,
        const H: usize,
        const W: usize,
        const CLASSES: usize,
        D: Backend<f32>,
    >(
        &self,
        dev: &D,
        x: &[f32],
        images: Range<usize>,
        t: usize,
    ) -> Result<Vec<f32>>
    where
        M: ClassDenoiser<C, H, W, CLASSES, D>,
    {
        let told = || {
            let classes = images.map(|i| Some(self.classes[i % self.classes.len()]));
            let classes: Classes<CLASSES, D> = class_rows(dev, classes)?;
            predict(dev, x, t, |x_t, t| {
                self.model
                    .try_forward((x_t, t, classes))
                    .map_err(Into::into)
            })
        };
        let untold = || {
            predict(dev, x, t, |x_t, t| {
                self.model.try_forward((x_t, t)).map_err(Into::into)
            })
        };
        if self.scale == 0.0 {
            return untold();
        }
        if self.scale == 1.0 {
            return told();
        }
        let mut output = told()?;
        combine_slices(
            self.scale as f32,
            &mut output,
            (1.0 - self.scale) as f32,
            &untold()?,
        );
        Ok(output)
    }
}
