use dfdx::prelude::*;

use std::cell::RefCell;
use std::rc::Rc;

use super::*;
use crate::bridge::GradSlot;
use crate::kernels::cpu::element::Element;
use crate::kernels::reference::group_norm as reference;

type Images4<const C: usize, E> = Tensor<(usize, Const<C>, usize, usize), E, Cpu>;

/// Reproducible numbers around `seed` that differ from each other.
fn numbers<E: Dtype>(len: usize, seed: f64) -> Vec<E> {
    (0..len)
        .map(|i| ((i as f64 + 1.0) * (1.7 + seed)).sin() + seed)
        .map(|v| E::from_f64(v).unwrap())
        .collect()
}

fn wide<E: Dtype>(v: &[E]) -> Vec<f64> {
    v.iter().map(|v| v.to_f64().unwrap()).collect()
}

/// G groups of C channels.
#[derive(Clone)]
struct Case<const G: usize, const C: usize, E: Dtype> {
    x: Images4<C, E>,
    shift: Option<Tensor<(usize, Const<C>), E, Cpu>>,
    weight: Tensor<Rank1<C>, E, Cpu>,
    bias: Tensor<Rank1<C>, E, Cpu>,
    dy: Images4<C, E>,
    op: GroupNormOp,
}

/// The output and the gradients of x, shift, weight and bias.
type Outcome = [Vec<f64>; 5];

