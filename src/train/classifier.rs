//! What training asks of a model.

use dfdx::nn::{Module, ModuleMut, TensorCollection};
use dfdx::shapes::Const;
use dfdx::tensor::{NoneTape, OwnedTape, Tensor};

use crate::backend::Backend;
use crate::error::Error;
use crate::nn::{BackwardCost, VisitLayers};

/// A batch of images, (B, C, H, W).
pub type Images<const C: usize, const H: usize, const W: usize, D, T> =
    Tensor<(usize, Const<C>, Const<H>, Const<W>), f32, D, T>;

/// A batch's logits, (B, CLASSES).
pub type Logits<const CLASSES: usize, D, T> = Tensor<(usize, Const<CLASSES>), f32, D, T>;

/// A model that gives each image of C x H x W the logits of CLASSES classes: with a tape in
/// training mode (`forward_mut`), without one in evaluation mode (`forward`).
///
/// Not to be implemented: everything that has the parts is one.
pub trait ImageClassifier<
    const C: usize,
    const H: usize,
    const W: usize,
    const CLASSES: usize,
    D: Backend<f32>,
>: ModuleMut<
        Images<C, H, W, D, OwnedTape<f32, D>>,
        Output = Logits<CLASSES, D, OwnedTape<f32, D>>,
        Error: Into<Error>,
    > + Module<Images<C, H, W, D, NoneTape>, Output = Logits<CLASSES, D, NoneTape>, Error: Into<Error>>
    + TensorCollection<f32, D>
    + VisitLayers
    + BackwardCost
{
}

impl<const C: usize, const H: usize, const W: usize, const CLASSES: usize, D, M>
    ImageClassifier<C, H, W, CLASSES, D> for M
where
    D: Backend<f32>,
    M: ModuleMut<
            Images<C, H, W, D, OwnedTape<f32, D>>,
            Output = Logits<CLASSES, D, OwnedTape<f32, D>>,
            Error: Into<Error>,
        > + Module<
            Images<C, H, W, D, NoneTape>,
            Output = Logits<CLASSES, D, NoneTape>,
            Error: Into<Error>,
        > + TensorCollection<f32, D>
        + VisitLayers
        + BackwardCost,
{
}
