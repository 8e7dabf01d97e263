//! The residual networks: their tensors, their shapes, and that every parameter learns.

use dfdx::nn::tensor_collection::{
    RecursiveWalker, TensorCollection, TensorOptions, TensorVisitor, ViewTensorName, ViewTensorRef,
};
use dfdx::tensor_ops::Backward as _;
use ssprop::models::modules;
use ssprop::prelude::*;

use crate::tensors::check_tensors;

const TENSORS: &str = include_str!("../fixtures/resnet_tensors.json");

#[test]
fn tensors_are_named_and_shaped_as_pytorchs() {
    let dev = Cpu::default();
    macro_rules! check {
        ($net:ident, $parameters:literal) => {
            let net = dev.build_module::<$net<10>, f32>();
            let trained = check_tensors(&net, TENSORS, stringify!($net));
            assert_eq!(trained, $parameters);
        };
    }
    check!(ResNet18, 11_173_962);
    check!(ResNet26, 15_011_402);
    check!(ResNet34, 21_282_122);
    check!(ResNet50, 23_520_842);
}

#[test]
fn shapes_at_compile_time_and_at_run_time() {
    let dev = Cpu::default();
    macro_rules! check {
        ($net:ident) => {
            let net = dev.build_module::<$net<7, 1>, f32>();
            let y = net.try_forward(dev.zeros::<Rank4<2, 1, 12, 13>>()).unwrap();
            let _: &Rank2<2, 7> = y.shape();

            let net = dev.build_module::<$net<10>, f32>();
            let x = dev.zeros_like(&(3usize, Const::<3>, 17usize, Const::<16>));
            let y = net.try_forward(x).unwrap();
            assert_eq!(y.shape(), &(3usize, Const::<10>));
        };
    }
    check!(ResNet18);
    check!(ResNet26);
    check!(ResNet34);
    check!(ResNet50);
}

/// Of every parameter, how many of its rows (output channels) have a gradient other than 0.
struct LiveRows<'a> {
    grads: &'a Gradients<f32, Cpu>,
    /// Name, shape, live rows.
    found: Vec<(String, Vec<usize>, usize)>,
}

impl TensorVisitor<f32, Cpu> for LiveRows<'_> {
    type Viewer = (ViewTensorRef, ViewTensorName);
    type Err = <Cpu as HasErr>::Err;
    type E2 = f32;
    type D2 = Cpu;

    fn visit<S: Shape>(
        &mut self,
        opts: TensorOptions<S, f32, Cpu>,
        (tensor, name): (&Tensor<S, f32, Cpu>, String),
    ) -> Result<Option<Tensor<S, f32, Cpu>>, Self::Err> {
        if opts.do_gradient_update {
            let grad = self.grads.get(tensor).as_vec();
            assert!(grad.iter().all(|g| g.is_finite()), "{name}");
            let shape: Vec<usize> = tensor.shape().concrete().into();
            let rows = grad.chunks(grad.len() / shape[0]);
            let live = rows.filter(|row| row.iter().any(|&g| g != 0.0)).count();
            self.found.push((name, shape, live));
        }
        Ok(None)
    }
}

