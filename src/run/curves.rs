//! A run's curves as an SVG: three diagrams by epoch, dense and sparse epochs marked.

use plotters::prelude::*;

use super::plot::{bold, font, mark, step, svg as picture, Area, Axis, Drawn, GRID, INK};
use super::record::Record;

const DENSE: RGBColor = RGBColor(0x33, 0x65, 0x8a);
const SPARSE: RGBColor = RGBColor(0xe0, 0x7a, 0x1f);
const LIGHT_DENSE: RGBColor = RGBColor(0xa9, 0xbc, 0xcd);
const LIGHT_SPARSE: RGBColor = RGBColor(0xf1, 0xc4, 0x9b);
const LIGHT_INK: RGBColor = RGBColor(0xa5, 0xa8, 0xac);
const TRAIN: RGBColor = RGBColor(0x8a, 0x8f, 0x98);
const BAND: RGBColor = RGBColor(0xfd, 0xf1, 0xe4);

const WIDTH: u32 = 1140;
const HEIGHT: u32 = 390;
/// The places of the diagrams' titles, of their upper ends, of the legend.
const TITLES: i32 = 50;
const TOP: i32 = 72;
const LEGEND: i32 = 368;
const LEFT: i32 = 66;

/// A value of an epoch, or NaN.
type Values = Vec<f64>;

/// A diagram: what it shows and in which unit.
struct Diagram<'a> {
    title: &'a str,
    unit: &'a str,
    /// Values that the axis has to reach [default: 0, the smallest and the largest].
    ends: Option<[f64; 2]>,
    content: Content,
}

enum Content {
    /// The training set's values, if there are some, and the test set's.
    Curves(Option<Values>, Values),
    /// The backward pass's share of a value, and the rest above it.
    Bars(Vec<[f64; 2]>),
}

impl Diagram<'_> {
    /// Draws it into a column of `root`.
    fn draw(&self, root: &Area<'_>, column: i32, epochs: &[Record]) -> Drawn {
        let (x0, width) = (column * WIDTH as i32 / 3, WIDTH / 3);
        root.draw(&Text::new(
            self.title.to_owned(),
            (x0 + LEFT, TITLES),
            bold(14.0),
        ))?;
        let area = root
            .clone()
            .shrink((x0, TOP), (width, (LEGEND - TOP) as u32 - 18));
        let values = match &self.content {
            Content::Curves(train, test) => train.iter().flatten().chain(test).copied().collect(),
            Content::Bars(parts) => parts.iter().map(|p| p[0] + p[1]).collect::<Values>(),
        };
        let finite = || values.iter().copied().filter(|v| v.is_finite());
        let [low, high] = [finite().fold(0.0, f64::min), finite().fold(0.0, f64::max)];
        let [low, high] = self.ends.unwrap_or([low, high]);
        let (y, decimals) = Axis::round(low, high);
        let [low, high] = y.ends;
        let count = epochs.last().map_or(1, Record::epoch) as f64;
        // Whole epochs only, at most about ten labels.
        let every = step(count * 0.5).ceil().max(1.0) as usize;
        let labels = (1..=count as usize).filter(|n| every == 1 || n.is_multiple_of(every));
        let x = Axis {
            ends: [0.5, count + 0.5],
            labels: labels.map(|n| n as f64).collect(),
        };
        let mut chart = ChartBuilder::on(&area)
            .margin_right(10)
            .x_label_area_size(44)
            .y_label_area_size(LEFT as u32)
            .build_cartesian_2d(x, y)?;

        let sparse = epochs.iter().filter(|r| !r.is_dense());
        chart.draw_series(sparse.map(|r| {
            let x = r.epoch() as f64;
            Rectangle::new([(x - 0.5, low), (x + 0.5, high)], BAND.filled())
        }))?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .bold_line_style(GRID)
            .axis_style(INK)
            .set_all_tick_mark_size(3)
            .label_style(font(11.0))
            .axis_desc_style(font(12.0))
            .x_desc("epoch")
            .x_label_formatter(&|x| format!("{x}"))
            .y_label_formatter(&|y| format!("{y:.decimals$}{}", self.unit))
            .draw()?;

        match &self.content {
            Content::Curves(train, test) => {
                let all = train
                    .iter()
                    .map(|train| (train, TRAIN))
                    .chain([(test, INK)]);
                for (values, colour) in all {
                    let points = epochs.iter().zip(values).filter(|(_, v)| v.is_finite());
                    let places: Vec<_> = points
                        .clone()
                        .map(|(r, &v)| (r.epoch() as f64, v))
                        .collect();
                    let line = colour.stroke_width(2);
                    match colour == TRAIN {
                        true => chart
                            .draw_series(DashedLineSeries::new(places.clone(), 5, 4, line))
                            .map(drop)?,
                        false => chart
                            .draw_series(LineSeries::new(places.clone(), line))
                            .map(drop)?,
                    }
                    // Marks of many epochs would cover the line.
                    if places.len() <= 60 {
                        for ((record, _), place) in points.zip(&places) {
                            epoch_mark(root, chart.backend_coord(place), record.is_dense())?;
                        }
                    }
                }
            }
            Content::Bars(parts) => {
                let half = (28.0 * count / f64::from(width)).min(0.32);
                let bars = epochs.iter().zip(parts).flat_map(|(r, &[backward, rest])| {
                    let colours = match r.is_dense() {
                        true => [DENSE, LIGHT_DENSE],
                        false => [SPARSE, LIGHT_SPARSE],
                    };
                    let x = r.epoch() as f64;
                    let ends = [(0.0, backward), (backward, backward + rest)];
                    ends.into_iter()
                        .zip(colours)
                        .map(move |((from, to), colour)| {
                            Rectangle::new([(x - half, from), (x + half, to)], colour.filled())
                        })
                });
                chart.draw_series(bars)?;
            }
        }
        Ok(())
    }
}

