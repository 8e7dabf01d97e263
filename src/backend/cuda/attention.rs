//! Self-attention on CUDA: matrix products by cuBLAS, the softmax by our kernels, for as many heads at a time
//! as their weights fit into the workspace.

use dfdx::tensor::Cuda;

use super::check_len;
use crate::backend::AttentionKernel;
use crate::bridge::cuda::calls::{
    launch, multiply, tf32, Arg, Grid, Matrix, Product, Slice, SliceMut, ATTENTION,
};
use crate::bridge::cuda::with_workspace;
use crate::error::Result;
use crate::kernels::args::attention::{AttentionOp, QkvOrder};
use crate::kernels::args::Fill;

const OP: &str = "attention";
/// Threads of a block.
const THREADS: usize = 256;
/// Elements of the workspace that a pass takes, if one head does not need more: 64 MB.
const WORKSPACE: usize = 1 << 24;

/// Some heads that lie at equal distances.
#[derive(Clone, Copy)]
struct Heads {
    depth: usize,
    positions: usize,
    /// Their number in the order of the parts: where their statistics are.
    first: usize,
    count: usize,
    /// Where the first one's output begins, and how far from it the next one's, in units of (d, N). In
    /// `qkv` it is three times as far.
    output: usize,
    step: usize,
    /// Where the first one's queries begin in `qkv`, and how far from these its keys are, in these units.
    queries: usize,
    kind: usize,
}

/// Which third of `qkv`.
#[derive(Clone, Copy)]
enum Third {
    Queries,
    Keys,
    Values,
}

impl Heads {
    /// All heads, in parts whose (N, N) matrices fit into the workspace, `matrices` of them a head. Where
    /// the heads of an image do not lie as far apart as those of two images, a part has the same head of
    /// several images.
    fn parts(op: &AttentionOp, heads: usize, matrices: usize) -> impl Iterator<Item = Self> {
        let &AttentionOp {
            depth,
            positions,
            order,
        } = op;
        let one = matrices * positions * positions;
        let (rows, step) = match order {
            QkvOrder::ByHead => (1, 1),
            QkvOrder::ByKind { heads } => (heads, heads),
        };
        let of_row = heads / rows.max(1);
        let most = (WORKSPACE / one.max(1)).clamp(1, of_row.max(1));
        let starts = move |row| (0..of_row).step_by(most).map(move |start| (row, start));
        (0..rows).flat_map(starts).map(move |(row, start)| Self {
            depth,
            positions,
            first: row * of_row + start,
            count: most.min(of_row - start),
            output: row + start * step,
            step,
            queries: row + 3 * start * step,
            kind: step,
        })
    }

    /// Elements of a head's (d, N).
    fn len(&self) -> usize {
        self.depth * self.positions
    }

    /// Elements of all heads' (N, N).
    fn weights(&self) -> usize {
        self.count * self.positions * self.positions
    }

    fn end(&self) -> usize {
        self.first + self.count
    }

    /// Where the heads' (d, N) of a third of `qkv` begin.
    fn third(&self, third: Third) -> usize {
        (self.queries + third as usize * self.kind) * self.len()
    }

    /// The heads' queries, keys or values, (d, N).
    fn of_qkv<'a>(&self, qkv: Slice<'a, f32>, third: Third) -> Matrix<'a> {
        Matrix {
            data: qkv.part(self.third(third)..qkv.len()),
            row: self.positions,
            step: 3 * self.step * self.len(),
            transposed: false,
        }
    }

    /// The heads' part of what has (d, N) a head.
    fn of_output<'a>(&self, y: Slice<'a, f32>) -> Matrix<'a> {
        Matrix {
            data: y.part(self.output * self.len()..y.len()),
            row: self.positions,
            step: self.step * self.len(),
            transposed: false,
        }
    }

    /// The heads' (N, N).
    fn square<'a>(&self, data: Slice<'a, f32>) -> Matrix<'a> {
        Matrix {
            data,
            row: self.positions,
            step: self.positions * self.positions,
            transposed: false,
        }
    }

    /// The products (N, d) x (d, N), which overwrite.
    fn scores_product(&self) -> Product {
        Product {
            m: self.positions,
            n: self.positions,
            k: self.depth,
            row: self.positions,
            step: self.positions * self.positions,
            count: self.count,
            add: false,
            tf32: tf32().in_products(),
        }
    }

    /// The products (d, N) x (N, N), a result every `step` elements.
    fn output_product(&self, step: usize, fill: Fill) -> Product {
        Product {
            m: self.depth,
            n: self.positions,
            k: self.positions,
            row: self.positions,
            step,
            count: self.count,
            add: fill == Fill::Add,
            tf32: tf32().in_products(),
        }
    }

    /// Launches a kernel with a warp a row of the heads' (N, N).
    fn launch_rows(&self, name: &'static str, device: i32, memory: &[Arg]) -> Result<()> {
        let rows = self.count * self.positions;
        let mut args = memory.to_vec();
        args.extend([rows, self.positions].map(Arg::from));
        args.push((1.0 / (self.depth as f64).sqrt() as f32).into());
        let grid = Grid::blocks(rows.div_ceil(THREADS / 32), THREADS as u32);
        launch(&ATTENTION, name, device, grid, &args)
    }
}

