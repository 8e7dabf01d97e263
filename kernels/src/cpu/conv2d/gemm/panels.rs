//! Right factors in the order in which products read them.

use rayon::prelude::*;

use super::blocks::CHUNK;
use crate::cpu::simd::{dispatch, Isa, Simd, SimdKernel};
use crate::cpu::workspace::Workspace;

/// B (depth x columns), cut into chunks of [`CHUNK`] columns; a chunk's rows follow each other.
pub struct Panels {
    data: Workspace,
    /// From a chunk to the next.
    chunk: usize,
}

/// A part of panels: lane l of chunk v of row j is `data[first + v * chunk + j * CHUNK + l]`.
#[derive(Clone, Copy)]
pub struct Right<'a> {
    pub data: &'a [f32],
    pub first: usize,
    pub chunk: usize,
}

impl Right<'_> {
    /// That there are `chunks` (not none) chunks of `depth` rows.
    pub fn check(&self, chunks: usize, depth: usize) {
        let end = self.first + (chunks - 1) * self.chunk + depth * CHUNK;
        assert!(end <= self.data.len());
    }
}

impl Panels {
    /// Room for `chunks` chunks of `depth` rows.
    pub fn new(chunks: usize, depth: usize) -> Self {
        // An odd distance, so that the chunks do not share a few sets of the cache.
        let chunk = (depth | 1) * CHUNK;
        Self {
            data: Workspace::take(chunks * chunk),
            chunk,
        }
    }

    /// All rows from `row` on.
    pub fn rows_from(&self, row: usize) -> Right<'_> {
        Right {
            data: &self.data,
            first: row * CHUNK,
            chunk: self.chunk,
        }
    }

    /// Everything from chunk `chunk` on, and the distance to the next.
    pub fn chunks_from(&mut self, chunk: usize) -> (&mut [f32], usize) {
        (&mut self.data[chunk * self.chunk..], self.chunk)
    }

    /// Each chunk's rows.
    pub fn chunks_mut(&mut self) -> impl IndexedParallelIterator<Item = &mut [f32]> {
        self.data.par_chunks_mut(self.chunk)
    }
}

/// Row j of chunks `chunk` apart in `to` = the `pixels` elements from each of `starts` on, and zeros
/// to the end of the last chunk.
pub fn copy(
    isa: Isa,
    from: &[f32],
    starts: impl ExactSizeIterator<Item = usize>,
    pixels: usize,
    to: &mut [f32],
    chunk: usize,
) {
    let (rows, chunks) = (starts.len(), pixels.div_ceil(CHUNK));
    if rows == 0 || chunks == 0 {
        return;
    }
    assert!((chunks - 1) * chunk + rows * CHUNK <= to.len());
    let copy = Copy {
        from,
        starts,
        pixels,
        to: to.as_mut_ptr(),
        chunk,
    };
    // SAFETY: `to` has room for these rows (just checked); callers detect the instruction set.
    unsafe { dispatch(isa, copy) };
}

struct Copy<'a, I> {
    from: &'a [f32],
    starts: I,
    pixels: usize,
    to: *mut f32,
    chunk: usize,
}

impl<I: ExactSizeIterator<Item = usize>> SimdKernel for Copy<'_, I> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let whole = self.pixels / CHUNK;
        for (j, start) in self.starts.enumerate() {
            let from = &self.from[start..start + self.pixels];
            // SAFETY: `from` holds the whole chunks; the caller's `to` has room for the row.
            unsafe {
                let to = self.to.add(j * CHUNK);
                for v in 0..whole {
                    for at in (0..CHUNK).step_by(S::LANES) {
                        let vector = S::load(from.as_ptr().add(v * CHUNK + at));
                        S::store(to.add(v * self.chunk + at), vector);
                    }
                }
                if whole * CHUNK < self.pixels {
                    let mut last = [0.0; CHUNK];
                    let rest = &from[whole * CHUNK..];
                    last[..rest.len()].copy_from_slice(rest);
                    for at in (0..CHUNK).step_by(S::LANES) {
                        let vector = S::load(last.as_ptr().add(at));
                        S::store(to.add(whole * self.chunk + at), vector);
                    }
                }
            }
        }
    }
}
