//! Training denoisers and drawing with them: that it learns, repeats itself bit for bit, resumes,
//! and that a network which knows the image gets it back.

use dfdx::nn::{ModuleVisitor, NonMutableModule, TensorCollection};
use ssprop::data::{BatchLoader, ImageDataset, ImageShape, Normalization};
use ssprop::diffusion::{
    evaluate, BetaSchedule, Diffusion, DiffusionTrainer, Loss, Parameterization, SampleRun,
    SampleStep, Sampler, Timesteps,
};
use ssprop::nn::modules::{BiasedSparseConv2D, ReLU};
use ssprop::nn::{BackwardCost, ImageSize, LayerCost, LayerMut};
use ssprop::optim::Ema;
use ssprop::prelude::*;
use ssprop::{Error, Result};

type Images<T = NoneTape> = Tensor<(usize, Const<1>, Const<8>, Const<8>), f32, Cpu, T>;

/// conv2(relu(conv1(x)) (1 + t / 50))
#[derive(Clone, Debug)]
struct Tiny {
    conv1: BiasedSparseConv2D<1, 8, 3, 1, 1, 1, 1, f32, Cpu>,
    conv2: BiasedSparseConv2D<8, 1, 3, 1, 1, 1, 1, f32, Cpu>,
}

impl TensorCollection<f32, Cpu> for Tiny {
    type To<E2: Dtype, D2: Device<E2>> = (
        BiasedSparseConv2D<1, 8, 3, 1, 1, 1, 1, E2, D2>,
        BiasedSparseConv2D<8, 1, 3, 1, 1, 1, 1, E2, D2>,
    );

    fn iter_tensors<V: ModuleVisitor<Self, f32, Cpu>>(
        visitor: &mut V,
    ) -> std::result::Result<Option<Self::To<V::E2, V::D2>>, V::Err> {
        visitor.visit_fields(
            (
                Self::module("conv1", |s| &s.conv1, |s| &mut s.conv1),
                Self::module("conv2", |s| &s.conv2, |s| &mut s.conv2),
            ),
            |both| both,
        )
    }
}

fn tiny(seed: u64) -> Tiny {
    let dev = Cpu::seed_from_u64(seed);
    type Net = (
        ssprop::nn::builders::BiasedSparseConv2D<1, 8, 3, 1, 1>,
        ssprop::nn::builders::BiasedSparseConv2D<8, 1, 3, 1, 1>,
    );
    let (conv1, conv2) = dev.build_module::<Net, f32>();
    Tiny { conv1, conv2 }
}

impl<T: Tape<f32, Cpu>> Module<(Images<T>, Timesteps<Cpu>)> for Tiny {
    type Output = Images<T>;
    type Error = Error;

    fn try_forward(&self, (x, t): (Images<T>, Timesteps<Cpu>)) -> Result<Images<T>> {
        let h = ReLU.try_forward(self.conv1.try_apply(x)?)?;
        let (h, tape) = h.split_tape();
        let scale = (t / 50.0 + 1.0).broadcast_like(h.shape());
        self.conv2.try_apply(h.put_tape(tape) * scale)
    }
}

impl NonMutableModule for Tiny {}