/// After a step, the kept rows of every convolution have a gradient, and all of any other
/// parameter.
fn check_gradients<M>(net: &mut M, parameters: usize)
where
    M: TensorCollection<f32, Cpu> + VisitLayers + ZeroGrads<f32, Cpu>,
    M: ModuleMut<
        Tensor<Rank4<4, 3, 16, 16>, f32, Cpu, OwnedTape<f32, Cpu>>,
        Output = Tensor<Rank2<4, 10>, f32, Cpu, OwnedTape<f32, Cpu>>,
        Error = ssprop::Error,
    >,
{
    let dev = Cpu::seed_from_u64(1);
    for rate in [0.0, 0.8] {
        let rate = DropRate::new(rate).unwrap();
        net.set_drop_rate(rate);
        let x: Tensor<Rank4<4, 3, 16, 16>, f32, _> = dev.sample_normal();
        let target: Tensor<Rank2<4, 10>, f32, _> = dev.sample_uniform();
        let logits = net.try_forward_mut(x.trace(net.alloc_grads())).unwrap();
        let grads = cross_entropy_with_logits_loss(logits, target).backward();

        let mut rows = LiveRows {
            grads: &grads,
            found: Vec::new(),
        };
        M::iter_tensors(&mut RecursiveWalker {
            m: (&*net, String::new()),
            f: &mut rows,
        })
        .unwrap();
        assert_eq!(rows.found.len(), parameters);
        for (name, shape, live) in rows.found {
            let convolution = shape.len() == 4;
            let expected = if convolution {
                rate.kept_of(shape[0])
            } else {
                shape[0]
            };
            assert_eq!(live, expected, "{name} at a drop rate of {rate}");
        }
    }
}

#[test]
fn every_parameter_receives_a_gradient_dense_and_sparse() {
    let dev = Cpu::seed_from_u64(3);
    // Three tensors a convolution with its norm, and two of the classifier.
    check_gradients(&mut dev.build_module::<ResNet18<10>, f32>(), 3 * 20 + 2);
    check_gradients(&mut dev.build_module::<ResNet50<10>, f32>(), 3 * 53 + 2);
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
    fn paths<M: VisitLayers>(net: &mut M) -> Vec<(String, usize)> {
        let mut paths = Vec::new();
        net.visit_sparse(&mut |layer| paths.push((layer.path.to_string(), layer.channels)));
        paths
    }
    let dev = Cpu::default();
    let found = paths(&mut dev.build_module::<ResNet18<10>, f32>());
    assert_eq!(found.len(), 20);
    assert_eq!(found[0], ("conv1".into(), 64));
    assert!(found.contains(&("layer4.0.shortcut.0".into(), 512)));

    let found = paths(&mut dev.build_module::<ResNet50<10>, f32>());
    assert_eq!(found.len(), 53);
    assert!(found.contains(&("layer3.5.conv3".into(), 1024)));
    assert!(found.contains(&("layer1.0.shortcut.0".into(), 256)));
}

#[test]
fn the_middle_convolution_of_a_bottleneck_has_the_stride() {
    use ssprop::nn::{LayerCost, ModelCost};
    type Net = modules::ResNet50<10, 3, f32, Cpu>;
    let cost = ModelCost::of::<Net>([3, 32, 32]).unwrap();
    let sizes = |path: &str| {
        let layer = cost.layers.iter().find(|(p, _)| p == path).unwrap().1;
        let LayerCost::Conv2D(conv) = layer else {
            panic!("{path} is not a convolution");
        };
        (conv.input()[0], conv.output()[0])
    };
    assert_eq!(sizes("layer1.0.shortcut.0"), (32, 32));
    assert_eq!(sizes("layer2.0.conv1"), (32, 32));
    assert_eq!(sizes("layer2.0.conv2"), (32, 16));
    assert_eq!(sizes("layer2.0.conv3"), (16, 16));
    assert_eq!(sizes("layer2.0.shortcut.0"), (32, 16));
}

