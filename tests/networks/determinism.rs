//! One training step of a whole ResNet-18 gives the same bits whatever the number of threads.
//!
//! The bits hold for one instruction set: with AVX-512, AVX2 or neither, sums are added up in
//! another order.

use dfdx::data::OneHotEncode;
use dfdx::tensor_ops::Backward as _;
use ssprop::prelude::*;

/// FNV-1a of bits.
fn hash(state: u64, bits: u32) -> u64 {
    (state ^ u64::from(bits)).wrapping_mul(0x0000_0100_0000_01b3)
}

/// The loss's bits and a hash of the saved model's bytes after a forward pass, a backward pass at
/// `rate` and an update by Adam.
fn step(rate: DropRate) -> (u32, u64) {
    let dev = Cpu::seed_from_u64(4);
    let mut net = dev.build_module::<ResNet18<10>, f32>();
    net.set_drop_rate(rate);
    let mut adam = Adam::new(&net, AdamConfig::adam()).unwrap();
    let x: Tensor<Rank4<2, 3, 16, 16>, f32, _> = dev.sample_normal();
    let target = dev.one_hot_encode(Const::<10>, [3, 8]);
    let logits = net.try_forward_mut(x.leaky_trace()).unwrap();
    let loss = cross_entropy_with_logits_loss(logits, target);
    let value = loss.array().to_bits();
    adam.update(&mut net, &loss.backward()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    checkpoint::save(&path, &net, &Default::default()).unwrap();
    let bytes = std::fs::read(path).unwrap();
    let words = bytes.chunks(4).map(|word| {
        let mut all = [0; 4];
        all[..word.len()].copy_from_slice(word);
        u32::from_le_bytes(all)
    });
    (value, words.fold(0xcbf2_9ce4_8422_2325, hash))
}

#[test]
fn a_step_of_resnet18_has_the_same_bits_on_1_2_and_4_threads() {
    let mut results = Vec::new();
    for rate in [DropRate::DENSE, DropRate::new(0.8).unwrap()] {
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            pool.build().unwrap().install(|| step(rate))
        };
        let one = on(1);
        assert_eq!(one, on(2), "two threads, drop rate {rate}");
        assert_eq!(one, on(4), "four threads, drop rate {rate}");
        results.push(one);
    }
    // The forward passes are the same, the updates are not: the hash sees the weights.
    assert_eq!(results[0].0, results[1].0);
    assert_ne!(results[0].1, results[1].1);
}
