mod all_ranks;

use dfdx::prelude::*;
use proptest::prelude::*;

use super::*;
use crate::kernels::args::batch_norm::Statistics;
use crate::kernels::reference::batch_norm as reference;

type Shape4 = (usize, usize, usize, usize);
type Images4<E> = Tensor<Shape4, E, Cpu>;
type Channels<E> = Tensor<(usize,), E, Cpu>;

/// Reproducible numbers around 0 that differ from each other.
fn numbers(len: usize, seed: f64) -> Vec<f64> {
    (0..len)
        .map(|i| ((i as f64 + 1.0) * (1.7 + seed)).sin() + seed)
        .collect()
}

struct Case<E: Dtype> {
    dev: Cpu,
    shape: Shape4,
    x: Images4<E>,
    residual: Option<Images4<E>>,
    weight: Channels<E>,
    bias: Channels<E>,
    dy: Images4<E>,
    op: BatchNorm2DOp,
}

/// The output and the gradients of x, residual, weight and bias, and the running statistics.
type Outcome = [Vec<f64>; 7];

impl<E: crate::kernels::cpu::element::Element + Dtype> Case<E>
where
    Cpu: Backend<E>,
{
    fn new(shape: Shape4, with_residual: bool, activation: Activation) -> Self {
        let dev = Cpu::default();
        let (b, c, h, w) = shape;
        let cast = |v: Vec<f64>| v.into_iter().map(|v| E::from_f64(v).unwrap()).collect();
        let images = |seed| dev.tensor_from_vec(cast(numbers(b * c * h * w, seed)), shape);
        let channels = |seed| dev.tensor_from_vec(cast(numbers(c, seed)), (c,));
        Self {
            x: images(0.3),
            residual: with_residual.then(|| images(0.1)),
            weight: channels(0.7),
            bias: channels(-0.2),
            dy: images(0.45),
            shape,
            dev: dev.clone(),
            op: BatchNorm2DOp {
                activation,
                ..Default::default()
            },
        }
    }

    fn dims(&self) -> [usize; 3] {
        let (b, c, h, w) = self.shape;
        [b, c, h * w]
    }

    fn run(&self, statistics: Statistics) -> Outcome {
        let c = (self.shape.1,);
        let mut mean: Channels<E> = self.dev.zeros_like(&c);
        let mut var: Channels<E> = self.dev.ones_like(&c);
        let (x, weight, bias) = (self.x.leaky_trace(), &self.weight, &self.bias);
        let residual = self.residual.as_ref().map(|r| r.retaped());
        let mode = match statistics {
            Statistics::Batch => Mode::Train {
                mean: &mut mean,
                var: &mut var,
            },
            Statistics::Running => Mode::Eval {
                mean: &mean,
                var: &var,
            },
        };
        let y = try_batch_norm2d(x, residual, weight, bias, mode, self.op).unwrap();
        let out = y.as_vec();
        let grads = (y * self.dy.clone()).sum::<Rank0, _>().backward();
        let dresidual = self.residual.as_ref().map(|r| grads.get(r).as_vec());
        [
            out,
            grads.get(&self.x).as_vec(),
            dresidual.unwrap_or_default(),
            grads.get(weight).as_vec(),
            grads.get(bias).as_vec(),
            mean.as_vec(),
            var.as_vec(),
        ]
        .map(|v| v.into_iter().map(|v| v.to_f64().unwrap()).collect())
    }

    /// What [`Case::run`] should return, computed in f64 by the plain loops.
    fn reference(&self, statistics: Statistics) -> Outcome {
        let wide = |v: Vec<E>| -> Vec<f64> { v.iter().map(|v| v.to_f64().unwrap()).collect() };
        let dims = self.dims();
        let (x, dy) = (wide(self.x.as_vec()), wide(self.dy.as_vec()));
        let (weight, bias) = (wide(self.weight.as_vec()), wide(self.bias.as_vec()));
        let residual = self.residual.as_ref().map(|r| wide(r.as_vec()));
        let batch = statistics == Statistics::Batch;
        let stats = match batch {
            true => reference::statistics(dims, &x),
            false => (vec![0.0; dims[1]], vec![1.0; dims[1]]),
        };
        let (f, eps) = (self.op.activation, self.op.eps);
        let forward =
            reference::forward(dims, f, eps, &x, residual.as_deref(), &weight, &bias, stats);
        let back = reference::backward(dims, f, eps, &x, &weight, &forward, batch, &dy);
        let n = (dims[0] * dims[2]) as f64;
        let (mean, var) = match batch {
            true => (
                forward.mean.iter().map(|m| 0.1 * m).collect(),
                forward
                    .var
                    .iter()
                    .map(|v| 0.9 + 0.1 * v * n / (n - 1.0))
                    .collect(),
            ),
            false => (forward.mean, forward.var),
        };
        let dresidual = residual.map(|_| back.dresidual).unwrap_or_default();
        [
            forward.y,
            back.dx,
            dresidual,
            back.dweight,
            back.dbias,
            mean,
            var,
        ]
    }

    fn check(&self, tolerance: f64) {
        for statistics in [Statistics::Batch, Statistics::Running] {
            let (found, expected) = (self.run(statistics), self.reference(statistics));
            for (what, (found, expected)) in found.iter().zip(&expected).enumerate() {
                assert_close(found, expected, tolerance, what);
            }
        }
    }
}

