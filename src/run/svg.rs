//! Pieces of SVG that the figures share.

/// Lines and words.
pub const INK: &str = "#20242a";
/// Lines behind the curves.
pub const GRID: &str = "#e4e7eb";

/// A document of that size with a white background, so that it can be read in a dark viewer too.
pub fn document(width: f64, height: f64, body: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         width=\"{width}\" height=\"{height}\" fill=\"{INK}\" \
         font-family=\"Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n{body}</svg>\n"
    )
}

/// Words at a place; `anchor` is start, middle or end, `more` further attributes.
pub fn text(x: f64, y: f64, anchor: &str, size: f64, more: &str, words: &str) -> String {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    format!(
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" font-size=\"{size}\" {more}>{words}</text>\n"
    )
}

/// A step of 1, 2 or 5 times a power of ten that goes into `range` about five times.
pub fn step(range: f64) -> f64 {
    let rough = range / 5.0;
    let power = 10f64.powf(rough.log10().floor());
    let factors = [1.0, 2.0, 5.0, 10.0];
    let fits = |factor: &&f64| power * **factor >= rough * 0.999;
    power * factors.iter().find(fits).unwrap_or(&10.0)
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
