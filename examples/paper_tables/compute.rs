//! What the crate's accounts give for the paper's runs.

use ssprop::models::modules::{CelebAUNet, MnistUNet, ResNet18, ResNet26, ResNet34, ResNet50};
use ssprop::nn::{ImageSize, LayerCost, ModelCost, RunSize};
use ssprop::prelude::*;
use ssprop::Error;

use common::paper::{self, Run};

use crate::figure::Figure;

/// A run of the paper with its figures.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub run: Run,
    /// 1e9 backward FLOPs of an iteration: the mean of a dense and a sparse one, if there are any.
    pub per_iteration: Figure,
    /// 1e15 backward FLOPs of the run.
    pub total: Figure,
}

impl Row {
    pub fn figures(&self) -> [Figure; 2] {
        [self.per_iteration, self.total]
    }
}

pub fn rows(tables: &str) -> ssprop::Result<Vec<Row>> {
    paper::runs(tables)?.into_iter().map(row).collect()
}

fn row(run: Run) -> ssprop::Result<Row> {
    let cost = cost(&run.model, run.input)?;
    let with_dropout = run.dropout.map(|_| with_dropout(&cost));
    let an_iteration = with_dropout.as_ref().unwrap_or(&cost);
    Ok(Row {
        per_iteration: Figure {
            computed: run_flops(an_iteration, &run, one_iteration(&run))? / 2e9,
            printed: run.per_iteration,
        },
        total: Figure {
            computed: run_flops(&cost, &run, whole(&run))? / 1e15,
            printed: run.total,
        },
        run,
    })
}

/// Two epochs of one iteration each: the sum of a dense and a sparse iteration.
fn one_iteration(run: &Run) -> RunSize {
    RunSize {
        images: run.batch,
        batch: run.batch,
        epochs: 2,
    }
}

fn whole(run: &Run) -> RunSize {
    RunSize {
        images: run.images,
        batch: run.batch,
        epochs: run.epochs,
    }
}

fn run_flops(cost: &ModelCost, run: &Run, size: RunSize) -> ssprop::Result<f64> {
    let schedule = Schedule::alternating(DropRate::new(2.0 * run.average_drop)?);
    Ok(cost.on_schedule(&schedule.into(), size)?.total.scheduled)
}

/// The network's cost.
fn cost(model: &str, input: ImageSize) -> ssprop::Result<ModelCost> {
    // The number of classes does not count.
    macro_rules! of {
        ($net:ident) => {
            match input[0] {
                1 => ModelCost::of::<$net<10, 1, f32, Cpu>>(input),
                _ => ModelCost::of::<$net<10, 3, f32, Cpu>>(input),
            }
        };
    }
    match model {
        "resnet18" => of!(ResNet18),
        "resnet26" => of!(ResNet26),
        "resnet34" => of!(ResNet34),
        "resnet50" => of!(ResNet50),
        "ddpm" => match input[0] {
            1 => ModelCost::of::<MnistUNet<1, f32, Cpu>>(input),
            _ => ModelCost::of::<CelebAUNet<3, f32, Cpu>>(input),
        },
        other => Err(Error::parameter("model", other, "a network of the tables")),
    }
}

/// With dropout after each norm, at 4 FLOPs an element: that is twice Eq. 8, but what the figures an
/// iteration of Table 6 have. Its totals leave dropout out.
fn with_dropout(cost: &ModelCost) -> ModelCost {
    let mut layers = Vec::new();
    for (path, layer) in &cost.layers {
        layers.push((path.clone(), *layer));
        if let LayerCost::BatchNorm2D(size) = *layer {
            layers.extend(["a", "b"].map(|part| {
                let path = format!("{path}.dropout.{part}");
                (path, LayerCost::Dropout(size))
            }));
        }
    }
    ModelCost { layers }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Count;
    use common::paper::TABLES;

    #[test]
    fn every_figure_is_as_printed_and_a_changed_digit_is_not() {
        let rows = rows(TABLES).unwrap();
        let count = Count::of(&rows);
        // 12, 3, 2 and 4 rows of four figures, 6 halves.
        assert_eq!(count.compared, 4 * (12 + 3 + 2 + 4) + 2 * 6);
        assert_eq!(count.differing, 0);
        for figure in rows.iter().flat_map(Row::figures) {
            for digit in [0.01, -0.01, 0.1, 1.0, -10.0] {
                let printed = figure.printed + digit;
                let changed = Figure { printed, ..figure };
                assert!(!changed.agrees(), "{changed:?}");
            }
        }
    }

    #[test]
    fn changed_tables_are_caught() {
        for (from, to, differing) in [
            (
                "\"flops_per_iter\": 234.1,",
                "\"flops_per_iter\": 234.2,",
                2,
            ),
            ("17064.82", "17064.83", 1),
            ("\"epochs\": 1800", "\"epochs\": 1801", 3),
            ("\"average_drop\": 0.2", "\"average_drop\": 0.21", 4),
        ] {
            let changed = TABLES.replace(from, to);
            assert_ne!(changed, TABLES, "{from}");
            let rows = rows(&changed).unwrap();
            assert_eq!(Count::of(&rows).differing, differing, "{from} to {to}");
        }
    }

    #[test]
    fn tables_that_cannot_be_read_are_errors() {
        for changed in [
            String::new(),
            "{}".into(),
            TABLES.replacen("\"batch\": 128", "\"batch\": \"many\"", 1),
            TABLES.replacen("\"resnet26\"", "\"resnet27\"", 1),
            TABLES.replacen("\"total\": 5.49", "\"sum\": 5.49", 1),
        ] {
            assert!(rows(&changed).is_err());
        }
    }
}