fn assert_close(found: &[f64], expected: &[f64], tolerance: f64, what: usize) {
    assert_eq!(found.len(), expected.len(), "result {what}");
    let scale = expected.iter().fold(1.0, |m: f64, v| m.max(v.abs()));
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        assert!(
            (f - e).abs() <= tolerance * scale,
            "result {what}, element {i}: {f} is not {e}"
        );
    }
}

fn activations() -> impl Strategy<Value = Activation> {
    prop_oneof![Just(Activation::Identity), Just(Activation::ReLU)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn kernels_equal_the_plain_loops(
        b in 1..5usize, c in 1..40usize, h in 1..9usize, w in 2..9usize,
        residual: bool, f in activations(),
    ) {
        Case::<f64>::new((b, c, h, w), residual, f).check(1e-9);
        // A channel of few, nearly equal elements amplifies rounding by up to 1 / sqrt(eps).
        if b * h * w >= 16 {
            Case::<f32>::new((b, c, h, w), residual, Activation::Identity).check(2e-4);
        }
    }
}

#[test]
fn large_planes_equal_the_plain_loops() {
    for f in [Activation::Identity, Activation::ReLU] {
        Case::<f64>::new((2, 3, 37, 41), true, f).check(1e-10);
    }
    Case::<f32>::new((2, 3, 37, 41), true, Activation::Identity).check(1e-4);
}

#[test]
fn the_variance_survives_a_large_mean() {
    let dev = Cpu::default();
    let data: Vec<f32> = (0..4096).map(|i| 1000.0 + (i % 2) as f32).collect();
    let x = dev.tensor_from_vec(data, (4, 1, 32, 32));
    let (weight, bias) = (dev.ones_like(&(1,)), dev.zeros_like(&(1,)));
    let (mut mean, mut var) = (dev.zeros_like(&(1,)), dev.zeros_like(&(1,)));
    let running = Mode::Train {
        mean: &mut mean,
        var: &mut var,
    };
    let op = BatchNorm2DOp {
        momentum: 1.0,
        ..Default::default()
    };
    let y = try_batch_norm2d(x, None, &weight, &bias, running, op).unwrap();
    assert_eq!(mean.as_vec(), [1000.5]);
    assert!((var.as_vec()[0] - 0.25 * 4096.0 / 4095.0).abs() < 1e-6);
    assert!(y.as_vec().iter().all(|y| (y.abs() - 1.0).abs() < 1e-4));
}

/// ```python
/// bn = torch.nn.BatchNorm2d(2, dtype=torch.float64)
/// bn.weight.data = torch.tensor([1.5, -0.5], dtype=torch.float64)
/// bn.bias.data = torch.tensor([0.25, 0.75], dtype=torch.float64)
/// i = torch.arange(16, dtype=torch.float64)
/// x = (i * 1.7).sin().reshape(2, 2, 2, 2).requires_grad_()
/// r = (i * 0.9).cos().reshape(2, 2, 2, 2).requires_grad_()
/// g = i.reshape(2, 2, 2, 2) / 10
/// y = torch.relu(bn(x) + r); y.backward(g)
/// for t in (y, x.grad, r.grad, bn.weight.grad, bn.bias.grad, bn.running_mean, bn.running_var):
///     print(t.flatten())
/// bn.eval(); x.grad = None; bn.weight.grad = None
/// z = bn(x); z.backward(g)
/// for t in (z, x.grad, bn.weight.grad): print(t.flatten())
/// ```
#[test]
#[rustfmt::skip]
fn numbers_are_those_of_pytorch() {
    let dev = Cpu::default();
    let shape: Shape4 = (2, 2, 2, 2);
    let images = |f: &dyn Fn(f64) -> f64| {
        dev.tensor_from_vec((0..16).map(|i| f(i as f64)).collect(), shape)
    };
    let (x, r) = (images(&|i| (i * 1.7).sin()), images(&|i| (i * 0.9).cos()));
    let g = images(&|i| i / 10.0);
    let weight = dev.tensor_from_vec(vec![1.5, -0.5], (2,));
    let bias = dev.tensor_from_vec(vec![0.25, 0.75], (2,));
    let mut mean: Channels<f64> = dev.zeros_like(&(2,));
    let mut var: Channels<f64> = dev.ones_like(&(2,));
    let op = BatchNorm2DOp { activation: Activation::ReLU, ..Default::default() };
    let running = Mode::Train { mean: &mut mean, var: &mut var };
    let y = try_batch_norm2d(x.leaky_trace(), Some(r.retaped()), &weight, &bias, running, op)
        .unwrap();
    let out = y.as_vec();
    let grads = (y * g.clone()).sum::<Rank0, _>().backward();
    let expected: [&[f64]; 7] = [
        &[1.262104273932, 3.05700461102, 0.0, 0.0, 0.0, 0.0, 1.91326686289, 2.219369959578,
          2.753358034737, 0.888039865183, 0.0, 0.0, 0.0, 1.49894824954, 2.4744976587,
          1.108321400359],
        &[-0.496825974352, -0.946583943265, -0.324454276854, 0.127669447698, 0.323185374958,
          0.208938872901, 0.337794709349, 0.234855672394, 0.676884300875, 1.207959861811,
          0.151671337161, -0.396320753073, 0.133378870765, -0.389938362994, -0.138209988235,
          -0.710005149138],
        &[0.0, 0.1, 0.0, 0.0, 0.0, 0.0, 0.6, 0.7, 0.8, 0.9, 0.0, 0.0, 0.0, 1.3, 1.4, 1.5],
        &[1.68531363831, -2.875498421219],
        &[1.8, 5.5],
        &[-0.000552313795, 0.003162560962],
        &[0.953537672718, 0.954719274014],
    ];
    let found = [
        out, grads.get(&x).as_vec(), grads.get(&r).as_vec(), grads.get(&weight).as_vec(),
        grads.get(&bias).as_vec(), mean.as_vec(), var.as_vec(),
    ];
    for (what, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert_close(found, expected, 1e-11, what);
    }

    let op = BatchNorm2DOp::default();
    let z = try_batch_norm2d(x.leaky_trace(), None, &weight, &bias, Mode::Eval { mean: &mean, var: &var }, op).unwrap();
    let out = z.as_vec();
    let grads = (z * g).sum::<Rank0, _>().backward();
    let expected: [&[f64]; 3] = [
        &[0.250848410324, 1.774146706141, -0.141688786848, -1.17129737217, 0.498772111573,
          0.343018869252, 1.109756144554, 1.067929633888, 1.57060858998, 0.860282397051,
          -1.225956196986, 0.021970709201, 0.240007266178, 0.80720953413, 1.248904167004,
          0.56788205584],
        &[0.0, 0.153610199713, 0.307220399425, 0.460830599138, -0.204686818682, -0.255858523352,
          -0.307030228023, -0.358201932693, 1.228881597702, 1.382491797414, 1.536101997127,
          1.68971219684, -0.614060456046, -0.665232160716, -0.716403865387, -0.767575570057],
        &[-0.315573123961, -0.044185482114],
    ];
    let found = [out, grads.get(&x).as_vec(), grads.get(&weight).as_vec()];
    for (what, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert_close(found, expected, 1e-11, what);
    }
}

#[test]
fn gradients_equal_finite_differences() {
    for (statistics, f) in [
        (Statistics::Batch, Activation::Identity),
        (Statistics::Batch, Activation::ReLU),
        (Statistics::Running, Activation::ReLU),
    ] {
        let mut case = Case::<f64>::new((2, 3, 2, 3), true, f);
        let loss = |case: &Case<f64>| -> f64 {
            let y = &case.run(statistics)[0];
            y.iter().zip(case.dy.as_vec()).map(|(y, dy)| y * dy).sum()
        };
        let [_, dx, dresidual, dweight, dbias, ..] = case.run(statistics);
        let step = 1e-6;
        macro_rules! compare {
            ($tensor:expr, $grad:expr) => {
                for i in 0..$grad.len() {
                    let kept = $tensor.clone();
                    let mut nudged = |by: f64| {
                        let mut data = kept.as_vec();
                        data[i] += by;
                        $tensor.copy_from(&data);
                        loss(&case)
                    };
                    let slope = (nudged(step) - nudged(-step)) / (2.0 * step);
                    $tensor.copy_from(&kept.as_vec());
                    let error = (slope - $grad[i]).abs();
                    assert!(
                        error < 1e-6,
                        "{}[{i}]: {slope}, {}",
                        stringify!($grad),
                        $grad[i]
                    );
                }
            };
        }
        compare!(case.x, dx);
        compare!(case.weight, dweight);
        compare!(case.bias, dbias);
        compare!(case.residual.as_mut().unwrap(), dresidual);
    }
}

#[test]
fn gradients_of_x_as_its_own_residual_add_up() {
    let case = Case::<f64>::new((2, 3, 4, 4), true, Activation::ReLU);
    let zeros = || -> Channels<f64> { case.dev.zeros_like(&(3,)) };
    let run = |r: Images4<f64>| {
        let (mut mean, mut var) = (zeros(), zeros());
        let running = Mode::Train {
            mean: &mut mean,
            var: &mut var,
        };
        let x = case.x.leaky_trace();
        let y = try_batch_norm2d(
            x,
            Some(r.retaped()),
            &case.weight,
            &case.bias,
            running,
            case.op,
        );
        (y.unwrap() * case.dy.clone()).sum::<Rank0, _>().backward()
    };
    let same = run(case.x.clone()).get(&case.x).as_vec();
    let copy = case.dev.tensor_from_vec(case.x.as_vec(), case.shape);
    let apart = run(copy.clone());
    let sum: Vec<f64> = std::iter::zip(apart.get(&case.x).as_vec(), apart.get(&copy).as_vec())
        .map(|(a, b)| a + b)
        .collect();
    assert_close(&same, &sum, 1e-12, 1);
}

#[test]
fn gradients_accumulate_and_views_are_copied() {
    let dev = Cpu::default();
    let x: Tensor<Rank4<2, 3, 4, 5>, f64, _> = dev.sample_normal();
    let weight: Tensor<Rank1<3>, f64, _> = dev.ones();
    let bias: Tensor<Rank1<3>, f64, _> = dev.zeros();
    let op = BatchNorm2DOp::default();
    // x is used twice: once as it is, once through a permuted view.
    let direct = try_batch_norm2d(
        x.leaky_trace(),
        None,
        &weight,
        &bias,
        Mode::Eval {
            mean: &bias,
            var: &weight,
        },
        op,
    )
    .unwrap();
    let view = x
        .retaped::<OwnedTape<f64, Cpu>>()
        .permute::<Rank4<2, 3, 5, 4>, Axes4<0, 1, 3, 2>>();
    let other = try_batch_norm2d(
        view,
        None,
        &weight,
        &bias,
        Mode::Eval {
            mean: &bias,
            var: &weight,
        },
        op,
    )
    .unwrap();
    let grads = (direct.sum::<Rank0, _>() + other.sum::<Rank0, _>()).backward();
    let slope = 2.0 / (1.0f64 + 1e-5).sqrt();
    assert_close(&grads.get(&x).as_vec(), &[slope; 120], 1e-12, 0);
}

#[test]
fn results_do_not_depend_on_the_threads() {
    for shape in [(3, 70, 5, 5), (2, 5, 40, 40)] {
        let case = Case::<f32>::new(shape, true, Activation::ReLU);
        let runs = [1, 2, 4].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            pool.build()
                .unwrap()
                .install(|| case.run(Statistics::Batch).map(bits))
        });
        assert_eq!(runs[0], runs[1]);
        assert_eq!(runs[0], runs[2]);
    }
}

