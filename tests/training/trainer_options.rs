//! A trainer's options: resumed bit for bit, the same for any number of threads, and clear about bad
//! values.

use dfdx::optim::RMSprop;
use ssprop::data::{BatchLoader, ImageDataset, ImageShape};
use ssprop::optim::{Optimizer as _, OptimizerState};
use ssprop::prelude::*;

use crate::stripes::stripes;

type Net = (
    BiasedSparseConv2D<1, 16, 3, 1, 1>,
    BatchNorm2D<16>,
    ReLU,
    BiasedSparseConv2D<16, 16, 3, 2, 1>,
    GlobalAvgPool,
    Linear<16, 2>,
);
type Built = <Net as BuildOnDevice<Cpu, f32>>::Built;
type WithSgd = Trainer<Built, Cpu, Sgd<Built, f32, Cpu>>;

fn loader() -> BatchLoader {
    BatchLoader::new(&stripes(40), 6).unwrap().shuffle(9)
}

fn model(seed: u64) -> Built {
    Cpu::seed_from_u64(seed).build_module::<Net, f32>()
}

/// All that training keeps from step to step.
fn trainer(seed: u64) -> WithSgd {
    let model = model(seed);
    let config = SgdConfig {
        lr: 0.05,
        momentum: 0.9,
        nesterov: true,
        weight_decay: 1e-3,
        ..SgdConfig::default()
    };
    let groups = ParameterGroups::new()
        .without_decay_of_norms_and_biases()
        .with_lr_factor("5", 2.0)
        .unwrap();
    let sgd = Sgd::new(&model, config).unwrap();
    Trainer::with_optimizer(model, sgd)
        .with_schedule(Schedule::alternating(DropRate::new(0.75).unwrap()))
        .and_then(|t| t.with_parameter_groups(&groups))
        .and_then(|t| t.with_clip_norm(0.5))
        .and_then(|t| t.with_label_smoothing(0.1))
        .and_then(|t| t.with_accumulation(2))
        .and_then(|t| t.with_ema(0.9))
        .unwrap()
        .with_lr_schedule(LrSchedule::cosine(2).unwrap())
}

fn train_epoch<O>(trainer: &mut Trainer<Built, Cpu, O>) -> EpochReport
where
    O: ssprop::optim::Optimizer<Built, f32, Cpu>,
{
    let dev = Cpu::default();
    let done = trainer.train_epoch::<1, 8, 8, 2>(&dev, &loader(), &mut ());
    done.unwrap()
}

/// The bits of everything that a checkpoint has.
fn saved<O>(trainer: &Trainer<Built, Cpu, O>) -> Vec<u8>
where
    O: ssprop::optim::Optimizer<Built, f32, Cpu>,
{
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint");
    trainer.save(&path, &Default::default()).unwrap();
    std::fs::read(path).unwrap()
}

/// Pauses wherever it can.
struct Stop;

impl Observer for Stop {
    fn pause(&mut self) -> bool {
        true
    }
}

#[test]
fn a_run_resumed_within_epochs_goes_on_bit_for_bit() {
    let mut whole = trainer(1);
    let reports = [train_epoch(&mut whole), train_epoch(&mut whole)];
    assert!(reports[1].loss < reports[0].loss);

    let dev = Cpu::default();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.safetensors");
    let (mut parts, mut pauses) = (trainer(1), Vec::new());
    while parts.epoch() < 2 {
        let part = parts.train_part::<1, 8, 8, 2>(&dev, &loader(), &mut Stop);
        if let Some(report) = part.unwrap() {
            let whole = &reports[report.epoch as usize];
            assert_eq!((report.loss, report.lr), (whole.loss, whole.lr));
            assert_eq!(report.grad_norm, whole.grad_norm);
            continue;
        }
        pauses.push(parts.batches_done());
        parts.save(&path, &Default::default()).unwrap();
        // Another initialisation, so that nothing but the file can make it the same.
        parts = trainer(77);
        parts.resume(&path).unwrap();
    }
    // Never within the batches of one step: 7 batches, two a step.
    assert_eq!(pauses, [2, 4, 6, 2, 4, 6]);
    assert!(saved(&parts) == saved(&whole));
    let average = |t: &WithSgd| t.evaluate::<1, 8, 8, 2>(&dev, &loader()).unwrap();
    assert_eq!(average(&parts), average(&whole));
    // It is the average that is evaluated.
    let own = evaluate::<1, 8, 8, 2, _, _>(&whole.model, &dev, &loader()).unwrap();
    assert_ne!(own.loss, average(&whole).loss);
}

