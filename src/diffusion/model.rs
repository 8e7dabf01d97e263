//! What sampling and training ask of a network.

use dfdx::nn::{Module, ModuleMut, TensorCollection};
use dfdx::shapes::Const;
use dfdx::tensor::{NoneTape, OwnedTape, Tensor};

use crate::backend::Backend;
use crate::error::Error;
use crate::nn::{BackwardCost, VisitLayers};
use crate::train::Images;

/// One timestep an image, (B): whole numbers in 0..T.
pub type Timesteps<D> = Tensor<(usize,), f32, D>;

/// The images' classes, (B, CLASSES): 1 at an image's class, and only zeros for an image of no class.
pub type Classes<const CLASSES: usize, D> = Tensor<(usize, Const<CLASSES>), f32, D>;

/// A network that predicts, of noised images (B, C, H, W) and their timesteps (B), the noise or
/// another [`Parameterization`](super::Parameterization), of the images' shape.
///
/// Not to be implemented: every [`Module`] of that input and output is one.
pub trait Denoiser<const C: usize, const H: usize, const W: usize, D: Backend<f32>>:
    Module<
    (Images<C, H, W, D, NoneTape>, Timesteps<D>),
    Output = Images<C, H, W, D, NoneTape>,
    Error: Into<Error>,
>
{
}

impl<const C: usize, const H: usize, const W: usize, D, M> Denoiser<C, H, W, D> for M
where
    D: Backend<f32>,
    M: Module<
        (Images<C, H, W, D, NoneTape>, Timesteps<D>),
        Output = Images<C, H, W, D, NoneTape>,
        Error: Into<Error>,
    >,
{
}

/// A [`Denoiser`] that can be trained: in training mode (`forward_mut`) the images carry the tape.
///
/// Not to be implemented: everything that has the parts is one.
pub trait TrainableDenoiser<const C: usize, const H: usize, const W: usize, D: Backend<f32>>:
    Denoiser<C, H, W, D>
    + ModuleMut<
        (Images<C, H, W, D, OwnedTape<f32, D>>, Timesteps<D>),
        Output = Images<C, H, W, D, OwnedTape<f32, D>>,
        Error: Into<Error>,
    > + TensorCollection<f32, D>
    + VisitLayers
    + BackwardCost
{
}

impl<const C: usize, const H: usize, const W: usize, D, M> TrainableDenoiser<C, H, W, D> for M
where
    D: Backend<f32>,
    M: Denoiser<C, H, W, D>
        + ModuleMut<
            (Images<C, H, W, D, OwnedTape<f32, D>>, Timesteps<D>),
            Output = Images<C, H, W, D, OwnedTape<f32, D>>,
            Error: Into<Error>,
        > + TensorCollection<f32, D>
        + VisitLayers
        + BackwardCost,
{
}

/// A [`Denoiser`] that can also be told the images' classes: a
/// [`ClassConditional`](crate::models::modules::ClassConditional) U-Net. As a plain denoiser it takes all
/// images for ones of no class.
///
/// Not to be implemented: everything that has the parts is one.
pub trait ClassDenoiser<
    const C: usize,
    const H: usize,
    const W: usize,
    const CLASSES: usize,
    D: Backend<f32>,
>:
    Denoiser<C, H, W, D>
    + Module<
        (
            Images<C, H, W, D, NoneTape>,
            Timesteps<D>,
            Classes<CLASSES, D>,
        ),
        Output = Images<C, H, W, D, NoneTape>,
        Error: Into<Error>,
    >
{
}

impl<const C: usize, const H: usize, const W: usize, const CLASSES: usize, D, M>
    ClassDenoiser<C, H, W, CLASSES, D> for M
where
    D: Backend<f32>,
    M: Denoiser<C, H, W, D>
        + Module<
            (
                Images<C, H, W, D, NoneTape>,
                Timesteps<D>,
                Classes<CLASSES, D>,
            ),
            Output = Images<C, H, W, D, NoneTape>,
            Error: Into<Error>,
        >,
{
}

/// A [`ClassDenoiser`] that can be trained.
///
/// Not to be implemented: everything that has the parts is one.
pub trait TrainableClassDenoiser<
    const C: usize,
    const H: usize,
    const W: usize,
    const CLASSES: usize,
    D: Backend<f32>,
>:
    ClassDenoiser<C, H, W, CLASSES, D>
    + TrainableDenoiser<C, H, W, D>
    + ModuleMut<
        (
            Images<C, H, W, D, OwnedTape<f32, D>>,
            Timesteps<D>,
            Classes<CLASSES, D>,
        ),
        Output = Images<C, H, W, D, OwnedTape<f32, D>>,
        Error: Into<Error>,
    >
{
}

impl<const C: usize, const H: usize, const W: usize, const CLASSES: usize, D, M>
    TrainableClassDenoiser<C, H, W, CLASSES, D> for M
where
    D: Backend<f32>,
    M: ClassDenoiser<C, H, W, CLASSES, D>
        + TrainableDenoiser<C, H, W, D>
        + ModuleMut<
            (
                Images<C, H, W, D, OwnedTape<f32, D>>,
                Timesteps<D>,
                Classes<CLASSES, D>,
            ),
            Output = Images<C, H, W, D, OwnedTape<f32, D>>,
            Error: Into<Error>,
        >,
{
}
