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
/// Sums are in f32 and in one order: the result is the same on every machine.
#[derive(Default)]
pub(in super::super) struct Resizer {
    rows: Weights,
    columns: Weights,
    /// A row of the part, resized vertically.
    row: Vec<f32>,
}

/// What each output takes of the inputs.
#[derive(Default)]
struct Weights {
    from: usize,
    to: usize,
    /// The first input of each output, and where its weights begin.
    starts: Vec<(usize, usize)>,
    values: Vec<f32>,
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
            self.values
                .extend((first..last).map(|x| (weight(x) / sum) as f32));
        }
    }

    /// The first input of each output, and the weights from there on.
    fn outputs(&self) -> impl Iterator<Item = (usize, &[f32])> {
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
        let rows = &pixels[(region.top * width + region.left) * C..];
        for (y, (first, weights)) in self.rows.outputs().enumerate() {
            self.row.clear();
            self.row.resize(region.width * C, 0.0);
            for (i, &weight) in weights.iter().enumerate() {
                let row = &rows[(first + i) * width * C..][..region.width * C];
                for (sum, &pixel) in self.row.iter_mut().zip(row) {
                    *sum += weight * f32::from(pixel);
                }
            }
            for (x, (first, weights)) in self.columns.outputs().enumerate() {
                let mut sums = [0.5; C];
                let (pixels, _) = self.row[first * C..].as_chunks::<C>();
                for (pixel, &weight) in pixels.iter().zip(weights) {
                    for (sum, &value) in sums.iter_mut().zip(pixel) {
                        *sum += weight * value;
                    }
                }
                for (c, &sum) in sums.iter().enumerate() {
                    // Halves up; the cast keeps to 0..=255.
                    out[c * plane + y * to.1 + x] = sum as u8;
                }
            }
        }
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
}
