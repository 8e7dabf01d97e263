//! The bytes that training, evaluation and sampling hold, counted at the allocator: as many after
//! many steps as after 20, whatever the network.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use ssprop::data::{BatchLoader, ImageDataset, ImageShape, Normalization};
use ssprop::diffusion::DiffusionTrainer;
use ssprop::models::modules;
use ssprop::optim::AdamConfig;
use ssprop::prelude::*;
use ssprop::train::{ImageClassifier, Trainer};

/// The system's allocator, which counts.
struct Counting;

/// Bytes allocated and not freed, but for the kernels' workspaces.
static HELD: AtomicUsize = AtomicUsize::new(0);
/// The same of workspaces, ours and those of the crate gemm: the only memory aligned to a cache line or
/// more. How large a thread's are depends on which tasks it happens to get, and when.
static WORKSPACES_HELD: AtomicUsize = AtomicUsize::new(0);
/// Bytes allocated so far in pieces of [`LARGE`] bytes or more, but for workspaces.
static LARGE_PIECES: AtomicUsize = AtomicUsize::new(0);
/// Any activation or gradient here is as large.
const LARGE: usize = 64 << 10;

fn is_workspace(layout: Layout) -> bool {
    layout.align() >= 64
}

impl Counting {
    fn count_of(layout: Layout) -> &'static AtomicUsize {
        if is_workspace(layout) {
            &WORKSPACES_HELD
        } else {
            &HELD
        }
    }

    fn allocated(layout: Layout) {
        Self::count_of(layout).fetch_add(layout.size(), Ordering::Relaxed);
        if layout.size() >= LARGE && !is_workspace(layout) {
            LARGE_PIECES.fetch_add(layout.size(), Ordering::Relaxed);
        }
    }
}

// SAFETY: everything is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::allocated(layout);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::allocated(layout);
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        Self::count_of(layout).fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn held() -> usize {
    HELD.load(Ordering::Relaxed)
}

fn workspaces() -> usize {
    WORKSPACES_HELD.load(Ordering::Relaxed)
}

fn large_pieces() -> usize {
    LARGE_PIECES.load(Ordering::Relaxed)
}

/// `count` images of noise.
fn images(shape: ImageShape, count: usize) -> ImageDataset {
    let len = count * shape.channels * shape.height * shape.width;
    let pixels = (0..len).map(|i| ((i * 2_654_435_761) >> 7) as u8).collect();
    let labels = (0..count).map(|i| (i % 10) as u16).collect();
    ImageDataset::new(pixels, labels, shape, 10).unwrap()
}

/// Something that is done again and again: an epoch of [`STEPS`] steps, and what follows it.
trait Round {
    fn run(&mut self);
}

/// Training steps in a round. The last one's batch is smaller.
const STEPS: usize = 5;

struct Classify<M, const C: usize> {
    trainer: Trainer<M, Cpu>,
    dev: Cpu,
    train: ImageDataset,
    test: ImageDataset,
}

impl<M, const C: usize> Classify<M, C>
where
    M: ImageClassifier<C, 16, 16, 10, Cpu>,
{
    /// Dense and sparse epochs in turn, and dropout from the start if `dropout`.
    fn new<B: BuildOnDevice<Cpu, f32, Built = M>>(dropout: f64) -> Self {
        let dev = Cpu::default();
        let mut model = dev.build_module::<B, f32>();
        if dropout > 0.0 {
            model.set_dropout(dropout, 1).unwrap();
        }
        let drop_rate = DropRate::new(0.8).unwrap();
        let trainer = Trainer::new(model, AdamConfig::adam()).unwrap();
        let shape = ImageShape::new(C, 16, 16);
        Self {
            trainer: trainer
                .with_schedule(Schedule::alternating(drop_rate))
                .unwrap(),
            dev,
            train: images(shape, 4 * STEPS - 2),
            test: images(shape, 7),
        }
    }
}

