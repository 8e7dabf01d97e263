//! A run's curves.

use crate::history::Record;
use common::curves::{Axis, Figure};

/// Loss, backward FLOPs and time by epoch, as an SVG. `loss` names the loss.
pub fn svg(title: &str, loss: &str, records: &[Record]) -> String {
    let mut figure = Figure::new(title, records);
    let axis = |number, title, unit| Axis {
        number,
        title,
        unit,
        ends: None,
    };
    let (train, test) = (
        figure.points(|r| r.train_loss),
        figure.points(|r| r.test_loss),
    );
    figure.curves(axis(0, loss, ""), Some(&train), &test);
    let flops = axis(1, "Backward FLOPs of an epoch", " T");
    figure.bars(flops, |r| [r.backward_flops / 1e12, 0.0]);
    figure.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_epoch_is_drawn() {
        let record = |epoch: u64| Record {
            epoch,
            drop_rate: if epoch == 2 { 0.8 } else { 0.0 },
            train_images: 1,
            train_loss: 1.0 / epoch as f64,
            test_loss: 0.5,
            data: 0.0,
            forward: 1.0,
            backward: 2.0,
            optimizer: 0.0,
            backward_flops: 3e12,
        };
        let records: Vec<Record> = (1..=3).map(record).collect();
        let drawn = svg("a title", "L2 loss", &records);
        // Two dense epochs in two curves and in the legend; one sparse one.
        assert_eq!(drawn.matches("<circle").count(), 2 * 2 + 1);
        for label in ["a title", "L2 loss", "3 T", " s<", "sparse epoch"] {
            assert!(drawn.contains(label), "{label}");
        }
        assert!(!drawn.contains("NaN"));
        assert!(svg("nothing yet", "L2 loss", &[]).ends_with("</svg>\n"));
    }
}
