//! The backward FLOPs of the residual networks against the paper's tables.

use serde_json::Value;

use ssprop::models::modules::{ResNet18, ResNet26, ResNet34, ResNet50};
use ssprop::nn::{ImageSize, ModelCost};
use ssprop::prelude::*;
use ssprop::sparsity::flops;

fn cost(model: &str, input: ImageSize) -> ModelCost {
    macro_rules! of {
        ($net:ident) => {
            match input[0] {
                1 => ModelCost::of::<$net<10, 1, f32, Cpu>>(input),
                _ => ModelCost::of::<$net<10, 3, f32, Cpu>>(input),
            }
        };
    }
    match model {
        "resnet18" => of!(ResNet18),
        "resnet26" => of!(ResNet26),
        "resnet34" => of!(ResNet34),
        "resnet50" => of!(ResNet50),
        other => panic!("no network {other}"),
    }
    .unwrap()
}

/// The rows of a table: the network's cost, then the row itself.
fn rows(table: u64) -> Vec<(ModelCost, Value)> {
    let fixture: Value = serde_json::from_str(include_str!("fixtures/paper_tables.json")).unwrap();
    let rows = fixture["rows"].as_array().unwrap().iter();
    rows.filter(|row| row["table"] == table)
        .map(|row| {
            let input = serde_json::from_value(row["input"].clone()).unwrap();
            (cost(row["model"].as_str().unwrap(), input), row.clone())
        })
        .collect()
}

fn whole(row: &Value, key: &str) -> usize {
    row[key].as_u64().unwrap() as usize
}

/// Equal as far as the table prints: two decimals.
fn assert_printed(found: f64, printed: &Value, row: &Value) {
    let printed = printed.as_f64().unwrap();
    assert!(
        (found - printed).abs() < 0.0051,
        "{found} for {printed} in {row}"
    );
}

/// 1e15 FLOPs of the row's whole run.
fn total(cost: &ModelCost, row: &Value, rate: impl Fn(u64) -> DropRate) -> f64 {
    let rates = (0..whole(row, "epochs") as u64).map(rate);
    cost.per_run(whole(row, "images_counted"), whole(row, "batch"), rates) / 1e15
}

#[test]
fn networks_cost_what_tables_4_and_7_say() {
    let bar = Schedule::alternating(DropRate::new(0.8).unwrap());
    for (table, count) in [(4, 12), (7, 4)] {
        let rows = rows(table);
        assert_eq!(rows.len(), count);
        for (cost, row) in rows {
            let rates = [DropRate::DENSE, bar.drop_rate(1, 0)];
            let [a, b] = rates.map(|rate| cost.per_iteration(whole(&row, "batch"), rate) / 1e9);
            assert_printed(a, &row["dense"]["flops_per_iter"], &row);
            assert_printed((a + b) / 2.0, &row["ssprop"]["flops_per_iter"], &row);

            let dense = total(&cost, &row, |_| DropRate::DENSE);
            assert_printed(dense, &row["dense"]["total"], &row);
            let scheduled = total(&cost, &row, |epoch| bar.drop_rate(epoch, 0));
            assert_printed(scheduled, &row["ssprop"]["total"], &row);
        }
    }
}

/// The rows of Table 6 that have dropout; the others are those of ResNet-50 in Table 7.
fn with_dropout() -> Vec<(ModelCost, Value)> {
    let mut rows = rows(6);
    rows.retain(|(_, row)| row["dropout"].is_number());
    rows
}

/// Table 6's iterations have dropout after every norm, the stem's and the shortcuts' too, at twice
/// what Eq. 8 says: 4 FLOPs an element.
#[test]
fn iterations_cost_what_table_6_says() {
    for (cost, row) in with_dropout() {
        let batch = whole(&row, "batch");
        let average = row["average_drop"].as_f64().unwrap();
        let bar = Schedule::alternating(DropRate::new(2.0 * average).unwrap());
        let mean = |cost: &ModelCost| {
            let rates = [bar.drop_rate(0, 0), bar.drop_rate(1, 0)];
            let [a, b] = rates.map(|rate| cost.per_iteration(batch, rate) / 1e9);
            (a + b) / 2.0
        };
        let without = mean(&cost);
        let dropout = mean(&cost.clone().with_dropout(|_| true)) - without;
        let printed = match average {
            0.0 => &row["dense"],
            _ => &row["ssprop"],
        };
        assert_printed(without + 2.0 * dropout, &printed["flops_per_iter"], &row);

        // The stem's alone would show.
        let others = cost.clone().with_dropout(|path| path != "bn1");
        let dropout = mean(&others) - without;
        let found = without + 2.0 * dropout;
        assert!((found - printed["flops_per_iter"].as_f64().unwrap()).abs() > 0.02);
    }
}

/// The totals of Table 6, which leave its dropout layers out.
#[test]
fn runs_cost_what_table_6_says() {
    let rows = with_dropout();
    assert_eq!(rows.len(), 6);
    for (cost, row) in rows {
        let average = row["average_drop"].as_f64().unwrap();
        let bar = Schedule::alternating(DropRate::new(2.0 * average).unwrap());
        let printed = match average {
            0.0 => &row["dense"],
            _ => &row["ssprop"],
        };
        assert_printed(
            total(&cost, &row, |epoch| bar.drop_rate(epoch, 0)),
            &printed["total"],
            &row,
        );
    }
}

/// No table has ResNet-34: its cost by the formulas, from the shapes of PyTorch's weights.
#[test]
fn resnet34_costs_what_its_weights_say() {
    let (batch, size) = (128, 32);
    let fixture: Value =
        serde_json::from_str(include_str!("fixtures/resnet_tensors.json")).unwrap();
    let tensors: Vec<(String, Vec<usize>)> =
        serde_json::from_value(fixture["ResNet34"]["tensors"].clone()).unwrap();
    let mut expected = 0.0;
    for (name, shape) in tensors {
        // Each stage but the first begins with a halving.
        let stage = name
            .strip_prefix("layer")
            .map_or(1, |n| n[..1].parse().unwrap());
        let side = size >> (stage - 1);
        let m = batch * side * side;
        if let [c_out, c_in, k, _] = shape[..] {
            expected += flops::conv2d_dense(m, c_in * k * k, c_out);
        } else if name.ends_with("running_var") {
            expected += flops::batch_norm2d(m, shape[0]);
        }
    }
    let found = cost("resnet34", [3, size, size]).per_iteration(batch, DropRate::DENSE);
    assert!(
        (found / expected - 1.0).abs() < 1e-12,
        "{found} for {expected}"
    );
}