impl<const G: usize, const C: usize, E: Element + Dtype> Case<G, C, E>
where
    Cpu: Backend<E>,
{
    fn new([b, h, w]: [usize; 3], with_shift: bool, activation: Activation) -> Self {
        let dev = Cpu::default();
        let len = b * C * h * w;
        let images = |seed| dev.tensor_from_vec(numbers(len, seed), (b, Const, h, w));
        let channels = |seed| dev.tensor_from_vec(numbers(C, seed), (Const,));
        let shift = with_shift.then(|| dev.tensor_from_vec(numbers(b * C, 0.15), (b, Const)));
        Self {
            x: images(0.3),
            shift,
            weight: channels(0.7),
            bias: channels(-0.2),
            dy: images(0.45),
            op: GroupNormOp {
                activation,
                ..Default::default()
            },
        }
    }

    fn run(&self) -> Outcome {
        let (x, weight, bias) = (self.x.leaky_trace(), &self.weight, &self.bias);
        let shift = self.shift.as_ref().map(|s| s.retaped());
        let y = try_group_norm(x, shift, weight, bias, Groups::<G>, self.op).unwrap();
        let out = y.as_vec();
        let grads = (y * self.dy.clone()).sum::<Rank0, _>().backward();
        let dshift = self.shift.as_ref().map(|s| grads.get(s).as_vec());
        [
            out,
            grads.get(&self.x).as_vec(),
            dshift.unwrap_or_default(),
            grads.get(weight).as_vec(),
            grads.get(bias).as_vec(),
        ]
        .map(|v| wide(&v))
    }

    /// What [`Case::run`] should return, computed in f64 by the plain loops.
    fn reference(&self) -> Outcome {
        let (b, _, h, w) = *self.x.shape();
        let dims = [b, C, h * w];
        let shift = self.shift.as_ref().map(|s| wide(&s.as_vec()));
        let input = reference::Input {
            dims,
            groups: G,
            eps: self.op.eps,
            activation: self.op.activation,
            x: &wide(&self.x.as_vec()),
            shift: &shift.clone().unwrap_or(vec![0.0; b * C]),
            weight: &wide(&self.weight.as_vec()),
            bias: &wide(&self.bias.as_vec()),
        };
        let back = reference::backward(&input, &wide(&self.dy.as_vec()));
        let dshift = shift.map(|_| back.dshift).unwrap_or_default();
        let y = reference::forward(&input);
        [y, back.dx, dshift, back.dweight, back.dbias]
    }

    fn check(&self, tolerance: f64) {
        let (found, expected) = (self.run(), self.reference());
        for (what, (found, expected)) in found.iter().zip(&expected).enumerate() {
            assert_close(found, expected, tolerance, what);
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

fn check_both<const G: usize, const C: usize>(sizes: [usize; 3]) {
    for activation in [Activation::Identity, Activation::SiLU] {
        for with_shift in [false, true] {
            Case::<G, C, f64>::new(sizes, with_shift, activation).check(1e-10);
            Case::<G, C, f32>::new(sizes, with_shift, activation).check(1e-4);
        }
    }
}

/// Planes of one element, below a vector, of no whole number of vectors, and above
/// [`SUM_RUN`](crate::kernels::cpu::simd::SUM_RUN); one group, a channel a group, and between.
#[test]
fn kernels_equal_the_plain_loops() {
    check_both::<2, 32>([3, 1, 1]);
    check_both::<1, 5>([2, 3, 3]);
    check_both::<3, 3>([2, 7, 5]);
    check_both::<4, 12>([5, 8, 8]);
    check_both::<2, 4>([1, 37, 41]);
    check_both::<2, 6>([9, 32, 32]);
}

#[test]
fn the_variance_survives_a_large_mean() {
    let mut case = Case::<1, 2, f32>::new([3, 16, 16], true, Activation::Identity);
    let data: Vec<f32> = (0..3 * 512).map(|i| 1000.0 + (i % 2) as f32).collect();
    case.x.copy_from(&data);
    case.shift.as_mut().unwrap().copy_from(&[-500.0; 6]);
    case.weight.copy_from(&[1.0; 2]);
    case.bias.copy_from(&[0.0; 2]);
    let [y, ..] = case.run();
    assert!(y.iter().all(|y| (y.abs() - 1.0).abs() < 1e-4));
}

/// ```python
/// i = torch.arange(32, dtype=torch.float64)
/// x = (i * 1.7).sin().reshape(2, 4, 2, 2).requires_grad_()
/// s = (i[:8] * 0.9).cos().reshape(2, 4).requires_grad_()
/// w = torch.tensor([1.5, -0.5, 0.75, 2.0], dtype=torch.float64, requires_grad=True)
/// b = torch.tensor([0.25, 0.75, -1.0, 0.0], dtype=torch.float64, requires_grad=True)
/// y = F.silu(F.group_norm(x + s[:, :, None, None], 2, w, b))
/// y.backward(i.reshape(2, 4, 2, 2) / 10)
/// for t in (y, x.grad, s.grad, w.grad, b.grad): print(t.flatten())
/// ```
#[test]
#[rustfmt::skip]
fn numbers_are_those_of_pytorch() {
    let mut case = Case::<2, 4, f64>::new([2, 2, 2], true, Activation::SiLU);
    let from = |len: usize, f: &dyn Fn(f64) -> f64| -> Vec<f64> {
        (0..len).map(|i| f(i as f64)).collect()
    };
    case.x.copy_from(&from(32, &|i| (i * 1.7).sin()));
    case.dy.copy_from(&from(32, &|i| i / 10.0));
    case.shift.as_mut().unwrap().copy_from(&from(8, &|i| (i * 0.9).cos()));
    case.weight.copy_from(&[1.5, -0.5, 0.75, 2.0]);
    case.bias.copy_from(&[0.25, 0.75, -1.0, 0.0]);
    let expected: [&[f64]; 5] = [
        &[0.480571302664, 2.696361323713, 0.089284783193, -0.278464502488, 0.319928418653,
          0.167893882962, 1.091567629198, 1.032118198377, 0.061554006762, -0.13958815573,
          -0.265251300385, -0.256518148574, 1.312523418485, -0.278411826597, -0.099432643975,
          -0.040319868409, 0.816178380445, -0.267953074294, -0.249059414217, 0.635235446665,
          0.148807280323, 0.872193550948, 0.526475542667, -0.008821296305, -0.277474567602,
          -0.209462308789, -0.268676437878, -0.096566517794, -0.257751480029, -0.245256357659,
          2.158630096198, 2.093549698376],
        &[0.066816374277, 0.090058614155, 0.372313602058, 0.26479122784, -0.171980852357,
          -0.254475302632, -0.141396547224, -0.226127116117, -1.002207794487, -0.844934377961,
          -0.325912024895, -0.664300370096, 2.195198256351, -0.393862878937, -0.071394817464,
          1.107414007488, 2.421115887469, 0.04673236166, 0.010816142857, 2.785520647896,
          -1.315261784441, -1.179654216613, -1.339992081691, -1.429276957136, -1.762682698102,
          2.451637874569, -2.380253991632, -4.615281393766, -0.33594410889, -0.359091024726,
          3.299542510834, 3.702072831713],
        &[0.79397981833, -0.79397981833, -2.837354567439, 2.837354567439, 5.264185039882,
          -5.264185039882, -6.306580208931, 6.306580208931],
        &[2.102882502666, 0.152508222699, 2.536980387677, 9.069849332114],
        &[3.202701414975, 8.231652899021, 1.86686007875, 8.6178729494],
    ];
    for (what, (found, expected)) in case.run().iter().zip(expected).enumerate() {
        assert_close(found, expected, 1e-11, what);
    }
}

#[test]
fn gradients_equal_finite_differences() {
    for activation in [Activation::Identity, Activation::SiLU] {
        let mut case = Case::<2, 4, f64>::new([2, 2, 3], true, activation);
        let loss = |case: &Case<2, 4, f64>| -> f64 {
            let y = &case.run()[0];
            y.iter().zip(case.dy.as_vec()).map(|(y, dy)| y * dy).sum()
        };
        let [_, dx, dshift, dweight, dbias] = case.run();
        let step = 1e-6;
        macro_rules! compare {
            ($tensor:expr, $grad:expr) => {
                for i in 0..$grad.len() {
                    let kept = $tensor.as_vec();
                    let mut nudged = |by: f64| {
                        let mut data = kept.clone();
                        data[i] += by;
                        $tensor.copy_from(&data);
                        loss(&case)
                    };
                    let slope = (nudged(step) - nudged(-step)) / (2.0 * step);
                    $tensor.copy_from(&kept);
                    let (grad, what) = ($grad[i], stringify!($grad));
                    assert!((slope - grad).abs() < 1e-6, "{what}[{i}]: {slope}, {grad}");
                }
            };
        }
        compare!(case.x, dx);
        compare!(case.shift.as_mut().unwrap(), dshift);
        compare!(case.weight, dweight);
        compare!(case.bias, dbias);
    }
}

#[test]
fn a_hidden_gradient_is_written_or_added_to_and_ranked() {
    for activation in [Activation::Identity, Activation::SiLU] {
        let case = Case::<2, 6, f64>::new([3, 5, 7], true, activation);
        let [_, dx, dshift, ..] = case.run();
        for before in [None, Some(0.25)] {
            let slot = GradSlot::new(true);
            if let Some(before) = before {
                let dev = case.x.device();
                let mut buffer = Storage::<f64>::try_alloc_len(dev, dx.len()).unwrap();
                buffer.fill(before);
                slot.add(Buffer::from_dfdx(buffer)).unwrap();
            }
            let found = Rc::new(RefCell::new(Vec::new()));
            let out = found.clone();
            let x = Hidden::recorded_with(
                PooledTensor::from_dfdx(case.x.clone()),
                OwnedTape::<f64, Cpu>::default(),
                true,
                slot.clone(),
                move |dx, _| {
                    out.borrow_mut().extend_from_slice(dx.view());
                    Ok(())
                },
            );
            let shift = case.shift.clone().unwrap();
            let (weight, bias) = (&case.weight, &case.bias);
            let y = group_norm_hidden(
                x,
                Some(shift.leaky_trace().into()),
                weight,
                bias,
                Groups::<2>,
                case.op,
            );
            let y = y.unwrap().into_tensor().unwrap() * case.dy.clone();
            let grads = y.sum::<Rank0, _>().backward();
            let total: Vec<f64> = dx.iter().map(|d| d + before.unwrap_or(0.0)).collect();
            assert_close(&found.borrow(), &total, 1e-14, 1);
            // The shift's has no part in what others added to x's.
            assert_close(&grads.get(&shift).as_vec(), &dshift, 1e-14, 2);
            let importance = |c: usize| {
                let planes = total.chunks(35).skip(c).step_by(6);
                planes.flatten().map(|d| d.abs()).sum::<f64>() / (3.0 * 35.0)
            };
            let expected: Vec<f64> = (0..6).map(importance).collect();
            assert_close(&slot.take_importance().unwrap(), &expected, 1e-14, 3);
        }
    }
}

#[test]
fn gradients_accumulate_and_views_are_copied() {
    let case = Case::<2, 4, f64>::new([3, 4, 5], true, Activation::SiLU);
    let (dev, op) = (Cpu::default(), case.op);
    let (weight, bias) = (&case.weight, &case.bias);
    let shift = case.shift.clone().unwrap();
    // x and the shift are used twice: once as they are, once through views.
    let flipped: Tensor<(Const<4>, usize), f64, _> = {
        let by_image = shift.as_vec();
        let by_channel = (0..12).map(|i| by_image[i % 3 * 4 + i / 3]).collect();
        dev.tensor_from_vec(by_channel, (Const, 3))
    };
    let x = case.x.leaky_trace();
    let direct = try_group_norm(
        x,
        Some(flipped.clone().permute::<_, Axes2<1, 0>>().retaped()),
        weight,
        bias,
        Groups::<2>,
        op,
    );
    let direct = direct.unwrap();
    assert_close(&direct.as_vec(), &case.run()[0], 0.0, 0);
    let view = case.x.retaped::<OwnedTape<f64, Cpu>>();
    let view = view.permute::<_, Axes4<0, 1, 3, 2>>();
    let other = try_group_norm(
        view,
        Some(shift.retaped::<OwnedTape<f64, Cpu>>()),
        weight,
        bias,
        Groups::<2>,
        op,
    );
    let other = other.unwrap().permute::<_, Axes4<0, 1, 3, 2>>();
    let dy = case.dy.clone();
    let sum = (direct * dy.clone()).sum::<Rank0, _>() + (other * dy).sum::<Rank0, _>();
    let grads = sum.backward();
    let [_, dx, dshift, dweight, dbias] = case
        .run()
        .map(|v| v.iter().map(|v| 2.0 * v).collect::<Vec<_>>());
    assert_close(&grads.get(&case.x).as_vec(), &dx, 1e-12, 1);
    let half: Vec<f64> = dshift.iter().map(|v| v / 2.0).collect();
    assert_close(&grads.get(&shift).as_vec(), &half, 1e-12, 2);
    assert_close(&grads.get(weight).as_vec(), &dweight, 1e-12, 3);
    assert_close(&grads.get(bias).as_vec(), &dbias, 1e-12, 4);
}

#[test]
fn results_do_not_depend_on_the_threads() {
    fn check<const G: usize, const C: usize>(sizes: [usize; 3]) {
        let case = Case::<G, C, f32>::new(sizes, true, Activation::SiLU);
        let bits = |v: Vec<f64>| v.into_iter().map(f64::to_bits).collect::<Vec<_>>();
        let runs = [1, 2, 3].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            pool.build().unwrap().install(|| case.run().map(bits))
        });
        assert_eq!(runs[0], runs[1]);
        assert_eq!(runs[0], runs[2]);
    }
    check::<16, 64>([9, 8, 8]);
    check::<2, 6>([7, 40, 41]);
}

#[test]
fn errors_name_the_value() {
    let dev = Cpu::default();
    let mut case = Case::<2, 4, f32>::new([2, 3, 3], true, Activation::Identity);
    let shift: Tensor<(usize, Const<4>), f32, _> = dev.zeros_like(&(3, Const));
    let (x, weight, bias) = (case.x.clone(), &case.weight, &case.bias);
    let error = try_group_norm(x, Some(shift), weight, bias, Groups::<2>, case.op);
    let error = error.unwrap_err().to_string();
    assert!(error.contains("shift") && error.contains("(3,"), "{error}");
    for eps in [-1.0, f64::NAN, f64::INFINITY] {
        case.op.eps = eps;
        let x = case.x.clone();
        let y = try_group_norm(x, None, &case.weight, &case.bias, Groups::<2>, case.op);
        let error = y.unwrap_err().to_string();
        assert!(error.contains(&format!("eps = {eps}")), "{error}");
    }
}

#[test]
fn nothing_in_gives_nothing_out() {
    for sizes in [[0, 3, 3], [2, 0, 3]] {
        for activation in [Activation::Identity, Activation::SiLU] {
            let case = Case::<2, 4, f32>::new(sizes, true, activation);
            let (shift, weight) = (case.shift.clone().unwrap(), &case.weight);
            let (x, bias) = (case.x.leaky_trace(), &case.bias);
            let y = try_group_norm(x, Some(shift.retaped()), weight, bias, Groups::<2>, case.op);
            let y = y.unwrap();
            assert_eq!(y.shape(), case.x.shape());
            let (_, tape) = y.split_tape();
            let grads = Cpu::default().zeros::<Rank0>().put_tape(tape).backward();
            assert_eq!(grads.get(weight).as_vec(), [0.0; 4]);
            assert_eq!(grads.get(bias).as_vec(), [0.0; 4]);
            if sizes[0] > 0 {
                assert_eq!(grads.get(&shift).as_vec(), [0.0; 8]);
            }
        }
    }
}

/// The backward pass divides by z.
#[test]
fn silu_has_its_gradient_at_zero_and_far_from_it() {
    let mut case = Case::<2, 6, f32>::new([2, 4, 4], false, Activation::SiLU);
    case.weight.copy_from(&[0.0; 6]);
    case.bias
        .copy_from(&[0.0, -200.0, 200.0, 1e-35, -88.5, 1e-44]);
    case.check(1e-6);
}
