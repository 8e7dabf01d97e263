//! Training: that it learns, repeats itself bit for bit, resumes, and stops when it diverges.

use ssprop::data::{BatchLoader, ImageDataset, ImageShape};
use ssprop::nn::ModelCost;
use ssprop::prelude::*;
use ssprop::Error;

use crate::stripes::stripes;

type Net = (
    SparseConv2D<1, 16, 3, 1, 1>,
    BatchNorm2D<16>,
    ReLU,
    SparseConv2D<16, 16, 3, 2, 1>,
    GlobalAvgPool,
    Linear<16, 2>,
);
type Built = <Net as BuildOnDevice<Cpu, f32>>::Built;

fn trainer() -> (Cpu, Trainer<Built, Cpu>) {
    let dev = Cpu::seed_from_u64(3);
    let model = dev.build_module::<Net, f32>();
    let cfg = AdamConfig {
        lr: 5e-3,
        ..AdamConfig::adam()
    };
    (dev, Trainer::new(model, cfg).unwrap())
}

fn loader(data: &ImageDataset) -> BatchLoader {
    BatchLoader::new(data, 12).unwrap().shuffle(9)
}

fn rate(epoch: u64) -> DropRate {
    Schedule::alternating(DropRate::new(0.75).unwrap()).drop_rate(epoch, 0)
}

/// Trains up to `epochs` and returns the losses.
fn train(
    dev: &Cpu,
    trainer: &mut Trainer<Built, Cpu>,
    data: &ImageDataset,
    epochs: u64,
) -> Vec<f64> {
    let mut losses = Vec::new();
    while trainer.epoch() < epochs {
        trainer.model.set_drop_rate(rate(trainer.epoch()));
        let report = trainer
            .train_epoch::<1, 8, 8, 2>(dev, &loader(data), &mut ())
            .unwrap();
        losses.push(report.loss);
    }
    losses
}

/// The bits of everything that a checkpoint has.
fn saved(trainer: &Trainer<Built, Cpu>) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint");
    trainer.save(&path, &Default::default()).unwrap();
    std::fs::read(path).unwrap()
}

#[derive(Default)]
struct Recorder {
    batches: Vec<BatchReport>,
    epochs: Vec<EpochReport>,
}

impl Observer for Recorder {
    fn batch(&mut self, report: &BatchReport) {
        self.batches.push(*report);
    }
    fn epoch(&mut self, report: &EpochReport) {
        self.epochs.push(*report);
    }
}

#[test]
fn a_separable_problem_is_learnt_through_dense_and_sparse_epochs() {
    let data = stripes(64);
    let (dev, mut trainer) = trainer();
    let before = trainer
        .evaluate::<1, 8, 8, 2>(&dev, &loader(&data))
        .unwrap();
    let losses = train(&dev, &mut trainer, &data, 10);
    let after = trainer
        .evaluate::<1, 8, 8, 2>(&dev, &loader(&data))
        .unwrap();
    assert!(losses[9] < 0.5 * losses[0], "{losses:?}");
    assert!(after.loss < 0.5 * before.loss, "{before:?} {after:?}");
    assert!(after.accuracy() > 0.95, "{after:?}");
    assert_eq!((after.images, before.images), (64, 64));
}

#[test]
fn the_observer_sees_every_batch_and_the_epoch_sums_them_up() {
    let data = stripes(30);
    let (dev, mut trainer) = trainer();
    let mut seen = Recorder::default();
    let mut reports = Vec::new();
    for epoch in 0..2 {
        trainer.model.set_drop_rate(rate(epoch));
        let done = trainer.train_epoch::<1, 8, 8, 2>(&dev, &loader(&data), &mut seen);
        reports.push(done.unwrap());
    }
    assert_eq!(seen.epochs, reports);
    let numbers: Vec<_> = seen
        .batches
        .iter()
        .map(|b| (b.epoch, b.batch, b.images))
        .collect();
    assert_eq!(
        numbers,
        [
            (0, 0, 12),
            (0, 1, 12),
            (0, 2, 6),
            (1, 0, 12),
            (1, 1, 12),
            (1, 2, 6)
        ]
    );
    let mean = seen.batches[..3]
        .iter()
        .map(|b| b.loss * b.images as f64)
        .sum::<f64>()
        / 30.0;
    assert!((reports[0].loss - mean).abs() < 1e-12);
    assert_eq!((reports[0].images, reports[0].batches), (30, 3));
    assert!(reports[1].backward_flops < 0.4 * reports[0].backward_flops);
    assert!(reports[0].seconds.backward > 0.0 && reports[0].seconds.forward > 0.0);
}

