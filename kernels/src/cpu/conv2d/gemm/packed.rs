//! A left factor in the order in which products read it.

use rayon::prelude::*;

use super::blocks::CHUNK;
use crate::cpu::simd::{dispatch, Isa, Simd, SimdKernel};
use crate::cpu::workspace::Workspace;

/// Tiles that one task packs.
const TASK_TILES: usize = 8;

/// A (rows x depth), cut into tiles of rows; a tile holds its columns one after the other.
///
/// A tile's rows are read together, one column at a time. In a tensor they lie a filter apart,
/// often a power of two, in which case they share one set of the cache.
pub struct Packed {
    data: Workspace,
    pub rows: usize,
    pub depth: usize,
}

impl Packed {
    /// Element (i, j) is `data[i * row + starts[j]]`.
    pub fn new(isa: Isa, rows: usize, row: usize, starts: &[usize], data: &[f32]) -> Self {
        let depth = starts.len();
        let mut packed = Workspace::take(rows * depth);
        let height = isa.tile_rows();
        let run = starts.windows(2).all(|pair| pair[1] == pair[0] + 1);
        let task_rows = TASK_TILES * height;
        packed
            .par_chunks_mut((task_rows * depth).max(1))
            .enumerate()
            .for_each(|(task, packed)| {
                let data = &data[task * task_rows * row..];
                let rows = task_rows.min(rows - task * task_rows);
                match starts.first() {
                    Some(&start) if run => {
                        let from = &data[start..];
                        assert!((rows - 1) * row + depth <= from.len());
                        assert!(rows * depth <= packed.len());
                        let kernel = PackTransposed {
                            from,
                            rows,
                            row,
                            depth,
                            to: packed,
                        };
                        // SAFETY: the sizes were just checked; callers detect the instruction set.
                        unsafe { dispatch(isa, kernel) };
                    }
                    // A column's elements of all tiles lie near each other.
                    _ => {
                        for (j, &start) in starts.iter().enumerate() {
                            for (at, m) in tiles(height, rows) {
                                let to = &mut packed[at * depth + j * m..][..m];
                                let from = &data[at * row + start..];
                                match m {
                                    8 => column::<8>(from, row, to),
                                    6 => column::<6>(from, row, to),
                                    4 => column::<4>(from, row, to),
                                    _ => column::<1>(from, row, to),
                                }
                            }
                        }
                    }
                }
            });
        Self {
            data: packed,
            rows,
            depth,
        }
    }

    pub fn data(&self) -> &[f32] {
        &self.data
    }
}

/// The first of every `row` elements, `M` (known to the compiler) at a time.
fn column<const M: usize>(from: &[f32], row: usize, to: &mut [f32]) {
    let count = to.len();
    let from = &from[..(count - 1) * row + 1];
    for (nth, to) in to.chunks_exact_mut(M).enumerate() {
        let from = &from[nth * M * row..][..(M - 1) * row + 1];
        if row == 1 {
            to.copy_from_slice(from);
        } else {
            for (i, to) in to.iter_mut().enumerate() {
                *to = from[i * row];
            }
        }
    }
}

/// Tiles of rows whose columns follow each other.
struct PackTransposed<'a> {
    from: &'a [f32],
    rows: usize,
    /// From a row to the next.
    row: usize,
    depth: usize,
    to: &'a mut [f32],
}

impl SimdKernel for PackTransposed<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let whole = self.depth - self.depth % S::LANES;
        let mut square = [0.0f32; CHUNK * CHUNK];
        for (at, m) in tiles(S::TILE_ROWS, self.rows) {
            let from = &self.from[at * self.row..];
            let to = &mut self.to[at * self.depth..(at + m) * self.depth];
            for first in (0..whole).step_by(S::LANES) {
                // SAFETY: the rows have columns first..first + LANES, and the square has room.
                unsafe {
                    let load = |i: usize| match i < m {
                        true => S::load(from.as_ptr().add(i * self.row + first)),
                        false => S::zero(),
                    };
                    let to = square.as_mut_ptr();
                    S::transpose(load, |j, v| S::store(to.add(j * CHUNK), v));
                }
                let to = to[first * m..].chunks_exact_mut(m);
                for (to, column) in to.zip(square.chunks_exact(CHUNK)).take(S::LANES) {
                    to.copy_from_slice(&column[..m]);
                }
            }
            for j in whole..self.depth {
                for i in 0..m {
                    to[j * m + i] = from[i * self.row + j];
                }
            }
        }
    }
}

/// The first row and the height of each tile of `rows` rows: as many of `height` as fit, then one
/// of 4, then the rest.
pub fn tiles(height: usize, rows: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut row = 0;
    std::iter::from_fn(move || {
        let left = rows - row;
        let m = match left {
            0 => return None,
            _ if left >= height => height,
            4.. => 4,
            _ => left,
        };
        row += m;
        Some((row - m, m))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_the_rows_and_hold_their_columns() {
        for isa in Isa::available() {
            for rows in 1..80 {
                let depth = 35;
                let data: Vec<f32> = (0..rows * depth).map(|i| i as f32).collect();
                let ascending: Vec<usize> = (0..depth).collect();
                let descending: Vec<usize> = (0..depth).rev().collect();
                for starts in [ascending, descending] {
                    let packed = Packed::new(isa, rows, depth, &starts, &data);
                    let mut next = 0;
                    for (row, m) in tiles(isa.tile_rows(), rows) {
                        assert_eq!(row, next);
                        next += m;
                        for (j, start) in starts.iter().enumerate() {
                            for i in 0..m {
                                let found = packed.data()[row * depth + j * m + i];
                                assert_eq!(found, ((row + i) * depth + start) as f32);
                            }
                        }
                    }
                    assert_eq!(next, rows);
                }
            }
        }
    }
}