fn epoch_mark(root: &Area<'_>, place: (i32, i32), dense: bool) -> Drawn {
    match dense {
        true => mark(root, place, 0, DENSE),
        false => mark(root, place, 1, SPARSE),
    }
}

fn legend(root: &Area<'_>, set: &str) -> Drawn {
    let y = LEGEND;
    let words = |x: i32, words: &str| {
        let words = Text::new(words.to_owned(), (x + 26, y - 7), font(12.0));
        root.draw(&words)
    };
    let rectangle = |x: i32, [width, height]: [i32; 2], colour: RGBColor| {
        let corners = [(x, y - height / 2), (x + width, y + height / 2)];
        root.draw(&Rectangle::new(corners, colour.filled()))
    };
    let line = |x: i32, from: i32, to: i32, colour: RGBColor| {
        let ends = vec![(x + from, y), (x + to, y)];
        root.draw(&PathElement::new(ends, colour.stroke_width(2)))
    };
    let mut at = LEFT;
    epoch_mark(root, (at + 10, y), true)?;
    words(at, "dense epoch")?;
    at += 120;
    rectangle(at, [20, 18], BAND)?;
    epoch_mark(root, (at + 10, y), false)?;
    words(at, "sparse epoch")?;
    at += 126;
    [0, 8, 16]
        .map(|dash| line(at, dash, dash + 5, TRAIN))
        .into_iter()
        .collect::<Drawn>()?;
    words(at, "training set")?;
    at += 116;
    line(at, 0, 20, INK)?;
    words(at, &format!("{set} set"))?;
    at += 392;
    for (colour, label) in [
        (INK, "backward pass"),
        (LIGHT_INK, "forward, optimizer, data"),
    ] {
        rectangle(at + 4, [14, 12], colour)?;
        words(at, label)?;
        at += 126;
    }
    Ok(())
}

