//! Results as CSV.

use serde::Serialize;

/// A line of the fields' names, and one for each row; nothing without a row.
pub fn csv<R: Serialize>(rows: impl IntoIterator<Item = R>) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in rows {
        // Flat rows of numbers and text, into memory.
        writer.serialize(row).expect("a row");
    }
    let bytes = writer.into_inner().expect("memory");
    String::from_utf8(bytes).expect("fields are text")
}

/// The accuracies of runs, in the order of their seeds.
pub fn joined(accuracies: &[f64]) -> String {
    let all: Vec<String> = accuracies.iter().map(f64::to_string).collect();
    all.join(" ")
}
