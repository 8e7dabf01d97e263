//! The same seed gives the same bits, whatever the number of threads.

use std::collections::HashSet;

use dfdx::prelude::*;
use rayon::ThreadPoolBuilder;

use ssprop::nn::builders::BiasedSparseConv2D;
use ssprop::sparsity::DropRate;
use support::{at, Case, Conv, Geometry, Pass, Real};

const THREADS: [usize; 3] = [1, 2, 4];

fn on_threads<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    let pool = ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .unwrap();
    pool.install(work)
}

fn bits<E: Real>(pass: Pass<E>) -> Vec<(u64, i16, i8)> {
    pass.bits()
}

/// Forward, and the dense and the sparse backward pass, with 1, 2 and 4 threads and again.
fn check<G: Geometry, E: Real>(batch: usize, h: usize, w: usize)
where
    Cpu: ssprop::Backend<E>,
{
    for share in [0.0, 0.3, 0.8] {
        let drop_rate = DropRate::new(share).unwrap();
        let pass = || {
            let case = Case::<E>::random(G::shape(batch, h, w), 11);
            bits(G::pass(&case, at(drop_rate)))
        };
        let first = on_threads(1, pass);
        for threads in THREADS {
            // Twice on the same threads: the second time their scratch memory is not fresh.
            let again = on_threads(threads, || [pass(), pass()]);
            for again in again {
                assert!(
                    again == first,
                    "{:?}, {} to {} channels, {threads} threads, drop rate {drop_rate}",
                    G::OP,
                    G::C_IN,
                    G::C_OUT
                );
            }
        }
    }
}

#[test]
fn winograd_by_blocks_of_images() {
    check::<Conv<16, 24, 3, 1, 1, 1, 1>, f32>(9, 12, 11);
    // More blocks than partial sums of dW.
    check::<Conv<8, 8, 3, 1, 1, 1, 1>, f32>(40, 17, 16);
}

#[test]
fn winograd_by_blocks_of_channels() {
    check::<Conv<144, 144, 3, 1, 1, 1, 1>, f32>(5, 6, 6);
    check::<Conv<96, 200, 3, 1, 1, 1, 1>, f32>(70, 4, 4);
}

#[test]
fn products_through_offsets() {
    check::<Conv<3, 16, 3, 1, 1, 1, 1>, f32>(11, 16, 16);
    check::<Conv<16, 24, 3, 2, 1, 1, 1>, f32>(50, 9, 7);
    check::<Conv<16, 24, 3, 1, 1, 1, 1>, f64>(9, 12, 11);
    check::<Conv<4, 10, 5, 3, 2, 1, 1>, f64>(20, 17, 13);
}

#[test]
fn pointwise_and_grouped() {
    check::<Conv<32, 48, 1, 1, 0, 1, 1>, f32>(9, 8, 8);
    check::<Conv<32, 48, 1, 1, 0, 1, 1>, f32>(2, 20, 20);
    check::<Conv<12, 24, 3, 1, 1, 1, 4>, f32>(19, 10, 9);
    check::<Conv<16, 16, 3, 2, 1, 1, 16>, f32>(19, 9, 9);
}

/// Initialisation, data and one step of a layer, from nothing but the device's seed.
#[test]
fn a_seed_fixes_a_layer_and_its_gradients() {
    let step = |seed: u64| {
        let dev = Cpu::seed_from_u64(seed);
        let mut conv = dev.build_module::<BiasedSparseConv2D<8, 16, 3, 1, 1>, f32>();
        conv.backward.drop_rate = DropRate::new(0.5).unwrap();
        let x: Tensor<Rank4<6, 8, 10, 10>, f32, _> = dev.sample_normal();
        let grads = conv.forward(x.leaky_trace()).square().sum().backward();
        let (dx, dw) = (grads.get(&x).as_vec(), grads.get(&conv.weight).as_vec());
        let all = dx.into_iter().chain(dw).chain(conv.weight.as_vec());
        all.map(f32::to_bits).collect::<Vec<_>>()
    };
    let steps: HashSet<_> = THREADS.map(|n| on_threads(n, || step(5))).into();
    assert_eq!(steps.len(), 1);
    assert!(!steps.contains(&step(6)), "another seed, other numbers");
}
