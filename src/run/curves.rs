//! A run's curves as an SVG: three diagrams by epoch, dense and sparse epochs marked.

use super::record::Record;
use super::svg::{document, step, text, GRID, INK};

const DENSE: &str = "#33658a";
const SPARSE: &str = "#e07a1f";
const LIGHT_DENSE: &str = "#a9bccd";
const LIGHT_SPARSE: &str = "#f1c49b";
const LIGHT_INK: &str = "#a5a8ac";
const TRAIN: &str = "#8a8f98";
const BAND: &str = "#fdf1e4";

const PANEL: [f64; 2] = [300.0, 230.0];
const LEFT: f64 = 66.0;
const GAP: f64 = 76.0;
const TOP: f64 = 74.0;

/// A value of an epoch: the epoch's number, the value, whether it was dense.
type Point = (f64, f64, bool);

/// One diagram's place and its axes.
struct Panel {
    x0: f64,
    epochs: f64,
    low: f64,
    high: f64,
}

impl Panel {
    /// The middle of an epoch's column; epochs count from 1.
    fn x(&self, epoch: f64) -> f64 {
        self.x0 + (epoch - 0.5) / self.epochs * PANEL[0]
    }

    fn y(&self, value: f64) -> f64 {
        let share = (value - self.low) / (self.high - self.low);
        TOP + PANEL[1] * (1.0 - share.clamp(0.0, 1.0))
    }
}

/// What an axis is for.
#[derive(Clone, Copy)]
struct Axis<'a> {
    /// The diagram's place, 0 to 2.
    number: usize,
    title: &'a str,
    unit: &'a str,
    /// Values that it has to reach [default: 0 and the largest].
    ends: Option<[f64; 2]>,
}

/// Frame, bands of the sparse epochs, grid and labels, with `values` between the ends of the axis.
fn panel(svg: &mut String, axis: Axis<'_>, epochs: &[Record], values: &[f64]) -> Panel {
    let Axis {
        number,
        title,
        unit,
        ends,
    } = axis;
    let finite = || values.iter().copied().filter(|v| v.is_finite());
    let [low, high] = ends.unwrap_or_else(|| [0.0, finite().fold(0.0, f64::max)]);
    let high = if high > low { high } else { low + 1.0 };
    let tick = step(high - low);
    let panel = Panel {
        x0: LEFT + number as f64 * (PANEL[0] + GAP),
        epochs: epochs.last().map_or(1.0, |r| r.epoch() as f64),
        low: (low / tick + 1e-6).floor() * tick,
        high: (high / tick - 1e-6).ceil() * tick,
    };
    let (x0, x1, y1) = (panel.x0, panel.x0 + PANEL[0], TOP + PANEL[1]);
    *svg += &text(x0, TOP - 12.0, "start", 14.0, "font-weight=\"600\"", title);
    let column = PANEL[0] / panel.epochs;
    for r in epochs.iter().filter(|r| !r.is_dense()) {
        *svg += &format!(
            "<rect x=\"{:.1}\" y=\"{TOP}\" width=\"{column:.1}\" height=\"{}\" fill=\"{BAND}\"/>\n",
            panel.x(r.epoch() as f64) - column / 2.0,
            PANEL[1],
        );
    }
    let digits = (-tick.log10().floor()).max(0.0) as usize;
    let ticks = ((panel.high - panel.low) / tick).round() as usize;
    for i in 0..=ticks {
        let value = panel.low + i as f64 * tick;
        let y = panel.y(value);
        *svg += &format!("<path d=\"M{x0:.1} {y:.1}H{x1:.1}\" stroke=\"{GRID}\"/>\n");
        let label = format!("{value:.digits$}{unit}");
        *svg += &text(x0 - 8.0, y + 4.0, "end", 11.0, "", &label);
    }
    // Whole epochs only, at most about ten labels.
    let every = step(panel.epochs * 0.5).ceil().max(1.0) as usize;
    for r in epochs {
        if every == 1 || (r.epoch() as usize).is_multiple_of(every) {
            let x = panel.x(r.epoch() as f64);
            *svg += &text(x, y1 + 17.0, "middle", 11.0, "", &r.epoch().to_string());
        }
    }
    *svg += &text((x0 + x1) / 2.0, y1 + 36.0, "middle", 12.0, "", "epoch");
    *svg += &format!("<path d=\"M{x0:.1} {TOP}V{y1}H{x1:.1}\" fill=\"none\" stroke=\"{INK}\"/>\n");
    panel
}

