//! Graphs with folded norms against the networks that they come from.

use ssprop::inference::{Graph, Inference, Operation};
use ssprop::models::builders::{BasicBlock, Bottleneck, DownBlock, ProjectionBottleneck};
use ssprop::prelude::*;
use support::seem_trained;

/// Holds the logits of a network's graph, as it is and folded, against those of `try_forward`. Says whether the
/// graph has a norm, and returns it.
macro_rules! check {
    ($Net:ty, $E:ty, $C:literal, $size:literal, $Out:ty, $tolerance:literal) => {{
        let dev = Cpu::seed_from_u64(5);
        let mut net = dev.build_module::<$Net, f32>().to_dtype::<$E>();
        seem_trained(&mut net, 6);
        let graph = Graph::of(&net).unwrap();
        let folded = graph.fold_batch_norms();
        let norm = |graph: &Graph<$E>| {
            let is_norm = |op: Operation| matches!(op, Operation::BatchNorm2D { .. });
            graph.nodes().iter().any(|node| is_norm(node.operation))
        };
        assert!(!norm(&folded));
        for batch in [1, 3] {
            let shape = (batch, Const::<$C>, Const::<$size>, Const::<$size>);
            let x: Tensor<_, $E, _> = dev.sample_like(&shape, rand_distr::StandardNormal);
            let expected: Tensor<$Out, $E, _> = net.try_forward(x.clone()).unwrap();
            let largest = expected
                .as_vec()
                .iter()
                .fold(0.0, |most: $E, v| most.max(v.abs()));
            assert!(largest > 0.1 && largest.is_finite());
            for graph in [&graph, &folded] {
                let found: Tensor<$Out, $E, _> =
                    Inference::new(&dev, graph).unwrap().run(&x).unwrap();
                for (found, expected) in found.as_vec().iter().zip(expected.as_vec()) {
                    let off = (found - expected).abs();
                    assert!(off <= $tolerance * largest, "{batch}: {off:e} of {largest}");
                }
            }
        }
        (norm(&graph), graph)
    }};
}

#[test]
fn the_papers_networks_have_the_logits_of_their_graphs() {
    assert!(check!(ResNet18<10>, f32, 3, 32, Logits<10>, 1e-5).0);
    assert!(check!(ResNet26<10>, f32, 3, 9, Logits<10>, 1e-5).0);
    assert!(check!(ResNet34<10>, f32, 3, 8, Logits<10>, 1e-5).0);
    assert!(check!(ResNet50<7, 1>, f32, 1, 28, Logits<7>, 1e-5).0);
    assert!(check!(Cnn<4, 10, 1>, f32, 1, 28, Logits<10>, 1e-5).0);
    assert!(!check!(ViT<10, 1, 28, 4, 16, 32, 4, 2>, f32, 1, 28, Logits<10>, 1e-5).0);
    assert!(!check!(MLP<10, 192, 32, 2>, f32, 3, 8, Logits<10>, 1e-5).0);
}

/// B rows of logits.
type Logits<const CLASSES: usize> = (usize, Const<CLASSES>);
/// B images.
type Images<const C: usize, const SIZE: usize> = (usize, Const<C>, Const<SIZE>, Const<SIZE>);

#[test]
fn in_f64_there_is_no_difference_but_rounding() {
    check!(DownBlock<3, 8>, f64, 3, 9, Images<8, 5>, 1e-13);
    check!(BasicBlock<8>, f64, 8, 5, Images<8, 5>, 1e-13);
    check!(ProjectionBottleneck<8, 4, 16, 2>, f64, 8, 6, Images<16, 3>, 1e-13);
    check!(Bottleneck<16, 4>, f64, 16, 3, Images<16, 3>, 1e-13);
    check!(ViT<5, 3, 8, 2, 12, 20, 3, 1>, f64, 3, 8, Logits<5>, 1e-13);
    check!(Cnn<2, 10>, f64, 3, 9, Logits<10>, 1e-13);
}

