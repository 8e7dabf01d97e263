//! Learning rates that change in the course of a run.

use std::f64::consts::PI;
use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// A factor of the learning rate for each epoch and iteration: constant unless told otherwise.
///
/// Each is PyTorch's schedule of the same name, stepped after every iteration (a step schedule after
/// every epoch).
///
/// ```
/// use ssprop::optim::LrSchedule;
///
/// // Up from a tenth in the first epoch, down to 0 along half a cosine in the other nine.
/// let cosine = LrSchedule::cosine(10)?.warm_up(1, 0.1)?;
/// assert_eq!(cosine.factor(0, 0, 100), 0.1);
/// assert_eq!(cosine.factor(1, 0, 100), 1.0);
/// assert!((cosine.factor(5, 50, 100) - 0.5).abs() < 1e-12);
///
/// // A text for flags, and back.
/// assert_eq!(cosine.to_string(), "cosine,epochs=10,warmup=1,from=0.1");
/// assert_eq!("step,every=30,by=0.1".parse::<LrSchedule>()?, LrSchedule::step(30, 0.1)?);
/// # Ok::<(), ssprop::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LrSchedule {
    curve: Curve,
    warm_up: u64,
    from: f64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Curve {
    #[default]
    Constant,
    Step {
        every: u64,
        by: f64,
    },
    Cosine {
        epochs: u64,
    },
    OneCycle {
        epochs: u64,
    },
}

/// One cycle begins at a 25th, and ends at a 10,000th of that (PyTorch's defaults).
const ONE_CYCLE: [f64; 2] = [1.0 / 25.0, 1e-4 / 25.0];
/// The share of one cycle in which the rate grows.
const GROWTH: f64 = 0.3;

fn checked(name: &'static str, epochs: u64) -> Result<u64> {
    match epochs {
        0 => Err(Error::parameter(name, epochs, "at least 1")),
        epochs => Ok(epochs),
    }
}

/// From `start` to `end` along half a cosine, of which a share is done.
fn anneal(start: f64, end: f64, share: f64) -> f64 {
    end + (start - end) / 2.0 * (1.0 + (PI * share).cos())
}

impl LrSchedule {
    const fn new(curve: Curve) -> Self {
        Self {
            curve,
            warm_up: 0,
            from: 0.0,
        }
    }

    /// The same rate throughout.
    pub const fn constant() -> Self {
        Self::new(Curve::Constant)
    }

    /// Multiplied by `by` after every `every` epochs (`StepLR`).
    ///
    /// # Errors
    /// [`Error::Parameter`] if `every` is 0, or `by` is negative or not finite.
    pub fn step(every: u64, by: f64) -> Result<Self> {
        if !(by.is_finite() && by >= 0.0) {
            return Err(Error::parameter("by", by, "finite and at least 0"));
        }
        let every = checked("every", every)?;
        Ok(Self::new(Curve::Step { every, by }))
    }

    /// Along half a cosine to 0 at the end of `epochs` epochs (`CosineAnnealingLR`), the warm-up's among
    /// them; 0 after that.
    ///
    /// # Errors
    /// [`Error::Parameter`] for 0 epochs.
    pub fn cosine(epochs: u64) -> Result<Self> {
        let epochs = checked("epochs", epochs)?;
        Ok(Self::new(Curve::Cosine { epochs }))
    }

    /// In 30% of `epochs` epochs from a 25th up to the rate itself, then down to nearly 0, each along half
    /// a cosine (`OneCycleLR`).
    ///
    /// # Errors
    /// [`Error::Parameter`] for 0 epochs.
    pub fn one_cycle(epochs: u64) -> Result<Self> {
        let epochs = checked("epochs", epochs)?;
        Ok(Self::new(Curve::OneCycle { epochs }))
    }

