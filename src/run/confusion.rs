//! A confusion matrix as a picture.

use super::svg::{document, text, GRID, INK};
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
    let room = 40.0 + 0.6 * size * longest.unwrap_or(0) as f64;
    let (left, top) = (room, 60.0);
    let mut body = text(left, 26.0, "start", 15.0, "font-weight=\"bold\"", title);
    body += &text(
        left,
        46.0,
        "start",
        12.0,
        "",
        "rows: what it is; columns: what it was taken for",
    );
    body += &format!(
        "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{SIDE}\" height=\"{SIDE}\" fill=\"none\" stroke=\"{GRID}\"/>\n"
    );
    for label in 0..classes {
        let all: u64 = (0..matrix.classes())
            .map(|other| matrix.count(label, other))
            .sum();
        let y = top + label as f64 * cell;
        for predicted in 0..classes {
            let count = matrix.count(label, predicted);
            if count == 0 {
                continue;
            }
            let share = count as f64 / all as f64;
            let x = left + predicted as f64 * cell;
            let [r, g, b] = FULL.map(|full| (255.0 + share * (full - 255.0)).round());
            body += &format!(
                "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{cell:.2}\" height=\"{cell:.2}\" fill=\"rgb({r},{g},{b})\"/>\n"
            );
            if classes <= COUNTED {
                let ink = if share > 0.5 { "#fff" } else { INK };
                let (x, y) = (x + cell / 2.0, y + cell / 2.0 + size / 3.0);
                let fill = format!("fill=\"{ink}\"");
                body += &text(x, y, "middle", size, &fill, &count.to_string());
            }
        }
    }
    for class in 0..shown(NAMED) {
        let at = (class as f64 + 0.5) * cell;
        body += &text(
            left - 6.0,
            top + at + size / 3.0,
            "end",
            size,
            "",
            &name(class),
        );
        let (x, y) = (left + at + size / 3.0, top + SIDE + 6.0);
        let turned = format!("transform=\"rotate(-90 {x:.1} {y:.1})\"");
        body += &text(x, y, "end", size, &turned, &name(class));
    }
    document(left + SIDE + 20.0, top + SIDE + room, &body)
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
        for shade in ["rgb(31,78,140)", "rgb(87,122,169)", "rgb(199,211,226)"] {
            assert_eq!(svg.matches(shade).count(), 1, "{shade} of {svg}");
        }
        assert!(svg.contains("&lt;b") && svg.contains(">3</text>"), "{svg}");
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
