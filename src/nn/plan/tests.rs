use super::*;
use crate::models::builders::{ResNet18, ResNet26};
use crate::nn::builders::SparseConv2D;
use crate::sparsity::{DropRate, Span};
use dfdx::nn::builders::{GeneralizedResidual, ReLU};
use dfdx::nn::DeviceBuildExt;
use dfdx::tensor::Cpu;

fn rate(rate: f64) -> DropRate {
    DropRate::new(rate).unwrap()
}

fn rates(model: &mut dyn VisitLayers) -> Vec<(String, f64)> {
    let mut rates = Vec::new();
    model.visit_sparse(&mut |layer| {
        rates.push((layer.path.to_owned(), layer.backward.drop_rate.rate()));
    });
    rates
}

#[test]
fn each_layer_gets_its_own_rate() {
    let mut net = Cpu::default().build_module::<ResNet18<10>, f32>();
    let plan = SchedulePlan::new(Schedule::constant(rate(0.5)))
        .with("layer2", Schedule::constant(rate(0.25)))
        // The last override that holds a layer counts.
        .with("layer2.1", Schedule::constant(rate(0.75)))
        .with(
            LayerSelector::matching("wide", |layer| layer.channels == 512 && layer.c_in == 512),
            Schedule::linear(rate(0.8), Span::epochs(5).unwrap()),
        )
        .dense(LayerSelector::stem())
        .dense("@shortcuts");
    plan.apply(&mut net, 2, 0).unwrap();
    let rates = rates(&mut net);
    assert_eq!(rates.len(), 20);
    for (path, rate) in rates {
        let expected = match path.as_str() {
            "conv1" => 0.0,
            path if path.ends_with("shortcut.0") => 0.0,
            path if path.starts_with("layer2.1") => 0.75,
            path if path.starts_with("layer2") => 0.25,
            "layer4.0.conv1" => 0.5,
            path if path.starts_with("layer4") => 0.4,
            _ => 0.5,
        };
        assert_eq!(rate, expected, "{path}");
    }
}

#[test]
fn an_override_without_a_layer_is_named_and_changes_nothing() {
    let mut net = Cpu::default().build_module::<ResNet26<10>, f32>();
    net.set_drop_rate(rate(0.3));
    for (layers, name) in [
        (LayerSelector::at("layer5"), "`layer5`"),
        (LayerSelector::at("layer1.0.conv3"), "`layer1.0.conv3`"),
        (LayerSelector::from("@stam"), "`@stam`"),
        (
            LayerSelector::matching("7x7", |l| l.kernel == Some(7)),
            "`@7x7`",
        ),
    ] {
        let plan = SchedulePlan::new(Schedule::paper())
            .dense("layer1")
            .dense(layers);
        let err = plan.apply(&mut net, 1, 0).unwrap_err().to_string();
        assert!(err.contains(name) && err.contains("conv1"), "{err}");
        assert!(rates(&mut net).iter().all(|(_, rate)| *rate == 0.3));
    }
}

#[test]
fn dfdx_shortcuts_are_found() {
    type Conv<const K: usize, const P: usize> = SparseConv2D<4, 4, K, 1, P>;
    type Net = (
        Conv<1, 0>,
        GeneralizedResidual<(Conv<3, 1>, ReLU), Conv<1, 0>>,
    );
    let mut net = Cpu::default().build_module::<Net, f32>();
    let plan = SchedulePlan::new(Schedule::constant(rate(0.5))).dense(LayerSelector::shortcuts());
    plan.apply(&mut net, 0, 0).unwrap();
    let rates: Vec<f64> = rates(&mut net).iter().map(|(_, rate)| *rate).collect();
    assert_eq!(rates, [0.5, 0.5, 0.0]);
}

#[test]
fn texts_are_read_back() {
    let text =
        "linear,drop=0.8,epochs=9; layer1.*.conv1=constant,drop=0.5; @stem=dense; @shortcuts=dense";
    let plan: SchedulePlan = text.parse().unwrap();
    assert_eq!(plan.to_string(), text);
    assert_eq!(plan.overrides.len(), 3);
    for (text, part) in [
        ("", "constant, linear"),
        ("paper; layer1", "LAYERS=SCHEDULE"),
        ("paper; layer1=zigzag", "zigzag"),
        ("paper; @stam=dense", "@stam"),
        ("paper;", "LAYERS=SCHEDULE"),
    ] {
        let err = text.parse::<SchedulePlan>().unwrap_err().to_string();
        assert!(err.contains(part), "{err}");
    }
}

#[test]
fn the_longest_warm_up_decides() {
    let late = Schedule::paper().warm_up(7).unwrap();
    let plan = SchedulePlan::new(Schedule::paper()).with("conv1", late);
    assert!(plan.check_run(7).is_ok() && plan.check_run(6).is_err());
    let by_iteration = Schedule::linear(rate(0.5), Span::iterations(3).unwrap());
    assert!(!plan.varies_within(8));
    assert!(plan.with("conv1", by_iteration).varies_within(8));
}