    /// The same with `epochs` before it in which the factor grows from `from` to 1 in equal steps
    /// (`LinearLR`).
    ///
    /// # Errors
    /// [`Error::Parameter`] if `from` is not in 0..=1, or a cosine or one cycle has not more epochs.
    pub fn warm_up(self, epochs: u64, from: f64) -> Result<Self> {
        if !(0.0..=1.0).contains(&from) {
            return Err(Error::parameter("from", from, "in 0..=1"));
        }
        match self.curve {
            Curve::Cosine { epochs: all } | Curve::OneCycle { epochs: all } if all <= epochs => {
                let range = "less than the epochs of the schedule";
                Err(Error::parameter("warmup", epochs, range))
            }
            _ => Ok(Self {
                warm_up: epochs,
                from: if epochs == 0 { 0.0 } else { from },
                ..self
            }),
        }
    }

    /// The factor in an iteration of an epoch, both counted from 0, where epochs have `per_epoch`
    /// iterations.
    pub fn factor(&self, epoch: u64, iteration: u64, per_epoch: u64) -> f64 {
        let per_epoch = per_epoch.max(1);
        let at = |epochs: u64| epochs as f64 * per_epoch as f64;
        let done = at(epoch) + iteration as f64;
        let warm_up = at(self.warm_up);
        if done < warm_up {
            return self.from + (1.0 - self.from) * done / warm_up;
        }
        let done = done - warm_up;
        let of = |epochs: u64| at(epochs) - warm_up;
        match self.curve {
            Curve::Constant => 1.0,
            Curve::Step { every, by } => {
                let times = epoch.saturating_sub(self.warm_up) / every;
                by.powi(times.min(i32::MAX as u64) as i32)
            }
            Curve::Cosine { epochs } => anneal(1.0, 0.0, (done / of(epochs)).min(1.0)),
            Curve::OneCycle { epochs } => {
                let [start, end] = ONE_CYCLE;
                let last = of(epochs) - 1.0;
                let top = (GROWTH * of(epochs) - 1.0).max(0.0);
                match done <= top && top > 0.0 {
                    true => anneal(start, 1.0, done / top),
                    false => anneal(1.0, end, ((done - top) / (last - top).max(1.0)).min(1.0)),
                }
            }
        }
    }
}

impl fmt::Display for LrSchedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.curve {
            Curve::Constant => write!(f, "constant")?,
            Curve::Step { every, by } => write!(f, "step,every={every},by={by}")?,
            Curve::Cosine { epochs } => write!(f, "cosine,epochs={epochs}")?,
            Curve::OneCycle { epochs } => write!(f, "one-cycle,epochs={epochs}")?,
        }
        match self.warm_up {
            0 => Ok(()),
            epochs => write!(f, ",warmup={epochs},from={}", self.from),
        }
    }
}

