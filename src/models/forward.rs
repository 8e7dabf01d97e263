//! How blocks and networks write their forward.

use dfdx::shapes::Const;
use dfdx::tensor::Tensor;

/// (B, C, H, W)
pub(super) type Images<B, const C: usize, H, W, E, D, T> = Tensor<(B, Const<C>, H, W), E, D, T>;

/// Writes a network's forward twice: `Module` of a tensor without a tape, with the running
/// statistics, and `ModuleMut` of a traced one, with the batch's. The body's `norm!(bn, x, act)`
/// and `norm_add!(bn, x, residual, act)` become the norm's `try_eval` or `try_train`, `next!` a
/// layer's `try_forward` or `try_forward_mut`.
macro_rules! forward {
    (
        $name:ident [$(const $param:ident: usize),*], $c_in:tt -> $out:ty, [$($bounds:tt)*],
        |$this:ident, $x:ident, $norm:ident, $norm_add:ident, $next:ident| $body:block
    ) => {
        forward!(
            @one Module try_forward (&) NoneTape, try_eval try_eval_add try_forward;
            $name [$(const $param: usize),*], $c_in -> $out, [$($bounds)*],
            |$this, $x, $norm, $norm_add, $next| $body
        );
        forward!(
            @one ModuleMut try_forward_mut (&mut) OwnedTape<E, D>,
            try_train try_train_add try_forward_mut;
            $name [$(const $param: usize),*], $c_in -> $out, [$($bounds)*],
            |$this, $x, $norm, $norm_add, $next| $body
        );
    };
    (
        @one $module:ident $method:ident ($($by:tt)*) $tape:ty, $bn:ident $bn_add:ident $fwd:ident;
        $name:ident [$(const $param:ident: usize),*], $c_in:tt -> $out:ty, [$($bounds:tt)*],
        |$this:ident, $x:ident, $norm:ident, $norm_add:ident, $next:ident| $body:block
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
                #![allow(unused_macros)]
                macro_rules! $norm {
                    ($layer:expr, $x_:expr, $act:expr) => { $layer.$bn($x_, $act)? };
                }
                macro_rules! $norm_add {
                    ($layer:expr, $x_:expr, $res:expr, $act:expr) => {
                        $layer.$bn_add($x_, $res, $act)?
                    };
                }
                macro_rules! $next {
                    ($layer:expr, $x_:expr) => { $layer.$fwd($x_)? };
                }
                let $this = self;
                $body
            }
        }
    };
}
pub(super) use forward;
