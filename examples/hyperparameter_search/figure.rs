//! Two grids as one SVG: a cell's colour and number are its accuracy.

use ssprop::run::internals::{document, text, INK};

const CELL: [f64; 2] = [78.0, 44.0];
const LEFT: f64 = 84.0;
const TOP: f64 = 112.0;
const GAP: f64 = 84.0;
const NOTHING: &str = "#e5e7eb";

/// Accuracies (NaN: none) by row and column.
pub struct Grid {
    pub title: String,
    pub rows: Vec<Vec<f64>>,
}

/// From light to dark blue.
const SCALE: [[f64; 3]; 4] = [
    [247.0, 244.0, 222.0],
    [158.0, 208.0, 186.0],
    [56.0, 138.0, 178.0],
    [28.0, 50.0, 110.0],
];

/// The colour at `share` of the scale, and that of words on it.
fn colours(share: f64) -> (String, &'static str) {
    let place = share.clamp(0.0, 1.0) * (SCALE.len() - 1) as f64;
    let i = (place as usize).min(SCALE.len() - 2);
    let part = place - i as f64;
    let [r, g, b] = [0, 1, 2].map(|c| SCALE[i][c] + part * (SCALE[i + 1][c] - SCALE[i][c]));
    let dark = 0.3 * r + 0.59 * g + 0.11 * b < 150.0;
    let ink = if dark { "#fff" } else { INK };
    (
        format!("#{:02x}{:02x}{:02x}", r as u8, g as u8, b as u8),
        ink,
    )
}

/// The ends of the scale, the same for all grids.
fn ends(grids: &[Grid]) -> [f64; 2] {
    let all = grids.iter().flat_map(|g| &g.rows).flatten();
    let finite = all.copied().filter(|v| v.is_finite());
    let [low, high] = finite.fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], v| {
        [low.min(v), high.max(v)]
    });
    match high > low {
        true => [low, high],
        false => [0.0, 1.0],
    }
}