impl<M, const C: usize> Round for Classify<M, C>
where
    M: ImageClassifier<C, 16, 16, 10, Cpu>,
{
    fn run(&mut self) {
        let train = BatchLoader::new(&self.train, 4).unwrap().shuffle(1);
        self.trainer
            .train_epoch::<C, 16, 16, 10>(&self.dev, &train, &mut ())
            .unwrap();
        let test = BatchLoader::new(&self.test, 5).unwrap();
        self.trainer
            .evaluate::<C, 16, 16, 10>(&self.dev, &test)
            .unwrap();
    }
}

struct Denoise {
    trainer: DiffusionTrainer<modules::MnistUNet<1, f32, Cpu>, Cpu>,
    dev: Cpu,
    train: ImageDataset,
}

impl Denoise {
    fn new() -> Self {
        let dev = Cpu::default();
        let model = dev.build_module::<MnistUNet, f32>();
        let diffusion = Diffusion::new(BetaSchedule::Cosine, 20).unwrap();
        let drop_rate = DropRate::new(0.8).unwrap();
        let trainer = DiffusionTrainer::new(model, AdamConfig::adamw(), diffusion, 1).unwrap();
        Self {
            trainer: trainer
                .with_schedule(Schedule::alternating(drop_rate))
                .unwrap()
                .with_ema(0.99)
                .unwrap(),
            dev,
            train: images(ImageShape::new(1, 32, 32), 2 * STEPS - 1),
        }
    }
}

impl Round for Denoise {
    fn run(&mut self) {
        let loader = BatchLoader::new(&self.train, 2).unwrap();
        let loader = loader.normalize(Normalization::symmetric(1)).unwrap();
        self.trainer
            .train_epoch::<1, 32, 32>(&self.dev, &loader, &mut ())
            .unwrap();
        self.trainer
            .evaluate::<1, 32, 32>(&self.dev, &loader)
            .unwrap();
        let run = SampleRun {
            seed: 1,
            count: 3,
            batch: 2,
        };
        Sampler::Ddim { steps: 2, eta: 0.0 }
            .sample::<1, 32, 32, _, _>(
                self.trainer.diffusion(),
                self.trainer.averaged_model(),
                &self.dev,
                run,
                &mut |_| (),
            )
            .unwrap();
    }
}

/// What the pools keep beyond need, of activations and of gradients.
const SLACK: usize = 2 * (64 << 20);

/// Less than any activation, gradient or network here: records of epochs, lists that grow.
const SMALL: usize = LARGE;

/// The most that the workspaces of two threads may take: five times what was seen.
const WORKSPACES: usize = 96 << 20;

/// A maker of something that trains.
type Make = fn() -> Box<dyn Round>;

macro_rules! classify {
    ($model:ident<$($n:literal),*>, $c:literal, $dropout:literal) => {{
        type Model = modules::$model<$($n,)* f32, Cpu>;
        || Box::new(Classify::<Model, $c>::new::<$model<$($n),*>>($dropout)) as Box<dyn Round>
    }};
}

/// Each with the steps that it is watched for.
const NETWORKS: [(&str, Make, usize); 9] = [
    ("MLP", classify!(MLP<10, 768, 512, 1>, 3, 0.0), 200),
    ("CNN of 2 layers", classify!(Cnn<2, 10, 1>, 1, 0.0), 200),
    ("CNN of 4 layers", classify!(Cnn<4, 10, 1>, 1, 0.0), 200),
    ("CNN of 11 layers", classify!(Cnn<11, 10, 1>, 1, 0.0), 60),
    ("CNN with dropout", classify!(Cnn<4, 10, 1>, 1, 0.2), 200),
    ("U-Net", || Box::new(Denoise::new()), 60),
    ("ResNet-18", classify!(ResNet18<10, 3>, 3, 0.0), 30),
    ("ResNet-50", classify!(ResNet50<10, 3>, 3, 0.0), 30),
    (
        "ResNet-18 with dropout",
        classify!(ResNet18<10, 3>, 3, 0.2),
        30,
    ),
];

