//! Cutting a part out of a picture and resizing it.

/// A part of a picture, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Region {
    pub left: usize,
    pub top: usize,
    pub width: usize,
    pub height: usize,
}

/// Resizes by the triangle filter, whose support grows with the reduction, so that nothing is aliased.
///
/// Sums are of 16-bit integers, which is fast on every machine, and the same result on each: at most 1 off
/// where the exact value is near a half (2 where more than 240 columns become one). Between the passes a
/// value has 8 bits of a fraction.
#[derive(Default)]
pub(in super::super) struct Resizer {
    rows: Weights,
    columns: Weights,
    /// `ROWS` rows of the part, resized vertically.
    resized: Vec<u16>,
    /// The same, the values of a column together.
    turned: Vec<[u16; ROWS]>,
}

/// Rows that are resized horizontally together.
const ROWS: usize = 8;

/// What each output takes of the inputs.
#[derive(Default)]
struct Weights {
    from: usize,
    to: usize,
    /// The first input of each output, and where its weights begin.
    starts: Vec<(usize, usize)>,
    /// In units of 1/65536. Those of an output add up to 1; one that is 1 alone is a unit less.
    values: Vec<u16>,
}

impl Weights {
    fn set(&mut self, from: usize, to: usize) {
        if (self.from, self.to) == (from, to) {
            return;
        }
        (self.from, self.to) = (from, to);
        self.starts.clear();
        self.values.clear();
        let scale = from as f64 / to as f64;
        let support = scale.max(1.0);
        for i in 0..to {
            let centre = (i as f64 + 0.5) * scale;
            let first = (centre - support).floor().max(0.0) as usize;
            let last = ((centre + support).ceil() as usize).clamp(first + 1, from);
            let first = first.min(from - 1);
            let weight = |x: usize| (1.0 - ((x as f64 + 0.5 - centre) / support).abs()).max(0.0);
            let sum: f64 = (first..last).map(weight).sum();
            self.starts.push((first, self.values.len()));
            // Each is what its exact value adds to the rounded sum: rounding loses nothing of the whole.
            let (mut exact, mut given) = (0.0, 0);
            self.values.extend((first..last).map(|x| {
                exact += weight(x) / sum;
                let value = (exact * 65536.0).round() as u32 - given;
                given += value;
                value.min(u16::MAX.into()) as u16
            }));
        }
    }

    /// The first input of each output, and the weights from there on.
    fn outputs(&self) -> impl Iterator<Item = (usize, &[u16])> {
        let ends = self.starts.iter().skip(1).map(|&(_, end)| end);
        let ends = ends.chain([self.values.len()]);
        let starts = self.starts.iter().zip(ends);
        starts.map(|(&(first, start), end)| (first, &self.values[start..end]))
    }
}

impl Resizer {
    /// The `region` of the picture `pixels`, of rows of `width` pixels with C values each, resized to
    /// `to` (height, width), as C planes in `out`.
    pub fn resize<const C: usize>(
        &mut self,
        pixels: &[u8],
        width: usize,
        region: Region,
        to: (usize, usize),
        out: &mut [u8],
    ) {
        self.rows.set(region.height, to.0);
        self.columns.set(region.width, to.1);
        let plane = to.0 * to.1;
        let (stride, len) = (width * C, region.width * C);
        let pixels = &pixels[region.top * stride + region.left * C..];
        self.resized.resize(ROWS * len, 0);
        self.turned.resize(len, [0; ROWS]);
        let mut rows = self.rows.outputs();
        for top in (0..to.0).step_by(ROWS) {
            for (resized, row) in self.resized.chunks_exact_mut(len).zip(&mut rows) {
                vertically(pixels, stride, row, resized);
            }
            turn(&self.resized, &mut self.turned);
            for (x, (first, weights)) in self.columns.outputs().enumerate() {
                // Halves up, and what rounding products down takes on average.
                let lost = (weights.len() / 2).min(120) as u16;
                let mut sums = [[128 + lost; ROWS]; C];
                let (columns, _) = self.turned[first * C..].as_chunks::<C>();
                for (column, &weight) in columns.iter().zip(weights) {
                    add(sums.as_flattened_mut(), column.as_flattened(), weight);
                }
                for (c, sums) in sums.iter().enumerate() {
                    let column = &mut out[c * plane..][top * to.1 + x..plane];
                    for (out, sum) in column.iter_mut().step_by(to.1).zip(sums) {
                        *out = (sum >> 8) as u8;
                    }
                }
            }
        }
    }
}

/// Sums rows of pixels, from `first` on, by their weights.
fn vertically(pixels: &[u8], stride: usize, (first, weights): (usize, &[u16]), out: &mut [u16]) {
    out.fill(0);
    for (k, weight) in weights.iter().enumerate() {
        let row = &pixels[(first + k) * stride..];
        // By each byte of the weight: products of 16 bits.
        let [high, low] = weight.to_be_bytes().map(u16::from);
        for (sum, &pixel) in out.iter_mut().zip(row) {
            let pixel = u16::from(pixel);
            let low = pixel.wrapping_mul(low).wrapping_add(128) >> 8;
            *sum = sum.saturating_add(pixel.wrapping_mul(high).wrapping_add(low));
        }
    }
}

