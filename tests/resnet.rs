//! ResNet-18: its tensors, its shapes, and that every parameter learns.

use dfdx::nn::tensor_collection::{
    RecursiveWalker, TensorCollection, TensorOptions, TensorVisitor, ViewTensorName, ViewTensorRef,
};
use dfdx::tensor_ops::{Backward as _, Device};
use ssprop::models::modules;
use ssprop::prelude::*;

/// Names and shapes, and how many elements are trained.
#[derive(Default)]
struct Tensors {
    found: Vec<(String, Vec<usize>)>,
    trained: usize,
}

impl<D: Device<f32>> TensorVisitor<f32, D> for Tensors {
    type Viewer = (ViewTensorRef, ViewTensorName);
    type Err = D::Err;
    type E2 = f32;
    type D2 = D;

    fn visit<S: Shape>(
        &mut self,
        opts: TensorOptions<S, f32, D>,
        (tensor, name): (&Tensor<S, f32, D>, String),
    ) -> Result<Option<Tensor<S, f32, D>>, D::Err> {
        if opts.do_gradient_update {
            self.trained += tensor.shape().num_elements();
        }
        self.found.push((name, tensor.shape().concrete().into()));
        Ok(None)
    }
}

type Net = modules::ResNet18<10, 3, f32, Cpu>;

#[test]
fn tensors_are_named_and_shaped_as_pytorchs() {
    let net = Cpu::default().build_module::<ResNet18<10>, f32>();
    let mut tensors = Tensors::default();
    Net::iter_tensors(&mut RecursiveWalker {
        m: (&net, String::new()),
        f: &mut tensors,
    })
    .unwrap();

    let fixture: serde_json::Value =
        serde_json::from_str(include_str!("fixtures/resnet_tensors.json")).unwrap();
    let expected: Vec<(String, Vec<usize>)> =
        serde_json::from_value(fixture["ResNet18"]["tensors"].clone()).unwrap();
    tensors.found.sort();
    let mut expected = expected;
    expected.sort();
    assert_eq!(tensors.found, expected);
    assert_eq!(tensors.trained, 11_173_962);
    assert_eq!(fixture["ResNet18"]["parameters"], 11_173_962);
}

#[test]
fn shapes_at_compile_time_and_at_run_time() {
    let dev = Cpu::default();
    let net = dev.build_module::<ResNet18<7, 1>, f32>();
    let y = net.try_forward(dev.zeros::<Rank4<2, 1, 28, 28>>()).unwrap();
    let _: &Rank2<2, 7> = y.shape();

    let net = dev.build_module::<ResNet18<10>, f32>();
    let x = dev.zeros_like(&(3usize, Const::<3>, 33usize, Const::<32>));
    let y = net.try_forward(x).unwrap();
    assert_eq!(y.shape(), &(3usize, Const::<10>));
}

#[test]
fn every_parameter_receives_a_gradient_dense_and_sparse() {
    let dev = Cpu::seed_from_u64(1);
    for rate in [0.0, 0.8] {
        let mut net = dev.build_module::<ResNet18<10>, f32>();
        net.set_drop_rate(DropRate::new(rate).unwrap());
        let x: Tensor<Rank4<4, 3, 32, 32>, f32, _> = dev.sample_normal();
        let target: Tensor<Rank2<4, 10>, f32, _> = dev.sample_uniform();
        let logits = net.try_forward_mut(x.trace(net.alloc_grads())).unwrap();
        let grads = cross_entropy_with_logits_loss(logits, target).backward();

        let mut silent = Vec::new();
        let mut check = |name: &str, grad: Vec<f32>, rows: usize| {
            let live = grad
                .chunks(grad.len() / rows)
                .filter(|row| row.iter().any(|&g| g != 0.0))
                .count();
            assert!(grad.iter().all(|g| g.is_finite()), "{name}");
            if live == 0 {
                silent.push(name.to_string());
            }
            live
        };
        macro_rules! live {
            ($($field:tt).+, $rows:expr) => {
                check(stringify!($($field).+), grads.get(&net.$($field).+).as_vec(), $rows)
            };
        }
        let kept = |c: usize| DropRate::new(rate).unwrap().kept_of(c);
        macro_rules! block {
            ($layer:ident.$i:tt, $c:literal) => {
                assert_eq!(live!($layer.$i.conv1.weight, $c), kept($c));
                assert_eq!(live!($layer.$i.conv2.weight, $c), kept($c));
                assert_eq!(live!($layer.$i.bn1.weight, $c), $c);
                assert_eq!(live!($layer.$i.bn2.weight, $c), $c);
                assert_eq!(live!($layer.$i.bn1.bias, $c), $c);
                assert_eq!(live!($layer.$i.bn2.bias, $c), $c);
            };
        }
        macro_rules! shortcut {
            ($layer:ident, $c:literal) => {
                assert_eq!(live!($layer.0.shortcut.0.weight, $c), kept($c));
                assert_eq!(live!($layer.0.shortcut.1.weight, $c), $c);
                assert_eq!(live!($layer.0.shortcut.1.bias, $c), $c);
            };
        }
        assert_eq!(live!(conv1.weight, 64), kept(64));
        assert_eq!(live!(bn1.weight, 64), 64);
        assert_eq!(live!(bn1.bias, 64), 64);
        block!(layer1.0, 64);
        block!(layer1.1, 64);
        block!(layer2.0, 128);
        block!(layer2.1, 128);
        block!(layer3.0, 256);
        block!(layer3.1, 256);
        block!(layer4.0, 512);
        block!(layer4.1, 512);
        shortcut!(layer2, 128);
        shortcut!(layer3, 256);
        shortcut!(layer4, 512);
        assert_eq!(live!(linear.weight, 10), 10);
        assert_eq!(live!(linear.bias, 10), 10);
        assert!(silent.is_empty(), "{silent:?}");
    }
}

#[test]
fn the_stems_input_gets_a_gradient_only_on_request() {
    let dev = Cpu::seed_from_u64(2);
    let mut net = dev.build_module::<ResNet18<10>, f32>();
    let x: Tensor<Rank4<1, 3, 16, 16>, f32, _> = dev.sample_normal();
    net.conv1.backward.input_gradient = true;
    let grads = net
        .try_forward_mut(x.leaky_trace())
        .unwrap()
        .square()
        .mean()
        .backward();
    assert!(grads.get(&x).as_vec().iter().any(|&g| g != 0.0));
    let fresh = dev.build_module::<ResNet18<10>, f32>();
    assert!(!fresh.conv1.backward.input_gradient);
    assert!(fresh.layer1.0.conv1.backward.input_gradient);
}

#[test]
fn sparse_layers_have_their_checkpoint_paths() {
    let mut net = Cpu::default().build_module::<ResNet18<10>, f32>();
    let mut paths = Vec::new();
    net.visit_sparse(&mut |layer| paths.push((layer.path.to_string(), layer.channels)));
    assert_eq!(paths.len(), 20);
    assert_eq!(paths[0], ("conv1".into(), 64));
    assert!(paths.contains(&("layer4.0.shortcut.0".into(), 512)));
}