/// Within a block gradients go from hook to hook; between tensors, through `Gradients`.
#[test]
fn a_block_equals_its_layers_one_after_the_other() {
    use ssprop::ops::batch_norm::Activation::{Identity, ReLU};

    let dev = Cpu::seed_from_u64(5);
    let mut block: modules::DownBlock<8, 16, f32, Cpu> =
        dev.build_module::<ssprop::models::builders::DownBlock<8, 16>, f32>();
    block.set_drop_rate(DropRate::new(0.5).unwrap());
    let mut layers = block.clone();
    let x: Tensor<Rank4<2, 8, 12, 12>, f32, _> = dev.sample_normal();

    let whole = block.try_forward_mut(x.leaky_trace()).unwrap();

    let y = layers.conv1.try_apply(x.leaky_trace()).unwrap();
    let y = layers.bn1.try_train(y, None, ReLU).unwrap();
    let y = layers.conv2.try_apply(y).unwrap();
    let shortcut = layers.shortcut.0.try_apply(x.leaky_trace()).unwrap();
    let shortcut = layers
        .shortcut
        .1
        .try_train(shortcut, None, Identity)
        .unwrap();
    let apart = layers.bn2.try_train(y, Some(shortcut), ReLU).unwrap();

    assert_eq!(whole.as_vec(), apart.as_vec());
    // The block's output and its input are used twice.
    let loss = |y: Tensor<_, f32, _, OwnedTape<f32, Cpu>>| {
        let twice = y.with_empty_tape().square() + y;
        twice.sum::<Rank0, _>().backward()
    };
    let (whole, apart) = (loss(whole), loss(apart));
    assert_eq!(whole.get(&x).as_vec(), apart.get(&x).as_vec());
    macro_rules! same {
        ($($field:tt).+) => {
            assert_eq!(
                whole.get(&block.$($field).+).as_vec(),
                apart.get(&layers.$($field).+).as_vec()
            )
        };
    }
    same!(conv1.weight);
    same!(bn1.weight);
    same!(conv2.weight);
    same!(bn2.bias);
    same!(shortcut.0.weight);
    same!(shortcut.1.weight);
}

/// All that training asks for, at the paper's image sizes and classes, without running it.
#[test]
fn networks_are_classifiers_of_the_papers_images() {
    fn is<const C: usize, const S: usize, const CLASSES: usize, M>()
    where
        M: ssprop::train::ImageClassifier<C, S, S, CLASSES, Cpu>,
    {
    }
    macro_rules! check {
        ($($net:ident),*) => {$(
            is::<1, 28, 10, modules::$net<10, 1, f32, Cpu>>();
            is::<3, 32, 100, modules::$net<100, 3, f32, Cpu>>();
            is::<3, 64, 40, modules::$net<40, 3, f32, Cpu>>();
            is::<3, 224, 1000, modules::$net<1000, 3, f32, Cpu>>();
        )*};
    }
    check!(ResNet18, ResNet26, ResNet34, ResNet50);
}

#[test]
fn stages_halve_the_papers_images_rounding_up() {
    use ssprop::nn::{BackwardCost, ImageSize, LayerCost, ModelCost};
    /// The sides of the images that the stem and the last norm of each stage put out.
    fn sides<M: BackwardCost>(input: ImageSize, last: [&str; 4]) -> Vec<usize> {
        let cost = ModelCost::of::<M>(input).unwrap();
        let of = |path: &str| match cost.layers.iter().find(|(p, _)| p == path).unwrap().1 {
            LayerCost::BatchNorm2D([_, h, w]) if h == w => h,
            other => panic!("{path}: {other:?}"),
        };
        std::iter::once("bn1").chain(last).map(of).collect()
    }
    let basic = [
        "layer1.1.bn2",
        "layer2.1.bn2",
        "layer3.1.bn2",
        "layer4.1.bn2",
    ];
    let wide = [
        "layer1.2.bn3",
        "layer2.3.bn3",
        "layer3.5.bn3",
        "layer4.2.bn3",
    ];
    type Basic<const K: usize, const C: usize> = modules::ResNet18<K, C, f32, Cpu>;
    type Wide<const K: usize, const C: usize> = modules::ResNet50<K, C, f32, Cpu>;
    assert_eq!(
        sides::<Basic<10, 1>>([1, 28, 28], basic),
        [28, 28, 14, 7, 4]
    );
    assert_eq!(sides::<Wide<10, 1>>([1, 28, 28], wide), [28, 28, 14, 7, 4]);
    assert_eq!(
        sides::<Basic<40, 3>>([3, 64, 64], basic),
        [64, 64, 32, 16, 8]
    );
    assert_eq!(
        sides::<Wide<1000, 3>>([3, 224, 224], wide),
        [224, 224, 112, 56, 28]
    );
}