fn bits(v: Vec<f64>) -> Vec<u64> {
    v.into_iter().map(f64::to_bits).collect()
}

#[test]
fn errors_name_the_value_and_leave_the_statistics_alone() {
    let dev = Cpu::default();
    let case = |shape: Shape4, c: usize, op: BatchNorm2DOp| {
        let x: Images4<f32> = dev.zeros_like(&shape);
        let (weight, bias): (Channels<f32>, Channels<f32>) =
            (dev.ones_like(&(c,)), dev.zeros_like(&(c,)));
        let (mut mean, mut var) = (bias.clone(), weight.clone());
        let running = Mode::Train {
            mean: &mut mean,
            var: &mut var,
        };
        let error = try_batch_norm2d(x, None, &weight, &bias, running, op)
            .unwrap_err()
            .to_string();
        assert_eq!((mean.as_vec(), var.as_vec()), (vec![0.0; c], vec![1.0; c]));
        error
    };
    let op = BatchNorm2DOp::default();
    let error = case((1, 3, 1, 1), 3, op);
    assert!(
        error.contains("at least 2") && error.contains("found 1"),
        "{error}"
    );
    let error = case((0, 3, 4, 4), 3, op);
    assert!(error.contains("found 0"), "{error}");
    let error = case((2, 3, 4, 4), 5, op);
    assert!(error.contains("(3,)") && error.contains("(5,)"), "{error}");
    let error = case((2, 3, 4, 4), 3, BatchNorm2DOp { eps: -1.0, ..op });
    assert!(error.contains("eps = -1"), "{error}");
    let momentum = f64::NAN;
    let error = case((2, 3, 4, 4), 3, BatchNorm2DOp { momentum, ..op });
    assert!(error.contains("momentum = NaN"), "{error}");

    let (x, r): (Images4<f32>, Images4<f32>) =
        (dev.zeros_like(&(2, 1, 2, 2)), dev.zeros_like(&(2, 1, 2, 3)));
    let c: Channels<f32> = dev.ones_like(&(1,));
    let error = try_batch_norm2d(x, Some(r), &c, &c, Mode::Eval { mean: &c, var: &c }, op)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("residual") && error.contains("(2, 1, 2, 3)"),
        "{error}"
    );
}

#[test]
fn an_empty_batch_infers_to_an_empty_batch() {
    let dev = Cpu::default();
    let x: Images4<f32> = dev.zeros_like(&(0, 2, 3, 3));
    let c: Channels<f32> = dev.ones_like(&(2,));
    let op = BatchNorm2DOp::default();
    let y = try_batch_norm2d(
        x.leaky_trace(),
        None,
        &c,
        &c,
        Mode::Eval { mean: &c, var: &c },
        op,
    )
    .unwrap();
    assert_eq!(y.shape(), &(0, 2, 3, 3));
    let (_, tape) = y.split_tape();
    let grads = dev.zeros::<Rank0>().put_tape(tape).backward();
    assert_eq!(grads.get(&c).as_vec(), [0.0, 0.0]);
}
