//! Two grids as one SVG: a cell's colour and number are its accuracy.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use ssprop::run::plot::{bold, font, svg as picture, Area, Drawn, INK};

const CELL: [i32; 2] = [78, 44];
const LEFT: i32 = 84;
const TOP: i32 = 112;
const GAP: i32 = 84;
const NOTHING: RGBColor = RGBColor(0xe5, 0xe7, 0xeb);
const BEST: RGBColor = RGBColor(0xd9, 0x73, 0x0d);

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
fn colours(share: f64) -> (RGBColor, RGBColor) {
    let place = share.clamp(0.0, 1.0) * (SCALE.len() - 1) as f64;
    let i = (place as usize).min(SCALE.len() - 2);
    let part = place - i as f64;
    let [r, g, b] = [0, 1, 2].map(|c| SCALE[i][c] + part * (SCALE[i + 1][c] - SCALE[i][c]));
    let dark = 0.3 * r + 0.59 * g + 0.11 * b < 150.0;
    let ink = if dark { WHITE } else { INK };
    (RGBColor(r as u8, g as u8, b as u8), ink)
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

/// A place of words: at their left end, in their middle or at their right end.
fn at(place: HPos) -> Pos {
    Pos::new(place, VPos::Center)
}

/// A grid from `x0` on.
fn draw(root: &Area<'_>, x0: i32, grid: &Grid, labels: [&[String]; 2], ends: [f64; 2]) -> Drawn {
    let [rows, columns] = labels;
    let corner =
        |row: usize, column: usize| (x0 + CELL[0] * column as i32, TOP + CELL[1] * row as i32);
    let middle = |row: usize, column: usize| {
        let (x, y) = corner(row, column);
        (x + CELL[0] / 2, y + CELL[1] / 2)
    };
    let words = |words: &str, place, style| root.draw(&Text::new(words.to_owned(), place, style));
    words(&grid.title, (x0, TOP - 24), bold(14.0))?;
    let all = grid.rows.iter().flatten().copied();
    let best = all
        .filter(|v| v.is_finite())
        .fold(f64::NEG_INFINITY, f64::max);
    let mut frames = Vec::new();
    for (i, row) in grid.rows.iter().enumerate() {
        for (j, &value) in row.iter().enumerate() {
            let (fill, ink, number) = match value.is_finite() {
                true => {
                    let (fill, ink) = colours((value - ends[0]) / (ends[1] - ends[0]));
                    (fill, ink, format!("{:.1}", 100.0 * value))
                }
                false => (NOTHING, INK, "-".to_owned()),
            };
            let corners = [corner(i, j), corner(i + 1, j + 1)];
            root.draw(&Rectangle::new(corners, fill.filled()))?;
            root.draw(&Rectangle::new(corners, WHITE))?;
            let style = font(13.0).color(&ink).pos(at(HPos::Center));
            root.draw(&Text::new(number, middle(i, j), style))?;
            if value == best {
                frames.push(corners);
            }
        }
    }
    for [(left, top), (right, bottom)] in frames {
        // A path: the backend draws rectangles' edges one pixel wide.
        let [left, top, right, bottom] = [left + 2, top + 2, right - 2, bottom - 2];
        let corners = [(left, top), (right, top), (right, bottom), (left, bottom)];
        let frame = corners.iter().chain(&corners[..2]).copied();
        root.draw(&PathElement::new(
            frame.collect::<Vec<_>>(),
            BEST.stroke_width(3),
        ))?;
    }
    for (i, label) in rows.iter().enumerate() {
        let y = middle(i, 0).1;
        words(label, (x0 - 8, y), font(12.0).pos(at(HPos::Right)))?;
    }
    let (right, bottom) = corner(rows.len(), columns.len());
    let centred = font(12.0).pos(at(HPos::Center));
    for (j, label) in columns.iter().enumerate() {
        words(label, (middle(0, j).0, bottom + 14), centred.clone())?;
    }
    words(
        "learning rate",
        ((x0 + right) / 2, bottom + 36),
        centred.clone(),
    )?;
    let turned = centred.transform(FontTransform::Rotate270);
    words("convolutions", (x0 - 38, (TOP + bottom) / 2), turned)
}

/// The figure. `rows` and `columns` label the cells of every grid.
pub fn svg(
    title: &str,
    subtitle: &str,
    rows: &[String],
    columns: &[String],
    grids: &[Grid],
) -> String {
    let ends = ends(grids);
    let [width, height] = [CELL[0] * columns.len() as i32, CELL[1] * rows.len() as i32];
    let scale = LEFT + grids.len() as i32 * (width + GAP) - GAP + 28;
    let size = [(scale + 74).max(680), TOP + height + 60].map(|side| side as u32);
    picture(size, |root| {
        root.draw(&Text::new(title.to_owned(), (24, 14), bold(17.0)))?;
        for (i, line) in subtitle.lines().enumerate() {
            root.draw(&Text::new(
                line.to_owned(),
                (24, 40 + 16 * i as i32),
                font(12.0),
            ))?;
        }
        for (n, grid) in grids.iter().enumerate() {
            let x0 = LEFT + n as i32 * (width + GAP);
            draw(root, x0, grid, [rows, columns], ends)?;
        }
        for y in 0..height {
            let (fill, _) = colours(1.0 - (f64::from(y) + 0.5) / f64::from(height));
            let corners = [(scale, TOP + y), (scale + 14, TOP + y + 1)];
            root.draw(&Rectangle::new(corners, fill.filled()))?;
        }
        for (value, y) in [(ends[1], TOP + 6), (ends[0], TOP + height - 6)] {
            let label = format!("{:.1}%", 100.0 * value);
            let style = font(11.0).pos(at(HPos::Left));
            root.draw(&Text::new(label, (scale + 20, y), style))?;
        }
        Ok(())
    })
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
        for label in ["50.0", "62.5", "70.0", "-", "11", "0.01"] {
            let label = format!(">\n{label}\n<");
            assert_eq!(svg.matches(&label).count(), 2, "{label}");
        }
        assert!(svg.contains("dense &amp; so on") && svg.contains(">\nsparse\n<"));
        assert_eq!(svg.matches("#E5E7EB").count(), 2);
        // The best of each grid is framed.
        assert_eq!(svg.matches("stroke-width=\"3\"").count(), 2);
        assert!(svg.contains(">\n70.0%\n<") && svg.contains(">\n50.0%\n<"));
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
        assert_eq!(colours(0.0), (RGBColor(0xf7, 0xf4, 0xde), INK));
        assert_eq!(colours(1.0), (RGBColor(0x1c, 0x32, 0x6e), WHITE));
        assert_eq!(colours(2.0), colours(1.0));
    }
}
