//! Denoisers that are told classes: what they are told in training, and what guidance makes of it.

use std::sync::{Arc, Mutex};

use dfdx::nn::{ModuleVisitor, NonMutableModule, TensorCollection};
use ssprop::data::{BatchLoader, ImageDataset, ImageShape, Normalization};
use ssprop::diffusion::{
    BetaSchedule, Classes, Diffusion, DiffusionTrainer, Guided, Parameterization, SampleRun,
    Sampler, Timesteps,
};
use ssprop::distributed::Communicator;
use ssprop::nn::modules::BiasedSparseConv2D;
use ssprop::nn::{BackwardCost, ImageSize, LayerCost, LayerMut};
use ssprop::prelude::*;
use ssprop::{Error, Result};

const CLASSES: usize = 3;

type Images<T = NoneTape> = Tensor<(usize, Const<1>, Const<8>, Const<8>), f32, Cpu, T>;
type Told = Classes<CLASSES, Cpu>;
type Conv = BiasedSparseConv2D<1, 1, 3, 1, 1, 1, 1, f32, Cpu>;

/// A convolution, which answers alike for every class, but writes down what it is told.
#[derive(Clone, Debug)]
struct Writes {
    conv: Conv,
    told: Arc<Mutex<Vec<Option<usize>>>>,
}

impl Writes {
    fn new() -> Self {
        let dev = Cpu::seed_from_u64(0);
        type Net = ssprop::nn::builders::BiasedSparseConv2D<1, 1, 3, 1, 1>;
        Self {
            conv: dev.build_module::<Net, f32>(),
            told: Arc::default(),
        }
    }
}

impl TensorCollection<f32, Cpu> for Writes {
    type To<E2: Dtype, D2: Device<E2>> = BiasedSparseConv2D<1, 1, 3, 1, 1, 1, 1, E2, D2>;

    fn iter_tensors<V: ModuleVisitor<Self, f32, Cpu>>(
        visitor: &mut V,
    ) -> std::result::Result<Option<Self::To<V::E2, V::D2>>, V::Err> {
        visitor.visit_fields(Self::module("conv", |s| &s.conv, |s| &mut s.conv), |c| c)
    }
}

impl<T: Tape<f32, Cpu>> Module<(Images<T>, Timesteps<Cpu>)> for Writes {
    type Output = Images<T>;
    type Error = Error;

    fn try_forward(&self, (x, _): (Images<T>, Timesteps<Cpu>)) -> Result<Images<T>> {
        self.conv.try_apply(x)
    }
}

impl<T: Tape<f32, Cpu>> Module<(Images<T>, Timesteps<Cpu>, Told)> for Writes {
    type Output = Images<T>;
    type Error = Error;

    fn try_forward(&self, (x, t, told): (Images<T>, Timesteps<Cpu>, Told)) -> Result<Images<T>> {
        let rows = told.as_vec();
        let class = |row: &[f32]| row.iter().position(|&is| is == 1.0);
        let classes = rows.chunks(CLASSES).map(class);
        self.told.lock().unwrap().extend(classes);
        self.try_forward((x, t))
    }
}

impl NonMutableModule for Writes {}

