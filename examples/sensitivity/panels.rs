//! What is trained for each panel.

use ssprop::ops::SparseBackward;
use ssprop::prelude::*;

/// One way to train; two panels that have the same one share its runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Way {
    pub schedule: Schedule,
    pub selection: Selection,
    pub masking: Masking,
    /// Whether Adam leaves what has no gradient alone.
    pub lazy: bool,
}

impl Way {
    /// The paper's method under a schedule: the best channels.
    pub fn paper(schedule: Schedule) -> Self {
        Self {
            schedule,
            selection: Selection::TopK,
            masking: Masking::Channels,
            lazy: false,
        }
    }

    /// A layer's options; a random selection gets the run's seed.
    pub fn set(&self, backward: &mut SparseBackward, seed: u64) {
        backward.selection = match self.selection {
            Selection::Random { rescale, .. } => Selection::Random { seed, rescale },
            other => other,
        };
        backward.masking = self.masking;
    }
}

/// A point of a series: its drop rate, and how it is trained. Where there are several ways, it stands for
/// the runs of all.
#[derive(Clone, Debug)]
pub struct Point {
    pub rate: f64,
    pub ways: Vec<Way>,
}

#[derive(Clone, Debug)]
pub struct Series {
    pub name: &'static str,
    pub points: Vec<Point>,
}

#[derive(Clone, Debug)]
pub struct Panel {
    pub letter: char,
    pub title: &'static str,
    /// What x is.
    pub axis: &'static str,
    pub series: Vec<Series>,
    /// Whether each way is trained with one seed.
    pub once: bool,
}

impl Panel {
    fn ways(&self) -> impl Iterator<Item = &Way> {
        let points = self.series.iter().flat_map(|series| &series.points);
        points.flat_map(|point| &point.ways)
    }
}

/// What the panels vary.
#[derive(Clone, Debug)]
pub struct Choices {
    /// Drop rates, in all panels.
    pub drop_rates: Vec<DropRate>,
    /// Whether every second epoch is dense in panels a and b.
    pub interleaved: bool,
    /// Whether random selections rescale.
    pub rescale: bool,
    pub epochs: u64,
    /// Iterations in the periods of panel d.
    pub periods: Vec<u64>,
    /// Whether there is panel e.
    pub rules: bool,
}

impl Choices {
    fn series(
        &self,
        name: &'static str,
        ways: impl Fn(DropRate) -> ssprop::Result<Vec<Way>>,
    ) -> ssprop::Result<Series> {
        let point = |&rate: &DropRate| {
            Ok(Point {
                rate: rate.rate(),
                ways: ways(rate)?,
            })
        };
        let points = self
            .drop_rates
            .iter()
            .map(point)
            .collect::<ssprop::Result<_>>()?;
        Ok(Series { name, points })
    }

    /// Constant, or every second epoch, at each drop rate.
    fn constant(&self, name: &'static str, change: impl Fn(&mut Way)) -> ssprop::Result<Series> {
        self.series(name, |rate| {
            let schedule = match self.interleaved {
                true => Schedule::alternating(rate),
                false => Schedule::constant(rate),
            };
            let mut way = Way::paper(schedule);
            change(&mut way);
            Ok(vec![way])
        })
    }

    fn scheduled(
        &self,
        name: &'static str,
        schedule: impl Fn(DropRate) -> ssprop::Result<Schedule>,
    ) -> ssprop::Result<Series> {
        self.series(name, |rate| Ok(vec![Way::paper(schedule(rate)?)]))
    }

    /// A curve again and again, with each of the periods.
    fn periodic(
        &self,
        name: &'static str,
        curve: fn(DropRate, Span) -> Schedule,
    ) -> ssprop::Result<Series> {
        self.series(name, |rate| {
            let way = |&n| Ok(Way::paper(curve(rate, Span::iterations(n)?)));
            self.periods.iter().map(way).collect()
        })
    }
}