/// Residual branches, norms that no convolution precedes, convolutions whose output has two uses, biases,
/// groups and pools.
#[test]
fn a_network_of_tuples() {
    type Net = (
        (
            BiasedSparseConv2D<4, 8, 3, 1, 1, 1, 2>,
            ssprop::nn::builders::BatchNorm2D<8>,
            ReLU,
        ),
        Residual<(
            SparseConv2D<8, 8, 3, 1, 1>,
            ssprop::nn::builders::BatchNorm2D<8>,
        )>,
        (ReLU, MaxPool2D<3, 2, 1>, AvgPool2D<2, 2>),
        GeneralizedResidual<SparseConv2D<8, 6, 1>, SparseConv2D<8, 6, 3, 1, 1>>,
        (
            Flatten<24>,
            SparseLinear<24, 16>,
            UnbiasedSparseLinear<16, 12>,
        ),
        Linear<12, 5>,
    );
    let (_, graph) = check!(Net, f64, 4, 8, Logits<5>, 1e-12);
    let names: Vec<_> = graph
        .nodes()
        .iter()
        .flat_map(|node| &node.weights)
        .collect();
    let names: Vec<_> = names.iter().map(|weight| &*weight.name).collect();
    assert_eq!(names[..3], ["0.0.weight", "0.0.bias", "0.1.weight"]);
    assert!(
        names.contains(&"1.0.1.running_var") && names.contains(&"3.r.weight"),
        "{names:?}"
    );
}

#[test]
fn a_norm_stays_where_its_convolution_has_another_use() {
    let dev = Cpu::seed_from_u64(0);
    // The residual branch reads the convolution's output beside the norm.
    type Net = (SparseConv2D<3, 8, 3, 1, 1>, Residual<BatchNorm2D<8>>);
    let mut net = dev.build_module::<Net, f32>();
    seem_trained(&mut net, 1);
    let folded = Graph::of(&net).unwrap().fold_batch_norms();
    assert_eq!(folded.nodes().len(), 3);
    let x: Tensor<Rank4<2, 3, 5, 6>, f32, _> = dev.sample_normal();
    let found: Tensor<Rank4<2, 8, 5, 6>, f32, _> =
        Inference::new(&dev, &folded).unwrap().run(&x).unwrap();
    let difference: Tensor<Rank0, f32, _> = (found - net.forward(x)).abs().max();
    assert!(difference.array() < 1e-5, "{}", difference.array());
}

#[test]
fn what_does_not_fit_is_named() {
    let dev = Cpu::default();
    let graph = Graph::of(&dev.build_module::<ResNet18<10>, f32>()).unwrap();
    let run = Inference::new(&dev, &graph).unwrap();
    let message = |result: ssprop::Result<Tensor<Rank2<1, 10>, f32, Cpu>>| {
        result.map(drop).unwrap_err().to_string()
    };
    let m = message(run.run(&dev.zeros::<Rank4<1, 1, 32, 32>>()));
    assert!(
        m.contains("3 channels at `conv1`") && m.contains("[1, 1, 32, 32]"),
        "{m}"
    );
    let m = message(run.run(&dev.zeros::<Rank4<2, 3, 32, 32>>()));
    assert!(m.contains("output") && m.contains("[2, 10]"), "{m}");
    let m = message(run.run(&dev.zeros::<Rank2<2, 3>>()));
    assert!(m.contains("images (B, C, H, W)"), "{m}");
    let m = message(run.run(&dev.zeros::<Rank3<2, 3, 4>>()));
    assert!(m.contains("(B, C, H, W) or (B, N)"), "{m}");

    let mlp = Graph::of(&dev.build_module::<MLP<10, 784>, f32>()).unwrap();
    let run = Inference::new(&dev, &mlp).unwrap();
    let m = message(run.run(&dev.zeros::<Rank4<1, 3, 28, 28>>()));
    assert!(m.contains("(B, 784) at `input`"), "{m}");

    let vit = Graph::of(&dev.build_module::<ViT<10, 1, 28, 4, 16, 32, 4, 1>, f32>()).unwrap();
    let vit = Inference::new(&dev, &vit).unwrap();
    let m = message(vit.run(&dev.zeros::<Rank4<1, 1, 32, 32>>()));
    assert!(m.contains("[49, 16]") && m.contains("[1, 16, 8, 8]"), "{m}");
    let attention = |heads| {
        let mut graph = Graph::<f32>::of(&ReLU).unwrap();
        let input = graph.output();
        graph.push("attn", Operation::Attention { heads }, Vec::new(), &[input])
    };
    let m = attention(0).unwrap_err().to_string();
    assert!(m.contains("heads = 0"), "{m}");
    assert!(attention(2).is_ok());

    let empty: Tensor<(usize, Const<1>, Const<28>, Const<28>), f32, _> =
        dev.zeros_like(&(0, Const, Const, Const));
    let none: Tensor<(usize, Const<10>), f32, _> = run.run(&empty).unwrap();
    assert_eq!(none.shape().0, 0);
}
