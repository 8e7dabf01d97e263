//! A network, a data set and a loss of one's own, trained with ssProp: where in an image is the spot?
//! Results go to a folder; with that folder as its argument, training goes on from there.
//!
//!     cargo run --example own_network
//!     cargo run --example own_network -- runs/own_network

use ssprop::data::{Batch, BatchLoader, ImageDataset, ImageShape};
use ssprop::run::{exit_code, Run, RunConfig, RunOptions};
use ssprop::train::{Images, LossTensor, Metrics, Objective, Place};
use ssprop::{prelude::*, Result};

type Net = (
    (SparseConv2D<1, 16, 3, 2, 1>, BatchNorm2D<16>, ReLU), // 16x16 becomes 8x8
    (SparseConv2D<16, 32, 3, 2, 1>, BatchNorm2D<32>, ReLU), // 4x4
    (Flatten<512>, Linear<512, 2>),
);
type Model = <Net as BuildOnDevice<Cpu, f32>>::Built;
type Points<T = NoneTape> = Tensor<(usize, Const<2>), f32, Cpu, T>;
type Loss = LossTensor<Cpu>;
type Grads = Gradients<f32, Cpu>;

/// Where the spots are in a data set's images, in 0..1.
struct Spots(Vec<[f32; 2]>);

/// Images `first..first + n`, and where their spots are.
fn data(first: usize, n: usize) -> Result<(Spots, ImageDataset)> {
    let place = |i| [0.618_034, 0.754_878].map(|step| (i as f32 * step).fract());
    let places: Vec<[f32; 2]> = (first..first + n).map(place).collect();
    let pixel = |[y, x]: [f32; 2], p: usize| {
        let distance = ((p / 16) as f32 / 16.0 - y).hypot((p % 16) as f32 / 16.0 - x);
        (255.0 * (-50.0 * distance * distance).exp()) as u8
    };
    let pixels = places
        .iter()
        .flat_map(|&at| (0..256).map(move |p| pixel(at, p)));
    let (pixels, shape) = (pixels.collect(), ImageShape::new(1, 16, 16));
    Ok((
        Spots(places),
        ImageDataset::new(pixels, vec![0; n], shape, 1)?,
    ))
}

/// The mean distance of the points.
fn distance<T: Tape<f32, Cpu>>(y: Points<T>, target: Points) -> Tensor<Rank0, f32, Cpu, T> {
    let squares = (y - target).square().sum::<(usize,), _>();
    (squares + 1e-6).sqrt().mean()
}

impl Objective<Model, Cpu> for Spots {
    type Input = (Images<1, 16, 16, Cpu, NoneTape>, Points);

    fn input(&mut self, dev: &Cpu, batch: &Batch, _: Place) -> Result<Self::Input> {
        let places: Vec<f32> = batch.indices().iter().flat_map(|&i| self.0[i]).collect();
        let places = dev.tensor_from_vec(places, (batch.len(), Const));
        Ok((batch.image_tensor(dev)?, places))
    }

    fn loss(&mut self, net: &mut Model, (x, at): Self::Input, grads: Grads) -> Result<Loss> {
        Ok(distance(net.try_forward_mut(x.traced(grads))?, at))
    }

    fn metrics(&mut self, net: &Model, (x, at): Self::Input) -> Result<Metrics> {
        let distance = distance(net.try_forward(x)?, at);
        Ok(vec![("test_distance", distance.array().into())])
    }
}

fn train() -> Result<()> {
    let ((mut spots, train), (mut test_spots, test)) = (data(0, 2000)?, data(2000, 500)?);
    let train = BatchLoader::new(&train, 50)?.shuffle(0);
    let test = BatchLoader::new(&test, 100)?;
    let dev = Cpu::seed_from_u64(0);
    let mut trainer = Trainer::new(dev.build_module::<Net, f32>(), AdamConfig::adam())?
        .with_schedule(Schedule::alternating(DropRate::new(0.8)?))?;

    let resume = std::env::args().nth(1).map(Into::into);
    let options = RunOptions {
        resume,
        ..RunOptions::default()
    };
    let config = RunConfig::new("Where is the spot?").keep_best_by_least("test_distance");
    let mut run = Run::start("runs/own_network", options, config.stop_after(5))?;
    run.resume(&mut trainer)?;
    while let Some(epoch) = run.train(&mut trainer, 20, |trainer, observer| {
        trainer.train_part_on(&mut spots, &dev, &train, observer)
    })? {
        let found = trainer.evaluate_on(&mut test_spots, &dev, &test)?;
        run.record(&trainer, &epoch, &found)?;
    }
    println!("{}\n{}", run.finish()?, run.written());
    Ok(())
}

fn main() -> std::process::ExitCode {
    exit_code(ssprop::on_threads(None, train).flatten())
}