impl FromStr for LrSchedule {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        const RANGE: &str =
            "constant, \"step,every=EPOCHS,by=FACTOR\", \"cosine,epochs=EPOCHS\" or \
             \"one-cycle,epochs=EPOCHS\", each also with \",warmup=EPOCHS,from=FACTOR\"";
        let wrong = || Error::parameter("learning rate schedule", text, RANGE);
        let mut parts = text.split(',').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let [mut every, mut by, mut epochs, mut warm_up, mut from] = [None; 5];
        for part in parts {
            let (key, value) = part.split_once('=').ok_or_else(wrong)?;
            let place = match key {
                "every" => &mut every,
                "by" => &mut by,
                "epochs" => &mut epochs,
                "warmup" => &mut warm_up,
                "from" => &mut from,
                _ => return Err(wrong()),
            };
            let number: f64 = value.parse().map_err(|_| wrong())?;
            if place.replace(number).is_some() {
                return Err(wrong());
            }
        }
        let whole = |number: f64| match number.fract() == 0.0 && (0.0..1e15).contains(&number) {
            true => Ok(number as u64),
            false => Err(wrong()),
        };
        let schedule = match (name, every, by, epochs) {
            ("constant", None, None, None) => Self::constant(),
            ("step", Some(every), Some(by), None) => Self::step(whole(every)?, by)?,
            ("cosine", None, None, Some(epochs)) => Self::cosine(whole(epochs)?)?,
            ("one-cycle", None, None, Some(epochs)) => Self::one_cycle(whole(epochs)?)?,
            _ => return Err(wrong()),
        };
        match (warm_up, from) {
            (None, None) => Ok(schedule),
            (Some(epochs), from) => schedule.warm_up(whole(epochs)?, from.unwrap_or(0.0)),
            (None, Some(_)) => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What PyTorch 2.15 gives for a rate of 0.1 over 20 steps: StepLR(4, 0.3),
    /// OneCycleLR(0.1, total_steps=20), and
    /// SequentialLR([LinearLR(0.2, total_iters=5), CosineAnnealingLR(15)], [5]).
    const PYTORCH: [[f64; 20]; 3] = [
        [
            0.1, 0.1, 0.1, 0.1, 0.03, 0.03, 0.03, 0.03, 0.009, 0.009, 0.009, 0.009, 0.0027, 0.0027,
            0.0027, 0.0027, 0.00081, 0.00081, 0.00081, 0.00081,
        ],
        [
            0.004,
            0.01316718427,
            0.03716718427,
            0.06683281573,
            0.09083281573,
            0.1,
            0.098746400624,
            0.095048463201,
            0.089091617757,
            0.081174565395,
            0.071694300179,
            0.061126202194,
            0.0500002,
            0.038874197806,
            0.028306099821,
            0.018825834605,
            0.010908782243,
            0.004951936799,
            0.001253999376,
            4e-7,
        ],
        [
            0.02,
            0.036,
            0.052,
            0.068,
            0.084,
            0.1,
            0.098907380037,
            0.095677272882,
            0.090450849719,
            0.083456530318,
            0.075,
            0.065450849719,
            0.055226423163,
            0.044773576837,
            0.034549150281,
            0.025,
            0.016543469682,
            0.009549150281,
            0.004322727118,
            0.001092619963,
        ],
    ];

    #[test]
    fn rates_are_pytorchs() {
        let schedules = [
            (LrSchedule::step(1, 0.3).unwrap(), 4),
            (LrSchedule::one_cycle(4).unwrap(), 5),
            (LrSchedule::cosine(4).unwrap().warm_up(1, 0.2).unwrap(), 5),
        ];
        for ((schedule, per_epoch), expected) in schedules.into_iter().zip(PYTORCH) {
            for (step, expected) in expected.into_iter().enumerate() {
                let step = step as u64;
                let factor = schedule.factor(step / per_epoch, step % per_epoch, per_epoch);
                let rate = 0.1 * factor;
                assert!(
                    (rate - expected).abs() < 1e-11,
                    "{schedule} {step}: {rate} {expected}"
                );
            }
        }
        assert_eq!(LrSchedule::constant().factor(7, 3, 10), 1.0);
        // After the end.
        assert_eq!(LrSchedule::cosine(2).unwrap().factor(5, 0, 10), 0.0);
    }

    #[test]
    fn texts_are_read_back_and_others_are_refused() {
        for text in [
            "constant",
            "constant,warmup=3,from=0.5",
            "step,every=30,by=0.1",
            "cosine,epochs=90,warmup=5,from=0",
            "one-cycle,epochs=12",
        ] {
            assert_eq!(text.parse::<LrSchedule>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "zigzag",
            "step,every=0,by=0.1",
            "step,every=3",
            "step,every=3,by=-1",
            "step,every=2.5,by=0.1",
            "cosine",
            "cosine,epochs=3,epochs=4",
            "cosine,epochs=3,warmup=3",
            "cosine,epochs=-3",
            "cosine,epochs=1e30",
            "cosine,epochs=3,from=0.5",
            "cosine,epochs=3,warmup=1,from=2",
            "cosine,epochs=3,warmup=1,from=nan",
        ] {
            let err = text.parse::<LrSchedule>().unwrap_err().to_string();
            assert!(err.contains(" = "), "{text}: {err}");
        }
    }
}
