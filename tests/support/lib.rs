//! Convolutions of runtime sizes for the tests: random tensors in, every gradient out.

mod freezing;
pub mod norms;

pub use freezing::trained;

use dfdx::prelude::*;
use num_traits::Float;
use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use rand::{rngs::StdRng, Rng, SeedableRng};

use ssprop::internals::{
    reference::conv2d as reference, BackwardGradient, Buffer, Conv2DKernel, Conv2DOp, Conv2DShape,
    Fill, OutputGrad, Ranking, ShrunkGradient,
};
use ssprop::nn::modules::Quotient;
use ssprop::ops::conv2d::{conv2d, SparseBackward, Window};
use ssprop::sparsity::DropRate;
use ssprop::Backend;

/// `f32` or `f64`.
pub trait Real: Dtype + Float + std::fmt::Debug {
    /// Rounding errors that a sum of some hundred products may show, as a share of the largest
    /// element.
    const TOLERANCE: f64;

    /// A gradient's storage, and what is in one.
    fn store(data: &[Self]) -> <Cpu as Storage<Self>>::Vec;
    fn load(stored: &<Cpu as Storage<Self>>::Vec) -> Vec<Self>;

    /// dX, dW and db of `dy`.
    fn kernels(case: &Case<Self>, dy: OutputGrad<'_, &[Self]>) -> [Vec<Self>; 3];

    /// [`kernels`](Self::kernels) of a copy of the channels `kept`.
    fn shrunk_kernels(case: &Case<Self>, kept: Vec<usize>) -> [Vec<Self>; 3];
}

macro_rules! real {
    ($($real:ty, $tolerance:literal;)*) => {$(
        impl Real for $real {
            const TOLERANCE: f64 = $tolerance;

            fn store(data: &[Self]) -> <Cpu as Storage<Self>>::Vec {
                let dev = Cpu::default();
                let mut stored = Storage::<Self>::try_alloc_len(&dev, data.len()).unwrap();
                stored.copy_from_slice(data);
                stored
            }

            fn load(stored: &<Cpu as Storage<Self>>::Vec) -> Vec<Self> {
                stored.to_vec()
            }

            fn kernels(case: &Case<Self>, dy: OutputGrad<'_, &[Self]>) -> [Vec<Self>; 3] {
                let (shape, weight) = (&case.shape, &case.weight[..]);
                let (mut dx, mut dw) = (vec![0.0; case.x.len()], vec![0.0; weight.len()]);
                let mut db = vec![0.0; case.bias.len()];
                // What is overwritten may have been anything.
                let mut written = vec![<$real>::NAN; case.x.len()];
                Cpu::conv2d_backward_input(shape, weight, dy, &mut dx, Fill::Add).unwrap();
                Cpu::conv2d_backward_input(shape, weight, dy, &mut written, Fill::Overwrite)
                    .unwrap();
                Cpu::conv2d_backward_weight(shape, &case.x, dy, &mut dw).unwrap();
                Cpu::conv2d_backward_bias(shape, dy, &mut db).unwrap();
                assert_eq!(dx, written);
                [dx, dw, db]
            }

            fn shrunk_kernels(case: &Case<Self>, kept: Vec<usize>) -> [Vec<Self>; 3] {
                let dy = Buffer::from_dfdx(Self::store(&case.dy));
                let (dev, count) = (Cpu::default(), kept.len());
                let kept = dev.keep(kept, case.shape.c_out()).unwrap();
                let shrunk = ShrunkGradient::gather(&dev, &case.shape, &dy, kept).unwrap();
                assert_eq!(shrunk.view().kept.map(|kept| kept.len()), Some(count));
                Self::kernels(case, shrunk.view())
            }
        }
    )*};
}
real!(f32, 1e-5; f64, 1e-13;);

/// The tensors that go into a convolution's two passes, row-major.
#[derive(Clone, Debug)]
pub struct Case<E> {
    pub shape: Conv2DShape,
    pub x: Vec<E>,
    pub weight: Vec<E>,
    pub bias: Vec<E>,
    pub dy: Vec<E>,
}

impl<E: Real> Case<E> {
    /// Uniform values in [-1, 1), and a dY of whole quarters, so that mean |dY| has no rounding
    /// error and equal importances do occur.
    pub fn random(shape: Conv2DShape, seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut uniform = |len: usize| -> Vec<E> {
            (0..len)
                .map(|_| E::from_f64(rng.gen_range(-1.0..1.0)).unwrap())
                .collect()
        };
        let x = uniform(shape.batch() * shape.c_in() * shape.input_pixels());
        let weight = uniform(shape.c_out() * shape.filter_len());
        let bias = uniform(shape.c_out());
        let dy = (0..shape.batch() * shape.c_out() * shape.output_pixels())
            .map(|_| E::from_f64(rng.gen_range(-8..=8) as f64 / 4.0).unwrap())
            .collect();
        Self {
            shape,
            x,
            weight,
            bias,
            dy,
        }
    }

