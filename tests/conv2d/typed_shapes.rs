//! Sizes that the compiler works out, the same layers on sizes known only at run time, and sizes
//! that do not fit.

use dfdx::prelude::*;

use ssprop::nn::builders::{BiasedSparseConv2D, SparseConv2D};
use ssprop::sparsity::DropRate;
use support::{at, Case, Conv, Geometry};

type Image<const B: usize, const C: usize, const S: usize> = Tensor<Rank4<B, C, S, S>, f32, Cpu>;

/// Five convolutions of stride 2, the rest "same": 32 times smaller.
type Net = (
    (
        SparseConv2D<1, 2, 7, 2, 3>,
        ReLU,
        SparseConv2D<2, 2, 3, 1, 1>,
    ),
    (
        SparseConv2D<2, 4, 3, 2, 1>,
        ReLU,
        SparseConv2D<4, 4, 5, 1, 2>,
    ),
    (
        BiasedSparseConv2D<4, 4, 1, 2>,
        Tanh,
        SparseConv2D<4, 4, 3, 1, 2, 2>,
    ),
    (
        SparseConv2D<4, 4, 4, 2, 1, 1, 2>,
        ReLU,
        SparseConv2D<4, 4, 1>,
    ),
    (
        SparseConv2D<4, 6, 2, 2>,
        ReLU,
        SparseConv2D<6, 6, 7, 1, 3, 1, 6>,
    ),
);

#[test]
fn the_compiler_knows_the_sizes_through_a_network() {
    let dev = Cpu::default();
    let net = dev.build_module::<Net, f32>();
    // The annotations are the test: another size would not compile.
    let y: Image<1, 6, 1> = net.forward(dev.sample_normal::<Rank4<1, 1, 32, 32>>());
    assert_eq!(y.as_vec().len(), 6);
    let y: Image<2, 6, 7> = net.forward(dev.sample_normal::<Rank4<2, 1, 224, 224>>());
    assert_eq!(y.as_vec().len(), 2 * 6 * 7 * 7);
    let y: Image<1, 6, 8> = net.forward(dev.sample_normal::<Rank4<1, 1, 256, 256>>());
    assert_eq!(y.as_vec().len(), 6 * 8 * 8);
}

#[test]
fn odd_sizes_round_up_and_valid_ones_shrink() {
    let dev = Cpu::default();
    type Mnist = (
        SparseConv2D<1, 4, 3, 2, 1>,
        SparseConv2D<4, 4, 3, 2, 1>,
        SparseConv2D<4, 2, 3, 2, 1>,
    );
    let net = dev.build_module::<Mnist, f32>();
    // 28, 14, 7, 4
    let y: Image<3, 2, 4> = net.forward(dev.zeros::<Rank4<3, 1, 28, 28>>());
    assert_eq!(y.as_vec().len(), 3 * 2 * 16);

    type Valid = (
        SparseConv2D<1, 2, 3>,
        SparseConv2D<2, 2, 3>,
        AvgPoolGlobal,
        Linear<2, 10>,
    );
    let net = dev.build_module::<Valid, f32>();
    let y: Tensor<Rank2<3, 10>, f32, _> = net.forward(dev.zeros::<Rank4<3, 1, 28, 28>>());
    assert_eq!(y.as_vec().len(), 30);
    let y: Image<1, 2, 24> = (&net.0, &net.1).chain(dev.zeros::<Rank4<1, 1, 28, 28>>());
    assert_eq!(y.as_vec().len(), 2 * 24 * 24);
}

/// Two layers in turn, by reference.
trait Chain<X> {
    type Y;
    fn chain(self, x: X) -> Self::Y;
}
impl<X, A: Module<X>, B: Module<A::Output>> Chain<X> for (&A, &B) {
    type Y = B::Output;
    fn chain(self, x: X) -> B::Output {
        self.1.forward(self.0.forward(x))
    }
}

#[test]
fn the_same_layers_take_sizes_of_run_time() {
    let dev = Cpu::seed_from_u64(1);
    let net = dev.build_module::<Net, f32>();
    let typed: Image<2, 1, 64> = dev.sample_normal();
    let dynamic = dev.tensor_from_vec(typed.as_vec(), (2, Const::<1>, 64, 64));
    let y = net.forward(dynamic);
    let typed_y: Image<2, 6, 2> = net.forward(typed);
    assert_eq!(*y.shape(), (2, Const::<6>, 2, 2));
    assert_eq!(y.as_vec(), typed_y.as_vec());

    // A batch of run time with an image of compile time, and the other way round.
    let conv = dev.build_module::<SparseConv2D<1, 3, 3, 2, 1>, f32>();
    let x = dev.zeros_like(&(5, Const::<1>, Const::<28>, 9));
    let y: Tensor<(usize, Const<3>, Const<14>, usize), f32, _> = conv.forward(x);
    assert_eq!(*y.shape(), (5, Const, Const, 5));
    // Sizes that no table lists.
    let y = conv.forward(dev.zeros_like(&(1, Const::<1>, 513, 1)));
    assert_eq!(*y.shape(), (1, Const, 257, 1));
}

