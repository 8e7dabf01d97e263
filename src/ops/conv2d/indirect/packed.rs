//! A left factor in the order in which products read it.

use rayon::prelude::*;

use crate::simd::Isa;
use crate::workspace::Workspace;

/// A (rows x depth), cut into tiles of rows; a tile holds its columns one after the other.
///
/// A tile's rows are read together, one column at a time. In a tensor they lie a filter apart,
/// often a power of two, in which case they share one set of the cache.
pub struct Packed {
    data: Workspace,
    pub rows: usize,
    pub depth: usize,
    isa: Isa,
}

impl Packed {
    /// Element (i, j) is `data[i * row + starts[j]]`.
    pub fn new(isa: Isa, rows: usize, row: usize, starts: &[usize], data: &[f32]) -> Self {
        let depth = starts.len();
        let mut packed = Workspace::take(rows * depth);
        let height = isa.tile_rows();
        packed
            .par_chunks_mut((height * depth).max(1))
            .enumerate()
            .for_each(|(tile, packed)| {
                // The last rows may be cut into several lower tiles.
                let first = tile * height;
                for (at, m) in tiles(height, (rows - first).min(height)) {
                    let columns = packed[at * depth..(at + m) * depth].chunks_exact_mut(m);
                    for (column, &start) in columns.zip(starts) {
                        let from = &data[(first + at) * row + start..];
                        for (to, from) in column.iter_mut().zip(from.iter().step_by(row)) {
                            *to = *from;
                        }
                    }
                }
            });
        Self {
            data: packed,
            rows,
            depth,
            isa,
        }
    }

    pub fn isa(&self) -> Isa {
        self.isa
    }

    pub fn data(&self) -> &[f32] {
        &self.data
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
        let isa = Isa::detect();
        for rows in 1..30 {
            let depth = 5;
            let data: Vec<f32> = (0..rows * depth).map(|i| i as f32).collect();
            let starts: Vec<usize> = (0..depth).rev().collect();
            let packed = Packed::new(isa, rows, depth, &starts, &data);
            let mut next = 0;
            for (row, m) in tiles(isa.tile_rows(), rows) {
                assert_eq!(row, next);
                next += m;
                for j in 0..depth {
                    for i in 0..m {
                        let found = packed.data()[row * depth + j * m + i];
                        assert_eq!(found, ((row + i) * depth + depth - 1 - j) as f32);
                    }
                }
            }
            assert_eq!(next, rows);
        }
    }
}
