//! One training step of ResNet-18 (forward, backward, Adam) at 32 images of 32x32: dense, and with
//! 80% of every convolution's output channels dropped. Two threads unless `RAYON_NUM_THREADS` says
//! otherwise.

#[path = "common/step.rs"]
mod step;
#[path = "common/threads.rs"]
mod threads;

use std::time::Duration;

use criterion::{criterion_group, Criterion, SamplingMode};
use ssprop::prelude::{Cpu, ResNet18};
use ssprop::sparsity::DropRate;
use step::Step;

fn steps(c: &mut Criterion) {
    let mut group = c.benchmark_group("ResNet-18 step");
    group
        .sample_size(10)
        .sampling_mode(SamplingMode::Flat)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(5));
    let sparse = DropRate::new(0.8).expect("a rate below 1");
    for (name, drop_rate) in [("dense", DropRate::DENSE), ("80% dropped", sparse)] {
        let mut step = Step::new::<ResNet18<10>>(&Cpu::default(), 32, drop_rate);
        group.bench_function(name, |b| {
            b.iter(|| {
                let loss = step.forward();
                step.backward(loss);
                step.update();
            })
        });
    }
    group.finish();
}

criterion_group!(benches, steps);

fn main() {
    threads::on_threads(2, benches);
    Criterion::default().configure_from_args().final_summary();
}