impl VisitLayers for Tiny {
    fn visit_layers_at(&mut self, path: &str, f: &mut dyn FnMut(LayerMut<'_>)) {
        assert_eq!(path, "");
        self.conv1.visit_layers_at("conv1", f);
        self.conv2.visit_layers_at("conv2", f);
    }
}

impl BackwardCost for Tiny {
    fn visit_cost(
        _: &str,
        input: ImageSize,
        f: &mut dyn FnMut(&str, LayerCost),
    ) -> Result<ImageSize> {
        type Net = (
            BiasedSparseConv2D<1, 8, 3, 1, 1, 1, 1, f32, Cpu>,
            BiasedSparseConv2D<8, 1, 3, 1, 1, 1, 1, f32, Cpu>,
        );
        let names = ["conv1", "conv2"];
        <Net as BackwardCost>::visit_cost("", input, &mut |path, cost| {
            f(names[path.parse::<usize>().unwrap()], cost)
        })
    }
}

/// Bright and dark halves.
fn halves(n: usize) -> ImageDataset {
    let pixel = |i: usize, y: usize, x: usize| {
        let at = if i.is_multiple_of(2) { x } else { y };
        ((at < 4 + i % 3) as u8) * 200 + (i * 31 + x * 7 + y * 3) as u8 % 40
    };
    let images = (0..n * 64).map(|k| pixel(k / 64, k / 8 % 8, k % 8));
    let shape = ImageShape::new(1, 8, 8);
    ImageDataset::new(images.collect(), vec![0; n], shape, 1).unwrap()
}

fn loader(data: &ImageDataset, batch: usize) -> BatchLoader {
    let loader = BatchLoader::new(data, batch).unwrap().shuffle(9);
    loader.normalize(Normalization::symmetric(1)).unwrap()
}

fn diffusion() -> Diffusion {
    Diffusion::new(BetaSchedule::Cosine, 50).unwrap()
}

fn trainer(seed: u64) -> DiffusionTrainer<Tiny, Cpu> {
    let cfg = AdamConfig {
        lr: 1e-2,
        ..AdamConfig::adamw()
    };
    let schedule = Schedule::alternating(DropRate::new(0.5).unwrap());
    DiffusionTrainer::new(tiny(seed), cfg, diffusion(), 5)
        .unwrap()
        .with_schedule(schedule)
        .unwrap()
        .with_ema(0.9)
        .unwrap()
}

/// Trains up to `epochs` and returns the losses.
fn train(trainer: &mut DiffusionTrainer<Tiny, Cpu>, data: &ImageDataset, epochs: u64) -> Vec<f64> {
    let (dev, loader) = (Cpu::default(), loader(data, 12));
    let mut losses = Vec::new();
    while trainer.epoch() < epochs {
        let done = trainer.train_epoch::<1, 8, 8>(&dev, &loader, &mut ());
        losses.push(done.unwrap().loss);
    }
    losses
}

/// The bits of everything that a checkpoint has.
fn saved(trainer: &DiffusionTrainer<Tiny, Cpu>) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint");
    trainer.save(&path, &Default::default()).unwrap();
    std::fs::read(path).unwrap()
}

#[test]
fn the_loss_falls_by_either_measure_and_for_every_prediction() {
    let (data, dev) = (halves(36), Cpu::default());
    for loss in [Loss::L1, Loss::L2] {
        for kind in [
            Parameterization::Eps,
            Parameterization::X0,
            Parameterization::V,
        ] {
            let cfg = AdamConfig {
                lr: 1e-2,
                ..AdamConfig::adamw()
            };
            let diffusion = diffusion().with_parameterization(kind);
            let mut trainer = DiffusionTrainer::new(tiny(1), cfg, diffusion, 5)
                .unwrap()
                .with_loss(loss);
            let loader = loader(&data, 12);
            let before = trainer.evaluate::<1, 8, 8>(&dev, &loader).unwrap();
            let losses = train(&mut trainer, &data, 20);
            let after = trainer.evaluate::<1, 8, 8>(&dev, &loader).unwrap();
            assert!(losses[19] < 0.7 * losses[0], "{loss} {kind}: {losses:?}");
            assert!(after < 0.7 * before, "{loss} {kind}: {before} {after}");
            // Saying nothing is no solution.
            let silent =
                evaluate::<1, 8, 8, _, _>(&Silent, trainer.diffusion(), loss, &dev, &loader, 5);
            let silent = silent.unwrap();
            assert!(after < silent, "{loss} {kind}: {silent} {after}");
        }
    }
}

#[test]
fn a_resumed_run_goes_on_bit_for_bit() {
    let data = halves(30);
    let mut whole = trainer(3);
    let losses = train(&mut whole, &data, 4);

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.safetensors");
    let mut first = trainer(3);
    train(&mut first, &data, 2);
    let text = |s: &str| s.to_owned();
    let metadata = [(text("seed"), text("5")), (text("ema_updates"), text("no"))];
    first.save(&path, &metadata.into()).unwrap();

    // Another initialisation, so that nothing but the file can make it the same.
    let mut second = trainer(77);
    let metadata = second.resume(&path).unwrap();
    assert_eq!((&*metadata["seed"], &*metadata["ema_updates"]), ("5", "6"));
    assert_eq!((second.epoch(), second.ema().unwrap().updates()), (2, 6));
    assert_eq!(train(&mut second, &data, 4), losses[2..]);
    assert!(saved(&second) == saved(&whole));

    // The model and the average can be read on their own.
    let (mut model, mut average) = (tiny(8), tiny(9));
    checkpoint::load(&path, &mut model).unwrap();
    checkpoint::load_average(&path, &mut average).unwrap();
    let weight = |m: &Tiny| m.conv1.weight.as_vec();
    assert_eq!(weight(&model), weight(first.model()));
    assert_eq!(weight(&average), weight(first.averaged_model()));
    assert_ne!(weight(&average), weight(&model));
}