fn marker(x: f64, y: f64, dense: bool) -> String {
    if dense {
        format!(
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4.5\" fill=\"{DENSE}\" stroke=\"#fff\"/>\n"
        )
    } else {
        format!(
            "<path d=\"M{x:.1} {:.1}l5.5 5.5l-5.5 5.5l-5.5 -5.5z\" fill=\"{SPARSE}\" stroke=\"#fff\"/>\n",
            y - 5.5
        )
    }
}

/// A line through the epochs with a mark at each; dashed or not.
fn curve(svg: &mut String, panel: &Panel, points: &[Point], colour: &str, dash: bool) {
    let points: Vec<_> = points.iter().filter(|p| p.1.is_finite()).collect();
    let place = |p: &&Point| format!("{:.1},{:.1}", panel.x(p.0), panel.y(p.1));
    let path: Vec<String> = points.iter().map(place).collect();
    let dash = if dash {
        " stroke-dasharray=\"5 4\""
    } else {
        ""
    };
    *svg += &format!(
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"{dash}/>\n",
        path.join(" ")
    );
    // Marks of many epochs would cover the line.
    if points.len() <= 60 {
        for &&(epoch, value, dense) in &points {
            *svg += &marker(panel.x(epoch), panel.y(value), dense);
        }
    }
}

/// A picture of three diagrams by epoch, the last of which is the time.
struct Figure<'a> {
    svg: String,
    epochs: &'a [Record],
}

impl<'a> Figure<'a> {
    fn new(title: &str, epochs: &'a [Record]) -> Self {
        let svg = text(LEFT, 32.0, "start", 17.0, "font-weight=\"600\"", title);
        Self { svg, epochs }
    }

    /// A value of every epoch.
    fn points(&self, value: impl Fn(&Record) -> f64) -> Vec<Point> {
        let point = |r: &Record| (r.epoch() as f64, value(r), r.is_dense());
        self.epochs.iter().map(point).collect()
    }

    /// Curves on one axis: the test set's, and below it the training set's if there is one.
    fn curves(&mut self, axis: Axis<'_>, train: Option<&[Point]>, test: &[Point]) {
        let all = train.unwrap_or_default().iter().chain(test);
        let values: Vec<f64> = all.map(|p| p.1).collect();
        let axes = panel(&mut self.svg, axis, self.epochs, &values);
        if let Some(train) = train {
            curve(&mut self.svg, &axes, train, TRAIN, true);
        }
        curve(&mut self.svg, &axes, test, INK, false);
    }

    /// A bar an epoch: the backward pass's share of its value, and the rest above it.
    fn bars(&mut self, axis: Axis<'_>, parts: impl Fn(&Record) -> [f64; 2]) {
        let sums: Vec<f64> = self.epochs.iter().map(|r| parts(r).iter().sum()).collect();
        let axes = panel(&mut self.svg, axis, self.epochs, &sums);
        for r in self.epochs {
            let half = (0.32 * PANEL[0] / axes.epochs).min(28.0);
            let colours = match r.is_dense() {
                true => [DENSE, LIGHT_DENSE],
                false => [SPARSE, LIGHT_SPARSE],
            };
            let x = axes.x(r.epoch() as f64);
            let [backward, rest] = parts(r);
            let parts = [(0.0, backward), (backward, backward + rest)];
            for ((from, to), colour) in parts.into_iter().zip(colours) {
                self.svg += &format!(
                    "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{colour}\"/>\n",
                    x - half,
                    axes.y(to),
                    2.0 * half,
                    axes.y(from) - axes.y(to),
                );
            }
        }
    }

    /// The SVG, with the time of the epochs and the legend.
    fn finish(mut self, set: &str) -> String {
        let time = Axis {
            number: 2,
            title: "Training time of an epoch",
            unit: " s",
            ends: None,
        };
        self.bars(time, |r| {
            [r.backward_seconds(), r.seconds() - r.backward_seconds()]
        });
        let width = LEFT + 3.0 * PANEL[0] + 2.0 * GAP + 24.0;
        let height = TOP + PANEL[1] + 86.0;
        legend(&mut self.svg, height - 18.0, set);
        document(width, height, &self.svg)
    }
}

