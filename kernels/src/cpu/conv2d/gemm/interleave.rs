//! Phases of an image to the image.

use std::ops::Range;

use crate::args::Fill;
use crate::cpu::simd::multiversion;

/// Puts rows of every phase of one channel where they belong in the image.
pub struct Interleave<'a> {
    /// Height and width of the image.
    pub size: [usize; 2],
    pub stride: usize,
    /// Which phases there are, row by row.
    pub some: &'a [bool],
    /// A row of a phase, for those that are not there.
    pub zeros: &'a [f32],
    /// The rows of each phase.
    pub rows: Range<usize>,
    pub fill: Fill,
}

impl Interleave<'_> {
    /// To `plane` from `sums`, where the phases' (rows, width) begin `phase` apart.
    pub fn plane(&self, sums: &[f32], phase: usize, plane: &mut [f32]) {
        let (stride, [h, w], width) = (self.stride, self.size, self.zeros.len());
        for (i, row) in self.rows.clone().enumerate() {
            for y in (0..stride).take_while(|y| row * stride + y < h) {
                let to = &mut plane[(row * stride + y) * w..][..w];
                let from = |x: usize| match self.some[y * stride + x] {
                    true => &sums[(y * stride + x) * phase + i * width..][..width],
                    false => self.zeros,
                };
                let add = self.fill == Fill::Add;
                if stride == 2 {
                    pairs(from(0), from(1), to, add);
                    continue;
                }
                for x in 0..stride {
                    let to = to[x.min(w)..].iter_mut().step_by(stride);
                    if add {
                        to.zip(from(x)).for_each(|(to, v)| *to += v);
                    } else {
                        to.zip(from(x)).for_each(|(to, v)| *to = *v);
                    }
                }
            }
        }
    }
}

multiversion! {
    /// Two phases at once: whole vectors.
    fn pairs<E>(even: &[E], odd: &[E], to: &mut [E], add: bool) {
        let (pairs, last) = to.as_chunks_mut::<2>();
        let from = even.iter().zip(odd);
        if add {
            for (to, (&e, &o)) in pairs.iter_mut().zip(from) {
                *to = [to[0] + e, to[1] + o];
            }
        } else {
            for (to, (&e, &o)) in pairs.iter_mut().zip(from) {
                *to = [e, o];
            }
        }
        if let ([last], Some(&e)) = (last, even.get(pairs.len())) {
            *last = if add { *last + e } else { e };
        }
    }
}
