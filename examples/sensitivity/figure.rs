//! The four panels as one SVG.

use common::statistics::Summary;
use ssprop::run::internals::{document, step, text, GRID, INK};

const COLOURS: [&str; 4] = ["#2a6fa8", "#d9730d", "#4c8c4a", "#8a4f9e"];
const DENSE: &str = "#6b7280";
const BAND: &str = "#eef0f3";

const PANEL: [f64; 2] = [350.0, 220.0];
const LEFT: f64 = 72.0;
const GAP: [f64; 2] = [78.0, 118.0];
const TOP: f64 = 112.0;

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

struct Axes {
    x0: f64,
    y0: f64,
    x: [f64; 2],
    y: [f64; 2],
}

impl Axes {
    fn x(&self, value: f64) -> f64 {
        self.x0 + PANEL[0] * (value - self.x[0]) / (self.x[1] - self.x[0])
    }

    fn y(&self, value: f64) -> f64 {
        let share = (value - self.y[0]) / (self.y[1] - self.y[0]);
        self.y0 + PANEL[1] * (1.0 - share.clamp(0.0, 1.0))
    }
}

fn mark(series: usize, x: f64, y: f64) -> String {
    let colour = COLOURS[series % COLOURS.len()];
    match series % 4 {
        0 => format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4.5\" fill=\"{colour}\" stroke=\"#fff\"/>\n"),
        1 => format!(
            "<path d=\"M{x:.1} {:.1}l5.5 5.5l-5.5 5.5l-5.5 -5.5z\" fill=\"{colour}\" stroke=\"#fff\"/>\n",
            y - 5.5
        ),
        3 => format!(
            "<path d=\"M{x:.1} {:.1}l5.5 9h-11z\" fill=\"{colour}\" stroke=\"#fff\"/>\n",
            y - 5.5
        ),
        _ => format!(
            "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"8\" height=\"8\" fill=\"{colour}\" stroke=\"#fff\"/>\n",
            x - 4.0,
            y - 4.0
        ),
    }
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

fn draw(svg: &mut String, place: usize, panel: &Panel, dense: &Summary, y: [f64; 2]) {
    let xs = panel.ticks.iter().map(|t| t.0);
    let (first, last) = xs.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), x| {
        (a.min(x), b.max(x))
    });
    let margin = match last > first {
        true => (last - first) * 0.5 / panel.ticks.len().max(4) as f64,
        false => 0.5,
    };
    let axes = Axes {
        x0: LEFT + (place % 2) as f64 * (PANEL[0] + GAP[0]),
        y0: TOP + (place / 2) as f64 * (PANEL[1] + GAP[1]),
        x: [first - margin, last + margin],
        y,
    };
    let (x0, x1, y0) = (axes.x0, axes.x0 + PANEL[0], axes.y0);
    let y1 = y0 + PANEL[1];
    let bold = "font-weight=\"600\"";
    *svg += &text(x0, y0 - 34.0, "start", 14.0, bold, &panel.title);

    let mut x = x0;
    for (i, series) in panel.series.iter().enumerate() {
        *svg += &mark(i, x + 5.0, y0 - 16.0);
        *svg += &text(x + 15.0, y0 - 12.0, "start", 12.0, "", series.name);
        x += 34.0 + 6.4 * series.name.len() as f64;
    }

    if dense.mean.is_finite() {
        let (top, bottom) = (
            axes.y(100.0 * (dense.mean + dense.std)),
            axes.y(100.0 * (dense.mean - dense.std)),
        );
        *svg += &format!(
            "<rect x=\"{x0}\" y=\"{top:.1}\" width=\"{}\" height=\"{:.1}\" fill=\"{BAND}\"/>\n",
            PANEL[0],
            bottom - top
        );
    }
    let tick = step(y[1] - y[0]);
    let digits = (-tick.log10().floor()).max(0.0) as usize;
    for i in 0..=((y[1] - y[0]) / tick + 1e-6) as usize {
        let value = y[0] + i as f64 * tick;
        let at = axes.y(value);
        *svg += &format!("<path d=\"M{x0} {at:.1}H{x1}\" stroke=\"{GRID}\"/>\n");
        let label = format!("{value:.digits$}%");
        *svg += &text(x0 - 8.0, at + 4.0, "end", 11.0, "", &label);
    }
    for (value, label) in &panel.ticks {
        let at = axes.x(*value);
        *svg += &format!("<path d=\"M{at:.1} {y1}v4\" stroke=\"{INK}\"/>\n");
        *svg += &text(at, y1 + 17.0, "middle", 11.0, "", label);
    }
    let middle = (x0 + x1) / 2.0;
    *svg += &text(middle, y1 + 35.0, "middle", 12.0, "", panel.axis);
    if dense.mean.is_finite() {
        let at = axes.y(100.0 * dense.mean);
        *svg += &format!(
            "<path d=\"M{x0} {at:.1}H{x1}\" stroke=\"{DENSE}\" stroke-width=\"1.5\" stroke-dasharray=\"5 4\"/>\n"
        );
    }

    for (i, series) in panel.series.iter().enumerate() {
        // Beside each other, so that no error bar hides another.
        let aside = 6.0 * (i as f64 - (panel.series.len() - 1) as f64 / 2.0);
        let colour = COLOURS[i % COLOURS.len()];
        let points: Vec<(f64, Summary)> = series
            .points
            .iter()
            .filter(|p| p.1.mean.is_finite())
            .map(|p| (axes.x(p.0) + aside, p.1))
            .collect();
        let place = |p: &(f64, Summary)| format!("{:.1},{:.1}", p.0, axes.y(100.0 * p.1.mean));
        let path: Vec<String> = points.iter().map(place).collect();
        *svg += &format!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\n",
            path.join(" ")
        );
        for (x, s) in points {
            let [top, at, bottom] =
                [s.mean + s.std, s.mean, s.mean - s.std].map(|v| axes.y(100.0 * v));
            if s.std > 0.0 {
                *svg += &format!(
                    "<path d=\"M{:.1} {top:.1}h6m-3 0V{bottom:.1}m-3 0h6\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>\n",
                    x - 3.0
                );
            }
            *svg += &mark(i, x, at);
        }
    }
    *svg += &format!("<path d=\"M{x0} {y0}V{y1}H{x1}\" fill=\"none\" stroke=\"{INK}\"/>\n");
}