    /// The channels of the largest sum |dY|, the lower index first among equals: a full sort, for
    /// the importances are exact.
    pub fn ranked(&self, count: usize) -> Vec<usize> {
        let (channels, pixels) = (self.shape.c_out(), self.shape.output_pixels());
        let mut sums = vec![0.0; channels];
        for (i, plane) in self.dy.chunks(pixels).enumerate() {
            sums[i % channels] += plane.iter().map(|g| g.to_f64().unwrap().abs()).sum::<f64>();
        }
        let mut order: Vec<usize> = (0..channels).collect();
        order.sort_by(|&a, &b| sums[b].total_cmp(&sums[a]).then(a.cmp(&b)));
        order.truncate(count);
        order.sort();
        order
    }

    /// The same with the channels of dY zeroed that are not in `kept`.
    pub fn masked(&self, kept: &[usize]) -> Self {
        let mut masked = self.clone();
        let (channels, pixels) = (self.shape.c_out(), self.shape.output_pixels());
        for (i, plane) in masked.dy.chunks_mut(pixels).enumerate() {
            if !kept.contains(&(i % channels)) {
                plane.fill(E::zero());
            }
        }
        masked
    }

    /// Both passes by plain loops in f64.
    pub fn reference(&self) -> Pass<f64> {
        let shape = &self.shape;
        let (x, weight, bias) = (wide(&self.x), wide(&self.weight), wide(&self.bias));
        let dy = wide(&self.dy);
        let dy = OutputGrad {
            data: &dy[..],
            kept: None,
        };
        let mut pass = Pass {
            y: reference::forward(shape, &x, &weight, Some(&bias)),
            dx: vec![0.0; x.len()],
            dw: vec![0.0; weight.len()],
            db: vec![0.0; bias.len()],
        };
        reference::backward_input(shape, &weight, dy, &mut pass.dx);
        reference::backward_weight(shape, &x, dy, &mut pass.dw);
        reference::backward_bias(shape, dy, &mut pass.db);
        pass
    }
}

/// What comes out of both passes, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Pass<E> {
    pub y: Vec<E>,
    pub dx: Vec<E>,
    pub dw: Vec<E>,
    pub db: Vec<E>,
}

impl<E: Real> Pass<E> {
    /// Every element, to compare bit for bit.
    pub fn bits(&self) -> Vec<(u64, i16, i8)> {
        [&self.y, &self.dx, &self.dw, &self.db]
            .into_iter()
            .flatten()
            .map(|x| x.integer_decode())
            .collect()
    }

    /// Holds every element against `expected`'s.
    pub fn assert_close<F: Real>(&self, expected: &Pass<F>, tolerance: f64, what: &str) {
        assert_close(&self.y, &expected.y, tolerance, &format!("{what}: y"));
        assert_close(&self.dx, &expected.dx, tolerance, &format!("{what}: dX"));
        assert_close(&self.dw, &expected.dw, tolerance, &format!("{what}: dW"));
        assert_close(&self.db, &expected.db, tolerance, &format!("{what}: db"));
    }
}

pub fn wide<E: Real>(x: &[E]) -> Vec<f64> {
    x.iter().map(|x| x.to_f64().unwrap()).collect()
}

/// Holds `found` against `expected`: no element is off by more than `tolerance` times the largest
/// one (or 1, for sums that cancel).
pub fn assert_close<E: Real, F: Real>(found: &[E], expected: &[F], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}: number of elements");
    let (found, expected) = (wide(found), wide(expected));
    let scale = expected.iter().fold(1.0f64, |m, x| m.max(x.abs()));
    for (i, (f, e)) in found.iter().zip(&expected).enumerate() {
        let error = (f - e).abs() / scale;
        // Written so that NaN fails.
        assert!(
            error <= tolerance,
            "{what}: element {i} is {f}, not {e}: off by {error:e} of the largest"
        );
    }
}

/// A convolution whose channels, kernel, stride, padding, dilation and groups are types.
pub struct Conv<
    const C_IN: usize,
    const C_OUT: usize,
    const K: usize,
    const S: usize,
    const P: usize,
    const D: usize,
    const G: usize,
