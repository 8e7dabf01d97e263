//! The kernels of self-attention.

use dfdx::dtypes::Dtype;
use dfdx::tensor::Cpu;

use super::on_cpu;
use crate::bridge::{View, ViewMut, Views};
use crate::error::Result;
use crate::kernels::args::attention::AttentionOp;
use crate::kernels::args::Fill;
use crate::kernels::cpu::attention;

/// softmax(q kT / sqrt(d)) v for each head of each image.
pub trait AttentionKernel<E: Dtype>: Views<E> {
    /// Writes `y`, and for each head 2 N numbers to `statistics`: the largest score of every query, and
    /// 1 over the sum of the exponentials of its scores less that.
    fn attention_forward(
        op: &AttentionOp,
        qkv: View<'_, E, Self>,
        y: ViewMut<'_, E, Self>,
        statistics: ViewMut<'_, E, Self>,
    ) -> Result<()>;

    /// Adds to `dqkv`, or overwrites it. The weights are computed again from the statistics.
    fn attention_backward(
        op: &AttentionOp,
        qkv: View<'_, E, Self>,
        statistics: View<'_, E, Self>,
        dy: View<'_, E, Self>,
        dqkv: ViewMut<'_, E, Self>,
        fill: Fill,
    ) -> Result<()>;
}

on_cpu!(AttentionKernel {
    fn attention_forward(op: &AttentionOp, qkv: &[E], y: &mut [E], statistics: &mut [E]) -> Result<()> {
        attention::forward(op, qkv, y, statistics);
        Ok(())
    }

    fn attention_backward(op: &AttentionOp, qkv: &[E], statistics: &[E], dy: &[E], dqkv: &mut [E], fill: Fill) -> Result<()> {
        attention::backward(op, qkv, statistics, dy, dqkv, fill);
        Ok(())
    }
});