/// The figure: `dense` is drawn in every panel.
pub fn svg(title: &str, subtitle: &str, panels: &[Panel], dense: &Summary) -> String {
    let rows = panels.len().div_ceil(2) as f64;
    let width = LEFT + 2.0 * PANEL[0] + GAP[0] + 24.0;
    let height = TOP + rows * (PANEL[1] + GAP[1]) - 30.0;
    let mut svg = String::new();
    svg += &text(LEFT, 30.0, "start", 17.0, "font-weight=\"600\"", title);
    svg += &text(LEFT, 50.0, "start", 12.0, "", subtitle);
    let y = ends(panels, dense);
    for (place, panel) in panels.iter().enumerate() {
        draw(&mut svg, place, panel, dense, y);
    }
    let y = height - 16.0;
    svg += &format!(
        "<rect x=\"{LEFT}\" y=\"{:.1}\" width=\"26\" height=\"14\" fill=\"{BAND}\"/>\n\
         <path d=\"M{LEFT} {:.1}h26\" stroke=\"{DENSE}\" stroke-width=\"1.5\" stroke-dasharray=\"5 4\"/>\n",
        y - 11.0,
        y - 4.0
    );
    let words =
        "dense; bars and band are one standard deviation over the seeds, of short periods over these";
    svg += &text(LEFT + 34.0, y, "start", 12.0, "", words);
    document(width, height, &svg)
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
        for label in ["first way", "none at all", ">50%<", ">80%<", "drop rate"] {
            assert_eq!(drawn.matches(label).count() % 2, 0, "{label}");
            assert!(drawn.contains(label), "{label}");
        }
        assert!(drawn.contains("a &lt; b &amp; c"));
        // Three points and two legends; the series without results has legends only.
        assert_eq!(drawn.matches("<circle").count(), 3 + 2);
        assert_eq!(drawn.matches("l5.5 5.5").count(), 2);
        assert_eq!(drawn.matches("h6m-3 0V").count(), 3);
        assert!(!drawn.contains("NaN") && !drawn.contains("inf"));
    }

    #[test]
    fn nothing_but_nan_is_still_a_picture() {
        let none = Summary::of(&[f64::NAN]);
        let mut all = panel(&[f64::NAN, f64::NAN]);
        all.ticks.truncate(1);
        let drawn = svg("T", "s", &[all], &none);
        assert!(drawn.ends_with("</svg>\n") && !drawn.contains("NaN"));
        assert!(drawn.contains(">100%<") && drawn.contains(">0%<"));
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
