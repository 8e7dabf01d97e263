//! Threads in the place of ranks: what they find of the parts of a batch is what one finds of all of it.

use std::ops::Range;
use std::sync::{Arc, Barrier, Mutex};
use std::thread;

use super::*;
use crate::bridge::exchange::{Exchange, Installed};

/// Adds numbers over threads, in the order of the ranks.
struct Sums {
    found: Mutex<Vec<Vec<f64>>>,
    barrier: Barrier,
}

struct Rank {
    rank: usize,
    share: f64,
    sums: Arc<Sums>,
}

impl Exchange for Rank {
    fn sum(&self, values: &mut [f64]) -> Result<()> {
        let Sums { found, barrier } = &*self.sums;
        found.lock().unwrap()[self.rank] = values.to_vec();
        barrier.wait();
        for (i, sum) in values.iter_mut().enumerate() {
            *sum = found.lock().unwrap().iter().map(|terms| terms[i]).sum();
        }
        barrier.wait();
        Ok(())
    }

    fn share(&self) -> f64 {
        self.share
    }

    fn used(&self, _: usize) {}

    fn written(&self, _: usize, _: &[f32], _: Option<&[usize]>) -> Result<()> {
        Ok(())
    }
}

/// What each of the ranks finds that have these shares of the batch.
fn on_ranks<R: Send>(shares: &[f64], f: impl Fn(usize) -> R + Sync) -> Vec<R> {
    let sums = Arc::new(Sums {
        found: Mutex::new(vec![Vec::new(); shares.len()]),
        barrier: Barrier::new(shares.len()),
    });
    thread::scope(|scope| {
        let start = |(rank, &share): (usize, &f64)| {
            let (sums, f) = (sums.clone(), &f);
            scope.spawn(move || {
                let _installed = Installed::new(Arc::new(Rank { rank, share, sums }));
                f(rank)
            })
        };
        let threads: Vec<_> = shares.iter().enumerate().map(start).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    })
}

impl<E: crate::kernels::cpu::element::Element + Dtype> Case<E>
where
    Cpu: Backend<E>,
{
    /// Some of the images, synchronized. If they do not count, nothing comes back from the loss.
    fn part(&self, images: Range<usize>, counts: bool) -> Self {
        let (_, c, h, w) = self.shape;
        let shape = (images.len(), c, h, w);
        let elements = images.start * c * h * w..images.end * c * h * w;
        let part = |t: &Images4<E>| {
            self.dev
                .tensor_from_vec(t.as_vec()[elements.clone()].into(), shape)
        };
        Self {
            dev: self.dev.clone(),
            shape,
            x: part(&self.x),
            residual: self.residual.as_ref().map(part),
            weight: self.weight.clone(),
            bias: self.bias.clone(),
            dy: if counts {
                part(&self.dy)
            } else {
                self.dev.zeros_like(&shape)
            },
            op: BatchNorm2DOp {
                synchronized: true,
                ..self.op
            },
        }
    }
}

/// That ranks with `parts` of a batch of 9 images find what one process does. The last one goes along with
/// an image of another's.
fn check<E: crate::kernels::cpu::element::Element + Dtype>(parts: &[Range<usize>], tolerance: f64)
where
    Cpu: Backend<E>,
{
    for (residual, f) in [
        (false, Activation::Identity),
        (true, Activation::Identity),
        (false, Activation::ReLU),
        (true, Activation::ReLU),
    ] {
        let whole = || Case::<E>::new((9, 19, 5, 7), residual, f);
        let expected = whole().run(Statistics::Batch);
        let shares: Vec<f64> = parts
            .iter()
            .map(|part| part.len() as f64 / 9.0)
            .chain([0.0])
            .collect();
        let found = on_ranks(&shares, |rank| match parts.get(rank) {
            Some(part) => whole().part(part.clone(), true).run(Statistics::Batch),
            None => whole().part(4..5, false).run(Statistics::Batch),
        });
        let (last, found) = found.split_last().unwrap();
        for (what, expected) in expected.iter().enumerate() {
            let all = found.iter().map(|found| &found[what]);
            let together: Vec<f64> = match what {
                // y, dx, dresidual: image by image.
                0..=2 => all.flatten().copied().collect(),
                // dweight, dbias: summed.
                3 | 4 => all.fold(vec![0.0; expected.len()], |sums, part| {
                    sums.iter().zip(part).map(|(a, b)| a + b).collect()
                }),
                // The running statistics: everybody's.
                _ => {
                    assert!(all
                        .chain([&last[what]])
                        .all(|other| *other == found[0][what]));
                    found[0][what].clone()
                }
            };
            // A parameter's gradient is a sum of 315 terms of about 1 that nearly cancel.
            let terms = if matches!(what, 3 | 4) { 10.0 } else { 1.0 };
            assert_close(&together, expected, terms * tolerance, what);
        }
        let image = 19 * 5 * 7;
        assert_close(&last[0], &expected[0][4 * image..5 * image], tolerance, 0);
        // dx, dresidual, dweight, dbias.
        assert!(last[1..5].iter().flatten().all(|&g| g == 0.0));
    }
}

