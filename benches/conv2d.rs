//! Forward and backward (dense, and with 80% of the output channels dropped) of ResNet-18's
//! convolutions, 32 images, two threads unless `RAYON_NUM_THREADS` says otherwise.

#[path = "common/convs.rs"]
mod convs;
#[path = "common/threads.rs"]
mod threads;

use std::time::Duration;

use convs::{CONVS, DROP_RATE};
use criterion::{criterion_group, BatchSize, Criterion, SamplingMode};
use ssprop::sparsity::DropRate;

fn layers(c: &mut Criterion) {
    let sparse = DropRate::new(DROP_RATE).expect("a rate below 1");
    for (name, conv) in CONVS {
        let mut conv = conv();
        let mut group = c.benchmark_group(name);
        group
            .sample_size(10)
            .sampling_mode(SamplingMode::Flat)
            .warm_up_time(Duration::from_millis(200))
            .measurement_time(Duration::from_millis(500));
        group.bench_function("forward", |b| b.iter(|| conv.forward()));
        for (name, drop_rate) in [
            ("backward, dense", DropRate::DENSE),
            ("backward, 80% dropped", sparse),
        ] {
            group.bench_function(name, |b| {
                b.iter_batched(
                    || conv.before_backward(drop_rate),
                    |backward| backward(),
                    BatchSize::PerIteration,
                )
            });
        }
        group.finish();
    }
}

criterion_group!(benches, layers);

fn main() {
    threads::on_threads(2, benches);
    Criterion::default().configure_from_args().final_summary();
}