/// The legend, at a height.
fn legend(svg: &mut String, y: f64, set: &str) {
    let mut x = LEFT;
    let mut entry = |mark: String, words: &str, space: f64| {
        *svg += &format!(
            "<g transform=\"translate({x:.1} {:.1})\">{mark}</g>\n",
            y - 4.0
        );
        *svg += &text(x + 26.0, y, "start", 12.0, "", words);
        x += space;
    };
    let line = |colour: &str, dash: &str| {
        format!("<path d=\"M0 0H20\" stroke=\"{colour}\" stroke-width=\"2\" {dash}/>")
    };
    let tile = |colour: &str| {
        format!("<rect x=\"4\" y=\"-6\" width=\"14\" height=\"12\" fill=\"{colour}\"/>")
    };
    entry(marker(10.0, 0.0, true), "dense epoch", 120.0);
    let band = format!("<rect x=\"0\" y=\"-9\" width=\"20\" height=\"18\" fill=\"{BAND}\"/>");
    entry(band + &marker(10.0, 0.0, false), "sparse epoch", 126.0);
    entry(
        line(TRAIN, "stroke-dasharray=\"5 4\""),
        "training set",
        116.0,
    );
    entry(line(INK, ""), &format!("{set} set"), 392.0);
    entry(tile(INK), "backward pass", 126.0);
    entry(tile(LIGHT_INK), "forward, optimizer, data", 0.0);
}

/// The SVG of a run: the loss, the accuracy if there is one or else the backward FLOPs, and the time.
pub(super) fn svg(title: &str, records: &[Record]) -> String {
    let mut figure = Figure::new(title, records);
    let measured = |ending: &str| {
        let mut names = records.first()?.measured().map(|m| m.0);
        names.find(|name| name.ends_with(ending))
    };
    let points = |figure: &Figure, name: &str| figure.points(|r| r.get(name).unwrap_or(f64::NAN));
    let axis = |number, title, unit| Axis {
        number,
        title,
        unit,
        ends: None,
    };
    let train = points(&figure, "train_loss");
    let test = measured("_loss").map_or(Vec::new(), |name| points(&figure, name));
    figure.curves(axis(0, "Loss", ""), Some(&train), &test);

    let set = ["_accuracy", "_loss"].into_iter().find_map(measured);
    let set = set
        .and_then(|name| name.split('_').next())
        .unwrap_or("test");
    match measured("_accuracy") {
        Some(name) => {
            let mut accuracy = points(&figure, name);
            accuracy.iter_mut().for_each(|point| point.1 *= 100.0);
            let worst = accuracy.iter().map(|p| p.1).fold(100.0, f64::min);
            let title = format!("{}{} accuracy", set[..1].to_uppercase(), &set[1..]);
            let ends = Some([(worst - 5.0).max(0.0), 100.0]);
            figure.curves(
                Axis {
                    ends,
                    ..axis(1, &title, "%")
                },
                None,
                &accuracy,
            );
        }
        None => {
            let flops = axis(1, "Backward FLOPs of an epoch", " T");
            figure.bars(flops, |r| [r.backward_flops() / 1e12, 0.0]);
        }
    }
    figure.finish(set)
}

#[cfg(test)]
mod tests {
    use super::super::tests::record;
    use super::*;

    #[test]
    fn every_epoch_is_drawn_and_labelled() {
        let mut records: Vec<Record> = (1..=4)
            .map(|n| record(n, if n % 2 == 0 { 0.8 } else { 0.0 }, 2.0))
            .collect();
        let loss = records[2]
            .0
            .iter_mut()
            .find(|(name, _)| name == "test_loss");
        loss.unwrap().1 = f64::NAN;
        let drawn = svg("a < b & c", &records);
        // In three curves but for the NaN, and in the legend.
        assert_eq!(drawn.matches("<circle").count(), 2 * 3 - 1 + 1);
        assert!(drawn.contains("a &lt; b &amp; c") && !drawn.contains("NaN"));
        // A band each in three panels, and in the legend.
        assert_eq!(drawn.matches(BAND).count(), 2 * 3 + 1);
        assert_eq!(drawn.matches(LIGHT_SPARSE).count(), 2);
        for label in [
            ">4<",
            "epoch",
            "Test accuracy",
            "60%",
            "sparse epoch",
            "test set",
        ] {
            assert!(drawn.contains(label), "{label}");
        }
        assert!(svg("nothing yet", &[]).ends_with("</svg>\n"));

        for record in &mut records {
            record.0.retain(|(name, _)| !name.starts_with("test"));
        }
        let drawn = svg("a loss only", &records);
        assert!(
            drawn.contains("0.4 T") && !drawn.contains("accuracy<"),
            "{drawn}"
        );
    }
}
