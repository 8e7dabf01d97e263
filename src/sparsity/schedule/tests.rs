use super::*;
use serde_json::Value;

fn rate(rate: f64) -> DropRate {
    DropRate::new(rate).unwrap()
}

fn whole(case: &Value, key: &str) -> u64 {
    case[key]
        .as_u64()
        .unwrap_or_else(|| panic!("{key} in {case}"))
}

fn schedule_of(case: &Value) -> Schedule {
    let keep = |key: &str| DropRate::from_keep(case[key].as_f64().unwrap()).unwrap();
    let span = match case["by"].as_str().unwrap() {
        "epoch" => Span::epochs(whole(case, "total_epochs")),
        "iteration" => Span::iterations(whole(case, "period_iterations")),
        other => panic!("by {other}"),
    };
    let (span, target) = (span.unwrap(), keep("end_keep"));
    let schedule = match case["mode"].as_str().unwrap() {
        "constant" => Schedule::constant(target),
        "linear" => Schedule::linear(target, span),
        "cosine" => Schedule::cosine(target, span),
        "bar" => Schedule::bar(target, span),
        other => panic!("mode {other}"),
    };
    let schedule = schedule.starting_at(keep("start_keep"));
    let schedule = match case["interleave"].as_bool() {
        Some(true) => schedule.interleaved(),
        _ => schedule,
    };
    schedule.warm_up(whole(case, "warmup_epochs")).unwrap()
}

#[test]
fn reference_schedules_are_met() {
    let fixture = include_str!("../../../tests/fixtures/schedules.json");
    let cases: Vec<Value> = serde_json::from_str(fixture).unwrap();
    assert_eq!(cases.len(), 19);
    let mut compared = 0;
    for case in &cases {
        let schedule = schedule_of(case);
        let mut check = |epoch: usize, iteration: usize, expected: &Value| {
            let found = schedule.drop_rate(epoch as u64, iteration as u64).keep();
            let expected = expected.as_f64().unwrap();
            assert!(
                (found - expected).abs() < 1e-12,
                "{schedule}: epoch {epoch}, iteration {iteration}: {found} for {expected}"
            );
            compared += 1;
        };
        for (epoch, keep) in case["keep"].as_array().unwrap().iter().enumerate() {
            match keep.as_array() {
                Some(iterations) => {
                    for (i, keep) in iterations.iter().enumerate() {
                        check(epoch, i, keep);
                    }
                }
                None => (0..3).for_each(|i| check(epoch, i, keep)),
            }
        }
        assert_eq!(schedule.to_string().parse::<Schedule>().unwrap(), schedule);
    }
    assert_eq!(compared, 16 * 12 * 3 + 3 * 3 * 25);
}

#[test]
fn bad_parameters_are_named() {
    let named = |err: Error, parts: &[&str]| {
        let text = err.to_string();
        assert!(parts.iter().all(|part| text.contains(part)), "{text}");
    };
    named(Span::epochs(0).unwrap_err(), &["total epochs = 0"]);
    named(Span::iterations(0).unwrap_err(), &["period = 0"]);
    let linear = Schedule::linear(rate(0.8), Span::epochs(4).unwrap());
    assert!(linear.warm_up(4).is_ok());
    named(linear.warm_up(5).unwrap_err(), &["5 of 4"]);
    let paper = Schedule::paper().warm_up(5).unwrap();
    named(paper.average_drop_rate(4, 10).unwrap_err(), &["5 of 4"]);

    for (text, part) in [
        ("", "constant, linear"),
        ("zigzag,drop=0.5", "zigzag"),
        ("constant", "drop="),
        ("constant,drop=1.2", "1.2"),
        ("constant,drop=x", "\"x\""),
        ("constant,drop=0.8,epochs=3", "if constant"),
        ("linear,drop=0.8", "epochs= or period="),
        ("linear,drop=0.8,epochs=0", "total epochs = 0"),
        ("linear,drop=0.8,epochs=3,warmup=4", "4 of 3"),
        ("linear,drop=0.8,epochs=3,period=4", "not both"),
        ("cosine,drop=0.8,period=-1", "\"-1\""),
        ("cosine,drop=0.8,drop=0.9,period=1", "each once"),
        ("paper,drop=0.8", "after dense or paper"),
        ("dense,interleave", "after dense or paper"),
        ("constant,drop=0.8,interleaved", "interleaved"),
    ] {
        named(text.parse::<Schedule>().unwrap_err(), &[part]);
    }
}

