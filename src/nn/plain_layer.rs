//! Layers with nothing to visit.

/// Implements [`VisitLayers`](super::VisitLayers) and [`BackwardCost`](super::BackwardCost) for a layer that has no drop rate, no dropout and no FLOPs
/// that the paper counts. Its output has the input's size, or the one that follows from it.
macro_rules! plain_layer {
    ($([$($generics:tt)*] $layer:ty),* $(,)?) => {$(
        $crate::nn::plain_layer::plain_layer!([$($generics)*] $layer: |input| Ok(input));
    )*};
    ([$($generics:tt)*] $layer:ty: |$input:ident| $output:expr) => {
        impl<$($generics)*> $crate::nn::VisitLayers for $layer {}
        impl<$($generics)*> $crate::nn::BackwardCost for $layer {
            fn visit_cost(
                _: &str,
                $input: $crate::nn::ImageSize,
                _: &mut dyn FnMut(&str, $crate::nn::LayerCost),
            ) -> $crate::error::Result<$crate::nn::ImageSize> {
                $output
            }
        }
    };
}
pub(crate) use plain_layer;
