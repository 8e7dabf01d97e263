//! The N-layer CNN: its tensors, its shapes, its cost, and that every parameter learns.

use dfdx::nn::tensor_collection::{
    RecursiveWalker, TensorCollection, TensorOptions, TensorVisitor, ViewTensorName, ViewTensorRef,
};
use ssprop::models::modules;
use ssprop::nn::ModelCost;
use ssprop::prelude::*;
use ssprop::sparsity::flops;

/// The trained tensors: their names, shapes, and how many elements have a gradient other than 0.
struct Trained<'a> {
    grads: Option<&'a Gradients<f32, Cpu>>,
    found: Vec<(String, Vec<usize>, usize)>,
}

impl TensorVisitor<f32, Cpu> for Trained<'_> {
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
            let live = self.grads.map_or(0, |grads| {
                let grad = grads.get(tensor).as_vec();
                grad.iter().filter(|&&g| g != 0.0).count()
            });
            self.found
                .push((name, tensor.shape().concrete().into(), live));
        }
        Ok(None)
    }
}

fn trained<M: TensorCollection<f32, Cpu>>(
    net: &M,
    grads: Option<&Gradients<f32, Cpu>>,
) -> Vec<(String, Vec<usize>, usize)> {
    let mut f = Trained {
        grads,
        found: Vec::new(),
    };
    M::iter_tensors(&mut RecursiveWalker {
        m: (net, String::new()),
        f: &mut f,
    })
    .unwrap();
    f.found
}

#[test]
fn tensors_are_named_and_counted() {
    let net = Cpu::default().build_module::<Cnn<4, 10, 1>, f32>();
    let found = trained(&net, None);
    let names: Vec<&str> = found.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "layer1.conv.weight",
            "layer1.bn.weight",
            "layer1.bn.bias",
            "layer2.conv.weight",
            "layer2.bn.weight",
            "layer2.bn.bias",
            "rest.0.conv.weight",
            "rest.0.bn.weight",
            "rest.0.bn.bias",
            "rest.1.conv.weight",
            "rest.1.bn.weight",
            "rest.1.bn.bias",
            "linear.weight",
            "linear.bias",
        ]
    );
    assert_eq!(found[0].1, [128, 1, 3, 3]);
    assert_eq!(found[6].1, [128, 128, 3, 3]);
    let parameters: usize = found
        .iter()
        .map(|(_, s, _)| s.iter().product::<usize>())
        .sum();
    assert_eq!(parameters, 1152 + 147_456 * 3 + 256 * 4 + 129 * 10);
}

#[test]
fn every_parameter_learns_and_the_data_gets_no_gradient() {
    let dev = Cpu::seed_from_u64(3);
    let mut net = dev.build_module::<Cnn<3, 4, 1>, f32>();
    assert!(!net.layer1.conv.backward.input_gradient);
    assert!(net.layer2.conv.backward.input_gradient);
    for rate in [0.0, 0.75] {
        net.set_drop_rate(DropRate::new(rate).unwrap());
        let x: Tensor<Rank4<3, 1, 9, 12>, f32, _> = dev.sample_normal();
        let logits = net.try_forward_mut(x.trace(net.alloc_grads())).unwrap();
        let _: &Rank2<3, 4> = logits.shape();
        let grads = logits.square().mean().backward();
        for (name, shape, live) in trained(&net, Some(&grads)) {
            if name.ends_with("conv.weight") {
                // Kept output channels; an input channel can be 0 everywhere behind a ReLU.
                let channel: usize = shape[1..].iter().product();
                let kept = if rate == 0.0 { 128 } else { 32 };
                assert!(live <= kept * channel, "{name}: {live}");
                assert!(live > kept * channel / 2, "{name}: {live}");
            } else {
                let all: usize = shape.iter().product();
                assert!(live > all * 9 / 10, "{name}: {live} of {all}");
            }
        }
    }
}

#[test]
fn sizes_at_run_time_are_checked() {
    let dev = Cpu::default();
    let net = dev.build_module::<Cnn<2, 3, 1>, f32>();
    let x = dev.zeros_like(&(2usize, Const::<1>, 5usize, 7usize));
    assert_eq!(net.try_forward(x).unwrap().shape(), &(2usize, Const::<3>));
    let x = dev.zeros_like(&(2usize, Const::<1>, 3usize, 7usize));
    assert!(net.try_forward(x).is_err());
    assert!(ModelCost::of::<modules::Cnn<2, 3, 1, f32, Cpu>>([1, 3, 7]).is_err());
}

#[test]
fn costs_are_those_of_the_documented_layers() {
    fn check<const LAYERS: usize, const C_IN: usize>(side: usize) {
        let cost = ModelCost::of::<modules::Cnn<LAYERS, 10, C_IN, f32, Cpu>>([C_IN, side, side]);
        let found = cost.unwrap().per_iteration(5, DropRate::DENSE);
        let layer = |c_in: usize, side: usize| {
            let m = 5 * side * side;
            flops::conv2d_dense(m, 9 * c_in, 128) + flops::batch_norm2d(m, 128)
        };
        let expected = layer(C_IN, side)
            + layer(128, side / 2)
            + (LAYERS - 2) as f64 * layer(128, side / 2 / 2);
        assert!((found / expected - 1.0).abs() < 1e-12, "{LAYERS} {side}");
    }
    check::<2, 1>(28);
    check::<5, 3>(32);
    check::<8, 3>(64);
    check::<11, 3>(225);
}

#[test]
fn sparse_layers_have_the_paths_of_their_costs() {
    let mut net = Cpu::default().build_module::<Cnn<4, 10, 1>, f32>();
    let mut paths = Vec::new();
    net.visit_sparse(&mut |layer| paths.push(layer.path.to_owned()));
    let cost = ModelCost::of::<modules::Cnn<4, 10, 1, f32, Cpu>>([1, 28, 28]).unwrap();
    let costs: Vec<String> = cost.layers.into_iter().map(|(path, _)| path).collect();
    assert_eq!(paths.len(), 4);
    assert!(
        paths.iter().all(|path| costs.contains(path)),
        "{paths:?} {costs:?}"
    );
}

/// All that training asks for, without running it: at the paper's image sizes and classes.
#[test]
fn cnns_are_classifiers_of_the_papers_images() {
    fn is<const C: usize, const S: usize, const K: usize, M>()
    where
        M: ssprop::train::ImageClassifier<C, S, S, K, Cpu>,
    {
    }
    is::<1, 28, 10, modules::Cnn<2, 10, 1, f32, Cpu>>();
    is::<3, 32, 100, modules::Cnn<11, 100, 3, f32, Cpu>>();
    is::<3, 64, 40, modules::Cnn<5, 40, 3, f32, Cpu>>();
}