/// The figure. `rows` and `columns` label the cells of every grid.
pub fn svg(
    title: &str,
    subtitle: &str,
    rows: &[String],
    columns: &[String],
    grids: &[Grid],
) -> String {
    let bold = "font-weight=\"600\"";
    let [low, high] = ends(grids);
    let share = |value: f64| (value - low) / (high - low);
    let size = [CELL[0] * columns.len() as f64, CELL[1] * rows.len() as f64];
    let mut svg = String::new();
    svg += &text(24.0, 30.0, "start", 17.0, bold, title);
    for (i, line) in subtitle.lines().enumerate() {
        let y = 50.0 + 16.0 * i as f64;
        svg += &text(24.0, y, "start", 12.0, "", line);
    }
    for (n, grid) in grids.iter().enumerate() {
        let x0 = LEFT + n as f64 * (size[0] + GAP);
        svg += &text(x0, TOP - 12.0, "start", 14.0, bold, &grid.title);
        let all = grid.rows.iter().flatten().copied();
        let best = all
            .filter(|v| v.is_finite())
            .fold(f64::NEG_INFINITY, f64::max);
        let mut frames = String::new();
        for (i, row) in grid.rows.iter().enumerate() {
            let y = TOP + CELL[1] * i as f64;
            for (j, &value) in row.iter().enumerate() {
                let x = x0 + CELL[0] * j as f64;
                let (fill, ink, words) = match value.is_finite() {
                    true => {
                        let (fill, ink) = colours(share(value));
                        (fill, ink, format!("{:.1}", 100.0 * value))
                    }
                    false => (NOTHING.to_owned(), INK, "-".to_owned()),
                };
                let [w, h] = CELL;
                svg += &format!(
                    "<rect x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\" fill=\"{fill}\" stroke=\"#fff\"/>\n"
                );
                let fill = format!("fill=\"{ink}\"");
                svg += &text(
                    x + w / 2.0,
                    y + h / 2.0 + 4.5,
                    "middle",
                    13.0,
                    &fill,
                    &words,
                );
                if value == best {
                    frames += &format!(
                        "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"none\" stroke=\"#d9730d\" stroke-width=\"3\"/>\n",
                        x + 1.5, y + 1.5, w - 3.0, h - 3.0
                    );
                }
            }
        }
        svg += &frames;
        for (i, label) in rows.iter().enumerate() {
            let y = TOP + CELL[1] * (i as f64 + 0.5) + 4.0;
            svg += &text(x0 - 8.0, y, "end", 12.0, "", label);
        }
        for (j, label) in columns.iter().enumerate() {
            let x = x0 + CELL[0] * (j as f64 + 0.5);
            svg += &text(x, TOP + size[1] + 18.0, "middle", 12.0, "", label);
        }
        let (x, y) = (x0 + size[0] / 2.0, TOP + size[1] + 40.0);
        svg += &text(x, y, "middle", 12.0, "", "learning rate");
        let (x, y) = (x0 - 34.0, TOP + size[1] / 2.0);
        let turned = format!("transform=\"rotate(-90 {x:.1} {y:.1})\"");
        svg += &text(x, y, "middle", 12.0, &turned, "convolutions");
    }

    let grids_end = LEFT + grids.len() as f64 * (size[0] + GAP) - GAP;
    let x = grids_end + 28.0;
    const STEPS: usize = 40;
    let height = size[1] / STEPS as f64;
    for i in 0..STEPS {
        let (fill, _) = colours(1.0 - (i as f64 + 0.5) / STEPS as f64);
        // A little longer, against seams.
        svg += &format!(
            "<rect x=\"{x}\" y=\"{:.2}\" width=\"14\" height=\"{:.2}\" fill=\"{fill}\"/>\n",
            TOP + height * i as f64,
            height + if i + 1 < STEPS { 0.5 } else { 0.0 },
        );
    }
    for (value, y) in [(high, TOP + 10.0), (low, TOP + size[1])] {
        let label = format!("{:.1}%", 100.0 * value);
        svg += &text(x + 20.0, y, "start", 11.0, "", &label);
    }
    let width = (x + 74.0).max(680.0);
    document(width, TOP + size[1] + 60.0, &svg)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(values: [[f64; 2]; 2]) -> String {
        let labels = |text: &str| text.split(' ').map(String::from).collect::<Vec<_>>();
        let grid = |title: &str| Grid {
            title: title.into(),
            rows: values.iter().map(|row| row.to_vec()).collect(),
        };
        let grids = [grid("dense & so on"), grid("sparse")];
        svg("T", "s", &labels("2 11"), &labels("0.01 0.1"), &grids)
    }

    #[test]
    fn every_cell_and_label_is_drawn() {
        let svg = drawn([[0.5, 0.625], [f64::NAN, 0.7]]);
        for label in [">50.0<", ">62.5<", ">70.0<", ">-<", ">11<", ">0.01<"] {
            assert_eq!(svg.matches(label).count(), 2, "{label}");
        }
        assert!(svg.contains("dense &amp; so on") && svg.contains(">sparse<"));
        assert_eq!(svg.matches(NOTHING).count(), 2);
        // The best of each grid is framed.
        assert_eq!(svg.matches("stroke-width=\"3\"").count(), 2);
        assert!(svg.contains(">70.0%<") && svg.contains(">50.0%<"));
    }

    #[test]
    fn one_value_or_none_is_still_a_picture() {
        for value in [f64::NAN, 0.5] {
            let svg = drawn([[value; 2]; 2]);
            assert!(svg.ends_with("</svg>\n") && !svg.contains("NaN") && !svg.contains("inf"));
        }
    }

    #[test]
    fn colours_go_from_light_to_dark() {
        assert_eq!(colours(0.0), ("#f7f4de".into(), INK));
        assert_eq!(colours(1.0), ("#1c326e".into(), "#fff"));
        assert_eq!(colours(2.0), colours(1.0));
    }
}