>;

/// What the tests do with a [`Conv`], over runtime sizes.
pub trait Geometry {
    const C_IN: usize;
    const C_OUT: usize;
    const OP: Conv2DOp;

    /// Forward, and backward of the loss (y * dY).sum(), whose gradient of y is dY.
    fn pass<E: Real>(case: &Case<E>, backward: SparseBackward) -> Pass<E>
    where
        Cpu: Backend<E>;

    /// The gradients that the kernels compute from the whole dY, past the tape.
    fn dense_kernels<E: Real>(case: &Case<E>) -> [Vec<E>; 3];

    /// The same from the copy of dY that holds every channel, by the path of sparse passes.
    fn gathered_kernels<E: Real>(case: &Case<E>) -> [Vec<E>; 3];

    /// The gradients dX, dW, db of two uses of the same tensors, with dY and with `second`.
    fn two_uses<E: Real>(case: &Case<E>, second: &[E], backward: SparseBackward) -> [Vec<E>; 3]
    where
        Cpu: Backend<E>;

    /// The loss (y^2 * dY).sum() / 2 and its dense gradients dX, dW, db.
    fn quadratic(case: &Case<f64>) -> (f64, [Vec<f64>; 3]);

    /// The channels that the library keeps; `None` for all.
    fn kept<E: Real>(case: &Case<E>, backward: SparseBackward) -> Option<Vec<usize>>
    where
        Cpu: Backend<E>;

    fn shape(batch: usize, h: usize, w: usize) -> Conv2DShape {
        Conv2DShape::new(Self::OP, [batch, Self::C_IN, h, w], Self::C_OUT).unwrap()
    }

    /// The smallest image that the window fits on.
    fn smallest() -> usize {
        (Self::OP.dilation * (Self::OP.kernel - 1) + 1)
            .saturating_sub(2 * Self::OP.padding)
            .max(1)
    }
}

type Image<const C: usize> = (usize, Const<C>, usize, usize);

/// x, weight, bias and dY as tensors.
macro_rules! tensors {
    ($dev:ident, $case:ident => $x:ident, $weight:ident, $bias:ident, $dy:ident) => {
        let $dev = Cpu::default();
        let shape = $case.shape;
        let image = (
            shape.batch(),
            Const::<C_IN>,
            shape.input()[0],
            shape.input()[1],
        );
        let out = (
            shape.batch(),
            Const::<C_OUT>,
            shape.output()[0],
            shape.output()[1],
        );
        let $x = $dev.tensor_from_vec($case.x.clone(), image);
        let filters = (Const::<C_OUT>, Quotient::<C_IN, G>, Const::<K>, Const::<K>);
        let $weight = $dev.tensor_from_vec($case.weight.clone(), filters);
        let $bias = $dev.tensor_from_vec($case.bias.clone(), (Const::<C_OUT>,));
        let $dy = $dev.tensor_from_vec($case.dy.clone(), out);
    };
}

macro_rules! apply {
    ($x:expr, $weight:expr, $bias:expr, $backward:expr) => {
        conv2d($x, &$weight, Some(&$bias), Window::<S, P, D, G>, $backward).unwrap()
    };
}