#[test]
fn a_checkpoint_without_the_average_is_refused_by_a_run_that_keeps_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.safetensors");
    let plain = || DiffusionTrainer::new(tiny(1), AdamConfig::adamw(), diffusion(), 0).unwrap();
    plain().save(&path, &Default::default()).unwrap();
    let mut keeps = trainer(2);
    let before = saved(&keeps);
    let err = keeps.resume(&path).unwrap_err().to_string();
    assert!(err.contains("`ema.conv1.weight`"), "{err}");
    assert!(saved(&keeps) == before);
    let err = checkpoint::load_average(&path, &mut tiny(1)).unwrap_err();
    assert!(matches!(err, Error::MissingTensor { .. }), "{err}");
    // The other way round it is left aside.
    trainer(2).save(&path, &Default::default()).unwrap();
    plain().resume(&path).unwrap();
}

#[test]
fn the_same_seed_gives_the_same_bits_whatever_the_number_of_threads() {
    let data = halves(30);
    let run = |threads| {
        ssprop::on_threads(Some(threads), || {
            let mut trainer = trainer(3);
            let losses = train(&mut trainer, &data, 2);
            let run = SampleRun {
                seed: 4,
                count: 3,
                batch: 3,
            };
            let images = Sampler::Ancestral.sample::<1, 8, 8, _, _>(
                trainer.diffusion(),
                trainer.averaged_model(),
                &Cpu::default(),
                run,
                &mut |_| (),
            );
            (losses, saved(&trainer), images.unwrap())
        })
        .unwrap()
    };
    let one = run(1);
    assert!(one == run(1), "a second run differs");
    assert!(one == run(2), "two threads differ");
}

#[test]
fn the_average_is_that_of_a_plain_loop() {
    let dev = Cpu::seed_from_u64(1);
    let mut model = tiny(1);
    let mut expected = model.conv1.weight.as_vec();
    let mut ema = Ema::new(&model, 0.3).unwrap();
    for n in 0..6 {
        model
            .conv1
            .weight
            .fill_with_distr(rand_distr::StandardNormal);
        let d = f64::min(0.3, (1.0 + n as f64) / (10.0 + n as f64)) as f32;
        for (e, p) in expected.iter_mut().zip(model.conv1.weight.as_vec()) {
            *e = d * *e + (1.0 - d) * p;
        }
        ema.update(&model).unwrap();
    }
    let found = ema.model.conv1.weight.as_vec();
    for (f, e) in found.iter().zip(&expected) {
        assert!((f - e).abs() < 1e-6, "{f} {e}");
    }
    assert_eq!((ema.updates(), ema.decay()), (6, 0.3));

    for decay in [1.0, -0.1, f64::NAN] {
        let err = Ema::new(&model, decay).unwrap_err().to_string();
        assert!(err.starts_with("decay = "), "{err}");
    }

    // What is not trained is copied.
    let mut norm = dev.build_module::<BatchNorm2D<2>, f32>();
    let mut ema = Ema::new(&norm, 0.9).unwrap();
    norm.running_mean.fill_with_ones();
    ema.update(&norm).unwrap();
    assert_eq!(ema.model.running_mean.as_vec(), [1.0; 2]);
}

/// Predicts what the diffusion asks for, of one image that it knows.
struct Knows {
    diffusion: Diffusion,
    image: f32,
}

impl Module<(Images, Timesteps<Cpu>)> for Knows {
    type Output = Images;
    type Error = Error;