#[test]
fn a_size_that_does_not_fit_is_an_error_that_names_it() {
    let dev = Cpu::default();
    let conv = dev.build_module::<BiasedSparseConv2D<2, 4, 5, 2, 1, 2>, f32>();
    // 4 * 2 + 1 taps wide, less two of padding.
    for (h, w) in [(6, 9), (9, 6), (1, 1), (0, 9)] {
        let x = || dev.zeros_like(&(3, Const::<2>, h, w));
        let err = conv.try_apply(x()).unwrap_err().to_string();
        for part in ["kernel", "5", "stride", "2", "padding", "dilation"] {
            assert!(err.contains(part), "{err} names {part}");
        }
        assert!(err.contains(&format!("[{h}, {w}]")), "{err}");
        assert!(conv.try_forward(x()).is_err());
        assert!(conv.try_forward(x().leaky_trace()).is_err());
    }
    let y = conv
        .try_apply(dev.zeros_like(&(3, Const::<2>, 7, 8)))
        .unwrap();
    assert_eq!(*y.shape(), (3, Const, 1, 1));
}

/// In a tuple the first layer that does not fit ends the forward pass.
#[test]
fn a_network_returns_its_layers_errors() {
    let dev = Cpu::default();
    type Valid = (SparseConv2D<1, 2, 3>, ReLU, SparseConv2D<2, 2, 3>);
    let net = dev.build_module::<Valid, f32>();
    assert!(net
        .try_forward(dev.zeros_like(&(1, Const::<1>, 4, 9)))
        .is_err());
    assert!(net
        .try_forward(dev.zeros_like(&(1, Const::<1>, 5, 9)))
        .is_ok());
}

#[test]
fn empty_batches_and_images_do_not_panic() {
    let dev = Cpu::default();
    let net = dev.build_module::<SparseConv2D<8, 8, 3, 1, 1>, f32>();
    let x: Tensor<_, f32, _> = dev.zeros_like(&(0, Const::<8>, 6, 6));
    let y = net.try_forward(x.leaky_trace()).unwrap();
    assert_eq!(*y.shape(), (0, Const, 6, 6));
    // dfdx cannot sum an empty tensor, so the backward pass goes without a loss.
    fn backward<G: Geometry>() {
        let case = Case::<f32>::random(G::shape(0, 6, 6), 1);
        let [dx, dw, db] = G::dense_kernels(&case);
        assert!(dx.is_empty() && dw.iter().chain(&db).all(|&g| g == 0.0));
        let kept = G::kept(&case, at(DropRate::new(0.5).unwrap()));
        assert_eq!(kept.unwrap().len(), G::C_OUT / 2);
    }
    backward::<Conv<8, 8, 3, 1, 1, 1, 1>>();
    backward::<Conv<144, 144, 3, 1, 1, 1, 1>>();
    backward::<Conv<3, 4, 3, 2, 1, 1, 1>>();
    backward::<Conv<3, 4, 1, 1, 0, 1, 1>>();
    // Nothing but padding under the window, which still counts windows.
    let wide = dev.build_module::<BiasedSparseConv2D<2, 3, 3, 1, 2>, f32>();
    let x: Tensor<_, f32, _> = dev.zeros_like(&(2, Const::<2>, 0, 4));
    let y = wide.try_forward(x.leaky_trace()).unwrap();
    assert_eq!(*y.shape(), (2, Const, 2, 6));
    let grads = y.sum().backward();
    assert_eq!(grads.get(&wide.bias).as_vec(), [24.0; 3]);
    assert!(grads.get(&wide.weight).as_vec().iter().all(|&g| g == 0.0));
}

#[test]
fn a_permuted_image_is_read_as_permuted() {
    let dev = Cpu::seed_from_u64(2);
    let conv = dev.build_module::<SparseConv2D<3, 4, 3, 1, 1>, f32>();
    let x: Tensor<Rank4<2, 8, 8, 3>, f32, _> = dev.sample_normal();
    let permuted = x.permute::<Rank4<2, 3, 8, 8>, Axes4<0, 3, 1, 2>>();
    let copied = dev.tensor(permuted.array());
    let expected = conv.try_apply(copied).unwrap();
    assert_eq!(
        conv.try_apply(permuted.clone()).unwrap().array(),
        expected.array()
    );
    assert_eq!(
        conv.try_forward(permuted).unwrap().array(),
        expected.array()
    );
}
