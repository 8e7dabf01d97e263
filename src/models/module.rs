//! What every network writes out: its builder, its tensors' names, its sparse layers.

use crate::error::Result;
use crate::nn::{BackwardCost, ImageSize, LayerCost};

/// Declares a network as a struct of named layers (module types, for elements `E` on a device
/// `D`): the module with its [`TensorCollection`](dfdx::nn::TensorCollection) (the tensors' names are the fields') and
/// [`VisitLayers`](crate::nn::VisitLayers) and [`BackwardCost`](crate::nn::BackwardCost), and a builder of the same name in `builder`. A field
/// can have another name for its tensors. The `first` layer's input is the data, which needs no gradient.
///
/// Layers form a chain; the layer named by `beside` is a shortcut, which takes the block's input. `@module` leaves
/// the cost out, for networks that are no chain or of which some layers do not count (`@cost` has those that do).
macro_rules! network {
    (@nest) => { () };
    (@nest $head:tt $($tail:tt)*) => { ($head, network!(@nest $($tail)*)) };
    (@name $field:ident) => { stringify!($field) };
    (@name $field:ident $name:literal) => { $name };
    // The module without its cost.
    (
        @module
        $(#[$doc:meta])*
        $name:ident [$(const $param:ident: usize),*] {
            $($(#[$field_doc:meta])* $field:ident $(= $field_name:literal)?: $layer:ty,)*
        }
        $(first $first:ident $(. $inner:tt)*)?
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $name<$(const $param: usize,)* E: Dtype, D: Storage<E>> {
            $(
                $(#[$field_doc])*
                pub $field: $layer,
            )*
        }

        impl<$(const $param: usize,)* E: Dtype, D: Device<E>> BuildOnDevice<D, E>
            for builder::$name<$($param),*>
        where
            $name<$($param,)* E, D>: BuildModule<D, E>,
        {
            type Built = $name<$($param,)* E, D>;
        }

        impl<$(const $param: usize,)* E: Dtype + num_traits::Float + SampleUniform, D: Device<E>>
            TensorCollection<E, D> for $name<$($param,)* E, D>
        {
            type To<E2: Dtype, D2: Device<E2>> = $name<$($param,)* E2, D2>;

            fn iter_tensors<V: ModuleVisitor<Self, E, D>>(
                visitor: &mut V,
            ) -> Result<Option<Self::To<V::E2, V::D2>>, V::Err> {
                visitor.visit_fields(
                    // Nested, since dfdx takes at most six fields side by side.
                    network!(@nest $((
                        Self::module(
                            network!(@name $field $($field_name)?),
                            |s: &Self| &s.$field,
                            |s: &mut Self| &mut s.$field,
                        )
                    ))*),
                    |network!(@nest $($field)*)| {
                        #[allow(unused_mut)]
                        let mut network = $name { $($field,)* };
                        $(network.$first $(. $inner)* .backward.input_gradient = false;)?
                        network
                    },
                )
            }
        }

        impl<$(const $param: usize,)* E: Dtype, D: Storage<E>> $crate::nn::VisitLayers
            for $name<$($param,)* E, D>
        {
            fn visit_layers_at(&mut self, path: &str, f: &mut dyn FnMut($crate::nn::LayerMut<'_>)) {
                $(
                    let path_ = $crate::nn::join(path, network!(@name $field $($field_name)?));
                    self.$field.visit_layers_at(&path_, f);
                )*
            }
        }
    };
    // The cost of these layers, in this order.
    (
        @cost $name:ident [$(const $param:ident: usize),*]
        [$($field:ident $(= $field_name:literal)?),*]
        $(beside $beside:ident)?
    ) => {
        impl<$(const $param: usize,)* E: Dtype, D: Storage<E>> $crate::nn::BackwardCost
            for $name<$($param,)* E, D>
        {
            fn visit_cost(
                path: &str,
                input: $crate::nn::ImageSize,
                f: &mut dyn FnMut(&str, $crate::nn::LayerCost),
            ) -> Result<$crate::nn::ImageSize> {
                let beside: &[&str] = &[$(stringify!($beside))?];
                let mut size = input;
                $({
                    let is_beside = beside.contains(&stringify!($field));
                    let path = $crate::nn::join(path, network!(@name $field $($field_name)?));
                    let from = if is_beside { input } else { size };
                    let to = $crate::models::module::field_cost(|s: &Self| &s.$field, &path, from, f)?;
                    if !is_beside {
                        size = to;
                    }
                })*
                Ok(size)
            }
        }
    };
    (
        $(#[$doc:meta])*
        $name:ident [$(const $param:ident: usize),*] {
            $($(#[$field_doc:meta])* $field:ident $(= $field_name:literal)?: $layer:ty,)*
        }
        $(first $first:ident $(. $inner:tt)*)?
        $(beside $beside:ident)?
    ) => {
        network!(
            @module
            $(#[$doc])*
            $name [$(const $param: usize),*] {
                $($(#[$field_doc])* $field $(= $field_name)?: $layer,)*
            }
            $(first $first $(. $inner)*)?
        );
        network!(
            @cost $name [$(const $param: usize),*]
            [$($field $(= $field_name)?),*]
            $(beside $beside)?
        );
    };
}
pub(super) use network;

/// [`BackwardCost::visit_cost`] of a field, whose type the compiler finds.
pub(super) fn field_cost<M, L: BackwardCost>(
    _: fn(&M) -> &L,
    path: &str,
    input: ImageSize,
    f: &mut dyn FnMut(&str, LayerCost),
) -> Result<ImageSize> {
    L::visit_cost(path, input, f)
}
