//! The comparison as text and as data.

use serde_json::{json, Value};

use crate::compute::Row;
use crate::figure::{digits, Figure};

/// How many figures there are of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub compared: usize,
    pub differing: usize,
}

impl Count {
    pub fn of(rows: &[Row]) -> Self {
        let mut count = Self::default();
        for figure in rows.iter().flat_map(Row::figures) {
            count.compared += 1;
            count.differing += usize::from(!figure.agrees());
        }
        count
    }
}

/// Every table, and a line that sums up.
pub fn text(rows: &[Row]) -> String {
    let mut text = String::new();
    let mut table = None;
    for row in rows {
        if table != Some(row.run.table) {
            table = Some(row.run.table);
            text += &heading(row.run.table);
        }
        text += &line(row);
        text.push('\n');
    }
    let count = Count::of(rows);
    text.push('\n');
    text += &match count.differing {
        0 => format!("All {} figures computed are as printed.\n", count.compared),
        n => format!(
            "{n} of {} figures differ from those printed.\n",
            count.compared
        ),
    };
    text
}

fn heading(table: u64) -> String {
    let note = match table {
        6 => {
            "(an iteration with dropout at 4 FLOPs an element, twice Eq. 8, as printed; its totals \
             leave dropout out)\n"
        }
        _ => "",
    };
    let newline = if table == 4 { "" } else { "\n" };
    format!(
        "{newline}{:<40} {:>19}   {:>19}\n{note}{:<12} {:<9} {:<17} {:>9} {:>9}   {:>9} {:>9}\n",
        format!("Table {table}, backward FLOPs"),
        "1e9 an iteration",
        "1e15 in all",
        "task",
        "model",
        "dropped",
        "computed",
        "printed",
        "computed",
        "printed",
    )
}

fn line(row: &Row) -> String {
    let [(iteration, a), (total, b)] = row.figures().map(columns);
    let dropout = row.run.dropout.map(|p| format!(", dropout {p}"));
    format!(
        "{:<12} {:<9} {:<17} {iteration}{a} {total}{b}",
        row.run.task,
        row.run.model,
        format!("{}{}", row.run.average_drop, dropout.unwrap_or_default()),
    )
    .trim_end()
    .to_owned()
}

/// Both numbers, and a mark if they differ.
fn columns(figure: Figure) -> (String, &'static str) {
    let [computed, printed] = [figure.computed, figure.printed].map(digits);
    let mark = if figure.agrees() { "  " } else { "! " };
    (format!("{computed:>9} {printed:>9}"), mark)
}

/// The runs with their figures, and how many there are of each kind.
pub fn json(rows: &[Row]) -> Value {
    let figure =
        |f: &Figure| json!({ "computed": f.computed, "printed": f.printed, "agrees": f.agrees() });
    let runs: Vec<Value> = rows
        .iter()
        .map(|row| {
            json!({
                "table": row.run.table,
                "task": row.run.task,
                "model": row.run.model,
                "input": row.run.input,
                "batch": row.run.batch,
                "epochs": row.run.epochs,
                "images": row.run.images,
                "average_drop": row.run.average_drop,
                "dropout": row.run.dropout,
                "flops_per_iteration_1e9": figure(&row.per_iteration),
                "flops_total_1e15": figure(&row.total),
            })
        })
        .collect();
    let count = Count::of(rows);
    json!({
        "runs": runs,
        "compared": count.compared,
        "differing": count.differing,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compute;
    use common::paper::TABLES;

    #[test]
    fn text_and_data_say_the_same() {
        let rows = compute::rows(TABLES).unwrap();
        let printed = text(&rows);
        assert!(
            printed.contains("All 96 figures computed are as printed."),
            "{printed}"
        );
        assert!(!printed.contains('!'), "{printed}");
        let data = json(&rows);
        assert_eq!(data["runs"].as_array().unwrap().len(), rows.len());
        assert_eq!(
            (&data["compared"], &data["differing"]),
            (&json!(96), &json!(0))
        );
        let unet = data["runs"].as_array().unwrap();
        let unet = unet.iter().find(|run| run["model"] == "ddpm").unwrap();
        assert_eq!(unet["flops_total_1e15"]["agrees"], true);

        let rows = compute::rows(&TABLES.replace("17064.82", "17064.83")).unwrap();
        let marked: Vec<String> = text(&rows)
            .lines()
            .filter(|line| line.contains('!'))
            .map(str::to_owned)
            .collect();
        assert_eq!(marked.len(), 1);
        assert!(marked[0].contains("17064.82 ") && marked[0].contains("17064.83!"));
        assert!(text(&rows).contains("1 of 96 figures differ"));
        assert_eq!(json(&rows)["differing"], 1);
    }
}