    fn try_forward(&self, (x, t): (Images, Timesteps<Cpu>)) -> Result<Images> {
        let t: Vec<usize> = t.as_vec().iter().map(|&t| t as usize).collect();
        let mut x0 = x.clone();
        x0.copy_from(&vec![self.image; t.len() * 64]);
        let noise = self.diffusion.predict_eps(&x0, &x, &t)?;
        self.diffusion.target(&x0, &t, &noise)
    }
}

#[test]
fn who_knows_the_image_gets_it_back() {
    for kind in [
        Parameterization::Eps,
        Parameterization::X0,
        Parameterization::V,
    ] {
        let diffusion = diffusion().with_parameterization(kind);
        let model = Knows {
            diffusion: diffusion.clone(),
            image: 0.25,
        };
        for sampler in [
            Sampler::Ancestral,
            Sampler::Ddim {
                steps: 50,
                eta: 1.0,
            },
            Sampler::Ddim { steps: 7, eta: 0.5 },
            Sampler::Ddim { steps: 3, eta: 0.0 },
        ] {
            let run = SampleRun {
                seed: 0,
                count: 2,
                batch: 2,
            };
            let mut seen = Vec::new();
            let images = sampler
                .sample::<1, 8, 8, _, _>(&diffusion, &model, &Cpu::default(), run, &mut |done| {
                    seen.push((done.step, done.steps, done.x.to_vec(), done.x0.to_vec()));
                })
                .unwrap();
            assert_eq!(images.len(), 2 * 64);
            for value in &images {
                assert!((value - 0.25).abs() < 1e-4, "{sampler:?} {kind}: {value}");
            }
            let steps = sampler.timesteps(&diffusion).unwrap().len();
            let told: Vec<_> = seen.iter().map(|s| (s.0, s.1)).collect();
            assert_eq!(told, (0..=steps).map(|i| (i, steps)).collect::<Vec<_>>());
            assert!(seen[0].3.is_empty() && seen[1].3.len() == 128);
            // From noise to the image.
            let square = |x: &[f32]| x.iter().map(|x| (x - 0.25).powi(2)).sum::<f32>() / 128.0;
            assert!((0.6..1.6).contains(&square(&seen[0].2)));
            assert_eq!(seen[steps].2, images);
        }
    }
}

#[test]
fn a_sample_depends_on_the_seed_and_its_number_alone() {
    let (diffusion, model, dev) = (diffusion(), tiny(2), Cpu::default());
    for sampler in [Sampler::Ancestral, Sampler::Ddim { steps: 5, eta: 0.5 }] {
        let draw = |seed, count, batch| {
            let run = SampleRun { seed, count, batch };
            sampler
                .sample::<1, 8, 8, _, _>(&diffusion, &model, &dev, run, &mut |_| ())
                .unwrap()
        };
        let five = draw(1, 5, 5);
        assert_eq!(five, draw(1, 5, 2));
        assert_eq!(five[..3 * 64], draw(1, 3, 1));
        assert_ne!(five, draw(2, 5, 5));
        assert_ne!(five[..64], five[64..128]);
        assert!(draw(1, 0, 4).is_empty());
    }
    let none = SampleRun {
        seed: 0,
        count: 1,
        batch: 0,
    };
    let err = Sampler::Ancestral
        .sample::<1, 8, 8, _, _>(&diffusion, &model, &dev, none, &mut |_| ())
        .unwrap_err();
    assert!(err.to_string().starts_with("batch = 0"), "{err}");
}

/// Pinned: another generator would change every seed's pictures.
#[test]
fn the_noise_of_a_seed_stays_what_it_is() {
    let mut noise = Vec::new();
    let run = SampleRun {
        seed: 3,
        count: 1,
        batch: 1,
    };
    let mut keep = |done: &SampleStep| {
        if done.step == 0 {
            noise.extend_from_slice(&done.x[..2]);
        }
    };
    Sampler::Ancestral
        .sample::<1, 8, 8, _, _>(&diffusion(), &Silent, &Cpu::default(), run, &mut keep)
        .unwrap();
    assert_eq!(noise, [-1.3954625, 0.021961581]);
}

/// Loses an image.
struct Loses;

impl Module<(Images, Timesteps<Cpu>)> for Loses {
    type Output = Images;
    type Error = Error;

