//! What the figures share.

use std::ops::Range;

use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};
use plotters::coord::Shift;
use plotters::prelude::*;

/// Lines and words.
pub const INK: RGBColor = RGBColor(0x20, 0x24, 0x2a);
/// Lines behind the curves.
pub const GRID: RGBColor = RGBColor(0xe4, 0xe7, 0xeb);

/// A part of a picture, whose coordinates are pixels.
pub type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
/// The outcome of drawing on one.
pub type Drawn<T = ()> = Result<T, DrawingAreaErrorKind<std::io::Error>>;

/// A picture of that size as an SVG, on white, so that it can be read in a dark viewer too.
pub fn svg(size: [u32; 2], draw: impl FnOnce(&Area<'_>) -> Drawn) -> String {
    let mut svg = String::new();
    let area = SVGBackend::with_string(&mut svg, size.into()).into_drawing_area();
    area.fill(&WHITE)
        .and_then(|()| draw(&area))
        .and_then(|()| area.present())
        .expect("a string takes all that is drawn");
    drop(area);
    svg
}

/// A style of words whose letters have that size.
pub fn font(size: f64) -> TextStyle<'static> {
    // The backend divides by 1.24.
    let family = "Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif";
    (family, 1.24 * size).into_font().color(&INK)
}

/// [`font`], in bold.
pub fn bold(size: f64) -> TextStyle<'static> {
    let mut style = font(size);
    style.font = style.font.style(FontStyle::Bold);
    style
}

/// An axis with labels of its own. (plotters' own, `with_key_points`, is not for floats.)
#[derive(Clone)]
pub struct Axis {
    /// What is at its ends.
    pub ends: [f64; 2],
    /// Where its labels are.
    pub labels: Vec<f64>,
}

impl Axis {
    /// From low to high, and as far beyond as to the next label, which stand at round values; also the decimals that
    /// a label needs.
    pub fn round(low: f64, high: f64) -> (Self, usize) {
        let high = if high > low { high } else { low + 1.0 };
        let tick = step(high - low);
        let first = (low / tick + 1e-6).floor() as i64;
        let last = (high / tick - 1e-6).ceil() as i64;
        let labels: Vec<f64> = (first..=last).map(|i| i as f64 * tick).collect();
        let ends = [first as f64 * tick, last as f64 * tick];
        let decimals = (-tick.log10().floor()).max(0.0) as usize;
        (Self { ends, labels }, decimals)
    }
}

impl Ranged for Axis {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (from, to): (i32, i32)) -> i32 {
        let [low, high] = self.ends;
        let share = ((value - low) / (high - low)).clamp(0.0, 1.0);
        from + (share * f64::from(to - from)).round() as i32
    }

    fn key_points<H: KeyPointHint>(&self, hint: H) -> Vec<f64> {
        match hint.weight().allow_light_points() {
            true => Vec::new(),
            false => self.labels.clone(),
        }
    }

    fn range(&self) -> Range<f64> {
        self.ends[0]..self.ends[1]
    }
}

/// A step of 1, 2 or 5 times a power of ten that goes into `range` about five times.
pub fn step(range: f64) -> f64 {
    let rough = range / 5.0;
    let power = 10f64.powf(rough.log10().floor());
    let factors = [1.0, 2.0, 5.0, 10.0];
    let fits = |factor: &&f64| power * **factor >= rough * 0.999;
    power * factors.iter().find(fits).unwrap_or(&10.0)
}

/// A mark with a white edge, whose shape tells its series: a circle, a diamond, a square, a triangle.
pub fn mark(area: &Area<'_>, (x, y): (i32, i32), series: usize, colour: RGBColor) -> Drawn {
    for (edge, colour) in [(1, WHITE), (0, colour)] {
        let corners: &[(i32, i32)] = match series % 4 {
            0 => {
                area.draw(&Circle::new((x, y), 4 + edge, colour.filled()))?;
                continue;
            }
            1 => &[(0, -5 - edge), (5 + edge, 0), (0, 5 + edge), (-5 - edge, 0)],
            2 => &[(-3, -3), (4, -3), (4, 4), (-3, 4)],
            _ => &[(0, -5 - edge), (5 + edge, 4 + edge), (-5 - edge, 4 + edge)],
        };
        let corner = |&(dx, dy): &(i32, i32)| (x + dx, y + dy);
        let corners: Vec<_> = corners.iter().map(corner).collect();
        area.draw(&Polygon::new(corners, colour.filled()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round() {
        assert_eq!([step(5.0), step(7.0), step(0.8)], [1.0, 2.0, 0.2]);
        assert!((step(100.0) - 20.0).abs() < 1e-9);
    }
}
