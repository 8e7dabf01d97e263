//! A U-Net that is told the class of what it draws.

use dfdx::dtypes::Dtype;
use dfdx::nn::{
    BuildModule, BuildOnDevice, Module, ModuleVisitor, NonMutableModule, TensorCollection,
    TensorOptions,
};
use dfdx::shapes::{Const, Dim, Rank2, Shape};
use dfdx::tensor::{PutTape, Storage, Tape, Tensor};
use dfdx::tensor_ops::{Device, TryMatMul};
use num_traits::Float;
use rand_distr::uniform::SampleUniform;

use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::nn::{BackwardCost, ImageSize, LayerCost, LayerMut, VisitLayers};

/// The architecture.
pub mod builder {
    use std::marker::PhantomData;

    /// See [`super::ClassConditional`].
    #[derive(Clone, Copy, Debug, Default)]
    pub struct ClassConditional<N, const CLASSES: usize, const EMB: usize>(PhantomData<N>);
}

impl<N, const CLASSES: usize, const EMB: usize, E: Dtype, D: Device<E>> BuildOnDevice<D, E>
    for builder::ClassConditional<N, CLASSES, EMB>
where
    N: BuildOnDevice<D, E>,
    ClassConditional<N::Built, CLASSES, EMB, E, D>: BuildModule<D, E>,
{
    type Built = ClassConditional<N::Built, CLASSES, EMB, E, D>;
}

/// A U-Net and an embedding of the class, (EMB), which is added to that of the timestep, as in arXiv
/// 2105.05233. EMB is the U-Net's own: 64 of [`MnistUNet`](super::MnistUNet), 512 of
/// [`CelebAUNet`](super::CelebAUNet).
///
/// It takes (x, timesteps, classes): classes (B, CLASSES) have a 1 at each image's class, and only zeros
/// for an image of no class, to whose embedding nothing is added. So an image of no class is what the
/// U-Net alone makes of it, to the bit: what classifier-free guidance ([arXiv
/// 2207.12598](https://arxiv.org/abs/2207.12598)) calls the null class needs no row of its own, as the
/// bias of the timestep's embedding is one. Of (x, timesteps) alone all images are of no class.
///
/// The class embedding begins as zeros. Its name is `label_emb.weight`, and the U-Net's tensors have the
/// names that they have without it: a U-Net's checkpoint is read by
/// [`load_partial`](crate::checkpoint::load_partial), and its training goes on from there.
///
/// ```
/// use ssprop::prelude::*;
///
/// let dev = Cpu::default();
/// type Net = ClassConditional<MnistUNet, 10, 64>;
/// let net = dev.build_module::<Net, f32>();
/// let x: Tensor<Rank4<2, 1, 32, 32>, f32, _> = dev.sample_normal();
/// let timesteps = dev.tensor([0.0, 199.0]);
/// // A bag, and anything.
/// let mut classes = [[0.0; 10]; 2];
/// classes[0][8] = 1.0;
/// let noise = net.try_forward((x.clone(), timesteps.clone(), dev.tensor(classes)))?;
/// let _: &Rank4<2, 1, 32, 32> = noise.shape();
/// let unconditional = net.try_forward((x, timesteps))?;
/// assert_eq!(noise.array()[1], unconditional.array()[1]);
/// # Ok::<(), ssprop::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ClassConditional<N, const CLASSES: usize, const EMB: usize, E: Dtype, D: Storage<E>> {
    /// The U-Net.
    pub unet: N,
    /// What is added for each class, (CLASSES, EMB).
    pub label_emb: Tensor<Rank2<CLASSES, EMB>, E, D>,
}

impl<N, const CLASSES: usize, const EMB: usize, E, D> TensorCollection<E, D>
    for ClassConditional<N, CLASSES, EMB, E, D>
