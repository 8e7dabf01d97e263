//! Gradient clipping on CUDA.

use dfdx::tensor::Cuda;

use crate::backend::gradient::no_place;
use crate::backend::GradientKernel;
use crate::bridge::cuda::calls::{launch, Arg, Grid, Slice, SliceMut, GRADIENT};
use crate::bridge::cuda::with_workspace;
use crate::error::Result;

macro_rules! on_cuda {
    ($($E:ty: $sums:literal, $scale:literal, $clamp:literal;)*) => {$(
        impl GradientKernel<$E> for Cuda {
            fn sum_of_squares(
                g: Slice<'_, $E>,
                at: usize,
                sums: &mut Self::Importance,
            ) -> Result<()> {
                let (n, grid) = (g.len(), Grid::elements(g.len()));
                let count = sums.channels();
                if at >= count {
                    return Err(no_place(at, count));
                }
                let mut to = sums.room([1, 1])?;
                let to = to.part_mut(at..at + 1);
                with_workspace(g.device(), 2 * grid.count().max(1), |of_blocks| {
                    let of_blocks = of_blocks.doubles();
                    let args = [g.into(), (&of_blocks).into(), n.into()];
                    launch(&GRADIENT, $sums, g.device(), grid, &args)?;
                    let args = [(&of_blocks).into(), (&to).into(), grid.count().into()];
                    let one = Grid::blocks(1, 256);
                    launch(&GRADIENT, "sum_of_sums", g.device(), one, &args)
                })
            }

            fn scale_gradient(factor: f64, g: SliceMut<'_, $E>) -> Result<()> {
                let args = [(&g).into(), g.len().into(), Arg::Double(factor)];
                launch(&GRADIENT, $scale, g.device(), Grid::elements(g.len()), &args)
            }

            fn clamp_gradient(limit: f64, g: SliceMut<'_, $E>) -> Result<()> {
                let args = [(&g).into(), g.len().into(), Arg::Double(limit)];
                launch(&GRADIENT, $clamp, g.device(), Grid::elements(g.len()), &args)
            }
        }
    )*};
}
on_cuda! {
    f32: "square_sums_f32", "scale_f32", "clamp_f32";
    f64: "square_sums_f64", "scale_f64", "clamp_f64";
}
