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
    let mut csv = csv::Writer::from_writer(Vec::new());
    let cell = |record: &Record, name| record.get(name).map_or(String::new(), |v| v.to_string());
    let lines = records
        .iter()
        .map(|record| names.iter().map(|name| cell(record, name)).collect());
    for line in std::iter::once(names.iter().map(ToString::to_string).collect()).chain(lines) {
        let line: Vec<String> = line;
        csv.write_record(line)
            .expect("lines of one length, into memory");
    }
    let csv = csv.into_inner().expect("memory");
    String::from_utf8(csv).expect("names are text")
}

/// What [`to_csv`] wrote, or a version of before with other columns; `None` for anything else.
pub(super) fn from_csv(csv: &str) -> Option<Vec<Record>> {
    if csv.is_empty() {
        return None;
    }
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    let names = reader.headers().ok()?.clone();
    let record = |line: csv::Result<csv::StringRecord>| {
        let line = line.ok()?;
        let filled = names.iter().zip(&line).filter(|(_, cell)| !cell.is_empty());
        let values = filled.map(|(name, cell)| Some((name.to_owned(), cell.parse().ok()?)));
        let record = Record(values.collect::<Option<_>>()?);
        record.get("epoch")?;
        Some(record)
    };
    reader.records().map(record).collect()
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
