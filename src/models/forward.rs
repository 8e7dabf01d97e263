//! How blocks and networks write their forward.

use dfdx::shapes::Const;
use dfdx::tensor::Tensor;

use crate::bridge::Hidden;

/// (B, C, H, W)
pub(super) type Images<B, const C: usize, H, W, E, D, T> = Tensor<(B, Const<C>, H, W), E, D, T>;

/// The same between operations of this crate.
pub(super) type HiddenImages<B, const C: usize, H, W, E, D, T> =
    Hidden<(B, Const<C>, H, W), E, D, T>;

/// Applies a layer that does the same in training and in evaluation.
///
/// This and the macros after it are what a forward is written with. `$mode` is `eval` (the running statistics),
/// `train` (the batch's), or `(graph, path)`, where the layers are added to a [`Graph`](crate::inference::Graph).
macro_rules! layer {
    (($graph:ident, $path:ident), $layer:expr, $x:expr) => {{
        // The layer's path: what comes after `self.`.
        let (_, name) = stringify!($layer).split_once('.').unwrap_or_default();
        let x = $x;
        $layer.add_to($graph, &$crate::nn::join($path, name), x)?
    }};
    ($mode:ident, $layer:expr, $x:expr) => {
        $layer.apply_hidden($x)?
    };
}
pub(super) use layer;

/// Applies a batch norm, adds the residual if there is one, and applies the activation.
macro_rules! norm {
    (eval, $bn:expr, $x:expr, $residual:expr, $activation:expr) => {
        $bn.eval_hidden($x, $residual, $activation)?
    };
    (train, $bn:expr, $x:expr, $residual:expr, $activation:expr) => {
        $bn.train_hidden($x, $residual, $activation)?
    };
    (($graph:ident, $path:ident), $bn:expr, $x:expr, $residual:expr, $activation:expr) => {{
        let y = layer!(($graph, $path), $bn, $x);
        $graph.add_and_activate($path, y, $residual, $activation)?
    }};
}
pub(super) use norm;

/// Applies a block, or a tuple of them.
macro_rules! next {
    (eval, $block:expr, $x:expr) => {
        $block.try_forward($x)?
    };
    (train, $block:expr, $x:expr) => {
        $block.try_forward_mut($x)?
    };
    (($graph:ident, $path:ident), $block:expr, $x:expr) => {
        layer!(($graph, $path), $block, $x)
    };
}
pub(super) use next;

/// Averages the image, and tells the classes apart by a linear layer.
macro_rules! head {
    (($graph:ident, $path:ident), $linear:expr, $x:expr) => {{
        let pool = $crate::inference::Operation::GlobalAvgPool;
        let x = $x;
        let x = $graph.push($path, pool, Vec::new(), &[x])?;
        layer!(($graph, $path), $linear, x)
    }};
    ($mode:ident, $linear:expr, $x:expr) => {
        $crate::models::classify::classify_images(&$linear, $x)?
    };
}
pub(super) use head;

/// Writes a block's or a network's forward three times: `Module` of images without a tape, in evaluation
/// mode, `ModuleMut` of traced ones, in training, and `ToGraph`. `$body` is the name of a macro of a mode, the
/// module and x.
///
/// A block takes hidden images and returns such (`hidden`), and has a form for tensors from
/// outside, which only wraps that. A network takes tensors and returns one (`tensor`); its body
/// sees hidden images.
macro_rules! forward {
    (
        $kind:tt $name:ident [$(const $param:ident: usize),*], $c_in:tt -> $out:ty,
        [$($bounds:tt)*], $body:ident
    ) => {
        forward!(
            @$kind eval Module try_forward (&) NoneTape;
            $name [$(const $param: usize),*], $c_in -> $out, [$($bounds)*], $body
        );
        forward!(
            @$kind train ModuleMut try_forward_mut (&mut) OwnedTape<E, D>;
            $name [$(const $param: usize),*], $c_in -> $out, [$($bounds)*], $body
        );

        impl<$(const $param: usize,)* E: Dtype, D: Storage<E>> $crate::inference::ToGraph<E>
            for $name<$($param,)* E, D>
        {
            fn add_to(
                &self,
                graph: &mut $crate::inference::Graph<E>,
                path: &str,
                x: $crate::inference::Value,
            ) -> Result<$crate::inference::Value> {
                Ok($body!((graph, path), self, x))
            }
        }
    };
    (
        @hidden $mode:ident $module:ident $method:ident ($($by:tt)*) $tape:ty;
        $name:ident [$(const $param:ident: usize),*], $c_in:tt -> $out:ty,
        [$($bounds:tt)*], $body:ident
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
                x: HiddenImages<B, $c_in, H, W, E, D, $tape>,
            ) -> Result<Self::Output> {
                Ok($body!($mode, self, x))
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
        @tensor $mode:ident $module:ident $method:ident ($($by:tt)*) $tape:ty;
        $name:ident [$(const $param:ident: usize),*], $c_in:tt -> $out:ty,
        [$($bounds:tt)*], $body:ident
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
                x: Images<B, $c_in, H, W, E, D, $tape>,
            ) -> Result<Self::Output> {
                let x = Hidden::enter(x);
                Ok($body!($mode, self, x))
            }
        }
    };
}
pub(super) use forward;
