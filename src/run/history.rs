//! The records of a run's epochs as CSV, from which they are read back to the bit, and as JSON lines.

use std::path::Path;

use super::record::Record;
use crate::error::{Error, Result};

/// The records in a run's `metrics.csv`.
///
/// # Errors
/// [`Error::Io`] and [`Error::Format`] with the file.
pub fn read_records(path: impl AsRef<Path>) -> Result<Vec<Record>> {
    let path = path.as_ref();
    let csv = std::fs::read_to_string(path).map_err(|err| Error::io(path, "read", err))?;
    from_csv(&csv).ok_or_else(|| Error::Format {
        path: path.to_owned(),
        what: "not the records of a run".into(),
    })
}

/// A header and a line a record. What a record has not is left empty.
pub(super) fn to_csv(records: &[Record]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for record in records {
        let mut place = 0;
        for (name, _) in record.iter() {
            // A name that comes up later stands after the one before it.
            match names.iter().position(|known| *known == name) {
                Some(known) => place = known + 1,
                None => {
                    names.insert(place, name);
                    place += 1;
                }
            }
        }
    }
    let mut csv = names.join(",") + "\n";
    for record in records {
        let cell = |name: &&str| record.get(name).map_or(String::new(), |v| v.to_string());
        csv += &(names.iter().map(cell).collect::<Vec<_>>().join(",") + "\n");
    }
    csv
}

/// What [`to_csv`] wrote, or a version of before with other columns; `None` for anything else.
pub(super) fn from_csv(csv: &str) -> Option<Vec<Record>> {
    let mut lines = csv.lines();
    let names: Vec<&str> = match lines.next()? {
        "" => Vec::new(),
        header => header.split(',').collect(),
    };
    let record = |line: &str| {
        let cells: Vec<&str> = line.split(',').collect();
        if cells.len() != names.len() {
            return None;
        }
        let filled = names.iter().zip(cells).filter(|(_, cell)| !cell.is_empty());
        let values = filled.map(|(name, cell)| Some((name.to_string(), cell.parse().ok()?)));
        let record = Record(values.collect::<Option<_>>()?);
        record.get("epoch")?;
        Some(record)
    };
    lines.map(record).collect()
}

/// A JSON object a line; numbers that are not finite are null.
pub(super) fn to_jsonl(records: &[Record]) -> String {
    let line = |record: &Record| {
        let values: serde_json::Map<String, serde_json::Value> = record
            .iter()
            .map(|(name, value)| {
                let whole = value.fract() == 0.0 && value.abs() < 9e15;
                let value = match whole {
                    true => serde_json::json!(value as i64),
                    false => serde_json::json!(value),
                };
                (name.to_owned(), value)
            })
            .collect();
        serde_json::Value::Object(values).to_string() + "\n"
    };
    records.iter().map(line).collect()
}
