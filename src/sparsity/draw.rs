//! Reproducible random choices: which draw of a run this is.

use rand::rngs::StdRng;
use rand::SeedableRng;

/// The layer and the iteration that a random choice is made for. Together with a seed they decide
/// it; nothing else does (not the number of threads, nor what was drawn before).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Draw {
    layer: u64,
    iteration: u64,
}

impl Draw {
    /// The draw of the layer at `path` in iteration number `iteration` of a run.
    pub fn new(path: &str, iteration: u64) -> Self {
        // FNV-1a, written out because the hashes of `std` may change between its versions.
        let layer = path.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self { layer, iteration }
    }

    /// The first of `kept` channels of `n` that go round and round with the iterations.
    pub(super) fn turn(self, n: usize, kept: usize) -> usize {
        let turns = u128::from(self.iteration) * kept as u128;
        (turns % (n as u128).max(1)) as usize
    }

    /// The generator of this draw.
    pub(super) fn rng(self, seed: u64) -> StdRng {
        let mut bytes = [0; 32];
        for (to, part) in bytes.chunks_mut(8).zip([seed, self.layer, self.iteration]) {
            to.copy_from_slice(&part.to_le_bytes());
        }
        StdRng::from_seed(bytes)
    }
}
