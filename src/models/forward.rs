//! How blocks and networks write their forward.

use dfdx::shapes::Const;
use dfdx::tensor::Tensor;

use crate::bridge::Hidden;

/// (B, C, H, W)
pub(super) type Images<B, const C: usize, H, W, E, D, T> = Tensor<(B, Const<C>, H, W), E, D, T>;

/// The same between operations of this crate.
pub(super) type HiddenImages<B, const C: usize, H, W, E, D, T> =
    Hidden<(B, Const<C>, H, W), E, D, T>;

/// Writes a block's or a network's forward three times: `Module` of images without a tape, with the
/// running statistics, `ModuleMut` of traced ones, with the batch's, and `ToGraph`. The body's `conv!(conv,
/// x)`, `norm!(bn, x, act)`, `norm_add!(bn, x, residual, act)` and `pool!(pool, x)` apply a layer, `next!` a
/// block or a tuple of them, and `head!(linear, x)` averages the image and tells the classes apart.
///
/// A block takes hidden images and returns such (`hidden`), and has a form for tensors from
/// outside, which only wraps that. A network takes tensors and returns one (`tensor`); its body
/// sees hidden images.
macro_rules! forward {
    (
        $kind:tt $name:ident [$(const $param:ident: usize),*], $c_in:tt -> $out:ty,
        [$($bounds:tt)*],
        |$this:ident, $x:ident, $conv:ident, $norm:ident, $norm_add:ident, $next:ident, $pool:ident, $head:ident|
        $body:block
    ) => {
        forward!(
            @$kind Module try_forward (&) NoneTape,
            eval_hidden;
            $name [$(const $param: usize),*], $c_in -> $out, [$($bounds)*],
            |$this, $x, $conv, $norm, $norm_add, $next, $pool, $head| $body
        );
        forward!(
            @$kind ModuleMut try_forward_mut (&mut) OwnedTape<E, D>,
            train_hidden;
            $name [$(const $param: usize),*], $c_in -> $out, [$($bounds)*],
            |$this, $x, $conv, $norm, $norm_add, $next, $pool, $head| $body
        );
        forward!(
            @graph $name [$(const $param: usize),*],
            |$this, $x, $conv, $norm, $norm_add, $next, $pool, $head| $body
        );
    };
    (
        @hidden $module:ident $method:ident ($($by:tt)*) $tape:ty, $bn:ident;
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
                forward!(@body $method $bn, $($macro)*);
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
        @tensor $module:ident $method:ident ($($by:tt)*) $tape:ty, $bn:ident;
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
                forward!(@body $method $bn, $($macro)*);
                let ($this, $x) = (self, Hidden::enter($x));
                $body
            }
        }
    };
    (
        @body $fwd:ident $bn:ident,
        $conv:ident $norm:ident $norm_add:ident $next:ident $pool:ident $head:ident
    ) => {
        #[allow(unused_macros)]
        macro_rules! $conv {
            ($layer:expr, $x_:expr) => { $layer.apply_hidden($x_)? };
        }
        #[allow(unused_macros)]
        macro_rules! $norm {
            ($layer:expr, $x_:expr, $act:expr) => { $layer.$bn($x_, None, $act)? };
        }
        #[allow(unused_macros)]
        macro_rules! $norm_add {
            ($layer:expr, $x_:expr, $res:expr, $act:expr) => { $layer.$bn($x_, Some($res), $act)? };
        }
        #[allow(unused_macros)]
        macro_rules! $next {
            ($layer:expr, $x_:expr) => { $layer.$fwd($x_)? };
        }
        #[allow(unused_macros)]
        macro_rules! $pool {
            ($layer:expr, $x_:expr) => { $layer.apply_hidden($x_)? };
        }
        #[allow(unused_macros)]
        macro_rules! $head {
            ($layer:expr, $x_:expr) => {
                $crate::models::classify::classify_images(&$layer, $x_)?
            };
        }
    };
    (
        @graph $name:ident [$(const $param:ident: usize),*],
        |$this:ident, $x:ident, $conv:ident, $norm:ident, $norm_add:ident, $next:ident, $pool:ident, $head:ident|
        $body:block
    ) => {
        impl<$(const $param: usize,)* E: Dtype, D: Storage<E>> $crate::inference::ToGraph<E>
            for $name<$($param,)* E, D>
        {
            fn add_to(
                &self,
                graph: &mut $crate::inference::Graph<E>,
                path: &str,
                $x: $crate::inference::Value,
            ) -> Result<$crate::inference::Value> {
                // A layer's path: what comes after `this.` in the body.
                macro_rules! layer {
                    ($layer:expr, $x_:expr) => {{
                        let (_, name) = stringify!($layer).split_once('.').unwrap_or_default();
                        let x = $x_;
                        $layer.add_to(graph, &$crate::nn::join(path, name), x)?
                    }};
                }
                #[allow(unused_macros)]
                macro_rules! $conv { ($layer:expr, $x_:expr) => { layer!($layer, $x_) }; }
                #[allow(unused_macros)]
                macro_rules! $next { ($layer:expr, $x_:expr) => { layer!($layer, $x_) }; }
                #[allow(unused_macros)]
                macro_rules! $pool { ($layer:expr, $x_:expr) => { layer!($layer, $x_) }; }
                #[allow(unused_macros)]
                macro_rules! $norm {
                    ($layer:expr, $x_:expr, $act:expr) => {{
                        let y = layer!($layer, $x_);
                        graph.activate(path, $act, y)?
                    }};
                }
                #[allow(unused_macros)]
                macro_rules! $norm_add {
                    ($layer:expr, $x_:expr, $res:expr, $act:expr) => {{
                        let y = layer!($layer, $x_);
                        let y = graph.push(path, $crate::inference::Operation::Add, Vec::new(), &[y, $res])?;
                        graph.activate(path, $act, y)?
                    }};
                }
                #[allow(unused_macros)]
                macro_rules! $head {
                    ($layer:expr, $x_:expr) => {{
                        let x = $x_;
                        let x = graph.push(path, $crate::inference::Operation::GlobalAvgPool, Vec::new(), &[x])?;
                        layer!($layer, x)
                    }};
                }
                let $this = self;
                $body
            }
        }
    };
}
pub(super) use forward;