/// The four panels, as in the paper, and one of rules that it has not.
pub fn panels(choices: &Choices) -> ssprop::Result<Vec<Panel>> {
    let random = Selection::Random {
        seed: 0,
        rescale: choices.rescale,
    };
    let masking = |masking| move |way: &mut Way| way.masking = masking;
    let whole = Span::epochs(choices.epochs)?;
    let panel = |letter, title, axis, series| Panel {
        letter,
        title,
        axis,
        series,
        once: letter == 'd',
    };
    let rotation = Selection::Rotation {
        rescale: choices.rescale,
    };
    let mut panels = vec![
        panel(
            'a',
            "Sparsified dimensions",
            "drop rate",
            vec![
                choices.constant("channel", masking(Masking::Channels))?,
                choices.constant("height x width", masking(Masking::Positions))?,
                choices.constant("all", masking(Masking::Elements))?,
            ],
        ),
        panel(
            'b',
            "Gradients selection",
            "drop rate",
            vec![
                choices.constant("top-k", |_| ())?,
                choices.constant("random", |way| way.selection = random)?,
            ],
        ),
        panel(
            'c',
            "Schedulers over the run",
            "target drop rate",
            vec![
                choices.scheduled("constant", |rate| Ok(Schedule::constant(rate)))?,
                choices.scheduled("linear", |rate| Ok(Schedule::linear(rate, whole)))?,
                choices.scheduled("cosine", |rate| Ok(Schedule::cosine(rate, whole)))?,
                choices.scheduled("bar", |rate| Ok(Schedule::bar(rate, whole)))?,
            ],
        ),
        panel(
            'd',
            "Schedulers of short periods",
            "target drop rate",
            vec![
                choices.periodic("bar, short", Schedule::bar)?,
                choices.periodic("cosine, short", Schedule::cosine)?,
                choices.scheduled("bar, 2 epochs", |rate| Ok(Schedule::alternating(rate)))?,
            ],
        ),
    ];
    if choices.rules {
        let lazy = |selection| {
            move |way: &mut Way| {
                way.selection = selection;
                way.lazy = true;
            }
        };
        panels.push(panel(
            'e',
            "Other rules",
            "drop rate",
            vec![
                choices.constant("top-k, lazy", lazy(Selection::TopK))?,
                choices.constant("random, lazy", lazy(random))?,
                choices.constant("rotation", |way| way.selection = rotation)?,
                choices.constant("rotation, lazy", lazy(rotation))?,
            ],
        ));
    }
    Ok(panels)
}

/// Each way once, with the number of its seeds: first dense, then in the order of the panels.
pub fn distinct_ways(panels: &[Panel], seeds: usize) -> Vec<(Way, usize)> {
    let mut ways = vec![(Way::paper(Schedule::DENSE), seeds)];
    for panel in panels {
        for way in panel.ways() {
            if !ways.iter().any(|(known, _)| known == way) {
                ways.push((*way, if panel.once { 1 } else { seeds }));
            }
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
            epochs: 4,
            periods: vec![10, 20],
            rules: false,
        }
    }

    #[test]
    fn each_series_varies_one_thing() {
        let panels = panels(&choices()).unwrap();
        let ways = |panel: usize, series: usize| &panels[panel].series[series].points[1].ways;
        let paper = Way::paper(Schedule::constant(DropRate::new(0.8).unwrap()));
        for panel in &panels[..3] {
            assert_eq!(panel.series[0].points[1].ways, [paper], "{}", panel.letter);
        }
        let selection = Selection::Random {
            seed: 0,
            rescale: false,
        };
        assert_eq!(ways(1, 1)[..], [Way { selection, ..paper }]);
        let masked = |masking| [Way { masking, ..paper }];
        assert_eq!(ways(0, 1)[..], masked(Masking::Positions));
        assert_eq!(ways(0, 2)[..], masked(Masking::Elements));
        let texts = |panel, series| -> Vec<String> {
            let ways = ways(panel, series).iter();
            ways.map(|way| way.schedule.to_string()).collect()
        };
        assert_eq!(texts(2, 1), ["linear,drop=0.8,epochs=4"]);
        assert_eq!(texts(2, 3), ["bar,drop=0.8,epochs=4"]);
        assert_eq!(
            texts(3, 0),
            ["bar,drop=0.8,period=10", "bar,drop=0.8,period=20"]
        );
        assert_eq!(texts(3, 2), ["constant,drop=0.8,interleave"]);
    }

    #[test]
    fn what_two_panels_have_in_common_is_trained_once() {
        let panels = panels(&choices()).unwrap();
        let ways = distinct_ways(&panels, 3);
        // Dense; two rates of: channel, positions, all, random, three curves, and with one seed of
        // two curves with two periods and of two epochs.
        assert_eq!(ways.iter().filter(|way| way.1 == 3).count(), 1 + 2 * 7);
        assert_eq!(ways.iter().filter(|way| way.1 == 1).count(), 2 * 5);
        let mut more = choices();
        more.rules = true;
        let more = super::panels(&more).unwrap();
        assert_eq!(distinct_ways(&more, 3).len(), ways.len() + 2 * 4);
        assert!(more[4].ways().filter(|way| way.lazy).count() == 2 * 3);
    }

    #[test]
    fn a_random_selection_gets_the_seed_of_the_run() {
        let mut way = Way::paper(Schedule::DENSE);
        way.selection = Selection::Random {
            seed: 0,
            rescale: true,
        };
        way.masking = Masking::Elements;
        let mut backward = SparseBackward::default();
        way.set(&mut backward, 7);
        let expected = Selection::Random {
            seed: 7,
            rescale: true,
        };
        assert_eq!(backward.selection, expected);
        assert_eq!(backward.masking, Masking::Elements);
    }
}