where
    N: TensorCollection<E, D>,
    E: Dtype + Float + SampleUniform,
    D: Device<E>,
{
    type To<E2: Dtype, D2: Device<E2>> = ClassConditional<N::To<E2, D2>, CLASSES, EMB, E2, D2>;

    fn iter_tensors<V: ModuleVisitor<Self, E, D>>(
        visitor: &mut V,
    ) -> Result<Option<Self::To<V::E2, V::D2>>, V::Err> {
        visitor.visit_fields(
            (
                // In front of the blocks, which it is an input of.
                Self::tensor(
                    "label_emb.weight",
                    |s| &s.label_emb,
                    |s| &mut s.label_emb,
                    TensorOptions::reset_to_zeros(),
                ),
                // Without a name, so that the U-Net's tensors keep theirs.
                Self::module("", |s| &s.unet, |s| &mut s.unet),
            ),
            |(label_emb, unet)| ClassConditional { unet, label_emb },
        )
    }
}

/// (x, timesteps, classes)
impl<N, const CLASSES: usize, const EMB: usize, B, S, E, D, T>
    Module<(
        Tensor<S, E, D, T>,
        Tensor<(B,), E, D>,
        Tensor<(B, Const<CLASSES>), E, D>,
    )> for ClassConditional<N, CLASSES, EMB, E, D>
where
    N: Module<
        (
            Tensor<S, E, D, T>,
            Tensor<(B,), E, D>,
            Tensor<(B, Const<EMB>), E, D, T>,
        ),
        Error = Error,
    >,
    B: Dim,
    S: Shape,
    E: Dtype,
    D: Backend<E>,
    T: Tape<E, D>,
{
    type Output = N::Output;
    type Error = Error;

    fn try_forward(
        &self,
        (x, timesteps, classes): (
            Tensor<S, E, D, T>,
            Tensor<(B,), E, D>,
            Tensor<(B, Const<CLASSES>), E, D>,
        ),
    ) -> Result<Self::Output> {
        // (B, CLASSES) x (CLASSES, EMB), and not dfdx's gather: on a GPU its gradient adds the rows of
        // one class in any order.
        let classes = classes.put_tape(T::default());
        let emb = classes.try_matmul(self.label_emb.clone());
        self.unet
            .try_forward((x, timesteps, emb.map_err(Error::device)?))
    }
}

/// (x, timesteps): no image has a class.
impl<N, const CLASSES: usize, const EMB: usize, B, S, E, D, T>
    Module<(Tensor<S, E, D, T>, Tensor<(B,), E, D>)> for ClassConditional<N, CLASSES, EMB, E, D>
where
    N: Module<(Tensor<S, E, D, T>, Tensor<(B,), E, D>), Error = Error>,
    B: Dim,
    S: Shape,
    E: Dtype,
    D: Backend<E>,
{
    type Output = N::Output;
    type Error = Error;

    fn try_forward(&self, x: (Tensor<S, E, D, T>, Tensor<(B,), E, D>)) -> Result<Self::Output> {
        self.unet.try_forward(x)
    }
}

impl<N: NonMutableModule, const CLASSES: usize, const EMB: usize, E: Dtype, D: Storage<E>>
    NonMutableModule for ClassConditional<N, CLASSES, EMB, E, D>
{
}

impl<N: VisitLayers, const CLASSES: usize, const EMB: usize, E: Dtype, D: Storage<E>> VisitLayers
    for ClassConditional<N, CLASSES, EMB, E, D>
{
    fn visit_layers_at(&mut self, path: &str, f: &mut dyn FnMut(LayerMut<'_>)) {
        self.unet.visit_layers_at(path, f);
    }
}

/// The U-Net's.
impl<N: BackwardCost, const CLASSES: usize, const EMB: usize, E: Dtype, D: Storage<E>> BackwardCost
    for ClassConditional<N, CLASSES, EMB, E, D>
{
    fn visit_cost(
        path: &str,
        input: ImageSize,
        f: &mut dyn FnMut(&str, LayerCost),
    ) -> Result<ImageSize> {
        N::visit_cost(path, input, f)
    }
}
