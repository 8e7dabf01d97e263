//! How blocks and networks write their forward.

use dfdx::shapes::Const;
use dfdx::tensor::Tensor;

use crate::bridge::Hidden;

/// (B, C, H, W)
pub(super) type Images<B, const C: usize, H, W, E, D, T> = Tensor<(B, Const<C>, H, W), E, D, T>;

/// The same between operations of this crate.
pub(super) type HiddenImages<B, const C: usize, H, W, E, D, T> =
    Hidden<(B, Const<C>, H, W), E, D, T>;

/// Writes a block's or a network's forward twice: `Module` of images without a tape, with the
/// running statistics, and `ModuleMut` of traced ones, with the batch's. The body's `conv!(conv,
/// x)`, `norm!(bn, x, act)` and `norm_add!(bn, x, residual, act)` apply a layer, `next!` a block or
/// a tuple of them.
///
/// A block takes hidden images and returns such (`hidden`), and has a form for tensors from
/// outside, which only wraps that. A network takes tensors and returns one (`tensor`); its body
/// sees hidden images.
macro_rules! forward {
    (
        $kind:tt $name:ident [$(const $param:ident: usize),*], $c_in:tt -> $out:ty,
        [$($bounds:tt)*],
        |$this:ident, $x:ident, $conv:ident, $norm:ident, $norm_add:ident, $next:ident| $body:block
    ) => {
        forward!(
            @$kind Module try_forward (&) NoneTape,
            eval_hidden eval_add_hidden;
            $name [$(const $param: usize),*], $c_in -> $out, [$($bounds)*],
            |$this, $x, $conv, $norm, $norm_add, $next| $body
        );
        forward!(
            @$kind ModuleMut try_forward_mut (&mut) OwnedTape<E, D>,
            train_hidden train_add_hidden;
            $name [$(const $param: usize),*], $c_in -> $out, [$($bounds)*],
            |$this, $x, $conv, $norm, $norm_add, $next| $body
        );
    };
    (
        @hidden $module:ident $method:ident ($($by:tt)*) $tape:ty, $bn:ident $bn_add:ident;
        $name:ident [$(const $param:ident: usize),*], $c_in:tt -> $out:ty, [$($bounds:tt)*],
        |$this:ident, $x:ident, $($macro:ident),*| $body:block
    ) => {
        impl<$(const $param: usize,)* B: Dim, H, W, E: Dtype, D: Backend<E>>
            $module<HiddenImages<B, $c_in, H, W, E, D, $tape>> for $name<$($param,)* E, D>
        where
            $($bounds)*
        {
            type Output = Hidden<$out, E, D, $tape>;
            type Error = Error;

            fn $method(
                $($by)* self,
                $x: HiddenImages<B, $c_in, H, W, E, D, $tape>,
            ) -> Result<Self::Output> {
                forward!(@body $method $bn $bn_add, $($macro)*);
                let $this = self;
                $body
            }
        }

        impl<$(const $param: usize,)* B: Dim, H, W, E: Dtype, D: Backend<E>>
            $module<Images<B, $c_in, H, W, E, D, $tape>> for $name<$($param,)* E, D>
        where
            $($bounds)*
        {
            type Output = Tensor<$out, E, D, $tape>;
            // The layers' error, so that a tuple can have both.
            type Error = D::Err;

            fn $method(
                $($by)* self,
                x: Images<B, $c_in, H, W, E, D, $tape>,
            ) -> Result<Self::Output, D::Err> {
                let y = self.$method(Hidden::enter(x)).and_then(Hidden::into_tensor);
                y.map_err(D::device_error)
            }
        }
    };
    (
        @tensor $module:ident $method:ident ($($by:tt)*) $tape:ty, $bn:ident $bn_add:ident;
        $name:ident [$(const $param:ident: usize),*], $c_in:tt -> $out:ty, [$($bounds:tt)*],
        |$this:ident, $x:ident, $($macro:ident),*| $body:block
    ) => {
        impl<$(const $param: usize,)* B: Dim, H, W, E: Dtype, D: Backend<E>>
            $module<Images<B, $c_in, H, W, E, D, $tape>> for $name<$($param,)* E, D>
        where
            $($bounds)*
        {
            type Output = Tensor<$out, E, D, $tape>;
            type Error = Error;

            fn $method(
                $($by)* self,
                $x: Images<B, $c_in, H, W, E, D, $tape>,
            ) -> Result<Self::Output> {
                forward!(@body $method $bn $bn_add, $($macro)*);
                let ($this, $x) = (self, Hidden::enter($x));
                $body
            }
        }
    };
    (
        @body $fwd:ident $bn:ident $bn_add:ident,
        $conv:ident $norm:ident $norm_add:ident $next:ident
    ) => {
        #[allow(unused_macros)]
        macro_rules! $conv {
            ($layer:expr, $x_:expr) => { $layer.apply_hidden($x_)? };
        }
        #[allow(unused_macros)]
        macro_rules! $norm {
            ($layer:expr, $x_:expr, $act:expr) => { $layer.$bn($x_, $act)? };
        }
        #[allow(unused_macros)]
        macro_rules! $norm_add {
            ($layer:expr, $x_:expr, $res:expr, $act:expr) => { $layer.$bn_add($x_, $res, $act)? };
        }
        #[allow(unused_macros)]
        macro_rules! $next {
            ($layer:expr, $x_:expr) => { $layer.$fwd($x_)? };
        }
    };
}
pub(super) use forward;