/// The SVG of a run: the loss, the accuracy if there is one or else the backward FLOPs, and the time.
pub(super) fn svg(title: &str, records: &[Record]) -> String {
    let measured = |ending: &str| {
        let mut names = records.first()?.measured().map(|m| m.0);
        names.find(|name| name.ends_with(ending))
    };
    let values = |name: &str| -> Values {
        let value = |r: &Record| r.get(name).unwrap_or(f64::NAN);
        records.iter().map(value).collect()
    };
    let test = measured("_loss").map_or(Vec::new(), values);
    let loss = Diagram {
        title: "Loss",
        unit: "",
        ends: None,
        content: Content::Curves(Some(values("train_loss")), test),
    };

    let set = ["_accuracy", "_loss"].into_iter().find_map(measured);
    let set = set
        .and_then(|name| name.split('_').next())
        .unwrap_or("test");
    let mut letters = set.chars();
    let first: String = letters
        .next()
        .into_iter()
        .flat_map(char::to_uppercase)
        .collect();
    let accuracy_title = format!("{first}{} accuracy", letters.as_str());
    let second = match measured("_accuracy") {
        Some(name) => {
            let accuracy: Values = values(name).iter().map(|share| 100.0 * share).collect();
            let worst = accuracy.iter().copied().fold(100.0, f64::min);
            Diagram {
                title: &accuracy_title,
                unit: "%",
                ends: Some([(worst - 5.0).max(0.0), 100.0]),
                content: Content::Curves(None, accuracy),
            }
        }
        None => Diagram {
            title: "Backward FLOPs of an epoch",
            unit: " T",
            ends: None,
            content: Content::Bars(
                records
                    .iter()
                    .map(|r| [r.backward_flops() / 1e12, 0.0])
                    .collect(),
            ),
        },
    };
    let times = records
        .iter()
        .map(|r| [r.backward_seconds(), r.seconds() - r.backward_seconds()]);
    let time = Diagram {
        title: "Training time of an epoch",
        unit: " s",
        ends: None,
        content: Content::Bars(times.collect()),
    };
    picture([WIDTH, HEIGHT], |root| {
        root.draw(&Text::new(title.to_owned(), (LEFT, 16), bold(17.0)))?;
        for (column, diagram) in [loss, second, time].iter().enumerate() {
            diagram.draw(root, column as i32, records)?;
        }
        legend(root, set)
    })
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
        let count = |what: &str, colour: RGBColor| {
            let RGBColor(r, g, b) = colour;
            let fill = format!("fill=\"#{r:02X}{g:02X}{b:02X}\"");
            let lines = drawn.lines();
            lines
                .filter(|line| line.contains(what) && line.contains(&fill))
                .count()
        };
        // In three curves but for the NaN, and in the legend.
        assert_eq!(count("<circle", DENSE), 2 * 3 - 1 + 1);
        assert_eq!(count("<polygon", SPARSE), 2 * 3 + 1);
        assert!(drawn.contains("a &lt; b &amp; c") && !drawn.contains("NaN"));
        // A band each in three panels, and in the legend.
        assert_eq!(count("<rect", BAND), 2 * 3 + 1);
        assert_eq!(count("<rect", LIGHT_SPARSE), 2);
        for label in [
            "4",
            "epoch",
            "Test accuracy",
            "60%",
            "sparse epoch",
            "test set",
        ] {
            assert!(drawn.contains(&format!(">\n{label}\n<")), "{label}");
        }
        assert!(svg("nothing yet", &[]).ends_with("</svg>\n"));
        for name in ["_loss", "épreuve_accuracy"] {
            let odd = Record(vec![("epoch".into(), 1.0), (name.into(), -0.5)]);
            assert!(svg("odd", &[odd]).ends_with("</svg>\n"));
        }

        for record in &mut records {
            record.0.retain(|(name, _)| !name.starts_with("test"));
        }
        let drawn = svg("a loss only", &records);
        assert!(
            drawn.contains("0.4 T") && !drawn.contains("accuracy\n<"),
            "{drawn}"
        );
    }
}
