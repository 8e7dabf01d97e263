//! A confusion matrix as a picture.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::plot::{bold, font, svg, GRID, INK};
use crate::train::ConfusionMatrix;

/// Width and height of the cells together; without room for names.
const SIDE: f64 = 480.0;
/// Most classes whose names, and whose counts, can be read.
const NAMED: usize = 60;
const COUNTED: usize = 20;
/// Colour of a class that was always taken for the column's.
const FULL: [f64; 3] = [31.0, 78.0, 140.0];

/// An SVG of a confusion matrix: a row for each class, whose cells are as dark as the share of its images that was
/// taken for the column's class is large. `names` are the classes', in the order of their labels; classes without a
/// name are left out, unless none has one.
///
/// ```
/// use ssprop::run::confusion_svg;
/// use ssprop::train::ConfusionMatrix;
///
/// let mut found = ConfusionMatrix::new(2);
/// found.add(0, 0);
/// found.add(1, 0);
/// let svg = confusion_svg(&found, &["cat".into(), "dog".into()], "Cats and dogs");
/// assert!(svg.starts_with("<svg") && svg.contains("dog"));
/// ```
pub fn confusion_svg(matrix: &ConfusionMatrix, names: &[String], title: &str) -> String {
    let classes = match names.len() {
        0 => matrix.classes().max(1),
        named => named.min(matrix.classes()).max(1),
    };
    let cell = SIDE / classes as f64;
    let name = |class: usize| names.get(class).cloned().unwrap_or(class.to_string());
    let shown = |limit: usize| if classes <= limit { classes } else { 0 };
    let longest = (0..shown(NAMED))
        .map(|class| name(class).chars().count())
        .max();
    let size = (0.6 * cell).clamp(6.0, 13.0);
    let room = 40 + (0.6 * size * longest.unwrap_or(0) as f64) as i32;
    let place = |at: f64| (at * cell).round() as i32;
    let side = SIDE as i32;
    let (left, top) = (room, 60);
    let in_the_middle = Pos::new(HPos::Center, VPos::Center);
    svg(
        [(left + side + 20) as u32, (top + side + room) as u32],
        |area| {
            area.draw(&Text::new(title.to_owned(), (left, 14), bold(15.0)))?;
            let key = "rows: what it is; columns: what it was taken for";
            area.draw(&Text::new(key, (left, 36), font(12.0)))?;
            area.draw(&Rectangle::new(
                [(left, top), (left + side, top + side)],
                GRID,
            ))?;
            for label in 0..classes {
                let all: u64 = (0..matrix.classes())
                    .map(|other| matrix.count(label, other))
                    .sum();
                for predicted in 0..classes {
                    let count = matrix.count(label, predicted);
                    if count == 0 {
                        continue;
                    }
                    let share = count as f64 / all as f64;
                    let corner =
                        |x: usize, y: usize| (left + place(x as f64), top + place(y as f64));
                    let corners = [corner(predicted, label), corner(predicted + 1, label + 1)];
                    let [r, g, b] = FULL.map(|full| (255.0 + share * (full - 255.0)).round() as u8);
                    area.draw(&Rectangle::new(corners, RGBColor(r, g, b).filled()))?;
                    if classes <= COUNTED {
                        let middle = [predicted, label].map(|class| place(class as f64 + 0.5));
                        let ink = if share > 0.5 { WHITE } else { INK };
                        let style = font(size).color(&ink).pos(in_the_middle);
                        let middle = (left + middle[0], top + middle[1]);
                        area.draw(&Text::new(count.to_string(), middle, style))?;
                    }
                }
            }
            let style = font(size).pos(Pos::new(HPos::Right, VPos::Center));
            for class in 0..shown(NAMED) {
                let at = place(class as f64 + 0.5);
                area.draw(&Text::new(name(class), (left - 6, top + at), style.clone()))?;
                let turned = style.clone().transform(FontTransform::Rotate270);
                area.draw(&Text::new(name(class), (left + at, top + side + 6), turned))?;
            }
            Ok(())
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shades_are_shares_of_a_row() {
        let mut found = ConfusionMatrix::new(3);
        for (label, predicted, times) in [(0, 0, 3), (0, 2, 1), (1, 1, 2)] {
            (0..times).for_each(|_| found.add(label, predicted));
        }
        let names = ["a", "<b", "c"].map(str::to_owned);
        let svg = confusion_svg(&found, &names, "Title");
        // A cell for each count above 0, beside the background and the frame.
        assert_eq!(svg.matches("<rect").count(), 5);
        for shade in ["#1F4E8C", "#577AA9", "#C7D3E2"] {
            assert_eq!(svg.matches(shade).count(), 1, "{shade} of {svg}");
        }
        assert!(
            svg.contains("&lt;b") && svg.contains(">\n3\n</text>"),
            "{svg}"
        );
    }

    #[test]
    fn many_classes_have_cells_only() {
        let mut found = ConfusionMatrix::new(1000);
        (0..1000).for_each(|class| found.add(class, class / 2));
        let svg = confusion_svg(&found, &[], "Title");
        assert_eq!(svg.matches("<rect").count(), 1002);
        assert_eq!(svg.matches("<text").count(), 2);
        assert!(confusion_svg(&ConfusionMatrix::new(0), &[], "").contains("</svg>"));
    }
}
