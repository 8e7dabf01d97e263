//! A training step of each network, from the same seed, and what it infers afterwards.

use dfdx::nn::tensor_collection::{
    RecursiveWalker, TensorCollection, TensorOptions, TensorVisitor, ViewTensorName, ViewTensorRef,
};
use dfdx::tensor_ops::Device;
use ssprop::models::builders::{Bottleneck, ProjectionBottleneck};
use ssprop::prelude::*;

use crate::support::{agree, noise};

/// A module's gradients, and the tensors that have none.
struct Found<'a, D: Device<f32>> {
    grads: &'a Gradients<f32, D>,
    tensors: Vec<(&'static str, Vec<f32>)>,
}

impl<D: Device<f32>> TensorVisitor<f32, D> for Found<'_, D> {
    type Viewer = (ViewTensorRef, ViewTensorName);
    type Err = D::Err;
    type E2 = f32;
    type D2 = D;

    fn visit<S: Shape>(
        &mut self,
        opts: TensorOptions<S, f32, D>,
        (tensor, name): (&Tensor<S, f32, D>, String),
    ) -> Result<Option<Tensor<S, f32, D>>, D::Err> {
        let values = match opts.do_gradient_update {
            true => self.grads.get(tensor).as_vec(),
            false => tensor.as_vec(),
        };
        self.tensors.push((name.leak(), values));
        Ok(None)
    }
}

fn tensors<D: Device<f32>, M: TensorCollection<f32, D>>(
    net: &M,
    grads: &Gradients<f32, D>,
) -> Vec<(&'static str, Vec<f32>)> {
    let mut found = Found {
        grads,
        tensors: Vec::new(),
    };
    M::iter_tensors(&mut RecursiveWalker {
        m: (net, String::new()),
        f: &mut found,
    })
    .unwrap();
    // A norm behind a bias takes its effect away: rounding alone is left of the gradient. So that it counts
    // for little, tensors are compared with the largest number of all of them in mind.
    let of_all = found.tensors.iter().flat_map(|(_, values)| values);
    let largest = of_all.fold(0f32, |most, v| most.max(v.abs()));
    for (_, values) in &mut found.tensors {
        values.push(0.01 * largest);
    }
    found.tensors
}

/// Which class each image is of, as probabilities.
pub fn classes(images: usize, classes: usize) -> Vec<f32> {
    let class = |i: usize| {
        if i % classes == i / classes % classes {
            1.0
        } else {
            0.0
        }
    };
    (0..images * classes).map(class).collect()
}

macro_rules! classifier {
    ($name:ident, $net:ty, $images:ty => [$batch:literal, $classes:literal], $within:literal) => {
        #[test]
        fn $name() {
            for rate in [0.0, 0.8] {
                agree!($within, |dev: D| {
                    let mut net = dev.build_module::<$net, f32>();
                    net.set_drop_rate(DropRate::new(rate).unwrap());
                    let shape = <$images>::default();
                    let x = noise(shape.num_elements(), 1);
                    let x: Tensor<$images, f32, D> = dev.tensor_from_vec(x, shape);
                    let target: Tensor<Rank2<$batch, $classes>, f32, D> =
                        dev.tensor_from_vec(classes($batch, $classes), Default::default());

                    let logits = net
                        .try_forward_mut(x.clone().trace(net.alloc_grads()))
                        .unwrap();
                    let mut found = vec![("logits", logits.as_vec())];
                    let loss = cross_entropy_with_logits_loss(logits, target);
                    found.push(("loss", loss.as_vec()));
                    let grads = loss.backward();
                    found.extend(tensors(&net, &grads));
                    found.push(("inference", net.try_forward(x).unwrap().as_vec()));
                    found
                });
            }
        }
    };
}