#[test]
fn the_same_seed_gives_the_same_bits_whatever_the_number_of_threads() {
    let data = stripes(40);
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            let (dev, mut trainer) = trainer();
            let losses = train(&dev, &mut trainer, &data, 2);
            (losses, saved(&trainer))
        })
    };
    let one = run(1);
    assert!(one == run(1), "a second run differs");
    assert!(one == run(2), "two threads differ");
    assert!(one == run(4), "four threads differ");
}

#[test]
fn a_resumed_run_goes_on_bit_for_bit() {
    let data = stripes(40);
    let (dev, mut whole) = trainer();
    let losses = train(&dev, &mut whole, &data, 4);

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.safetensors");
    let (dev, mut first) = trainer();
    train(&dev, &mut first, &data, 2);
    first
        .save(&path, &[("seed".into(), "9".into())].into())
        .unwrap();

    // Another initialisation, so that nothing but the file can make it the same.
    let dev = Cpu::seed_from_u64(77);
    let mut second =
        Trainer::new(dev.build_module::<Net, f32>(), *first.optimizer.config()).unwrap();
    assert_eq!(second.resume(&path).unwrap()["seed"], "9");
    assert_eq!(second.epoch(), 2);
    assert_eq!(train(&dev, &mut second, &data, 4), losses[2..]);
    assert!(saved(&second) == saved(&whole));
}

/// Pauses after every batch.
struct Stop;

impl Observer for Stop {
    fn pause(&mut self) -> bool {
        true
    }
}

#[test]
fn a_run_resumed_within_epochs_goes_on_bit_for_bit() {
    // The norm has the dropout.
    type Small = (
        SparseConv2D<1, 16, 3, 2, 1>,
        BatchNorm2D<16>,
        ReLU,
        GlobalAvgPool,
        Linear<16, 2>,
    );
    let data = stripes(40);
    let dev = Cpu::seed_from_u64(3);
    // All that depends on the place in the run: random channels, drop rates by iteration, dropout.
    let new = |seed| {
        let mut model = Cpu::seed_from_u64(seed).build_module::<Small, f32>();
        model.visit_sparse(&mut |layer| {
            layer.backward.selection = Selection::Random {
                seed: 7,
                rescale: false,
            }
        });
        model.set_dropout(0.2, 5).unwrap();
        let plan: SchedulePlan = "bar,drop=0.75,period=3".parse().unwrap();
        let trainer = Trainer::new(model, AdamConfig::adam()).unwrap();
        trainer.with_schedule(plan).unwrap()
    };
    let (mut whole, mut reports) = (new(1), Vec::new());
    for _ in 0..2 {
        let report = whole.train_epoch::<1, 8, 8, 2>(&dev, &loader(&data), &mut ());
        reports.push(report.unwrap());
    }

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.safetensors");
    let (mut trainer, mut pauses) = (new(1), 0);
    while trainer.epoch() < 2 {
        let part = trainer.train_part::<1, 8, 8, 2>(&dev, &loader(&data), &mut Stop);
        if let Some(report) = part.unwrap() {
            let seconds = reports[report.epoch as usize].seconds;
            assert_eq!(
                EpochReport { seconds, ..report },
                reports[report.epoch as usize]
            );
            continue;
        }
        pauses += 1;
        assert_eq!(trainer.batches_done(), (pauses - 1) % 3 + 1);
        trainer.save(&path, &Default::default()).unwrap();
        // Another initialisation, so that nothing but the file can make it the same.
        trainer = new(77);
        trainer.resume(&path).unwrap();
    }
    assert_eq!(pauses, 6);
    let bits = |trainer: &Trainer<_, _>| {
        trainer.save(&path, &Default::default()).unwrap();
        std::fs::read(&path).unwrap()
    };
    assert!(bits(&trainer) == bits(&whole));

    // Of another data set: fewer batches than are done.
    trainer
        .train_part::<1, 8, 8, 2>(&dev, &loader(&data), &mut Stop)
        .unwrap();
    let few = stripes(10);
    let err = trainer.train_epoch::<1, 8, 8, 2>(&dev, &loader(&few), &mut ());
    assert!(err.unwrap_err().to_string().contains("batches done = 1"));
}