/// Bytes held, and bytes allocated in large pieces so far, after `rounds` rounds.
fn after(round: &mut dyn Round, rounds: usize) -> [usize; 2] {
    for _ in 0..rounds {
        round.run();
    }
    [held(), large_pieces()]
}

/// The tests count what the whole process holds: one after the other.
fn alone(f: impl FnOnce() + Send) {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    ssprop::on_threads(Some(2), f).unwrap();
    ssprop::free_buffers();
}

#[test]
fn later_steps_hold_what_step_20_held() {
    alone(|| {
        for (name, make, steps) in NETWORKS {
            let mut round = make();
            let at_20 = after(&mut *round, 20 / STEPS);
            let later = after(&mut *round, (steps - 20) / STEPS);
            let more = [0, 1].map(|i| later[i].saturating_sub(at_20[i]));
            eprintln!("{name}: {at_20:?} {later:?} {more:?} {}", workspaces());
            assert!(more[0] < SMALL, "{name}: {} bytes more held", more[0]);
            assert_eq!(more[1], 0, "{name}: bytes allocated");
            assert!(workspaces() < WORKSPACES, "{name}: {}", workspaces());
        }
    });
}

#[test]
fn networks_one_after_the_other_hold_what_the_largest_does() {
    alone(|| {
        ssprop::free_buffers();
        let (empty, mut largest) = (held(), 0);
        // The last one is as large as another, and takes as long.
        let networks = &NETWORKS[..8];
        for &(name, make, _) in networks {
            let mut round = make();
            largest = largest.max(after(&mut *round, 2)[0] - empty);
            drop(round);
            ssprop::free_buffers();
            let left = held().saturating_sub(empty);
            assert!(left < SMALL, "{name}: {left} left");
            // The crate gemm keeps 2 MiB for each thread.
            assert!(workspaces() < 6 << 20, "{name}: {} left", workspaces());
        }
        let pass = || {
            let held = networks.iter().map(|(name, make, _)| {
                let [held, _] = after(&mut *make(), 2);
                assert!(held - empty < largest + SLACK, "{name}: {held}");
                assert!(workspaces() < WORKSPACES, "{name}: {}", workspaces());
                held
            });
            held.collect::<Vec<_>>()
        };
        pass();
        let (second, third) = (pass(), pass());
        for (i, (name, ..)) in networks.iter().enumerate() {
            let more = second[i].abs_diff(third[i]);
            assert!(more < SMALL, "{name}: {}, {}", second[i], third[i]);
        }
        ssprop::free_buffers();
        let left = held().saturating_sub(empty);
        assert!(left < SMALL, "{left} left");
    });
}

#[test]
fn networks_that_take_turns_allocate_nothing() {
    alone(|| {
        let mut all: Vec<_> = NETWORKS[2..6].iter().map(|(_, make, _)| make()).collect();
        let mut turn = || {
            all.iter_mut().for_each(|round| round.run());
            [held(), large_pieces()]
        };
        turn();
        turn();
        let (first, second) = (turn(), turn());
        assert!(second[0] < first[0] + SMALL, "{first:?}, {second:?}");
        assert_eq!(second[1], first[1]);
        assert!(workspaces() < WORKSPACES, "{}", workspaces());
    });
}

#[test]
fn networks_that_train_at_once_hold_what_both_need() {
    alone(|| {
        ssprop::free_buffers();
        let (empty, (_, make, _)) = (held(), NETWORKS[3]);
        let one = after(&mut *make(), 4)[0] - empty;
        let train = || ssprop::on_threads(Some(1), || after(&mut *make(), 4)).unwrap();
        for pass in 0..5 {
            std::thread::scope(|scope| {
                let threads = [scope.spawn(train), scope.spawn(train)];
                for thread in threads {
                    thread.join().unwrap();
                }
            });
            let both = held() - empty;
            assert!(both < 2 * one + SLACK, "pass {pass}: {both}, one: {one}");
            assert!(workspaces() < WORKSPACES, "{}", workspaces());
        }
    });
}
