//! The four panels as one SVG.

use common::statistics::Summary;
use plotters::prelude::*;
use ssprop::run::plot::{bold, font, mark, step, svg as picture, Area, Axis, Drawn, GRID, INK};

const COLOURS: [RGBColor; 4] = [
    RGBColor(0x2a, 0x6f, 0xa8),
    RGBColor(0xd9, 0x73, 0x0d),
    RGBColor(0x4c, 0x8c, 0x4a),
    RGBColor(0x8a, 0x4f, 0x9e),
];
const DENSE: RGBColor = RGBColor(0x6b, 0x72, 0x80);
const BAND: RGBColor = RGBColor(0xee, 0xf0, 0xf3);

/// A panel with its labels, and the place of the first one.
const PANEL: [i32; 2] = [428, 338];
const FIRST: [i32; 2] = [24, 74];
/// Room beside a panel's plot for the labels of y, and above it for title and legend.
const LEFT: i32 = 48;
const ABOVE: i32 = 42;

/// What is drawn of a panel.
pub struct Panel {
    pub title: String,
    /// What x is.
    pub axis: &'static str,
    /// The labels of the x axis.
    pub ticks: Vec<(f64, String)>,
    pub series: Vec<Series>,
}

pub struct Series {
    pub name: &'static str,
    pub points: Vec<(f64, Summary)>,
}

/// The ends of the y axis, in percent, the same in all panels so that they can be compared.
fn ends(panels: &[Panel], dense: &Summary) -> [f64; 2] {
    let points = panels
        .iter()
        .flat_map(|p| &p.series)
        .flat_map(|s| &s.points);
    let all = points.map(|p| &p.1).chain([dense]);
    let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
    for s in all.filter(|s| s.mean.is_finite()) {
        low = low.min(100.0 * (s.mean - s.std));
        high = high.max(100.0 * (s.mean + s.std));
    }
    if low > high {
        return [0.0, 100.0];
    }
    let tick = step((high - low).max(2.0));
    let (mut bottom, mut top) = ((low / tick).floor() * tick, (high / tick).ceil() * tick);
    // Results that are all the same need room too.
    if bottom == top {
        (bottom, top) = (bottom - tick, top + tick);
    }
    [bottom.max(0.0), top.min(100.0)]
}

fn draw(root: &Area<'_>, place: i32, panel: &Panel, dense: &Summary, y: [f64; 2]) -> Drawn {
    let (x0, y0) = (
        FIRST[0] + place % 2 * PANEL[0],
        FIRST[1] + place / 2 * PANEL[1],
    );
    let left = x0 + LEFT;
    root.draw(&Text::new(panel.title.clone(), (left, y0), bold(14.0)))?;
    let mut x = left;
    for (i, series) in panel.series.iter().enumerate() {
        mark(root, (x + 5, y0 + 27), i, COLOURS[i % COLOURS.len()])?;
        root.draw(&Text::new(series.name, (x + 15, y0 + 21), font(12.0)))?;
        x += 34 + (6.4 * series.name.len() as f64) as i32;
    }

    let xs = panel.ticks.iter().map(|t| t.0);
    let (first, last) = xs.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), x| {
        (a.min(x), b.max(x))
    });
    let margin = match last > first {
        true => (last - first) * 0.5 / panel.ticks.len().max(4) as f64,
        false => 0.5,
    };
    let x_axis = Axis {
        ends: [first - margin, last + margin],
        labels: panel.ticks.iter().map(|t| t.0).collect(),
    };
    let label = |x: &f64| {
        let mut ticks = panel.ticks.iter();
        ticks
            .find(|t| t.0 == *x)
            .map_or(String::new(), |t| t.1.clone())
    };
    let (y_axis, decimals) = Axis::round(y[0], y[1]);
    let size = [PANEL[0] - 30, PANEL[1] - ABOVE - 24].map(|side| side as u32);
    let area = root.clone().shrink((x0, y0 + ABOVE), (size[0], size[1]));
    let mut chart = ChartBuilder::on(&area)
        .x_label_area_size(44)
        .y_label_area_size(LEFT)
        .build_cartesian_2d(x_axis.clone(), y_axis)?;

    let ends = x_axis.ends;
    let line = |y: f64| [(ends[0], y), (ends[1], y)];
    if dense.mean.is_finite() {
        let [low, high] = [dense.mean - dense.std, dense.mean + dense.std].map(|v| 100.0 * v);
        let corners = [(ends[0], low), (ends[1], high)];
        chart.draw_series([Rectangle::new(corners, BAND.filled())])?;
    }
    chart
        .configure_mesh()
        .disable_x_mesh()
        .bold_line_style(GRID)
        .axis_style(INK)
        .set_all_tick_mark_size(3)
        .label_style(font(11.0))
        .axis_desc_style(font(12.0))
        .x_desc(panel.axis)
        .x_label_formatter(&label)
        .y_label_formatter(&|y| format!("{y:.decimals$}%"))
        .draw()?;
    if dense.mean.is_finite() {
        let mean = line(100.0 * dense.mean);
        chart.draw_series(DashedLineSeries::new(mean, 5, 4, DENSE.stroke_width(1)))?;
    }

    for (i, series) in panel.series.iter().enumerate() {
        // Beside each other, so that no error bar hides another.
        let aside = 6 * i as i32 - 3 * (panel.series.len() as i32 - 1);
        let colour = COLOURS[i % COLOURS.len()];
        let place = |x: f64, share: f64| {
            let (x, y) = chart.backend_coord(&(x, 100.0 * share));
            (x + aside, y)
        };
        let finite = series.points.iter().filter(|p| p.1.mean.is_finite());
        let line = finite.clone().map(|(x, s)| place(*x, s.mean));
        root.draw(&PathElement::new(
            line.collect::<Vec<_>>(),
            colour.stroke_width(2),
        ))?;
        for (x, s) in finite {
            let [top, at, bottom] = [s.mean + s.std, s.mean, s.mean - s.std].map(|v| place(*x, v));
            if s.std > 0.0 {
                let across = |(x, y): (i32, i32)| vec![(x - 3, y), (x + 4, y)];
                for path in [across(top), vec![top, bottom], across(bottom)] {
                    root.draw(&PathElement::new(path, colour))?;
                }
            }
            mark(root, at, i, colour)?;
        }
    }
    Ok(())
}