#[test]
fn weights_that_are_not_finite_reach_no_checkpoint() {
    let data = stripes(40);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.safetensors");
    let (dev, mut trainer) = trainer();
    trainer.save(&path, &Default::default()).unwrap();
    let good = std::fs::read(&path).unwrap();
    trainer
        .model
        .3
        .weight
        .copy_from(&[f32::INFINITY; 16 * 16 * 9]);
    let err = trainer.save(&path, &Default::default()).unwrap_err();
    assert!(err.to_string().contains("`3.weight`"), "{err}");
    assert!(std::fs::read(&path).unwrap() == good);

    // A gradient that overflows where the loss does not: activations of 1e-30, weights of 1e25 twice.
    let (_, mut trainer) = self::trainer();
    trainer.model.1.weight.copy_from(&[0.0; 16]);
    trainer.model.1.bias.copy_from(&[1e-30; 16]);
    trainer.model.3.weight.copy_from(&[1e25; 16 * 16 * 9]);
    let rows = [[1e25; 16], [-1e25; 16]];
    trainer.model.5.weight.copy_from(rows.as_flattened());
    let err = train_once(&dev, &mut trainer, &data).unwrap_err();
    assert!(
        matches!(
            err,
            Error::Diverged {
                what: "the norm of the gradient",
                batch: 0,
                ..
            }
        ),
        "{err}"
    );
}

fn train_once(
    dev: &Cpu,
    trainer: &mut Trainer<Built, Cpu>,
    data: &ImageDataset,
) -> ssprop::Result<EpochReport> {
    trainer.train_epoch::<1, 8, 8, 2>(dev, &loader(data), &mut ())
}

#[test]
fn the_gradient_norm_is_that_of_all_parameters() {
    let data = stripes(12);
    let (dev, mut trainer) = trainer();
    // What the first step of Adam leaves in the first moments is (1 - beta1) g.
    let report = train_once(&dev, &mut trainer, &data).unwrap();
    let state = trainer.optimizer.state(&trainer.model).unwrap();
    let squares: f64 = state
        .parameters
        .values()
        .flat_map(|p| &p.buffers["exp_avg"])
        .map(|&m| (f64::from(m) * 10.0).powi(2))
        .sum();
    let norm = report.grad_norm.unwrap();
    assert!(
        (norm - squares.sqrt()).abs() < 1e-5 * norm,
        "{norm} {squares}"
    );
    assert_eq!(report.lr, 5e-3);
}

#[test]
fn a_checkpoint_that_does_not_say_its_epoch_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.safetensors");
    let (_, mut trainer) = trainer();
    ssprop::checkpoint::save_training(
        &path,
        &trainer.model,
        &trainer.optimizer,
        &Default::default(),
    )
    .unwrap();
    let err = trainer.resume(&path).unwrap_err().to_string();
    assert!(err.contains("`epoch` = (missing)"), "{err}");
}

#[test]
fn a_loss_that_is_not_finite_stops_training_and_is_named() {
    let data = stripes(40);
    let (dev, mut trainer) = trainer();
    train(&dev, &mut trainer, &data, 1);
    let epoch = trainer.epoch();
    trainer.model.5.bias.copy_from(&[f32::NAN; 2]);
    let err = trainer
        .train_epoch::<1, 8, 8, 2>(&dev, &loader(&data), &mut ())
        .unwrap_err();
    assert!(
        matches!(err, Error::Diverged { epoch: 1, batch: 0, value, .. } if value.is_nan()),
        "{err}"
    );
    assert_eq!(
        err.to_string(),
        "epoch 1, batch 0: the loss is NaN (learning rate 0.005; the first such tensor is `5.bias`)"
    );
    assert_eq!(trainer.epoch(), epoch);
}

