//! Convolutions of ResNet-18 and ResNet-50 at 32 images of 32x32, as the benchmarks run them.

use dfdx::prelude::*;
use ssprop::internals::{BackwardGradient, Buffer, Conv2DKernel, Conv2DOp, Conv2DShape, Fill};
use ssprop::nn::{builders, modules::SparseConv2D};
use ssprop::ops::SparseBackward;
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

    /// What the backward pass at `drop_rate` does.
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
        // What the hook does where the layer stands between others of this crate's.
        let (dev, x, weight) = (self.x.device().clone(), &self.x, &self.conv.weight);
        let op = Conv2DOp {
            kernel: K,
            stride: STRIDE,
            padding: PADDING,
            dilation: 1,
            groups: 1,
        };
        let shape = Conv2DShape::new(op, [BATCH, C_IN, N, N], C_OUT).expect("the window fits");
        let backward = SparseBackward {
            drop_rate,
            ..SparseBackward::default()
        };
        let mut dy = Buffer::<f32, Cpu>::take(&dev, self.dy.len()).expect("memory");
        dy.view_mut().copy_from_slice(&self.dy);
        let mut dw = vec![0.0; weight.shape().num_elements()];
        let (x, weight) = (x.as_vec(), weight.as_vec());
        Box::new(move || {
            let dy = BackwardGradient::new(&dev, &shape, dy, &backward, None).expect("memory");
            let mut dx = Buffer::<f32, Cpu>::take(&dev, x.len()).expect("memory");
            Cpu::conv2d_backward_weight(&shape, &x, dy.view(), &mut dw).expect("the sizes fit");
            let (from, to) = (dy.view_for_input(), dx.view_mut());
            Cpu::conv2d_backward_input(&shape, &weight, from, to, Fill::Overwrite)
                .expect("the sizes fit");
        })
    }
}

/// Name (kernel, channels, input size, stride) and maker of each layer: `3x3 64-128 32x32 s2`.
pub type Case = (&'static str, fn() -> Box<dyn Conv>);

/// The four stages' own layers, those between the stages, and one of each of ResNet-50's stages.
pub const CONVS: [Case; 14] = [
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
    ("1x1 64-256 32x32", ConvLayer::<64, 256, 1, 1, 0, 32>::boxed),
    (
        "1x1 512-128 16x16",
        ConvLayer::<512, 128, 1, 1, 0, 16>::boxed,
    ),
    (
        "1x1 256-1024 8x8",
        ConvLayer::<256, 1024, 1, 1, 0, 8>::boxed,
    ),
    (
        "1x1 2048-512 4x4",
        ConvLayer::<2048, 512, 1, 1, 0, 4>::boxed,
    ),
];