fn transposed(m: Matrix) -> Matrix {
    Matrix {
        transposed: !m.transposed,
        ..m
    }
}

/// How many heads there are, for whose sizes the memory has to be.
fn heads(op: &AttentionOp, qkv: usize, y: usize, statistics: usize) -> Result<usize> {
    let len = op.depth * op.positions;
    let heads = y / len.max(1);
    check_len(OP, "y or dy", y, heads * len)?;
    check_len(OP, "qkv", qkv, 3 * heads * len)?;
    check_len(OP, "statistics", statistics, 2 * heads * op.positions)?;
    Ok(heads)
}

impl AttentionKernel<f32> for Cuda {
    fn attention_forward(
        op: &AttentionOp,
        qkv: Slice<f32>,
        mut y: SliceMut<f32>,
        mut statistics: SliceMut<f32>,
    ) -> Result<()> {
        let (device, n) = (y.device(), op.positions);
        for part in Heads::parts(op, heads(op, qkv.len(), y.len(), statistics.len())?, 1) {
            let [q, k, v] =
                [Third::Queries, Third::Keys, Third::Values].map(|t| part.of_qkv(qkv, t));
            with_workspace(device, part.weights(), |scores| {
                // S = qT k, P = softmax(S / sqrt(d)), y = v PT
                multiply(part.scores_product(), transposed(q), k, &scores)?;
                let statistics = statistics.part_mut(2 * part.first * n..2 * part.end() * n);
                let memory = [(&scores).into(), (&statistics).into()];
                part.launch_rows("attention_softmax", device, &memory)?;
                let weights = part.square(scores.shared());
                let y = y.part_mut(part.output * part.len()..y.len());
                let product = part.output_product(part.step * part.len(), Fill::Overwrite);
                multiply(product, v, transposed(weights), &y)
            })?;
        }
        Ok(())
    }

    fn attention_backward(
        op: &AttentionOp,
        qkv: Slice<f32>,
        statistics: Slice<f32>,
        dy: Slice<f32>,
        mut dqkv: SliceMut<f32>,
        fill: Fill,
    ) -> Result<()> {
        let (device, n) = (dqkv.device(), op.positions);
        check_len(OP, "dqkv", dqkv.len(), qkv.len())?;
        for part in Heads::parts(op, heads(op, qkv.len(), dy.len(), statistics.len())?, 2) {
            let [q, k, v] =
                [Third::Queries, Third::Keys, Third::Values].map(|t| part.of_qkv(qkv, t));
            let dy = part.of_output(dy);
            with_workspace(device, 2 * part.weights(), |mut workspace| {
                let (weights, gradient) = workspace.split_at(part.weights());
                // S and dP, which become P and dS
                multiply(part.scores_product(), transposed(q), k, &weights)?;
                multiply(part.scores_product(), transposed(dy), v, &gradient)?;
                let statistics = statistics.part(2 * part.first * n..2 * part.end() * n);
                let memory = [(&weights).into(), (&gradient).into(), statistics.into()];
                part.launch_rows("attention_softmax_backward", device, &memory)?;
                let [p, ds] = [&weights, &gradient].map(|m| part.square(m.shared()));

                let product = part.output_product(3 * part.step * part.len(), fill);
                let end = dqkv.len();
                for (third, left, right) in [
                    (Third::Queries, k, transposed(ds)),
                    (Third::Keys, q, ds),
                    (Third::Values, dy, p),
                ] {
                    let to = dqkv.part_mut(part.third(third)..end);
                    multiply(product, left, right, &to)?;
                }
                Ok(())
            })?;
        }
        Ok(())
    }
}
