//! Convolution on the CPU. The three products check the memory that they get: the algorithms write through pointers
//! on the strength of that.

mod algorithm;
pub mod channels;
mod epilogue;
mod gemm;
pub mod masked;
mod rows;
#[cfg(test)]
mod testing;
pub(crate) mod unfold;
mod winograd;

use crate::args::conv2d::{check_len, Conv2DShape, Epilogue, OutputGrad};
use crate::args::Fill;
use crate::concrete::concrete;
use crate::error::Result;
use algorithm::Algorithms;

concrete! {
    /// y = f(conv(x, w) + bias + residual)
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) for memory that has not the size that `shape` says, and for channels
    /// kept of another number than C_out, here and below.
    pub fn forward<E: Algorithms>(
        shape: &Conv2DShape,
        x: &[E],
        w: &[E],
        then: Epilogue<&[E]>,
        y: &mut [E],
    ) -> Result<()> {
        check_len("x", x.len(), &shape.x())?;
        check_len("weight", w.len(), &shape.weight())?;
        if let Some(bias) = then.bias {
            check_len("bias", bias.len(), &[shape.c_out()])?;
        }
        check_len("y", y.len(), &shape.y(shape.c_out()))?;
        if let Some(residual) = then.residual {
            check_len("residual", residual.len(), &shape.y(shape.c_out()))?;
        }
        E::forward(shape, x, w, then, y);
        Ok(())
    }

    /// dX (+)= conv-transpose(dY, w)
    ///
    /// # Errors
    /// As there.
    pub fn backward_input<E: Algorithms>(
        shape: &Conv2DShape,
        w: &[E],
        dy: OutputGrad<'_, &[E]>,
        dx: &mut [E],
        fill: Fill,
    ) -> Result<()> {
        dy.check(shape)?;
        check_len("weight", w.len(), &shape.weight())?;
        check_len("dx", dx.len(), &shape.x())?;
        E::backward_input(shape, w, dy, dx, fill);
        Ok(())
    }

    /// dW += correlation(x, dY); rows of dropped channels stay as they are
    ///
    /// # Errors
    /// As there.
    pub fn backward_weight<E: Algorithms>(
        shape: &Conv2DShape,
        x: &[E],
        dy: OutputGrad<'_, &[E]>,
        dw: &mut [E],
    ) -> Result<()> {
        dy.check(shape)?;
        check_len("x", x.len(), &shape.x())?;
        check_len("dw", dw.len(), &shape.weight())?;
        E::backward_weight(shape, x, dy, dw);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::conv2d::Conv2DOp;
    use crate::args::KeptChannels;

    /// Whichever algorithm would have served.
    #[test]
    fn memory_that_does_not_fit_is_an_error() {
        macro_rules! check {
            ($E:ty, $stride:literal) => {{
                let op = Conv2DOp {
                    kernel: 3,
                    stride: $stride,
                    padding: 1,
                    dilation: 1,
                    groups: 1,
                };
                let shape = Conv2DShape::new(op, [2, 8, 6, 6], 9).unwrap();
                let ones = |sizes: [usize; 4]| vec![1.0 as $E; sizes.iter().product()];
                let (x, w, dy) = (ones(shape.x()), ones(shape.weight()), ones(shape.y(1)));
                let (mut dx, mut dw, mut db) = (x.clone(), w.clone(), [1.0 as $E; 9]);
                let of = |index, all| KeptChannels::new(vec![index], all).unwrap();
                for (kept, is_right) in [(of(8, 9), true), (of(100, 101), false)] {
                    let dy = OutputGrad {
                        data: &dy[..],
                        kept: Some(&kept),
                    };
                    let results = [
                        backward_input(&shape, &w, dy, &mut dx, Fill::Add),
                        backward_weight(&shape, &x, dy, &mut dw),
                        channels::backward_bias(&shape, dy, &mut db),
                    ];
                    assert!(results.iter().all(|result| result.is_ok() == is_right));
                    for short in [
                        backward_input(&shape, &w, dy, &mut dx[1..], Fill::Add),
                        backward_input(&shape, &w[1..], dy, &mut dx, Fill::Add),
                        backward_weight(&shape, &x, dy, &mut dw[1..]),
                        backward_weight(&shape, &x[1..], dy, &mut dw),
                        channels::backward_bias(&shape, dy, &mut db[1..]),
                    ] {
                        assert!(short.is_err());
                    }
                }
                let then = || Epilogue::bias(Some(&db[..]));
                let mut y = ones(shape.y(9));
                forward(&shape, &x, &w, then(), &mut y).unwrap();
                for short in [
                    forward(&shape, &x[1..], &w, then(), &mut y),
                    forward(&shape, &x, &w[1..], then(), &mut y),
                    forward(&shape, &x, &w, Epilogue::bias(Some(&db[1..])), &mut y),
                    forward(&shape, &x, &w, then(), &mut y[1..]),
                ] {
                    assert!(short.is_err());
                }
            }};
        }
        check!(f32, 1);
        check!(f32, 2);
        check!(f64, 1);
    }
}
