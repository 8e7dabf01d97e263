//! How a U-Net is written down.

/// Declares a U-Net by its blocks, with its forward and its cost.
///
/// A block is called by its field, its number and its kind: [`Same`], [`To`] (from A to B channels),
/// [`SameAttention`], [`ToAttention`], [`Down`], [`Up`]. An input block has the name of its output
/// behind its number; an output block that of the input block's output that it takes in, and then
/// the channels of both, their sum and what it puts out. `Up` goes to the size of another output.
macro_rules! unet {
    (@apply $layers:expr, $x:expr, $emb:expr, Down) => { $layers.0.apply($x)? };
    (@apply $layers:expr, $x:expr, $emb:expr, Up $to:ident) => {{
        let x = $layers.0.apply($x, $emb)?;
        let &(_, _, h, w) = $to.shape();
        $layers.1.apply(x, (h, w))?
    }};
    (@apply $layers:expr, $x:expr, $emb:expr, SameAttention) => {
        $layers.1.apply_hidden($layers.0.apply($x, $emb)?)?
    };
    (@apply $layers:expr, $x:expr, $emb:expr, ToAttention) => {
        $layers.1.apply_hidden($layers.0.apply($x, $emb)?)?
    };
    (@apply $layers:expr, $x:expr, $emb:expr, $residual:ident) => { $layers.0.apply($x, $emb)? };

    (
        $(#[$doc:meta])*
        $name:ident ($input:ident, $output:ident) base $base:literal emb $emb:literal deepest $deep:literal
        where [$($bounds:tt)*]
        in $stem:ident { $($in:ident $in_number:literal $skip:ident: $in_kind:ident $($in_c:literal)+;)* }
        out {
            $(
                $out:ident $out_number:literal $from:ident: $out_kind:ident
                $a:literal + $b:literal = $sum:literal -> $c:literal $(to $to:ident)?;
            )*
        }
    ) => {
        network!(
            @module
            /// The blocks on the way down.
            $input [const C: usize] {
                /// The stem: C to the base's channels.
                conv = "0": (Conv3x3<C, $base, E, D>,),
                $(
                    #[doc = concat!("Block ", $in_number, ".")]
                    $in = $in_number: $in_kind<$($in_c,)+ $emb, E, D>,
                )*
            }
            first conv.0
        );

        network!(
            @module
            /// The blocks on the way up.
            $output [] {
                $(
                    #[doc = concat!("Block ", $out_number, ".")]
                    $out = $out_number: $out_kind<$sum, $c, $emb, E, D>,
                )*
            }
        );

        network!(
            @module
            $(#[$doc])*
            $name [const C: usize] {
                /// Of the sinusoidal embedding: linear, SiLU, linear.
                time_embed: (Linear<$base, $emb, E, D>, SiLU, Linear<$emb, $emb, E, D>),
                /// The way down.
                input_blocks: $input<C, E, D>,
                /// Between the ways.
                middle_block: (
                    ResBlock<$deep, $emb, E, D>,
                    Attention<$deep, E, D>,
                    ResBlock<$deep, $emb, E, D>,
                ),
                /// The way up.
                output_blocks: $output<E, D>,
                /// Group norm, SiLU, 3x3 convolution to C channels.
                out: (Norm<$base, E, D>, SiLU, Conv3x3<$base, C, E, D>),
            }
        );

        impl<const C: usize, E: Dtype, D: Backend<E>> $name<C, E, D> {
            /// Of x (B, C, H, W) at `timesteps` (B), counted from 0: the predicted noise (or what
            /// the network was trained to predict), (B, C, H, W).
            ///
            /// # Errors
            /// [`Error::Shape`](crate::Error::Shape) if a size known only at run time cannot be
            /// halved as often as the network halves it;
            /// [`Error::Device`](crate::Error::Device) if memory runs out.
            pub fn try_apply<B: Dim, H, W, T: Tape<E, D>>(
                &self,
                x: Tensor<(B, Const<C>, H, W), E, D, T>,
                timesteps: &Tensor<(B,), E, D>,
            ) -> Result<Tensor<(B, Const<C>, H, W), E, D, T>>
            where
                $($bounds)*
            {
                self.apply(x, timesteps, None)
            }

            /// [`try_apply`](Self::try_apply) of a network that is told more than the timestep: `more`
            #[doc = concat!("(B, ", $emb, ") is added to the timesteps' embedding.")]
            ///
            /// # Errors
            /// As there.
            pub fn try_apply_with<B: Dim, H, W, T: Tape<E, D>>(
                &self,
                x: Tensor<(B, Const<C>, H, W), E, D, T>,
                timesteps: &Tensor<(B,), E, D>,
                more: Tensor<(B, Const<$emb>), E, D, T>,
            ) -> Result<Tensor<(B, Const<C>, H, W), E, D, T>>
            where
                $($bounds)*
            {
                self.apply(x, timesteps, Some(more))
            }

            fn apply<B: Dim, H, W, T: Tape<E, D>>(
                &self,
                x: Tensor<(B, Const<C>, H, W), E, D, T>,
                timesteps: &Tensor<(B,), E, D>,
                more: Option<Tensor<(B, Const<$emb>), E, D, T>>,
            ) -> Result<Tensor<(B, Const<C>, H, W), E, D, T>>
            where
                $($bounds)*
            {
                let (emb, tape): (_, T) = embed(&self.time_embed, timesteps, more)?;
                let (x, x_tape) = x.split_tape();
                // The tape of x has the gradients of all parameters, as a rule: the other one onto it.
                let x = Hidden::enter(x.put_tape(x_tape.merge(tape)));
                let blocks = &self.input_blocks;
                let x = blocks.conv.0.apply_hidden(x)?;
                let $stem = x.with_empty_tape();
                $(
                    let x = unet!(@apply blocks.$in, x, &emb, $in_kind);
                    let $skip = x.with_empty_tape();
                )*
                let (first, attention, second) = &self.middle_block;
                let x = attention.apply_hidden(first.apply(x, &emb)?)?;
                let x = second.apply(x, &emb)?;
                let blocks = &self.output_blocks;
                $(
                    let x = concat_channels_hidden(x, $from, Const::<{ $a + $b }>)?;
                    let x = unet!(@apply blocks.$out, x, &emb, $out_kind $($to)?);
                )*
                let (norm, _, conv) = &self.out;
                let x = norm.apply_hidden(x, None, Activation::SiLU)?;
                conv.apply_hidden(x)?.into_tensor()
            }
        }

        impl<const C: usize, B: Dim, H, W, E: Dtype, D: Backend<E>, T: Tape<E, D>>
            Module<(Tensor<(B, Const<C>, H, W), E, D, T>, Tensor<(B,), E, D>)> for $name<C, E, D>
        where
            $($bounds)*
        {
            type Output = Tensor<(B, Const<C>, H, W), E, D, T>;
            type Error = Error;

            fn try_forward(
                &self,
                (x, timesteps): (Tensor<(B, Const<C>, H, W), E, D, T>, Tensor<(B,), E, D>),
            ) -> Result<Self::Output> {
                self.try_apply(x, &timesteps)
            }
        }

        /// [`try_apply_with`](Self::try_apply_with)
        impl<const C: usize, B: Dim, H, W, E: Dtype, D: Backend<E>, T: Tape<E, D>>
            Module<(
                Tensor<(B, Const<C>, H, W), E, D, T>,
                Tensor<(B,), E, D>,
                Tensor<(B, Const<$emb>), E, D, T>,
            )> for $name<C, E, D>
        where
            $($bounds)*
        {
            type Output = Tensor<(B, Const<C>, H, W), E, D, T>;
            type Error = Error;

            fn try_forward(
                &self,
                (x, timesteps, more): (
                    Tensor<(B, Const<C>, H, W), E, D, T>,
                    Tensor<(B,), E, D>,
                    Tensor<(B, Const<$emb>), E, D, T>,
                ),
            ) -> Result<Self::Output> {
                self.try_apply_with(x, &timesteps, more)
            }
        }

        impl<const C: usize, E: Dtype, D: Storage<E>> NonMutableModule for $name<C, E, D> {}

        /// The embedding of the timestep, its linear layers and attention are not counted, as in the
        /// paper.
        impl<const C: usize, E: Dtype, D: Storage<E>> BackwardCost for $name<C, E, D> {
            fn visit_cost(
                path: &str,
                input: ImageSize,
                f: &mut dyn FnMut(&str, LayerCost),
            ) -> Result<ImageSize> {
                let at = |blocks: &str, number: &str| join(&join(path, blocks), number);
                let stem = at("input_blocks", "0");
                let size = field_cost(|s: &$input<C, E, D>| &s.conv, &stem, input, f)?;
                let $stem = size;
                $(
                    let block = at("input_blocks", $in_number);
                    let size = field_cost(|s: &$input<C, E, D>| &s.$in, &block, size, f)?;
                    let $skip = size;
                )*
                let block = join(path, "middle_block");
                let size = field_cost(|s: &Self| &s.middle_block, &block, size, f)?;
                $(
                    let size = concatenated(size, $from)?;
                    let block = at("output_blocks", $out_number);
                    let size = field_cost(|s: &$output<E, D>| &s.$out, &block, size, f)?;
                )*
                field_cost(|s: &Self| &s.out, &join(path, "out"), size, f)
            }
        }
    };
}
pub(super) use unet;

/// A residual block.
pub(super) type Same<const C: usize, const EMB: usize, E, D> = (ResBlock<C, EMB, E, D>,);

/// A residual block that changes the number of channels.
pub(super) type To<const A: usize, const B: usize, const EMB: usize, E, D> =
    (ProjectionResBlock<A, B, EMB, E, D>,);

/// [`Same`] with attention behind it.
pub(super) type SameAttention<const C: usize, const EMB: usize, E, D> =
    (ResBlock<C, EMB, E, D>, Attention<C, E, D>);

/// [`To`] with attention behind it.
pub(super) type ToAttention<const A: usize, const B: usize, const EMB: usize, E, D> =
    (ProjectionResBlock<A, B, EMB, E, D>, Attention<B, E, D>);

/// A downsampling.
pub(super) type Down<const C: usize, const EMB: usize, E, D> = (Downsample<C, E, D>,);

/// [`To`] with an upsampling behind it.
pub(super) type Up<const A: usize, const B: usize, const EMB: usize, E, D> =
    (ProjectionResBlock<A, B, EMB, E, D>, Upsample<B, E, D>);

use dfdx::dtypes::Dtype;
use dfdx::nn::modules::Linear;
use dfdx::shapes::{Const, Dim};
use dfdx::tensor::{PutTape, SplitTape, Tape, Tensor};

use super::{Attention, Downsample, ProjectionResBlock, ResBlock, Upsample};
use crate::backend::Backend;
use crate::bridge::Hidden;
use crate::error::{Error, Result};
use crate::nn::modules::SiLU;
use crate::nn::{timestep_embedding, ImageSize};
use crate::ops::add::add_hidden;
use crate::ops::linear::linear_hidden;
use crate::ops::silu::silu_hidden;
use crate::ops::SparseBackward;

type TimeEmbed<const BASE: usize, const EMB: usize, E, D> =
    (Linear<BASE, EMB, E, D>, SiLU, Linear<EMB, EMB, E, D>);

/// The embedding of the timesteps, and of what `more` the network is told, as all blocks need it, after
/// SiLU, and the tape that led to it.
pub(super) fn embed<
    const BASE: usize,
    const EMB: usize,
    B: Dim,
    E: Dtype,
    D: Backend<E>,
    T: Tape<E, D>,
>(
    (first, _, second): &TimeEmbed<BASE, EMB, E, D>,
    timesteps: &Tensor<(B,), E, D>,
    more: Option<Tensor<(B, Const<EMB>), E, D, T>>,
) -> Result<(Tensor<(B, Const<EMB>), E, D>, T)> {
    let sines: Tensor<(B, Const<BASE>), E, D> = timestep_embedding(timesteps)?;
    let constant = SparseBackward {
        input_gradient: false,
        ..SparseBackward::default()
    };
    let x = Hidden::enter(sines.put_tape(T::default()));
    let x = linear_hidden(x, &first.weight, Some(&first.bias), constant, None)?;
    let dense = SparseBackward::default();
    let x = silu_hidden(x)?;
    let x = linear_hidden(x, &second.weight, Some(&second.bias), dense, None)?;
    let x = match more {
        Some(more) => add_hidden(x, Hidden::enter(more))?,
        None => x,
    };
    Ok(silu_hidden(x)?.into_tensor()?.split_tape())
}

/// The size of images of these two put together.
pub(super) fn concatenated(a: ImageSize, b: ImageSize) -> Result<ImageSize> {
    if a[1..] != b[1..] {
        let what = "image of the way up beside that of the way down";
        return Err(Error::shape("U-Net", what, &b[1..], &a[1..]));
    }
    Ok([a[0] + b[0], a[1], a[2]])
}