#[test]
fn ranks_find_what_one_process_finds() {
    check::<f64>(&[0..4, 4..9], 1e-12);
    check::<f64>(&[0..1, 1..2, 2..9], 1e-12);
    check::<f32>(&[0..4, 4..9], 1e-6);
    check::<f32>(&[0..1, 1..6, 6..9], 1e-6);
}

#[test]
fn the_variance_over_ranks_survives_a_large_mean() {
    let found = on_ranks(&[0.5, 0.5], |rank| {
        let dev = Cpu::default();
        // All of one rank's elements are equal: the variance is between the ranks.
        let x = dev.tensor_from_vec(vec![1e6 + rank as f64; 64], (1, 1, 8, 8));
        let (weight, bias) = (dev.ones_like(&(1,)), dev.zeros_like(&(1,)));
        let (mut mean, mut var) = (dev.zeros_like(&(1,)), dev.zeros_like(&(1,)));
        let running = Mode::Train {
            mean: &mut mean,
            var: &mut var,
        };
        let op = BatchNorm2DOp {
            momentum: 1.0,
            synchronized: true,
            ..Default::default()
        };
        try_batch_norm2d(x, None, &weight, &bias, running, op).unwrap();
        [mean.as_vec()[0], var.as_vec()[0]]
    });
    assert_eq!(found[0], found[1]);
    assert_eq!(found[0][0], 1e6 + 0.5);
    assert!(
        (found[0][1] - 0.25 * 128.0 / 127.0).abs() < 1e-12,
        "{found:?}"
    );
}

#[test]
fn the_elements_of_all_ranks_are_counted() {
    let run = |op: BatchNorm2DOp| {
        let dev = Cpu::default();
        let x: Images4<f64> = dev.tensor_from_vec(vec![1.0, 2.0], (1, 2, 1, 1));
        let (weight, bias) = (dev.ones_like(&(2,)), dev.zeros_like(&(2,)));
        let (mut mean, mut var) = (dev.zeros_like(&(2,)), dev.zeros_like(&(2,)));
        let running = Mode::Train {
            mean: &mut mean,
            var: &mut var,
        };
        let y = try_batch_norm2d(x, None, &weight, &bias, running, op);
        y.map(|_| mean.as_vec()).map_err(|err| err.to_string())
    };
    let synchronized = BatchNorm2DOp {
        synchronized: true,
        ..Default::default()
    };
    let means = on_ranks(&[0.5, 0.5], |_| run(synchronized));
    assert!(
        means.iter().all(|mean| *mean == Ok(vec![0.1, 0.2])),
        "{means:?}"
    );
    let errors = on_ranks(&[1.0], |_| run(synchronized));
    let text = "on all ranks in training: expected \"at least 2\", found 1.0";
    assert!(
        matches!(&errors[0], Err(err) if err.contains(text)),
        "{errors:?}"
    );
    // Without other ranks, or if not asked for, a rank is by itself.
    assert!(run(synchronized).is_err());
    assert!(on_ranks(&[0.5, 0.5], |_| run(BatchNorm2DOp::default()))
        .iter()
        .all(Result::is_err));
}
