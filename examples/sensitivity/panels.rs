//! What is trained for each panel.

use ssprop::ops::Backward;
use ssprop::prelude::*;

/// One way to train; two panels that have the same one share its runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Way {
    pub schedule: Schedule,
    pub selection: Selection,
    pub masking: Masking,
    pub only_weight_sparse: bool,
}

impl Way {
    /// The paper's method under a schedule: the best channels, in all products.
    pub fn paper(schedule: Schedule) -> Self {
        Self {
            schedule,
            selection: Selection::TopK,
            masking: Masking::Channels,
            only_weight_sparse: false,
        }
    }

    /// A layer's options; a random selection gets the run's seed.
    pub fn set(&self, backward: &mut Backward, seed: u64) {
        backward.selection = match self.selection {
            Selection::Random { rescale, .. } => Selection::Random { seed, rescale },
            other => other,
        };
        backward.masking = self.masking;
        backward.only_weight_sparse = self.only_weight_sparse;
    }
}

/// A point of a series: where it is on the x axis, and how it is trained.
#[derive(Clone, Debug)]
pub struct Point {
    pub x: f64,
    pub way: Way,
}

#[derive(Clone, Debug)]
pub struct Series {
    pub name: &'static str,
    pub points: Vec<Point>,
}

/// What x is.
#[derive(Clone, Debug, PartialEq)]
pub enum Axis {
    /// The drop rate.
    DropRate,
    /// The place in this list.
    Choices(&'static [&'static str]),
}

#[derive(Clone, Debug)]
pub struct Panel {
    pub letter: char,
    pub title: &'static str,
    pub axis: Axis,
    pub series: Vec<Series>,
}

/// What the panels vary.
#[derive(Clone, Debug)]
pub struct Choices {
    /// Drop rates of panels a, b and c.
    pub drop_rates: Vec<DropRate>,
    /// Whether every second epoch is dense in panels a, b and c.
    pub interleaved: bool,
    /// Whether random selections rescale.
    pub rescale: bool,
    /// The drop rate that the schedules of panel d lead to.
    pub target: DropRate,
    pub epochs: u64,
    /// Iterations in a period of the schedules by iteration.
    pub period: u64,
}

const SCHEDULES: &[&str] = &["constant", "linear", "cosine", "bar", "bar, 2 epochs"];

/// The four panels.
pub fn panels(choices: &Choices) -> ssprop::Result<[Panel; 4]> {
    let series = |name, change: &dyn Fn(&mut Way)| Series {
        name,
        points: choices
            .drop_rates
            .iter()
            .map(|&rate| {
                let schedule = match choices.interleaved {
                    true => Schedule::constant(rate).interleaved(),
                    false => Schedule::constant(rate),
                };
                let mut way = Way::paper(schedule);
                change(&mut way);
                Point {
                    x: rate.rate(),
                    way,
                }
            })
            .collect(),
    };
    let random = Selection::Random {
        seed: 0,
        rescale: choices.rescale,
    };
    let masking = |masking| move |way: &mut Way| way.masking = masking;
    let by_rate = |letter, title, series| Panel {
        letter,
        title,
        axis: Axis::DropRate,
        series,
    };
    Ok([
        by_rate(
            'a',
            "Selection of channels",
            vec![
                series("top-k", &|_| ()),
                series("random", &|way| way.selection = random),
            ],
        ),
        by_rate(
            'b',
            "What the mask is over",
            vec![
                series("channels", &masking(Masking::Channels)),
                series("height x width", &masking(Masking::Positions)),
                series("all three", &masking(Masking::Elements)),
            ],
        ),
        by_rate(
            'c',
            "Which gradients are sparse",
            vec![
                series("dX and dW", &|_| ()),
                series("only dW", &|way| way.only_weight_sparse = true),
            ],
        ),
        schedules(choices)?,
    ])
}

