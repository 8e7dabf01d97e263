//! The U-Nets: their tensors, and the numbers of PyTorch's network with the same weights.

use std::collections::HashMap;

use ::safetensors::SafeTensors;
use dfdx::nn::tensor_collection::{
    RecursiveWalker, TensorCollection, TensorOptions, TensorVisitor, ViewTensorMut, ViewTensorName,
    ViewTensorRef,
};
use dfdx::tensor_ops::Backward as _;
use ssprop::models::modules;
use ssprop::prelude::*;

use crate::tensors::check_tensors;

const TENSORS: &str = include_str!("../fixtures/unet_tensors.json");
const MNIST: &[u8] = include_bytes!("../fixtures/unet_mnist.safetensors");

#[test]
fn tensors_are_named_and_shaped_as_pytorchs() {
    let dev = Cpu::default();
    check_tensors(&dev.build_module::<MnistUNet, f32>(), TENSORS, "unet_mnist");
    check_tensors(
        &dev.build_module::<CelebAUNet, f32>(),
        TENSORS,
        "unet_celeba",
    );
}

/// Takes the fixture's weights.
struct Load<'a>(&'a SafeTensors<'a>);

impl TensorVisitor<f32, Cpu> for Load<'_> {
    type Viewer = (ViewTensorMut, ViewTensorName);
    type Err = <Cpu as HasErr>::Err;
    type E2 = f32;
    type D2 = Cpu;

    fn visit<S: Shape>(
        &mut self,
        _: TensorOptions<S, f32, Cpu>,
        (tensor, name): (&mut Tensor<S, f32, Cpu>, String),
    ) -> Result<Option<Tensor<S, f32, Cpu>>, Self::Err> {
        tensor.copy_from(&floats(self.0, &format!("weights.{name}")));
        Ok(None)
    }
}

fn floats(file: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    let bytes = file.tensor(name).unwrap().data().as_chunks().0;
    bytes.iter().map(|&b| f32::from_le_bytes(b)).collect()
}

type Net = modules::MnistUNet<1, f32, Cpu>;
type Images<T = NoneTape> = Tensor<Rank4<2, 1, 32, 32>, f32, Cpu, T>;

fn fixture_network(dev: &Cpu, file: &SafeTensors<'_>) -> Net {
    let mut net = dev.build_module::<MnistUNet, f32>();
    Net::iter_tensors(&mut RecursiveWalker {
        m: (&mut net, String::new()),
        f: &mut Load(file),
    })
    .unwrap();
    net
}

/// Each parameter's gradient.
struct Grads<'a>(&'a Gradients<f32, Cpu>, HashMap<String, Vec<f32>>);

impl TensorVisitor<f32, Cpu> for Grads<'_> {
    type Viewer = (ViewTensorRef, ViewTensorName);
    type Err = <Cpu as HasErr>::Err;
    type E2 = f32;
    type D2 = Cpu;

    fn visit<S: Shape>(
        &mut self,
        _: TensorOptions<S, f32, Cpu>,
        (tensor, name): (&Tensor<S, f32, Cpu>, String),
    ) -> Result<Option<Tensor<S, f32, Cpu>>, Self::Err> {
        self.1.insert(name, self.0.get(tensor).as_vec());
        Ok(None)
    }
}

/// The output, the loss against the fixture's noise and the gradients.
fn pass(
    dev: &Cpu,
    net: &mut Net,
    file: &SafeTensors<'_>,
) -> (Vec<f32>, f32, HashMap<String, Vec<f32>>) {
    let images = |name| -> Images { dev.tensor_from_vec(floats(file, name), Default::default()) };
    let timesteps = dev.tensor([3.0, 177.0]);
    let x = images("x_noisy").traced(net.alloc_grads());
    let eps = net.try_forward_mut((x, timesteps)).unwrap();
    let output = eps.as_vec();
    let loss = (eps - images("noise")).square().mean();
    let value = loss.array();
    let grads = loss.backward();
    let mut seen = Grads(&grads, HashMap::new());
    Net::iter_tensors(&mut RecursiveWalker {
        m: (&*net, String::new()),
        f: &mut seen,
    })
    .unwrap();
    (output, value, seen.1)
}

#[test]
fn forward_loss_and_gradients_are_pytorchs() {
    let dev = Cpu::default();
    let file = SafeTensors::deserialize(MNIST).unwrap();
    let mut net = fixture_network(&dev, &file);
    let (eps, loss, grads) = pass(&dev, &mut net, &file);
    let expected = floats(&file, "eps");
    for (i, (found, expected)) in eps.iter().zip(&expected).enumerate() {
        assert!(
            (found - expected).abs() < 2e-5,
            "{i}: {found} for {expected}"
        );
    }
    assert!((loss - floats(&file, "loss")[0]).abs() < 5e-6, "{loss}");

    let fixture: serde_json::Value = serde_json::from_str(TENSORS).unwrap();
    let norms: Vec<(String, f64)> =
        serde_json::from_value(fixture["unet_mnist"]["gradient_norms"].clone()).unwrap();
    assert_eq!(norms.len(), grads.len());
    for (name, expected) in norms {
        let squares = grads[&name].iter().map(|&g| f64::from(g).powi(2));
        let norm = squares.sum::<f64>().sqrt();
        // Where a norm of one channel a group follows, a bias has no effect: rounding alone.
        let close = 2e-5 * expected + 1e-7;
        assert!(
            (norm - expected).abs() < close,
            "{name}: {norm} for {expected}"
        );
    }
}