impl<
        const C_IN: usize,
        const C_OUT: usize,
        const K: usize,
        const S: usize,
        const P: usize,
        const D: usize,
        const G: usize,
    > Geometry for Conv<C_IN, C_OUT, K, S, P, D, G>
{
    const C_IN: usize = C_IN;
    const C_OUT: usize = C_OUT;
    const OP: Conv2DOp = Conv2DOp {
        kernel: K,
        stride: S,
        padding: P,
        dilation: D,
        groups: G,
    };

    fn pass<E: Real>(case: &Case<E>, backward: SparseBackward) -> Pass<E>
    where
        Cpu: Backend<E>,
    {
        tensors!(dev, case => x, weight, bias, dy);
        let y = apply!(x.leaky_trace(), weight, bias, backward);
        let y_vec = y.as_vec();
        let mut grads = (y * dy).sum().backward();
        Pass {
            y: y_vec,
            // Zeros if the backward pass left it out.
            dx: E::load(grads.get_or_alloc_mut(&x).unwrap()),
            dw: grads.get(&weight).as_vec(),
            db: grads.get(&bias).as_vec(),
        }
    }

    fn dense_kernels<E: Real>(case: &Case<E>) -> [Vec<E>; 3] {
        E::kernels(
            case,
            OutputGrad {
                data: &case.dy[..],
                kept: None,
            },
        )
    }

    fn gathered_kernels<E: Real>(case: &Case<E>) -> [Vec<E>; 3] {
        E::shrunk_kernels(case, (0..C_OUT).collect())
    }

    fn two_uses<E: Real>(case: &Case<E>, second: &[E], backward: SparseBackward) -> [Vec<E>; 3]
    where
        Cpu: Backend<E>,
    {
        tensors!(dev, case => x, weight, bias, dy);
        let second: Tensor<Image<C_OUT>, E, _> = dev.tensor_from_vec(second.to_vec(), *dy.shape());
        let first = apply!(x.leaky_trace(), weight, bias, backward) * dy;
        let second = apply!(x.leaky_trace(), weight, bias, backward) * second;
        let grads = (first.sum() + second.sum()).backward();
        [
            grads.get(&x).as_vec(),
            grads.get(&weight).as_vec(),
            grads.get(&bias).as_vec(),
        ]
    }

    fn quadratic(case: &Case<f64>) -> (f64, [Vec<f64>; 3]) {
        tensors!(dev, case => x, weight, bias, dy);
        let y = apply!(x.leaky_trace(), weight, bias, SparseBackward::default());
        let loss: Tensor<Rank0, f64, _, _> = (y.square() * dy * 0.5).sum();
        let value = loss.array();
        let grads = loss.backward();
        let all = [
            grads.get(&x).as_vec(),
            grads.get(&weight).as_vec(),
            grads.get(&bias).as_vec(),
        ];
        (value, all)
    }

    fn kept<E: Real>(case: &Case<E>, backward: SparseBackward) -> Option<Vec<usize>>
    where
        Cpu: Backend<E>,
    {
        let (dev, dy) = (Cpu::default(), E::store(&case.dy));
        let dy = Buffer::from_dfdx(dy);
        BackwardGradient::new(&dev, &case.shape, dy, &backward, None)
            .unwrap()
            .view()
            .kept
            .map(|kept| kept.to_vec())
    }
}

/// A backward pass at this drop rate, with dX.
pub fn at(drop_rate: DropRate) -> SparseBackward {
    SparseBackward {
        drop_rate,
        ..SparseBackward::default()
    }
}

/// Gives every tensor of a network values that a trained one could have, batch norms too, whose fresh ones
/// would hide what they do: weights of norms and variances in 0.5..1.5, biases and means near 0.
pub fn seem_trained<E, M: TensorCollection<E, Cpu>>(network: &mut M, seed: u64)
where
    E: Real + Dtype,
    Cpu: Device<E>,
{
    struct Visitor(StdRng);
    impl<E: Real + Dtype> TensorVisitor<E, Cpu> for Visitor
    where
        Cpu: Device<E>,
    {
        type Viewer = (ViewTensorMut, ViewTensorName);
        type Err = <Cpu as HasErr>::Err;
        type E2 = E;
        type D2 = Cpu;

        fn visit<S: Shape>(
            &mut self,
            _: TensorOptions<S, E, Cpu>,
            (tensor, name): (&mut Tensor<S, E, Cpu>, String),
        ) -> Result<Option<Tensor<S, E, Cpu>>, Self::Err> {
            let last = name.rsplit('.').next().unwrap_or_default();
            let (low, high) = match (last, S::NUM_DIMS) {
                ("running_var", _) | ("weight", 1) => (0.5, 1.5),
                ("running_mean" | "bias", _) => (-0.2, 0.2),
                _ => return Ok(None),
            };
            let len = tensor.shape().num_elements();
            let values = (0..len).map(|_| E::from_f64(self.0.gen_range(low..high)).unwrap());
            tensor.copy_from(&values.collect::<Vec<_>>());
            Ok(None)
        }
    }
    M::iter_tensors(&mut RecursiveWalker {
        m: (network, String::new()),
        f: &mut Visitor(StdRng::seed_from_u64(seed)),
    })
    .unwrap();
}

/// Runs `property` on some random values, the same in every run.
pub fn run_property<S: Strategy>(what: &str, cases: u32, strategy: S, property: impl Fn(S::Value)) {
    let config = Config {
        cases,
        max_shrink_iters: 200,
        failure_persistence: None,
        ..Config::default()
    };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    TestRunner::new_with_rng(config, rng)
        .run(&strategy, |values| {
            property(values);
            Ok(())
        })
        .unwrap_or_else(|err| panic!("{what}: {err}"));
}