#[test]
fn data_that_do_not_fit_the_model_are_an_error() {
    let data = stripes(8);
    let (dev, mut trainer) = trainer();
    let wide = loader(&data).fit_to(ImageShape::new(1, 9, 9)).unwrap();
    let err = trainer
        .train_epoch::<1, 8, 8, 2>(&dev, &wide, &mut ())
        .unwrap_err()
        .to_string();
    assert!(err.contains("1x8x8") && err.contains("1x9x9"), "{err}");
}

#[test]
fn a_layer_left_dense_stays_dense_and_is_counted_so() {
    let data = stripes(24);
    let (dev, mut trainer) = trainer();
    let sparse = DropRate::new(0.75).unwrap();
    trainer.model.set_drop_rate(sparse);
    trainer.model.0.backward.drop_rate = DropRate::DENSE;
    let report = trainer
        .train_epoch::<1, 8, 8, 2>(&dev, &loader(&data), &mut ())
        .unwrap();
    assert!(trainer.model.0.backward.drop_rate.is_dense());
    assert_eq!(trainer.model.3.backward.drop_rate, sparse);
    assert_eq!(report.drop_rate, sparse);
    let cost = ModelCost::of::<Built>([1, 8, 8]).unwrap();
    let by_layer = |(path, layer): &(String, ssprop::nn::LayerCost)| {
        let rate = if path == "3" { sparse } else { DropRate::DENSE };
        layer.flops(12, rate)
    };
    // Two batches of 12.
    let expected = 2.0 * cost.layers.iter().map(by_layer).sum::<f64>();
    assert!((report.backward_flops / expected - 1.0).abs() < 1e-12);
    assert!(report.backward_flops > 2.0 * cost.per_iteration(12, sparse));

    // Every filter of the dense layer learns in a single step, and of a sparse one the kept.
    let fresh = filters_changed(&data, DropRate::DENSE);
    let dropped = filters_changed(&data, sparse);
    assert_eq!((fresh, dropped), (16, 4));
}

/// How many filters of the first convolution one step changes at this drop rate of it.
fn filters_changed(data: &ImageDataset, first: DropRate) -> usize {
    let (dev, mut trainer) = trainer();
    trainer.model.set_drop_rate(DropRate::new(0.75).unwrap());
    trainer.model.0.backward.drop_rate = first;
    let before = trainer.model.0.weight.as_vec();
    let whole = BatchLoader::new(data, 24).unwrap();
    trainer
        .train_epoch::<1, 8, 8, 2>(&dev, &whole, &mut ())
        .unwrap();
    let after = trainer.model.0.weight.as_vec();
    let rows = before.chunks(9).zip(after.chunks(9));
    rows.filter(|(before, after)| before != after).count()
}

#[test]
fn a_net_with_dfdx_dropout_trains() {
    type Net = (
        SparseConv2D<1, 16, 3, 1, 1>,
        ReLU,
        Dropout,
        SparseConv2D<16, 16, 3, 2, 1>,
        GlobalAvgPool,
        Linear<16, 2>,
    );
    let data = stripes(64);
    let dev = Cpu::seed_from_u64(3);
    let mut net = dev.build_module::<Net, f32>();
    net.2.p = 0.1;
    let config = AdamConfig {
        lr: 5e-3,
        ..AdamConfig::adam()
    };
    let mut trainer = Trainer::new(net, config).unwrap();
    let mut losses = Vec::new();
    for epoch in 0..10 {
        trainer.model.set_drop_rate(rate(epoch));
        let report = trainer.train_epoch::<1, 8, 8, 2>(&dev, &loader(&data), &mut ());
        losses.push(report.unwrap().loss);
    }
    assert!(losses[9] < 0.8 * losses[0], "{losses:?}");
}

/// A trainer that sets its own drop rates.
fn scheduled(plan: impl Into<SchedulePlan>) -> (Cpu, Trainer<Built, Cpu>) {
    let (dev, trainer) = trainer();
    (dev, trainer.with_schedule(plan).unwrap())
}