#[test]
fn bits_do_not_depend_on_the_number_of_threads() {
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build().unwrap().install(|| {
            let mut trainer = trainer(1);
            train_epoch(&mut trainer);
            saved(&trainer)
        })
    };
    let one = run(1);
    assert!(one == run(2) && one == run(4));
}

#[test]
fn frozen_layers_stay_as_they_are() {
    let groups = ParameterGroups::new().freeze("**").unfreeze("5");
    let mut trainer = trainer(1).with_parameter_groups(&groups).unwrap();
    let before = trainer.model.clone();
    let counts = trainer.model.count_kept();
    train_epoch(&mut trainer);
    let after = &trainer.model;
    assert_eq!(after.0.weight.as_vec(), before.0.weight.as_vec());
    assert_eq!(after.0.bias.as_vec(), before.0.bias.as_vec());
    assert_eq!(after.1.weight.as_vec(), before.1.weight.as_vec());
    assert_eq!(after.3.weight.as_vec(), before.3.weight.as_vec());
    assert_ne!(after.5.weight.as_vec(), before.5.weight.as_vec());
    // Nothing is computed below the layer that is trained.
    assert!(counts.iter().all(|(_, count)| count.passes() == 0));

    // A bias alone: the gradient of the layer is computed, the bias stays.
    let groups = ParameterGroups::new().freeze("3.bias");
    let mut trainer = self::trainer(1).with_parameter_groups(&groups).unwrap();
    let counts = trainer.model.count_kept();
    train_epoch(&mut trainer);
    assert!(counts.iter().all(|(_, count)| count.passes() > 0));
    assert_eq!(trainer.model.3.bias.as_vec(), before.3.bias.as_vec());
    assert_ne!(trainer.model.3.weight.as_vec(), before.3.weight.as_vec());
    assert_ne!(trainer.model.0.weight.as_vec(), before.0.weight.as_vec());
}

#[test]
fn what_is_trained_with_frozen_layers_is_the_same_as_by_hand() {
    // Freezing the last layer leaves out its dW only: the gradients below it are the same.
    let step = |groups: &ParameterGroups| {
        let config = SgdConfig {
            lr: 0.1,
            ..SgdConfig::default()
        };
        let sgd = Sgd::new(&model(1), config).unwrap();
        let trainer = Trainer::with_optimizer(model(1), sgd);
        let mut trainer = trainer.with_parameter_groups(groups).unwrap();
        let loader = BatchLoader::new(&stripes(6), 6).unwrap();
        let dev = Cpu::default();
        let done = trainer.train_epoch::<1, 8, 8, 2>(&dev, &loader, &mut ());
        done.unwrap();
        trainer.model
    };
    let (all, frozen) = (
        step(&ParameterGroups::new()),
        step(&ParameterGroups::new().freeze("3")),
    );
    assert_eq!(all.0.weight.as_vec(), frozen.0.weight.as_vec());
    assert_ne!(all.3.weight.as_vec(), frozen.3.weight.as_vec());
    assert_eq!(model(1).3.weight.as_vec(), frozen.3.weight.as_vec());
}

#[test]
fn bad_values_are_errors_that_name_them() {
    let message = |result: ssprop::Result<WithSgd>| result.unwrap_err().to_string();
    for value in [-1.0, 0.0, f64::NAN, f64::INFINITY] {
        let err = message(trainer(1).with_clip_norm(value));
        assert_eq!(
            err,
            format!("clip_norm = {value}: must be finite and greater than 0")
        );
        let err = message(trainer(1).with_clip_value(value));
        assert!(err.starts_with(&format!("clip_value = {value}")), "{err}");
    }
    let err = message(trainer(1).with_label_smoothing(1.2));
    assert_eq!(err, "label_smoothing = 1.2: must be in 0..=1");
    let err = message(trainer(1).with_class_weights(vec![1.0, -2.0]));
    assert!(
        err.starts_with("class_weights = -2: must be finite"),
        "{err}"
    );
    let err = message(trainer(1).with_accumulation(0));
    assert_eq!(err, "accumulation = 0: must be at least 1");
    let err = message(trainer(1).with_ema(1.0));
    assert!(err.starts_with("decay = 1"), "{err}");
    let err = message(trainer(1).with_parameter_groups(&ParameterGroups::new().freeze("5.wieght")));
    assert!(
        err.contains("`5.wieght`") && err.contains("0.weight"),
        "{err}"
    );
    for value in [-0.5, f64::NAN] {
        let err = ParameterGroups::new().with_lr_factor("0", value);
        let err = err.unwrap_err().to_string();
        assert!(err.starts_with(&format!("lr_factor = {value}")), "{err}");
    }
    let config = SgdConfig {
        momentum: 1.5,
        ..SgdConfig::default()
    };
    let err = Sgd::<Built, f32, Cpu>::new(&model(1), config).unwrap_err();
    assert!(err.to_string().starts_with("momentum = 1.5"), "{err}");
}