fn schedules(choices: &Choices) -> ssprop::Result<Panel> {
    let target = choices.target;
    let curves = |span| {
        [
            Schedule::linear(target, span),
            Schedule::cosine(target, span),
            Schedule::bar(target, span),
        ]
    };
    let points = |first: usize, schedules: &[Schedule]| -> Vec<Point> {
        let point = |(i, &schedule)| Point {
            x: (first + i) as f64,
            way: Way::paper(schedule),
        };
        schedules.iter().enumerate().map(point).collect()
    };
    let [linear, cosine, bar] = curves(Span::epochs(choices.epochs)?);
    let constant = Schedule::constant(target);
    let by_epoch = [constant, linear, cosine, bar, Schedule::alternating(target)];
    Ok(Panel {
        letter: 'd',
        title: "Schedule",
        axis: Axis::Choices(SCHEDULES),
        series: vec![
            Series {
                name: "by epoch",
                points: points(0, &by_epoch),
            },
            Series {
                name: "by iteration",
                points: points(1, &curves(Span::iterations(choices.period)?)),
            },
        ],
    })
}

/// Each way once: first dense, then in the order of the panels.
pub fn distinct_ways(panels: &[Panel]) -> Vec<Way> {
    let mut ways = vec![Way::paper(Schedule::DENSE)];
    for point in panels
        .iter()
        .flat_map(|p| &p.series)
        .flat_map(|s| &s.points)
    {
        if !ways.contains(&point.way) {
            ways.push(point.way);
        }
    }
    ways
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn choices() -> Choices {
        let rate = |r| DropRate::new(r).unwrap();
        Choices {
            drop_rates: vec![rate(0.5), rate(0.8)],
            interleaved: false,
            rescale: false,
            target: rate(0.8),
            epochs: 4,
            period: 10,
        }
    }

    #[test]
    fn each_series_varies_one_thing() {
        let panels = panels(&choices()).unwrap();
        let way = |panel: usize, series: usize| panels[panel].series[series].points[1].way;
        let paper = Way::paper(Schedule::constant(DropRate::new(0.8).unwrap()));
        for (panel, at) in panels.iter().zip([1, 1, 1, 0]) {
            assert_eq!(panel.series[0].points[at].way, paper, "{}", panel.letter);
        }
        let random = Selection::Random {
            seed: 0,
            rescale: false,
        };
        let expected = Way {
            selection: random,
            ..paper
        };
        assert_eq!(way(0, 1), expected);
        let masked = |masking| Way { masking, ..paper };
        assert_eq!(way(1, 1), masked(Masking::Positions));
        assert_eq!(way(1, 2), masked(Masking::Elements));
        assert!(way(2, 1).only_weight_sparse && way(2, 1).schedule == paper.schedule);
        let texts = |i: usize| -> Vec<String> {
            let points = panels[3].series[i].points.iter();
            points.map(|p| p.way.schedule.to_string()).collect()
        };
        assert_eq!(texts(0)[1], "linear,drop=0.8,epochs=4");
        assert_eq!(texts(0)[4], "constant,drop=0.8,interleave");
        assert_eq!(texts(1)[2], "bar,drop=0.8,period=10");
        // By iteration stands above its namesake by epoch.
        assert_eq!(panels[3].series[1].points[0].x, 1.0);
    }

    #[test]
    fn what_two_panels_have_in_common_is_trained_once() {
        let panels = panels(&choices()).unwrap();
        // Dense; two rates of: top-k, random, positions, elements, only dW; seven schedules
        // and the alternating one, less the constant.
        assert_eq!(distinct_ways(&panels).len(), 1 + 2 * 5 + 7);
    }

    #[test]
    fn a_random_selection_gets_the_seed_of_the_run() {
        let mut way = Way::paper(Schedule::DENSE);
        way.selection = Selection::Random {
            seed: 0,
            rescale: true,
        };
        way.masking = Masking::Elements;
        let mut backward = Backward::default();
        way.set(&mut backward, 7);
        let expected = Selection::Random {
            seed: 7,
            rescale: true,
        };
        assert_eq!(backward.selection, expected);
        assert_eq!(backward.masking, Masking::Elements);
    }
}