impl VisitLayers for Writes {
    fn visit_layers_at(&mut self, path: &str, f: &mut dyn FnMut(LayerMut<'_>)) {
        self.conv.visit_layers_at(path, f);
    }
}

impl BackwardCost for Writes {
    fn visit_cost(
        path: &str,
        input: ImageSize,
        f: &mut dyn FnMut(&str, LayerCost),
    ) -> Result<ImageSize> {
        Conv::visit_cost(path, input, f)
    }
}

/// Image number i is of class i % 3, and the brighter the higher its class.
fn data(images: usize) -> ImageDataset {
    let pixel = |k: usize| (k / 64 % CLASSES * 100 + k % 64 / 2) as u8;
    let labels = (0..images).map(|i| (i % CLASSES) as u16).collect();
    let pixels = (0..images * 64).map(pixel).collect();
    ImageDataset::new(pixels, labels, ImageShape::new(1, 8, 8), CLASSES).unwrap()
}

fn loader(data: &ImageDataset, batch: usize) -> BatchLoader {
    let loader = BatchLoader::new(data, batch).unwrap();
    loader.normalize(Normalization::symmetric(1)).unwrap()
}

fn diffusion() -> Diffusion {
    Diffusion::new(BetaSchedule::Cosine, 20).unwrap()
}

fn trainer(seed: u64) -> DiffusionTrainer<Writes, Cpu> {
    DiffusionTrainer::new(Writes::new(), AdamConfig::adam(), diffusion(), seed).unwrap()
}

/// What the network is told in an epoch.
fn told(mut trainer: DiffusionTrainer<Writes, Cpu>, images: usize) -> Vec<Option<usize>> {
    let loader = loader(&data(images), 50);
    trainer
        .train_class_epoch::<1, 8, 8, CLASSES>(&Cpu::default(), &loader, &mut ())
        .unwrap();
    let told = trainer.model().told.lock().unwrap();
    told.clone()
}

#[test]
fn a_tenth_of_the_images_lose_their_class() {
    let all = told(trainer(1), 3000);
    assert_eq!(all.len(), 3000);
    for (i, class) in all.iter().enumerate() {
        assert!(class.is_none_or(|class| class == i % CLASSES), "image {i}");
    }
    let lost = |told: &[Option<usize>]| told.iter().filter(|class| class.is_none()).count();
    // 300, with a deviation of 16.
    assert!((235..365).contains(&lost(&all)), "{}", lost(&all));
    // Not the same places in each batch.
    let batches: Vec<_> = all.chunks(50).map(lost).collect();
    assert!(batches.iter().any(|&n| n != batches[0]));

    assert_eq!(told(trainer(1), 3000), all);
    assert_ne!(told(trainer(2), 3000), all);
    let with = |p| trainer(1).with_class_dropout(p).unwrap();
    assert_eq!(lost(&told(with(0.0), 300)), 0);
    assert_eq!(lost(&told(with(1.0), 300)), 300);
    for p in [-0.1, 1.1, f64::NAN] {
        let err = trainer(1).with_class_dropout(p).unwrap_err().to_string();
        assert!(err.starts_with("class_dropout = "), "{err}");
    }
}

#[test]
fn ranks_tell_what_one_process_tells() {
    let whole = told(trainer(1), 100);
    let ranks = Communicator::threads(2).unwrap();
    let parts: Vec<_> = std::thread::scope(|scope| {
        let run = |rank: Communicator| told(trainer(1).with_communicator(&rank).unwrap(), 100);
        let threads = ranks.into_iter().map(|rank| scope.spawn(move || run(rank)));
        let threads: Vec<_> = threads.collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    for (batch, whole) in whole.chunks(50).enumerate() {
        let part = |part: &Vec<_>| part[25 * batch..25 * (batch + 1)].to_vec();
        assert_eq!(parts.iter().flat_map(part).collect::<Vec<_>>(), whole);
    }
}

#[test]
fn timesteps_and_noise_are_those_of_training_without_classes() {
    let (loader, dev) = (loader(&data(60), 20), Cpu::default());
    let (mut with, mut without) = (trainer(3), trainer(3));
    let with_loss = with
        .train_class_epoch::<1, 8, 8, CLASSES>(&dev, &loader, &mut ())
        .unwrap();
    let without_loss = without
        .train_epoch::<1, 8, 8>(&dev, &loader, &mut ())
        .unwrap();
    assert_eq!(with_loss.loss, without_loss.loss);
    // Evaluation tells every class.
    with.model().told.lock().unwrap().clear();
    assert_eq!(
        with.evaluate_classes::<1, 8, 8, CLASSES>(&dev, &loader)
            .unwrap(),
        without.evaluate::<1, 8, 8>(&dev, &loader).unwrap()
    );
    let told = with.model().told.lock().unwrap().clone();
    assert_eq!(told, (0..60).map(|i| Some(i % CLASSES)).collect::<Vec<_>>());
}

#[test]
fn labels_that_are_no_class_are_errors() {
    let shape = ImageShape::new(1, 8, 8);
    let of = |data: &ImageDataset| {
        let (dev, loader) = (Cpu::default(), loader(data, 2));
        let train = trainer(0).train_class_epoch::<1, 8, 8, CLASSES>(&dev, &loader, &mut ());
        let evaluated = trainer(0).evaluate_classes::<1, 8, 8, CLASSES>(&dev, &loader);
        let errors = [train.unwrap_err(), evaluated.unwrap_err()].map(|err| err.to_string());
        assert_eq!(errors[0], errors[1]);
        errors[0].clone()
    };
    let fourth = ImageDataset::new(vec![0; 128], vec![1, 3], shape, 4).unwrap();
    let err = of(&fourth);
    assert!(err.contains('3') && err.contains("label"), "{err}");
    let attributes = ImageDataset::multi_label(vec![0; 128], vec![true; 6], shape, 3).unwrap();
    let err = of(&attributes);
    assert!(err.starts_with("labels = attributes"), "{err}");
}

/// Answers a x + b with another b for each class and for none, and counts its passes.
#[derive(Default)]
struct Knows(Mutex<usize>);

const NONE: f32 = 0.05;
const OF_CLASS: [f32; CLASSES] = [-0.2, 0.1, 0.3];

impl Module<(Images, Timesteps<Cpu>)> for Knows {
    type Output = Images;
    type Error = Error;

    fn try_forward(&self, (x, _): (Images, Timesteps<Cpu>)) -> Result<Images> {
        *self.0.lock().unwrap() += 1;
        Ok(x * 0.5 + NONE)
    }
}

impl Module<(Images, Timesteps<Cpu>, Told)> for Knows {
    type Output = Images;
    type Error = Error;

    fn try_forward(&self, (x, _, told): (Images, Timesteps<Cpu>, Told)) -> Result<Images> {
        *self.0.lock().unwrap() += 1;
        let shape = *x.shape();
        let b: Vec<f32> = told
            .as_vec()
            .chunks(CLASSES)
            .map(|row| row.iter().zip(OF_CLASS).map(|(is, b)| is * b).sum())
            .collect();
        let b = x.device().tensor_from_vec(b, (shape.0,));
        Ok(x * 0.5 + b.broadcast_like(&shape))
    }
}

/// Answers a x + b with this b.
struct Says(f32);

impl Module<(Images, Timesteps<Cpu>)> for Says {
    type Output = Images;
    type Error = Error;

    fn try_forward(&self, (x, _): (Images, Timesteps<Cpu>)) -> Result<Images> {
        Ok(x * 0.5 + self.0)
    }
}

fn run(count: usize, batch: usize) -> SampleRun {
    SampleRun {
        seed: 1,
        count,
        batch,
    }
}

fn guided(
    sampler: Sampler,
    diffusion: &Diffusion,
    model: &Knows,
    classes: &[usize],
    scale: f64,
    run: SampleRun,
) -> Result<Vec<f32>> {
    let guided = Guided {
        model,
        classes: classes.to_vec(),
        scale,
    };
    sampler.sample_guided::<1, 8, 8, CLASSES, _, _>(
        &Communicator::alone(),
        diffusion,
        &guided,
        &Cpu::default(),
        run,
        &mut |_| (),
    )
}

#[test]
fn guidance_leads_from_the_answer_for_no_class_through_that_for_the_class() {
    for kind in [
        Parameterization::Eps,
        Parameterization::X0,
        Parameterization::V,
    ] {
        let diffusion = diffusion().with_parameterization(kind);
        for sampler in [Sampler::Ancestral, Sampler::Ddim { steps: 4, eta: 0.5 }] {
            let says = |b: f32| {
                let (model, dev) = (Says(b), Cpu::default());
                sampler
                    .sample::<1, 8, 8, _, _>(&diffusion, &model, &dev, run(2, 2), &mut |_| ())
                    .unwrap()
            };
            let steps = sampler.timesteps(&diffusion).unwrap().len();
            for (class, &of_class) in OF_CLASS.iter().enumerate() {
                for scale in [0.0, 0.5, 1.0, 3.0] {
                    let model = Knows::default();
                    let found = guided(sampler, &diffusion, &model, &[class], scale, run(2, 2));
                    let found = found.unwrap();
                    let b = f64::from(NONE) + scale * (f64::from(of_class) - f64::from(NONE));
                    let expected = match scale {
                        0.0 => says(NONE),
                        1.0 => says(of_class),
                        _ => says(b as f32),
                    };
                    if scale == 0.0 || scale == 1.0 {
                        assert_eq!(found, expected);
                    }
                    for (found, expected) in found.iter().zip(&expected) {
                        let error = (found - expected).abs();
                        assert!(error < 1e-4, "{kind} {class} {scale}: {found}, {expected}");
                    }
                    let passes = if [0.0, 1.0].contains(&scale) { 1 } else { 2 };
                    assert_eq!(*model.0.lock().unwrap(), passes * steps);
                }
            }
        }
    }
}

#[test]
fn the_class_follows_from_the_images_number() {
    let (diffusion, model) = (diffusion(), Knows::default());
    let sampler = Sampler::Ddim { steps: 4, eta: 0.5 };
    let draw =
        |classes: &[usize], run| guided(sampler, &diffusion, &model, classes, 2.0, run).unwrap();
    let all = draw(&[2, 0], run(5, 5));
    assert_eq!(draw(&[2, 0], run(5, 2)), all);
    assert_eq!(draw(&[2, 0], run(3, 1)), all[..3 * 64]);
    for (image, class) in [(0, 2), (1, 0), (2, 2), (3, 0), (4, 2)] {
        let own = draw(&[class], run(5, 5));
        assert_eq!(all[image * 64..][..64], own[image * 64..][..64]);
        assert_ne!(own, all);
    }
    let ranks = Communicator::threads(2).unwrap();
    std::thread::scope(|scope| {
        for rank in ranks {
            let (all, diffusion) = (&all, &diffusion);
            scope.spawn(move || {
                let guided = Guided {
                    model: &Knows::default(),
                    classes: vec![2, 0],
                    scale: 2.0,
                };
                let found = sampler.sample_guided::<1, 8, 8, CLASSES, _, _>(
                    &rank,
                    diffusion,
                    &guided,
                    &Cpu::default(),
                    run(5, 2),
                    &mut |_| (),
                );
                assert_eq!(found.unwrap(), *all);
            });
        }
    });
}

#[test]
fn what_cannot_be_drawn_is_named() {
    for (classes, scale, named) in [
        (&[][..], 1.0, "classes = none"),
        (&[0, 3], 1.0, "class = 3 of 3"),
        (&[0], -0.5, "guidance scale = -0.5"),
        (&[0], f64::NAN, "guidance scale = NaN"),
        (&[0], f64::INFINITY, "guidance scale = inf"),
    ] {
        let model = Knows::default();
        let found = guided(
            Sampler::Ancestral,
            &diffusion(),
            &model,
            classes,
            scale,
            run(1, 1),
        );
        let err = found.unwrap_err().to_string();
        assert!(err.starts_with(named), "{err}");
    }
}

/// A U-Net learns to know a class by what it is told.
#[test]
fn a_u_net_learns_what_classes_are() {
    let (dev, loader) = (Cpu::seed_from_u64(0), loader(&data(24), 12).shuffle(0));
    let model = dev.build_module::<ClassConditional<MnistUNet, CLASSES, 64>, f32>();
    let config = AdamConfig {
        lr: 1e-2,
        ..AdamConfig::adamw()
    };
    let diffusion = diffusion().with_parameterization(Parameterization::X0);
    let mut trainer = DiffusionTrainer::new(model, config, diffusion.clone(), 0).unwrap();
    for _ in 0..40 {
        trainer
            .train_class_epoch::<1, 8, 8, CLASSES>(&dev, &loader, &mut ())
            .unwrap();
    }
    let told = trainer.evaluate_classes::<1, 8, 8, CLASSES>(&dev, &loader);
    let untold = trainer.evaluate::<1, 8, 8>(&dev, &loader);
    let (told, untold) = (told.unwrap(), untold.unwrap());
    assert!(told < 0.5 * untold, "{told} {untold}");
    let guided = Guided {
        model: trainer.model(),
        classes: vec![0, 1, 2],
        scale: 1.5,
    };
    let images = Sampler::Ddim { steps: 5, eta: 0.0 }
        .sample_guided::<1, 8, 8, CLASSES, _, _>(
            &Communicator::alone(),
            &diffusion,
            &guided,
            &dev,
            run(6, 6),
            &mut |_| (),
        )
        .unwrap();
    let brightness: Vec<f32> = images
        .chunks(64)
        .map(|x| x.iter().sum::<f32>() / 64.0)
        .collect();
    for of_class in brightness.chunks(CLASSES) {
        assert!(of_class.is_sorted(), "{brightness:?}");
        assert!(of_class[2] - of_class[0] > 1.0, "{brightness:?}");
    }
}