#[test]
fn a_checkpoint_of_another_optimizer_names_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("adam.safetensors");
    let adam = Trainer::new(model(1), AdamConfig::adam()).unwrap();
    adam.save(&path, &Default::default()).unwrap();
    let err = trainer(1).resume(&path).unwrap_err().to_string();
    // No average either.
    assert!(err.contains("no tensor `ema.0.weight`"), "{err}");
    let sgd = SgdConfig {
        momentum: 0.9,
        ..SgdConfig::default()
    };
    let sgd = Sgd::new(&model(1), sgd).unwrap();
    let mut sgd = Trainer::with_optimizer(model(2), sgd);
    let before = sgd.model.clone();
    let err = sgd.resume(&path).unwrap_err().to_string();
    let missing = "no tensor `optimizer.momentum_buffer.0.weight`";
    assert!(
        err.contains("adam.safetensors") && err.contains(missing),
        "{err}"
    );
    assert_eq!(sgd.model.0.weight.as_vec(), before.0.weight.as_vec());
    // SGD without momentum has nothing of the file's.
    let plain = Sgd::new(&model(1), SgdConfig::default()).unwrap();
    let mut plain = Trainer::with_optimizer(model(2), plain);
    let err = plain.resume(&path).unwrap_err().to_string();
    assert!(err.contains("`optimizer.exp_avg.0.weight`"), "{err}");
}

/// dfdx's RMSprop, which keeps its state to itself.
struct Rms(RMSprop<Built, f32, Cpu>);

impl ssprop::optim::Optimizer<Built, f32, Cpu> for Rms {
    fn step(
        &mut self,
        model: &mut Built,
        grads: &mut Gradients<f32, Cpu>,
        scale: f64,
    ) -> ssprop::Result<()> {
        ssprop::optim::scale_gradients(model, grads, scale)?;
        dfdx::optim::Optimizer::update(&mut self.0, model, grads).unwrap();
        model.zero_grads(grads);
        Ok(())
    }
    fn lr(&self) -> f64 {
        self.0.cfg.lr
    }
    fn set_lr(&mut self, lr: f64) -> ssprop::Result<()> {
        self.0.cfg.lr = lr;
        Ok(())
    }
    fn state(&self, _: &Built) -> ssprop::Result<OptimizerState<f32>> {
        Ok(OptimizerState::default())
    }
    fn restore(&mut self, _: &Built, _: OptimizerState<f32>) -> ssprop::Result<()> {
        Ok(())
    }
}

#[test]
fn an_optimizer_of_ones_own_trains_clipped_and_accumulated() {
    let model = model(1);
    let rms = Rms(RMSprop::new(&model, Default::default()));
    let trainer = Trainer::with_optimizer(model, rms);
    let trainer = trainer.with_accumulation(2).unwrap();
    let mut trainer = trainer.with_clip_norm(1.0).unwrap();
    let first = train_epoch(&mut trainer);
    for _ in 0..3 {
        train_epoch(&mut trainer);
    }
    let last = train_epoch(&mut trainer);
    assert!(last.loss < 0.8 * first.loss, "{first:?} {last:?}");
    assert!(last.grad_norm.unwrap() > 0.0);
    // It can be saved and resumed like any other.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rms.safetensors");
    trainer.save(&path, &Default::default()).unwrap();
    trainer.resume(&path).unwrap();
    assert_eq!((trainer.epoch(), trainer.optimizer.lr()), (5, 1e-2));
}

