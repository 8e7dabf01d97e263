//! What the paper (arXiv 2408.12561) prints in Tables 4 to 7.

use serde_json::Value;
use ssprop::Error;

/// Tables 4 to 7, as JSON.
pub const TABLES: &str = include_str!("../../tests/fixtures/paper_tables.json");

/// One training run of a table. A row of the paper has two: dense and with ssProp.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    pub table: u64,
    pub task: String,
    pub model: String,
    /// Channels, height, width.
    pub input: [usize; 3],
    pub batch: usize,
    pub epochs: u64,
    /// Training and validation images.
    pub images: usize,
    /// Of the epochs, half of which are dense.
    pub average_drop: f64,
    /// The dropout layers' rate, where the networks have any.
    pub dropout: Option<f64>,
    /// 1e9 backward FLOPs of an iteration.
    pub per_iteration: f64,
    /// 1e15 backward FLOPs of the run.
    pub total: f64,
    /// Minutes of training on its machine.
    pub minutes: f64,
    /// Test accuracy in percent, or FID.
    pub metric: f64,
    /// Top-5 accuracy in percent, of ImageNet.
    pub top5: Option<f64>,
}

impl Run {
    /// Its row in commands: `mnist-resnet18`, `celeba-ddpm`, `cifar10-resnet50-dropout0.4`; a run with
    /// dropout has a row to itself.
    pub fn row(&self) -> String {
        let ssprop = if self.is_dense() { "" } else { "-ssprop" };
        let dropout = self.dropout.map(|p| format!("-dropout{p}{ssprop}"));
        let (task, model) = (self.task_name(), &self.model);
        format!("{task}-{model}{}", dropout.unwrap_or_default())
    }

    /// The task's name in commands.
    pub fn task_name(&self) -> String {
        match &*self.task {
            "FashionMNIST" => "fashion-mnist".into(),
            "ImageNet-1k" => "imagenet".into(),
            task => task.to_lowercase(),
        }
    }

    /// `dense` or `ssprop`.
    pub fn method(&self) -> &'static str {
        match self.is_dense() {
            true => "dense",
            false => "ssprop",
        }
    }

    /// Whether no epoch is sparse.
    pub fn is_dense(&self) -> bool {
        self.average_drop == 0.0
    }

    /// With how many seeds the paper trained it: once on ImageNet and for images, twice in Tables 6 and
    /// 7, else three times.
    pub fn seeds(&self) -> u64 {
        match (self.table, &*self.task) {
            (4, "ImageNet-1k") | (5, _) => 1,
            (4, _) => 3,
            _ => 2,
        }
    }
}

/// The runs of all tables, in their order.
pub fn runs(tables: &str) -> ssprop::Result<Vec<Run>> {
    let tables: Value =
        serde_json::from_str(tables).map_err(|err| wrong("the tables", &err.to_string()))?;
    let rows = tables["rows"].as_array().map_or(&[][..], Vec::as_slice);
    let mut runs = Vec::new();
    for row in rows {
        // With ssProp, 80% are dropped in every second epoch where the row does not say otherwise.
        let average = row["average_drop"].as_f64().unwrap_or(0.4);
        for (part, average_drop) in [("dense", 0.0), ("ssprop", average)] {
            if !row[part].is_null() {
                runs.push(run(row, &row[part], average_drop)?);
            }
        }
    }
    match runs.is_empty() {
        true => Err(wrong("the tables", "no rows")),
        false => Ok(runs),
    }
}

fn run(row: &Value, printed: &Value, average_drop: f64) -> ssprop::Result<Run> {
    let whole = |key: &str| {
        let value = row[key].as_u64();
        value.ok_or_else(|| wrong(key, &format!("no whole number in {row}")))
    };
    let text = |key: &str| {
        let value = row[key].as_str().map(str::to_owned);
        value.ok_or_else(|| wrong(key, &format!("no text in {row}")))
    };
    let figure = |key: &str| {
        let value = printed[key].as_f64();
        value.ok_or_else(|| wrong(key, &format!("no number in {row}")))
    };
    Ok(Run {
        table: whole("table")?,
        task: text("task")?,
        model: text("model")?,
        input: serde_json::from_value(row["input"].clone())
            .map_err(|err| wrong("input", &format!("{err} in {row}")))?,
        batch: whole("batch")? as usize,
        epochs: whole("epochs")?,
        images: whole("images_counted")? as usize,
        average_drop,
        dropout: row["dropout"].as_f64(),
        per_iteration: figure("flops_per_iter")?,
        total: figure("total")?,
        minutes: figure("minutes")?,
        metric: figure("metric")?,
        top5: printed["top5"].as_f64(),
    })
}

fn wrong(what: &str, why: &str) -> Error {
    Error::Format {
        path: "tests/fixtures/paper_tables.json".into(),
        what: format!("{what}: {why}"),
    }
}