#[test]
fn inference_is_training_without_the_tape() {
    let dev = Cpu::default();
    let file = SafeTensors::deserialize(MNIST).unwrap();
    let mut net = fixture_network(&dev, &file);
    let (eps, ..) = pass(&dev, &mut net, &file);
    let shape = (2usize, Const::<1>, 32usize, 32usize);
    let x = dev.tensor_from_vec(floats(&file, "x_noisy"), shape);
    let timesteps = dev.tensor_from_vec(vec![3.0, 177.0], (2usize,));
    assert_eq!(net.try_apply(x, &timesteps).unwrap().as_vec(), eps);
}

#[test]
fn a_drop_rate_leaves_that_many_channels_of_every_convolution() {
    let dev = Cpu::default();
    let file = SafeTensors::deserialize(MNIST).unwrap();
    let mut net = fixture_network(&dev, &file);
    net.set_drop_rate(DropRate::new(0.8).unwrap());
    let (_, _, grads) = pass(&dev, &mut net, &file);
    let mut convolutions = 0;
    net.visit_sparse(&mut |layer| {
        convolutions += 1;
        let weight = &grads[&format!("{}.weight", layer.path)];
        let rows = weight.chunks(weight.len() / layer.channels);
        let left = rows.filter(|row| row.iter().any(|&g| g != 0.0)).count();
        assert_eq!(left, (layer.channels / 5).max(1), "{}", layer.path);
    });
    let names = grads.keys().filter(|name| {
        let convolution = [
            "in_layers.2",
            "out_layers.3",
            "skip_connection",
            "op",
            "conv",
            "out.2",
        ];
        let stem = *name == "input_blocks.0.0.weight";
        stem || convolution
            .iter()
            .any(|c| name.ends_with(&format!("{c}.weight")))
    });
    assert_eq!(convolutions, names.count());
    // The dense layers learn whole.
    for (name, grad) in &grads {
        if name.contains("qkv.weight") || name.contains("emb_layers") || name.contains("time_embed")
        {
            assert!(grad.iter().all(|&g| g != 0.0), "{name}");
        }
    }
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let run = |threads| {
        ssprop::on_threads(Some(threads), || {
            let dev = Cpu::default();
            let file = SafeTensors::deserialize(MNIST).unwrap();
            let mut net = fixture_network(&dev, &file);
            net.set_drop_rate(DropRate::new(0.8).unwrap());
            pass(&dev, &mut net, &file)
        })
        .unwrap()
    };
    let one = run(1);
    assert!(one == run(2) && one == run(5));
}

#[test]
fn sizes_that_cannot_be_halved_and_doubled_are_errors() {
    let dev = Cpu::default();
    let net = dev.build_module::<MnistUNet<3>, f32>();
    let timesteps = dev.tensor_from_vec(vec![0.0], (1usize,));
    for (h, w, fits) in [
        (8, 12, true),
        (30, 32, false),
        (32, 6, false),
        (0, 4, false),
    ] {
        let x = dev.zeros_like(&(1usize, Const::<3>, h, w));
        let y = net.try_apply(x, &timesteps);
        assert_eq!(y.is_ok(), fits, "{h}x{w}");
        let cost = ssprop::nn::ModelCost::of::<modules::MnistUNet<3, f32, Cpu>>([3, h, w]);
        assert_eq!(cost.is_ok(), fits, "{h}x{w}");
    }
}

/// So samples do not depend on how many are drawn at once.
#[test]
fn a_prediction_does_not_depend_on_the_other_images() {
    let dev = Cpu::seed_from_u64(3);
    let file = SafeTensors::deserialize(MNIST).unwrap();
    let net = fixture_network(&dev, &file);
    let shape = |images| (images, Const::<1>, Const::<32>, Const::<32>);
    let predict = |x: &[f32], t: &[f32]| {
        let x = dev.tensor_from_vec(x.to_vec(), shape(t.len()));
        let t = dev.tensor_from_vec(t.to_vec(), (t.len(),));
        net.try_forward((x, t)).unwrap().as_vec()
    };
    let x = dev.sample_normal_like(&shape(11)).as_vec();
    let t: Vec<f32> = (0..11).map(|i| (i * 19) as f32).collect();
    let together = predict(&x, &t);
    for images in [1, 2, 4, 7] {
        let parts = x.chunks(images * 1024).zip(t.chunks(images));
        let apart: Vec<f32> = parts.flat_map(|(x, t)| predict(x, t)).collect();
        assert!(apart == together, "{images} at once");
    }
}