#[test]
fn large_parameters_are_updated_alike_in_every_block_by_any_number_of_threads() {
    use ssprop::optim::{clip_grad_norm, clip_grad_value};
    // Several blocks and a rest.
    const N: usize = 5 * 16 * 1024 + 77;
    type Big = Tensor<Rank1<N>, f32, Cpu>;
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build().unwrap().install(|| {
            let dev = Cpu::seed_from_u64(3);
            let mut w: Big = dev.sample_normal();
            let config = SgdConfig {
                lr: 0.1,
                momentum: 0.9,
                ..SgdConfig::default()
            };
            let mut sgd = Sgd::new(&w, config).unwrap();
            let mut grads = w.alloc_grads();
            let mut bits = Vec::new();
            for step in 0..3 {
                let (before, g): (Big, Big) = (w.clone(), dev.sample_normal());
                let own = grads.get_or_alloc_mut(&w).unwrap();
                own.copy_from_slice(&g.as_vec());
                clip_grad_value(&w, &mut grads, 2.0).unwrap();
                let norm = clip_grad_norm(&w, &mut grads, 1e9).unwrap();
                sgd.step(&mut w, &mut grads, 0.5).unwrap();
                bits.push(norm.to_bits());
                if step > 0 {
                    continue;
                }
                // The first momentum is the gradient.
                let clipped = g.as_vec().into_iter().map(|g| g.clamp(-2.0, 2.0));
                let squares: f64 = clipped.clone().map(|g| f64::from(g).powi(2)).sum();
                assert!((norm / squares.sqrt() - 1.0).abs() < 1e-12);
                for ((after, before), g) in w.as_vec().iter().zip(before.as_vec()).zip(clipped) {
                    assert_eq!(*after, before - 0.1 * (0.5 * g));
                }
            }
            bits.extend(w.as_vec().iter().map(|x| u64::from(x.to_bits())));
            bits
        })
    };
    let one = run(1);
    assert!(one == run(2) && one == run(4));
}

/// What counts is learnt, and nothing else.
#[test]
fn classes_count_by_their_weights() {
    let dev = Cpu::default();
    let data = stripes(40);
    let counts = data.take(3).class_counts();
    let weights = data.take(3).balancing_weights();
    let shares: Vec<_> = counts
        .iter()
        .zip(&weights)
        .map(|(&n, w)| n as f64 * w)
        .collect();
    assert_eq!(shares, [1.5, 1.5]);
    for counting in [0, 1] {
        let mut weights = vec![0.0; 2];
        weights[counting] = 3.0;
        let mut trainer = Trainer::new(model(1), AdamConfig::adam())
            .and_then(|t| t.with_class_weights(weights))
            .unwrap();
        for _ in 0..5 {
            trainer
                .train_epoch::<1, 8, 8, 2>(&dev, &loader(), &mut ())
                .unwrap();
        }
        let found = trainer.evaluate_by_class::<1, 8, 8, 2>(&dev, &loader());
        let (_, matrix) = found.unwrap();
        let predicted = matrix.count(0, counting) + matrix.count(1, counting);
        assert_eq!(predicted, 40, "{matrix:?}");
        let mut three = trainer.with_class_weights(vec![1.0; 3]).unwrap();
        let err = three.train_epoch::<1, 8, 8, 2>(&dev, &loader(), &mut ());
        let err = err.unwrap_err().to_string();
        assert!(err.contains("class weights: expected 2, found 3"), "{err}");
    }
}

#[test]
fn evaluation_by_class_is_the_same_evaluation() {
    let mut trainer = trainer(1);
    train_epoch(&mut trainer);
    let dev = Cpu::default();
    let found = trainer.evaluate::<1, 8, 8, 2>(&dev, &loader()).unwrap();
    let by_class = trainer.evaluate_by_class::<1, 8, 8, 2>(&dev, &loader());
    let (same, matrix) = by_class.unwrap();
    assert_eq!(found, same);
    // Two classes: each is among the five.
    assert_eq!((found.images, found.correct_top5), (40, 40));
    assert_eq!(found.top5_accuracy(), 1.0);
    let count = |label, predicted| matrix.count(label, predicted) as usize;
    assert_eq!(count(0, 0) + count(1, 1), found.correct);
    assert_eq!((count(0, 0) + count(0, 1), matrix.classes()), (20, 2));

    let labels = (0..12).map(|i| i % 3 == 0).collect();
    let shape = ImageShape::new(1, 8, 8);
    let data = ImageDataset::multi_label(vec![9; 6 * 64], labels, shape, 2).unwrap();
    let loader = BatchLoader::new(&data, 6).unwrap();
    let err = trainer.evaluate_by_class::<1, 8, 8, 2>(&dev, &loader);
    assert!(err.unwrap_err().to_string().contains("multi-label"));
    // Such labels are not smoothed.
    let err = trainer.train_epoch::<1, 8, 8, 2>(&dev, &loader, &mut ());
    let err = err.unwrap_err().to_string();
    assert!(err.starts_with("label_smoothing = 0.1"), "{err}");
}