/// The figure: `dense` is drawn in every panel.
pub fn svg(title: &str, subtitle: &str, panels: &[Panel], dense: &Summary) -> String {
    let rows = panels.len().div_ceil(2) as i32;
    let [width, height] = [2 * PANEL[0] + 50, FIRST[1] + rows * PANEL[1] + 26];
    let y = ends(panels, dense);
    picture([width as u32, height as u32], |root| {
        let left = FIRST[0] + LEFT;
        root.draw(&Text::new(title.to_owned(), (left, 14), bold(17.0)))?;
        root.draw(&Text::new(subtitle.to_owned(), (left, 40), font(12.0)))?;
        for (place, panel) in panels.iter().enumerate() {
            draw(root, place as i32, panel, dense, y)?;
        }
        let y = height - 22;
        root.draw(&Rectangle::new(
            [(left, y - 7), (left + 26, y + 7)],
            BAND.filled(),
        ))?;
        for dash in [0, 9, 18] {
            let ends = vec![(left + dash, y), (left + dash + 5, y)];
            root.draw(&PathElement::new(ends, DENSE))?;
        }
        let words =
            "dense; bars and band are one standard deviation over the seeds, of short periods over these";
        root.draw(&Text::new(words, (left + 34, y - 6), font(12.0)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn panel(means: &[f64]) -> Panel {
        let point = |(i, &m): (usize, &f64)| (i as f64, Summary::of(&[m - 0.01, m + 0.01]));
        Panel {
            title: "a < b & c".into(),
            axis: "drop rate",
            ticks: vec![(0.0, "50%".into()), (1.0, "80%".into())],
            series: vec![
                Series {
                    name: "first way",
                    points: means.iter().enumerate().map(point).collect(),
                },
                Series {
                    name: "none at all",
                    points: vec![(0.0, Summary::of(&[f64::NAN])), (1.0, Summary::of(&[]))],
                },
            ],
        }
    }

    #[test]
    fn every_series_point_and_label_is_drawn() {
        let dense = Summary::of(&[0.8, 0.82]);
        let drawn = svg("T", "s", &[panel(&[0.7, 0.6]), panel(&[0.5])], &dense);
        for label in ["first way", "none at all", "50%", "80%", "drop rate"] {
            let label = format!(">\n{label}\n<");
            // Once a panel; the shares on its y axis too.
            let found = drawn.matches(&label).count();
            assert_eq!(found, if label.contains('%') { 4 } else { 2 }, "{label}");
        }
        assert!(drawn.contains("a &lt; b &amp; c"));
        let count = |what: &str, colour: &str| {
            let lines = drawn.lines();
            lines
                .filter(|line| line.contains(what) && line.contains(colour))
                .count()
        };
        // Three points and two legends; the series without results has legends only.
        assert_eq!(count("<circle", "fill=\"#2A6FA8\""), 3 + 2);
        assert_eq!(count("<polygon", "fill=\"#D9730D\""), 2);
        // Each error bar is three lines, and each series one through its points.
        assert_eq!(count("<polyline", "stroke=\"#2A6FA8\""), 3 * 3 + 2);
        assert!(!drawn.contains("NaN") && !drawn.contains("inf"));
    }

    #[test]
    fn nothing_but_nan_is_still_a_picture() {
        let none = Summary::of(&[f64::NAN]);
        let mut all = panel(&[f64::NAN, f64::NAN]);
        all.ticks.truncate(1);
        let drawn = svg("T", "s", &[all], &none);
        assert!(drawn.ends_with("</svg>\n") && !drawn.contains("NaN"));
        assert!(drawn.contains(">\n100%\n<") && drawn.contains(">\n0%\n<"));
    }

    #[test]
    fn the_axis_holds_every_error_bar() {
        let dense = Summary::of(&[0.9]);
        // 59.6 to 98.4, in steps of 10; 88.6 to 91.4 in steps of 1.
        assert_eq!(ends(&[panel(&[0.61, 0.97])], &dense), [50.0, 100.0]);
        assert_eq!(ends(&[panel(&[0.9])], &dense), [88.0, 92.0]);
        for (all, wanted) in [(0.0, [0.0, 0.5]), (0.5, [49.5, 50.5]), (1.0, [99.5, 100.0])] {
            assert_eq!(ends(&[], &Summary::of(&[all])), wanted);
        }
    }
}
