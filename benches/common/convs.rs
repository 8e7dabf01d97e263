//! The convolutions of ResNet-18 at 32 images of 32x32, as the benchmarks run them: a layer on
//! dfdx's tape.

use dfdx::prelude::*;
use dfdx::tensor::{Gradients, Merge, NoneTape, PutTape, SplitTape, Storage, Trace};
use ssprop::nn::{builders, modules::SparseConv2D, VisitSparse};
use ssprop::shape::ConvDim;
use ssprop::sparsity::DropRate;

/// Images in a batch.
pub const BATCH: usize = 32;

/// The share of output channels that sparse backward passes drop.
pub const DROP_RATE: f64 = 0.8;

/// A backward pass that is ready to run, once.
pub type ReadyBackward = Box<dyn FnOnce()>;

/// A convolution whose passes can be run one at a time.
pub trait Conv {
    /// Runs forward, and keeps nothing.
    fn forward(&self);

    /// Runs forward, and returns what its backward pass at `drop_rate` does.
    fn before_backward(&mut self, drop_rate: DropRate) -> ReadyBackward;
}

/// One layer of `N` x `N` images.
struct ConvLayer<
    const C_IN: usize,
    const C_OUT: usize,
    const K: usize,
    const STRIDE: usize,
    const PADDING: usize,
    const N: usize,
> where
    Const<N>: ConvDim<K, STRIDE, PADDING, 1>,
{
    conv: SparseConv2D<C_IN, C_OUT, K, STRIDE, PADDING, 1, 1, f32, Cpu>,
    x: Tensor<Rank4<BATCH, C_IN, N, N>, f32, Cpu>,
    dy: Vec<f32>,
}

impl<
        const C_IN: usize,
        const C_OUT: usize,
        const K: usize,
        const STRIDE: usize,
        const PADDING: usize,
        const N: usize,
    > ConvLayer<C_IN, C_OUT, K, STRIDE, PADDING, N>
where
    Const<N>: ConvDim<K, STRIDE, PADDING, 1>,
{
    fn boxed() -> Box<dyn Conv> {
        let dev = Cpu::default();
        dev.enable_cache();
        let conv =
            dev.build_module::<builders::SparseConv2D<C_IN, C_OUT, K, STRIDE, PADDING>, f32>();
        let x = dev.sample_normal();
        let y_shape = *conv.forward(Tensor::clone(&x)).shape();
        let dy = dev.sample_normal_like(&y_shape).as_vec();
        Box::new(Self { conv, x, dy })
    }
}

impl<
        const C_IN: usize,
        const C_OUT: usize,
        const K: usize,
        const STRIDE: usize,
        const PADDING: usize,
        const N: usize,
    > Conv for ConvLayer<C_IN, C_OUT, K, STRIDE, PADDING, N>
where
    Const<N>: ConvDim<K, STRIDE, PADDING, 1>,
{
    fn forward(&self) {
        std::hint::black_box(self.conv.forward(self.x.clone()));
    }

    fn before_backward(&mut self, drop_rate: DropRate) -> ReadyBackward {
        self.conv.set_drop_rate(drop_rate);
        let (y, tape) = self.conv.forward(self.x.leaky_trace()).split_tape();
        // The loss sum(y * dy), with its gradient given: dfdx's own product and sum would take
        // longer than the convolution.
        let dev = y.device().clone();
        let mut dy = dev.try_alloc_len(self.dy.len()).expect("memory");
        dy.copy_from_slice(&self.dy);
        let mut grads = Gradients::leaky();
        *grads.get_or_alloc_mut(&y).expect("memory") = dy;
        // A tape that has the gradient already, as a network's has when a layer's turn comes.
        let loss: Tensor<Rank0, f32, Cpu, NoneTape> = dev.zeros();
        let (loss, given) = loss.traced(grads).split_tape();
        let loss = loss.put_tape(tape.merge(given));
        Box::new(move || {
            std::hint::black_box(loss.backward());
            drop(y);
        })
    }
}

/// Name (kernel, channels, input size, stride) and maker of each layer: `3x3 64-128 32x32 s2`.
pub type Case = (&'static str, fn() -> Box<dyn Conv>);

/// The four stages' own layers, then those between the stages.
pub const CONVS: [Case; 10] = [
    ("3x3 64-64 32x32", ConvLayer::<64, 64, 3, 1, 1, 32>::boxed),
    (
        "3x3 128-128 16x16",
        ConvLayer::<128, 128, 3, 1, 1, 16>::boxed,
    ),
    ("3x3 256-256 8x8", ConvLayer::<256, 256, 3, 1, 1, 8>::boxed),
    ("3x3 512-512 4x4", ConvLayer::<512, 512, 3, 1, 1, 4>::boxed),
    (
        "3x3 64-128 32x32 s2",
        ConvLayer::<64, 128, 3, 2, 1, 32>::boxed,
    ),
    (
        "3x3 128-256 16x16 s2",
        ConvLayer::<128, 256, 3, 2, 1, 16>::boxed,
    ),
    (
        "3x3 256-512 8x8 s2",
        ConvLayer::<256, 512, 3, 2, 1, 8>::boxed,
    ),
    (
        "1x1 64-128 32x32 s2",
        ConvLayer::<64, 128, 1, 2, 0, 32>::boxed,
    ),
    (
        "1x1 128-256 16x16 s2",
        ConvLayer::<128, 256, 1, 2, 0, 16>::boxed,
    ),
    (
        "1x1 256-512 8x8 s2",
        ConvLayer::<256, 512, 1, 2, 0, 8>::boxed,
    ),
];
