//! Which elements a dropout keeps: a function of a key and the element's place.
//!
//! A counter-based generator needs no order, so every thread computes the part of the mask that it
//! needs, and the backward pass computes the forward pass's mask again.

use crate::error::{Error, Result};

/// The elements of a task, each with random bits of its own.
pub const BLOCK: usize = 1 << 14;

/// A mask for tensors of any size: drops each element with probability `rate`, by random bits that
/// follow from `key` and the element's place in row-major order alone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DropoutMask {
    rate: f64,
    key: u64,
    /// The images (rows of the first dimension) of a whole batch that lie before the tensor's first one, on
    /// other ranks.
    images_before: usize,
    /// The same in elements.
    start: usize,
}

impl DropoutMask {
    /// A mask that drops the share `rate`. Masks of different keys are independent.
    ///
    /// # Errors
    /// [`Error::Parameter`] if `rate` is not at least 0 and less than 1.
    pub fn new(rate: f64, key: u64) -> Result<Self> {
        check_rate(rate)?;
        Ok(Self::of_checked(rate, key))
    }

    /// [`new`](Self::new) of a rate that [`check_rate`] has seen.
    pub fn of_checked(rate: f64, key: u64) -> Self {
        Self {
            rate,
            key,
            images_before: 0,
            start: 0,
        }
    }

    /// The mask of a part of a batch, before which `images` of it lie.
    pub fn after_images(self, images: usize) -> Self {
        Self {
            images_before: images,
            ..self
        }
    }

    /// The same for tensors whose images have `image_len` elements.
    pub fn of_images(self, image_len: usize) -> Self {
        Self {
            start: self.images_before.saturating_mul(image_len),
            ..self
        }
    }

    /// The place of the tensor's first element in the whole batch.
    pub fn start(&self) -> usize {
        self.start
    }

    /// The probability that an element is dropped.
    pub fn rate(&self) -> f64 {
        self.rate
    }

    /// What kept elements are multiplied by: 1 / (1 - rate).
    pub fn scale(&self) -> f64 {
        1.0 / (1.0 - self.rate)
    }

    /// Whether the element at `place` is kept.
    pub fn keeps(&self, place: usize) -> bool {
        let place = self.start + place;
        self.block(place / BLOCK).keeps((place % BLOCK) as u32)
    }

    /// What decides the random bits.
    #[cfg(feature = "cuda")]
    pub fn key(&self) -> u64 {
        self.key
    }

    /// An element is kept if its random bits are not less.
    pub fn threshold(&self) -> u32 {
        // The bits are a fraction of 2^32.
        (self.rate * 2f64.powi(32)).round() as u32
    }

    /// The part of the mask for elements `number * BLOCK` onwards of the whole batch.
    pub fn block(&self, number: usize) -> MaskBlock {
        let key = mix(self.key, number as u64);
        MaskBlock {
            keys: [key as u32, (key >> 32) as u32],
            threshold: self.threshold(),
        }
    }
}

/// The mask of a block of elements.
#[derive(Clone, Copy)]
pub struct MaskBlock {
    keys: [u32; 2],
    threshold: u32,
}

impl MaskBlock {
    /// Whether the block's element `i` is kept: 32-bit arithmetic without branches, which compiles
    /// to vector instructions.
    #[inline(always)]
    pub fn keeps(self, i: u32) -> bool {
        // Two rounds of xor-shift and multiply mix 32 bits well (constants: C. Wellons, "hash
        // prospector"); the second key between them keeps blocks apart whose counters meet.
        let mut bits = i.wrapping_add(self.keys[0]);
        bits = (bits ^ (bits >> 16)).wrapping_mul(0x7feb_352d) ^ self.keys[1];
        bits = (bits ^ (bits >> 15)).wrapping_mul(0x846c_a68b);
        (bits ^ (bits >> 16)) >= self.threshold
    }
}

/// The `index`-th random number of the sequence that `key` begins (SplitMix64: Steele, Lea and
/// Flood, 2014).
pub fn mix(key: u64, index: u64) -> u64 {
    let step = index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut z = key.wrapping_add(step);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Refuses what is not a dropout rate.
pub fn check_rate(rate: f64) -> Result<()> {
    if (0.0..1.0).contains(&rate) {
        Ok(())
    } else {
        Err(Error::parameter(
            "dropout rate",
            rate,
            "at least 0 and less than 1",
        ))
    }
}
