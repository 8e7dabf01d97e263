//! Where windows read: the positions of a block of pixels, the same in every channel.

use std::ops::Range;

use super::blocks::CHUNK;
use crate::cpu::simd::{dispatch, Isa, Simd, SimdKernel};

/// Where a chunk's pixels lie in a plane.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Chunk {
    /// -1 for outside.
    at: [i32; CHUNK],
}

/// Where the pixels of some rows of a result lie in a plane: for each tap, chunks.
pub struct Table {
    chunks: Vec<Chunk>,
    /// The position of a chunk's first pixel if the others follow it.
    runs: Vec<Option<u32>>,
    taps: usize,
    /// Pixels of a plane.
    pixels: usize,
}

impl Table {
    /// For planes of `size` and a result of `width`: its pixel (y, x) reads (y, x) * `step` + the
    /// tap's offsets, of each row and each column of taps.
    pub fn new(
        [h, w]: [usize; 2],
        width: usize,
        step: usize,
        offsets: &[isize],
        taps: &[usize],
        rows: Range<usize>,
    ) -> Self {
        let k = offsets.len();
        let position = |y: usize, x: usize, tap: usize| {
            let y = (y * step) as isize + offsets[tap / k];
            let x = (x * step) as isize + offsets[tap % k];
            let inside = (0..h as isize).contains(&y) && (0..w as isize).contains(&x);
            if inside {
                (y * w as isize + x) as i32
            } else {
                -1
            }
        };
        let pixels = rows.len() * width;
        let count = taps.len() * pixels.div_ceil(CHUNK);
        let (mut chunks, mut runs) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for &tap in taps {
            let (mut y, mut x) = (rows.start, 0);
            for first in (0..pixels).step_by(CHUNK) {
                let mut at = [-1; CHUNK];
                for at in at.iter_mut().take(pixels - first) {
                    *at = position(y, x, tap);
                    x += 1;
                    if x == width {
                        (y, x) = (y + 1, 0);
                    }
                }
                let run = at[0] >= 0 && (1..CHUNK).all(|i| at[i] == at[0] + i as i32);
                chunks.push(Chunk { at });
                runs.push(run.then_some(at[0] as u32));
            }
        }
        Self {
            chunks,
            runs,
            taps: taps.len(),
            pixels: h * w,
        }
    }

    /// Reads `count` planes: chunk v of tap t of plane c goes to `to` at (c * taps + t) * `steps[0]`
    /// + v * `steps[1]`.
    pub fn read(&self, isa: Isa, planes: &[f32], count: usize, to: &mut [f32], steps: [usize; 2]) {
        if self.chunks.is_empty() || count == 0 {
            return;
        }
        let each = self.chunks.len() / self.taps;
        let last = (count * self.taps - 1) * steps[0] + (each - 1) * steps[1];
        assert!(last + CHUNK <= to.len() && count * self.pixels <= planes.len());
        let read = Read {
            table: self,
            each,
            planes: planes.as_ptr(),
            count,
            to: to.as_mut_ptr(),
            steps,
        };
        // SAFETY: the planes are there, and `to` has room (just checked); the table's positions lie
        // inside a plane by its making; callers detect the instruction set.
        unsafe { dispatch(isa, read) };
    }
}

struct Read<'a> {
    table: &'a Table,
    /// Chunks of a tap.
    each: usize,
    planes: *const f32,
    count: usize,
    to: *mut f32,
    steps: [usize; 2],
}

impl SimdKernel for Read<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let mut to = self.to;
        for c in 0..self.count {
            let runs = self.table.runs.chunks_exact(self.each);
            for (chunks, runs) in self.table.chunks.chunks_exact(self.each).zip(runs) {
                // SAFETY: the caller's promise.
                unsafe {
                    let plane = self.planes.add(c * self.table.pixels);
                    let mut at = to;
                    for (chunk, run) in chunks.iter().zip(runs) {
                        for lane in (0..CHUNK).step_by(S::LANES) {
                            let v = match run {
                                Some(first) => S::load(plane.add(*first as usize + lane)),
                                None => S::gather(plane, chunk.at.as_ptr().add(lane)),
                            };
                            S::store(at.add(lane), v);
                        }
                        at = at.add(self.steps[1]);
                    }
                    to = to.add(self.steps[0]);
                }
            }
        }
    }
}