#[test]
fn texts_are_read_in_any_order_and_written_in_one() {
    for (text, written) in [
        ("dense", "dense"),
        ("paper", "constant,drop=0.8,interleave"),
        ("paper,warmup=3", "constant,drop=0.8,interleave,warmup=3"),
        (
            "cosine, warmup=2, period=100, start=0.1, drop=0.8",
            "cosine,drop=0.8,start=0.1,period=100,warmup=2",
        ),
        (
            "bar,epochs=7,interleave,drop=0.1",
            "bar,drop=0.1,epochs=7,interleave",
        ),
    ] {
        let schedule: Schedule = text.parse().unwrap();
        assert_eq!(schedule.to_string(), written);
        assert_eq!(written.parse::<Schedule>().unwrap(), schedule);
    }
    assert_eq!("paper".parse::<Schedule>().unwrap(), Schedule::paper());
}

#[test]
fn averages_are_over_iterations() {
    let epochs = |s: Schedule, n| s.average_drop_rate(n, 10).unwrap();
    let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} for {b}");
    near(epochs(Schedule::paper(), 4), 0.4);
    // The odd one out is dense.
    near(epochs(Schedule::paper(), 5), 0.32);
    near(
        epochs(Schedule::linear(rate(0.8), Span::epochs(9).unwrap()), 9),
        0.4,
    );
    // 0, 0.2, 0.4, 0.6 twice, and 0, 0.2 again; the first of two epochs is warm-up.
    let saw = Schedule::linear(rate(0.8), Span::iterations(4).unwrap());
    near(epochs(saw, 1), 2.6 / 10.0);
    near(epochs(saw.warm_up(1).unwrap(), 2), 1.3 / 10.0);
    assert_eq!(saw.average_drop_rate(0, 10).unwrap(), 0.0);
    assert_eq!(saw.average_drop_rate(3, 0).unwrap(), 0.0);
}

#[test]
fn the_ends_of_a_span_are_safe() {
    let one = Span::epochs(1).unwrap();
    assert!(Schedule::linear(rate(0.8), one).drop_rate(0, 0).is_dense());
    assert!(Schedule::cosine(rate(0.8), one).drop_rate(0, 0).is_dense());
    let target = rate(0.8);
    for span in [Span::epochs(5).unwrap(), Span::epochs(u64::MAX).unwrap()] {
        for schedule in [Schedule::linear(target, span), Schedule::bar(target, span)] {
            assert_eq!(schedule.drop_rate(u64::MAX, 0), target, "{schedule}");
        }
    }
    // Of five epochs, the third is still in the first half.
    let bar = Schedule::bar(target, Span::epochs(5).unwrap());
    let rates = [0, 1, 2, 3, 4].map(|epoch| bar.drop_rate(epoch, 0).rate());
    assert_eq!(rates, [0.0, 0.0, 0.0, 0.8, 0.8]);
    // A target below the start: fewer and fewer channels dropped.
    let falling = Schedule::linear(DropRate::DENSE, Span::epochs(3).unwrap()).starting_at(target);
    let rates = [0, 1, 2].map(|epoch| falling.drop_rate(epoch, 0).rate());
    assert_eq!(rates, [0.8, 0.4, 0.0]);
    // The curve of a dense target is not dense before.
    assert_ne!(falling.to_string(), "dense");
}

#[test]
fn only_schedules_by_iteration_vary_within_an_epoch() {
    let by = |span| Schedule::cosine(rate(0.8), span);
    let iterations = by(Span::iterations(3).unwrap()).warm_up(1).unwrap();
    assert!(!iterations.varies_within(0) && iterations.varies_within(1));
    assert!(!iterations.interleaved().varies_within(1));
    assert!(!by(Span::epochs(3).unwrap()).varies_within(1));
}