classifier!(mlp, MLP<10, 192, 40, 2>, Rank4<5, 3, 8, 8> => [5, 10], 1e-4);
classifier!(vit, ViT<10, 3, 8, 2, 16, 40, 2, 2>, Rank4<5, 3, 8, 8> => [5, 10], 1e-4);
classifier!(cnn, Cnn<3, 10, 1>, Rank4<3, 1, 13, 12> => [3, 10], 1e-3);

/// Blocks of a ResNet-50: one whose shortcut is a convolution, and one that has none.
type Bottlenecks = (
    (SparseConv2D<3, 16, 3, 1, 1>, BatchNorm2D<16>, ReLU),
    ProjectionBottleneck<16, 12, 32, 2>,
    Bottleneck<32, 12>,
    GlobalAvgPool,
    Linear<32, 10>,
);
classifier!(bottlenecks, Bottlenecks, Rank4<5, 3, 16, 16> => [5, 10], 1e-3);

#[test]
fn unet() {
    for rate in [0.0, 0.8] {
        agree!(1e-3, |dev: D| {
            let mut net = dev.build_module::<MnistUNet, f32>();
            net.set_drop_rate(DropRate::new(rate).unwrap());
            type Images<D> = Tensor<Rank4<2, 1, 16, 16>, f32, D>;
            let [x, target]: [Images<D>; 2] =
                [1, 2].map(|seed| dev.tensor_from_vec(noise(512, seed), Default::default()));
            let timesteps = dev.tensor([3.0, 177.0]);

            let traced = x.clone().trace(net.alloc_grads());
            let y = net.try_forward_mut((traced, timesteps.clone())).unwrap();
            let mut found = vec![("y", y.as_vec())];
            let loss = (y - target).square().mean();
            found.push(("loss", loss.as_vec()));
            let grads = loss.backward();
            found.extend(tensors(&net, &grads));
            found.push((
                "inference",
                net.try_forward((x, timesteps)).unwrap().as_vec(),
            ));
            found
        });
    }
}

#[test]
fn a_unet_that_is_told_classes() {
    agree!(1e-3, |dev: D| {
        let mut net = dev.build_module::<ClassConditional<MnistUNet, 3, 64>, f32>();
        net.label_emb.copy_from(&noise(3 * 64, 3));
        type Images<D> = Tensor<Rank4<4, 1, 8, 8>, f32, D>;
        let [x, target]: [Images<D>; 2] =
            [1, 2].map(|seed| dev.tensor_from_vec(noise(256, seed), Default::default()));
        let timesteps = dev.tensor([3.0, 177.0, 40.0, 90.0]);
        let classes = [[0.0, 1.0, 0.0], [0.0; 3], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]];
        let traced = x.trace(net.alloc_grads());
        let input = (traced, timesteps, dev.tensor(classes));
        let y = net.try_forward_mut(input).unwrap();
        let mut found = vec![("y", y.as_vec())];
        let grads = (y - target).square().mean().backward();
        found.push(("classes", grads.get(&net.label_emb).as_vec()));
        found.extend(tensors(&net, &grads));
        found
    });
}

/// Some steps of Adam, on the smallest network, whose gradients are not rounding alone anywhere.
#[test]
fn training() {
    agree!(1e-3, |dev: D| {
        let mut net = dev.build_module::<MLP<4, 48, 16, 1>, f32>();
        let mut adam = Adam::new(&net, AdamConfig::default()).unwrap();
        let target: Tensor<Rank2<6, 4>, f32, D> =
            dev.tensor_from_vec(classes(6, 4), Default::default());
        let mut losses = Vec::new();
        for step in 0..5 {
            let x: Tensor<Rank4<6, 3, 4, 4>, f32, D> =
                dev.tensor_from_vec(noise(288, step), Default::default());
            let logits = net.try_forward_mut(x.trace(net.alloc_grads())).unwrap();
            let loss = cross_entropy_with_logits_loss(logits, target.clone());
            losses.extend(loss.as_vec());
            adam.update(&mut net, &loss.backward()).unwrap();
        }
        vec![("losses", losses)]
    });
}
