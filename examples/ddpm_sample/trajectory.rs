//! A few images on their way from noise.

use ssprop::diffusion::SampleStep;

/// Moments of a strip, if there are as many steps.
pub const MOMENTS: usize = 10;
/// Of an animation.
pub const FRAMES: usize = 50;

/// What a strip shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// The images as they are, from the noise on.
    Images,
    /// The images that the network predicts, from the first step on.
    Predictions,
}

/// The first images of a run at evenly spaced moments, the first and the last among them: a row an
/// image.
pub struct Trajectory {
    shown: Shown,
    rows: usize,
    moments: Vec<usize>,
    len: usize,
    values: Vec<f32>,
}

impl Trajectory {
    /// Of `rows` images of `len` values each, which take `steps` steps, at `most` so many moments.
    pub fn new(shown: Shown, rows: usize, steps: usize, len: usize, most: usize) -> Self {
        let first = match shown {
            Shown::Images => 0,
            Shown::Predictions => 1,
        };
        let moments = moments(first, steps, most);
        let values = vec![0.0; rows * moments.len() * len];
        Self {
            shown,
            rows,
            moments,
            len,
            values,
        }
    }

    /// Keeps the images if this is one of the moments.
    pub fn step(&mut self, done: &SampleStep<'_>) {
        let Some(column) = self.moments.iter().position(|&step| step == done.step) else {
            return;
        };
        let values = match self.shown {
            Shown::Images => done.x,
            Shown::Predictions => done.x0,
        };
        for (row, values) in (done.first..self.rows).zip(values.chunks(self.len)) {
            let at = (row * self.moments.len() + column) * self.len;
            self.values[at..at + self.len].copy_from_slice(values);
        }
    }

    pub fn columns(&self) -> usize {
        self.moments.len()
    }

    /// The images of each moment.
    pub fn frames(&self) -> Vec<Vec<f32>> {
        let rows = || self.values.chunks(self.moments.len() * self.len);
        let at = |column: usize| rows().flat_map(move |row| &row[column * self.len..][..self.len]);
        let columns = 0..self.moments.len();
        columns
            .map(|column| at(column).copied().collect())
            .collect()
    }

    /// The images, row by row.
    pub fn values(&self) -> &[f32] {
        &self.values
    }
}

/// At `most` so many different steps of `first..=last`, evenly spaced.
fn moments(first: usize, last: usize, most: usize) -> Vec<usize> {
    let gaps = (last - first).min(most - 1);
    let at = |i: usize| first + (i * (last - first) + gaps / 2) / gaps.max(1);
    (0..=gaps).map(at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_spread_from_the_first_step_to_the_last() {
        let moments = |first, last| moments(first, last, 10);
        assert_eq!(moments(0, 3), [0, 1, 2, 3]);
        assert_eq!(moments(1, 1), [1]);
        assert_eq!(moments(0, 9), (0..=9).collect::<Vec<_>>());
        assert_eq!(
            moments(0, 200),
            [0, 22, 44, 67, 89, 111, 133, 156, 178, 200]
        );
        for steps in 1..50 {
            for first in [0, 1] {
                let found = moments(first, steps);
                assert_eq!((found[0], found[found.len() - 1]), (first, steps));
                assert!(found.windows(2).all(|w| w[0] < w[1]));
            }
        }
    }

    #[test]
    fn rows_are_images_whatever_the_batches() {
        // The value of an image: 10 times its number, plus the steps done.
        let value = |image: usize, step: usize| (10 * image + step) as f32;
        let mut strip = Trajectory::new(Shown::Images, 3, 2, 2, 10);
        let mut predicted = Trajectory::new(Shown::Predictions, 3, 2, 2, 10);
        for (first, images) in [(0, 2), (2, 2)] {
            for step in 0..=2 {
                let of = |image| [value(image, step); 2];
                let x: Vec<f32> = (first..first + images).flat_map(of).collect();
                let x0: Vec<f32> = x.iter().map(|x| -x).collect();
                let done = SampleStep {
                    first,
                    images,
                    step,
                    steps: 2,
                    x: &x,
                    x0: if step == 0 { &[] } else { &x0 },
                };
                strip.step(&done);
                predicted.step(&done);
            }
        }
        let pairs = |values: &[f32]| values.chunks(2).map(|pair| pair[0]).collect::<Vec<_>>();
        assert_eq!(strip.columns(), 3);
        assert_eq!(
            pairs(strip.values()),
            [0.0, 1.0, 2.0, 10.0, 11.0, 12.0, 20.0, 21.0, 22.0]
        );
        let frames = strip.frames();
        assert_eq!(pairs(&frames[1]), [1.0, 11.0, 21.0]);
        assert_eq!((frames.len(), frames[2].len()), (3, 6));
        assert_eq!(predicted.columns(), 2);
        assert_eq!(
            pairs(predicted.values()),
            [-1.0, -2.0, -11.0, -12.0, -21.0, -22.0]
        );
    }
}