    fn try_forward(&self, (x, _): (Images, Timesteps<Cpu>)) -> Result<Images> {
        let images = x.shape().0 - 1;
        Ok(x.device().zeros_like(&(images, Const, Const, Const)))
    }
}

#[test]
fn a_network_that_loses_images_is_an_error() {
    let (data, dev) = (halves(8), Cpu::default());
    let run = SampleRun {
        seed: 0,
        count: 3,
        batch: 3,
    };
    let err = Sampler::Ancestral
        .sample::<1, 8, 8, _, _>(&diffusion(), &Loses, &dev, run, &mut |_| ())
        .unwrap_err();
    assert!(matches!(err, Error::Shape { .. }), "{err}");
    let err = evaluate::<1, 8, 8, _, _>(&Loses, &diffusion(), Loss::L2, &dev, &loader(&data, 4), 0)
        .unwrap_err();
    assert!(matches!(err, Error::Shape { .. }), "{err}");
}

/// Says that there is no noise.
struct Silent;

impl Module<(Images, Timesteps<Cpu>)> for Silent {
    type Output = Images;
    type Error = Error;

    fn try_forward(&self, (x, _): (Images, Timesteps<Cpu>)) -> Result<Images> {
        Ok(x * 0.0)
    }
}

#[test]
fn an_evaluation_is_the_same_for_any_batches() {
    let (data, dev) = (halves(40), Cpu::default());
    let loss = |loss, batch, seed| {
        let loader = loader(&data, batch);
        evaluate::<1, 8, 8, _, _>(&Silent, &diffusion(), loss, &dev, &loader, seed).unwrap()
    };
    // The mean square and the mean absolute value of normal noise, of 2560 elements.
    assert!((loss(Loss::L2, 8, 0) - 1.0).abs() < 0.1);
    let mean_abs = (2.0 / std::f64::consts::PI).sqrt();
    assert!((loss(Loss::L1, 8, 0) - mean_abs).abs() < 0.05);
    assert!((loss(Loss::L2, 8, 0) - loss(Loss::L2, 7, 0)).abs() < 1e-12);
    assert_ne!(loss(Loss::L2, 8, 0), loss(Loss::L2, 8, 1));
}

#[test]
fn data_that_do_not_fit_and_losses_that_are_not_finite_are_errors() {
    let (data, dev) = (halves(12), Cpu::default());
    let wide = loader(&data, 4).fit_to(ImageShape::new(1, 9, 9)).unwrap();
    let err = trainer(1)
        .train_epoch::<1, 8, 8>(&dev, &wide, &mut ())
        .unwrap_err()
        .to_string();
    assert!(err.contains("1x8x8") && err.contains("1x9x9"), "{err}");
    let mut broken = trainer(1);
    broken.model_mut().conv2.bias.fill_with_ones();
    broken.model_mut().conv2.bias.copy_from(&[f32::NAN]);
    let err = broken
        .train_epoch::<1, 8, 8>(&dev, &loader(&data, 4), &mut ())
        .unwrap_err();
    assert!(matches!(
        err,
        Error::Diverged {
            epoch: 0,
            batch: 0,
            ..
        }
    ));
}

#[test]
fn nothing_is_computed_for_the_noised_images() {
    let (data, dev) = (halves(8), Cpu::default());
    let passes = |frozen: &str| {
        let groups = ParameterGroups::new().freeze(frozen);
        let trainer = Trainer::new(tiny(1), AdamConfig::adamw())
            .and_then(|trainer| trainer.with_parameter_groups(&groups))
            .unwrap();
        let mut trainer = DiffusionTrainer::with_trainer(trainer, diffusion(), 5);
        let counts = trainer.model_mut().count_kept();
        let done = trainer.train_epoch::<1, 8, 8>(&dev, &loader(&data, 4), &mut ());
        let flops = done.unwrap().backward_flops;
        let cost = trainer.backward_cost([1, 8, 8]).unwrap();
        assert_eq!(flops, 2.0 * cost.per_iteration(4, DropRate::DENSE));
        [counts[0].1.passes(), counts[1].1.passes()]
    };
    assert_eq!(passes("conv1"), [0, 2]);
    assert_eq!(passes("conv2.bias"), [2, 2]);
}