#[test]
fn a_schedule_of_the_trainer_is_that_of_the_caller() {
    let data = stripes(40);
    let (dev, mut by_hand) = trainer();
    let losses = train(&dev, &mut by_hand, &data, 3);
    let (dev, mut by_schedule) = scheduled(Schedule::alternating(DropRate::new(0.75).unwrap()));
    for expected in losses {
        let report = by_schedule
            .train_epoch::<1, 8, 8, 2>(&dev, &loader(&data), &mut ())
            .unwrap();
        assert_eq!(report.loss, expected);
    }
    assert!(saved(&by_schedule) == saved(&by_hand));
}

/// 4 batches of 12 and one of 2 images; a rate of its own for each iteration and layer.
#[test]
fn rates_that_vary_by_iteration_and_layer_are_reported_and_counted_as_they_were() {
    let data = stripes(50);
    let half = Schedule::constant(DropRate::new(0.5).unwrap());
    let saw = Schedule::linear(DropRate::new(0.8).unwrap(), Span::iterations(4).unwrap());
    let plan = SchedulePlan::new(saw.warm_up(1).unwrap()).with("0", half);
    let (dev, mut trainer) = scheduled(plan);
    let mut seen = Recorder::default();
    for _ in 0..2 {
        trainer
            .train_epoch::<1, 8, 8, 2>(&dev, &loader(&data), &mut seen)
            .unwrap();
    }
    let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-9 * b.abs(), "{a} for {b}");

    let cost = ModelCost::of::<Built>([1, 8, 8]).unwrap();
    let rate = |rate| DropRate::new(rate).unwrap();
    for (epoch, rates) in [[0.0; 5], [0.0, 0.2, 0.4, 0.6, 0.0]].iter().enumerate() {
        let report = &seen.epochs[epoch];
        let images = [12, 12, 12, 12, 2];
        let flops = rates.iter().zip(images).map(|(&own, images)| {
            cost.per_iteration_by_layer(images, |path| match path {
                "0" => rate(0.5),
                _ => rate(own),
            })
        });
        near(report.backward_flops, flops.sum());
        let means = rates.map(|own| (own + 0.5) / 2.0);
        near(report.mean_drop_rate, means.iter().sum::<f64>() / 5.0);
        near(report.drop_rate.rate(), [0.5, 0.6][epoch]);
        for (i, batch) in seen.batches[5 * epoch..][..5].iter().enumerate() {
            near(batch.mean_drop_rate, means[i]);
            near(batch.drop_rate.rate(), rates[i].max(0.5));
        }
    }
}

#[test]
fn a_run_with_rates_by_iteration_is_resumed_bit_for_bit() {
    let data = stripes(40);
    let cosine = Schedule::cosine(DropRate::new(0.75).unwrap(), Span::iterations(2).unwrap());
    let run = |trainer: &mut Trainer<Built, Cpu>, dev: &Cpu, epochs: u64| {
        while trainer.epoch() < epochs {
            trainer
                .train_epoch::<1, 8, 8, 2>(dev, &loader(&data), &mut ())
                .unwrap();
        }
    };
    let (dev, mut whole) = scheduled(cosine);
    run(&mut whole, &dev, 3);

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.safetensors");
    let (dev, mut first) = scheduled(cosine);
    run(&mut first, &dev, 1);
    let text = first.schedule().unwrap().to_string();
    first
        .save(&path, &[("schedule".into(), text)].into())
        .unwrap();
    let dev = Cpu::seed_from_u64(77);
    let mut second =
        Trainer::new(dev.build_module::<Net, f32>(), *first.optimizer.config()).unwrap();
    let metadata = second.resume(&path).unwrap();
    let plan: SchedulePlan = metadata["schedule"].parse().unwrap();
    let mut second = second.with_schedule(plan).unwrap();
    run(&mut second, &dev, 3);
    assert!(saved(&second) == saved(&whole));
}

#[test]
fn a_schedule_for_a_layer_that_is_not_there_is_refused() {
    let (_, trainer) = trainer();
    let plan = SchedulePlan::new(Schedule::paper()).dense("conv1");
    let err = trainer.with_schedule(plan).unwrap_err().to_string();
    assert!(err.contains("`conv1`") && err.contains("0, 3"), "{err}");
}
