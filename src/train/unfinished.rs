//! How far an unfinished epoch is, as text in a checkpoint's metadata.

use super::report::{EpochReport, Seconds};
use crate::sparsity::DropRate;

/// The sums of its batches, each number as it is read back to the bit.
pub(super) fn to_text(sums: &EpochReport) -> String {
    let s = &sums.seconds;
    let numbers = [
        sums.loss,
        sums.drop_rate.rate(),
        sums.mean_drop_rate,
        s.data,
        s.forward,
        s.backward,
        s.optimizer,
        sums.backward_flops,
        sums.lr,
        sums.grad_norm.unwrap_or(f64::NAN),
    ];
    let numbers = numbers.map(|number| number.to_string()).join(" ");
    format!("{} {} {numbers}", sums.batches, sums.images)
}

/// What [`to_text`] wrote; `None` for anything else.
pub(super) fn from_text(text: &str, epoch: u64) -> Option<EpochReport> {
    let mut words = text.split(' ');
    let (batches, images) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let numbers: Option<Vec<f64>> = words.map(|word| word.parse().ok()).collect();
    let [loss, rate, mean_drop_rate, data, forward, backward, optimizer, backward_flops, lr, norm] =
        numbers?.try_into().ok()?;
    Some(EpochReport {
        epoch,
        batches,
        images,
        loss,
        drop_rate: DropRate::new(rate).ok()?,
        mean_drop_rate,
        seconds: Seconds {
            data,
            forward,
            backward,
            optimizer,
        },
        backward_flops,
        lr,
        grad_norm: (!norm.is_nan()).then_some(norm),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_read_back_to_the_bit() {
        let sums = EpochReport {
            epoch: 3,
            batches: 17,
            images: 500,
            loss: 1.0 / 3.0,
            drop_rate: DropRate::new(0.8).unwrap(),
            mean_drop_rate: 17.0 * 0.8 / 3.0,
            seconds: Seconds {
                data: 0.1,
                forward: 1e-7,
                backward: 12345.678,
                optimizer: 0.0,
            },
            backward_flops: 1e15 / 7.0,
            lr: 2e-4,
            grad_norm: Some(0.7),
        };
        for sums in [
            sums,
            EpochReport {
                grad_norm: None,
                ..sums
            },
        ] {
            let text = to_text(&sums);
            assert_eq!(from_text(&text, 3), Some(sums));
            for broken in ["", &text[3..], &text.replace(' ', ""), &format!("{text} 1")] {
                assert_eq!(from_text(broken, 3), None, "{broken}");
            }
        }
    }
}
