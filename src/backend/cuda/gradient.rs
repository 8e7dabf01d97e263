//! Gradient clipping on CUDA.

use dfdx::tensor::Cuda;

use crate::backend::GradientKernel;
use crate::error::Result;
use crate::kernels::cuda::{
    download, launch, with_workspace, Arg, Grid, Slice, SliceMut, GRADIENT,
};

macro_rules! on_cuda {
    ($($E:ty: $sums:literal, $scale:literal, $clamp:literal;)*) => {$(
        impl GradientKernel<$E> for Cuda {
            fn sum_of_squares(g: Slice<'_, $E>) -> Result<f64> {
                let n = g.len();
                if n == 0 {
                    return Ok(0.0);
                }
                let grid = Grid::elements(n);
                with_workspace(g.device(), 2 * grid.count(), |sums| {
                    let sums = sums.doubles();
                    let args = [g.into(), (&sums).into(), n.into()];
                    launch(&GRADIENT, $sums, g.device(), grid, &args)?;
                    Ok(download(sums.shared())?.into_iter().sum())
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