/// Puts the values of each column together.
fn turn(rows: &[u16], columns: &mut [[u16; ROWS]]) {
    let len = columns.len();
    let rows: [&[u16]; ROWS] = std::array::from_fn(|r| &rows[r * len..][..len]);
    for (i, column) in columns.iter_mut().enumerate() {
        *column = std::array::from_fn(|r| rows[r][i]);
    }
}

/// Adds values times a weight. Never inlined: where the compiler knows the length it writes the loop out,
/// and then does not vectorise it.
#[inline(never)]
fn add(sums: &mut [u16], values: &[u16], weight: u16) {
    for (sum, &value) in sums.iter_mut().zip(values) {
        let product = (u32::from(value) * u32::from(weight)) >> 16;
        *sum = sum.saturating_add(product as u16);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(width: usize, height: usize) -> Region {
        Region {
            left: 0,
            top: 0,
            width,
            height,
        }
    }

    #[test]
    fn the_same_size_is_the_same_picture() {
        let pixels: Vec<u8> = (0..60).map(|i| (i * 37 % 256) as u8).collect();
        let mut out = vec![0; 60];
        let mut resizer = Resizer::default();
        resizer.resize::<1>(&pixels, 10, whole(10, 6), (6, 10), &mut out);
        assert_eq!(out, pixels);
        resizer.resize::<3>(&pixels, 5, whole(5, 4), (4, 5), &mut out);
        for (i, pixel) in pixels.chunks(3).enumerate() {
            assert_eq!([out[i], out[20 + i], out[40 + i]], pixel);
        }
    }

    #[test]
    fn a_region_is_cut_out() {
        let pixels: Vec<u8> = (0..30).collect();
        let region = Region {
            left: 2,
            top: 1,
            width: 2,
            height: 2,
        };
        let mut out = vec![0; 4];
        Resizer::default().resize::<1>(&pixels, 6, region, (2, 2), &mut out);
        assert_eq!(out, [8, 9, 14, 15]);
    }

    #[test]
    fn as_image_does_it() {
        use image::imageops::{resize, FilterType};
        let picture = image::RgbImage::from_fn(53, 37, |x, y| {
            image::Rgb([(x * 5) as u8, (y * 6) as u8, (x * y % 251) as u8])
        });
        let mut resizer = Resizer::default();
        for (height, width) in [(16, 16), (64, 80), (5, 53), (1, 1)] {
            let wanted = resize(&picture, width, height, FilterType::Triangle);
            let to = (height as usize, width as usize);
            let mut out = vec![0; 3 * to.0 * to.1];
            resizer.resize::<3>(picture.as_raw(), 53, whole(53, 37), to, &mut out);
            for (i, pixel) in wanted.pixels().enumerate() {
                for c in 0..3 {
                    let found = out[c * to.0 * to.1 + i];
                    assert!(found.abs_diff(pixel.0[c]) <= 1, "{to:?} {i} {c}");
                }
            }
        }
    }

    /// A pixel by the filter's definition.
    fn exact(pixels: &[u8], from: (usize, usize), to: (usize, usize), y: usize, x: usize) -> f64 {
        let weights = |from: usize, to: usize, i: usize| -> Vec<f64> {
            let scale = from as f64 / to as f64;
            let distance = |k: usize| (k as f64 + 0.5 - (i as f64 + 0.5) * scale).abs();
            let weights = (0..from).map(|k| (1.0 - distance(k) / scale.max(1.0)).max(0.0));
            let sum: f64 = weights.clone().sum();
            weights.map(|weight| weight / sum).collect()
        };
        let columns = weights(from.1, to.1, x);
        let rows = weights(from.0, to.0, y).into_iter();
        let row = |y: usize| {
            let row = pixels[y * from.1..].iter().zip(&columns);
            row.map(|(&pixel, weight)| f64::from(pixel) * weight)
                .sum::<f64>()
        };
        rows.enumerate().map(|(y, weight)| weight * row(y)).sum()
    }

    #[test]
    fn values_are_exact_but_for_rounding() {
        let kinds: [fn(usize) -> u8; 4] = [
            |_| 0,
            |_| 255,
            |i| (i * 89 % 256) as u8,
            |i| [0, 255][i * i / 7 % 2],
        ];
        for (from, to) in [
            ((40, 50), (17, 19)),
            ((9, 5), (31, 40)),
            ((400, 300), (3, 2)),
            ((1, 200), (2, 1)),
            ((31, 31), (31, 30)),
        ] {
            for kind in kinds {
                let pixels: Vec<u8> = (0..from.0 * from.1).map(kind).collect();
                let mut out = vec![0; to.0 * to.1];
                let part = whole(from.1, from.0);
                Resizer::default().resize::<1>(&pixels, from.1, part, to, &mut out);
                for (i, &found) in out.iter().enumerate() {
                    let wanted = exact(&pixels, from, to, i / to.1, i % to.1);
                    let apart = (f64::from(found) - wanted).abs();
                    assert!(apart < 0.6, "{from:?} to {to:?}, {i}: {found} {wanted}");
                }
            }
        }
    }
}
