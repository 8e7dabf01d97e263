//! Schedules as short texts: `cosine,drop=0.8,period=100,interleave,warmup=2`.

use std::fmt;
use std::str::FromStr;

use super::{Curve, Schedule, Span};
use crate::error::{Error, Result};
use crate::sparsity::DropRate;

/// `dense`, or the curve's name and then, separated by commas, `drop=` the target, `start=` the start
/// (unless 0), `epochs=` or `period=` the span, `interleave` and `warmup=` its epochs. What it writes,
/// [`FromStr`] reads back to an equal schedule.
impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.curve {
            Curve::Constant if *self == Self::DENSE => return write!(f, "dense"),
            Curve::Constant => "constant",
            Curve::Linear(_) => "linear",
            Curve::Cosine(_) => "cosine",
            Curve::Bar(_) => "bar",
        };
        write!(f, "{name},drop={}", self.target.rate())?;
        if self.curve != Curve::Constant && !self.start.is_dense() {
            write!(f, ",start={}", self.start.rate())?;
        }
        match self.curve.span() {
            Some(Span::Epochs(total)) => write!(f, ",epochs={total}")?,
            Some(Span::Iterations(period)) => write!(f, ",period={period}")?,
            None => (),
        }
        if self.interleaved {
            write!(f, ",interleave")?;
        }
        if self.warm_up > 0 {
            write!(f, ",warmup={}", self.warm_up)?;
        }
        Ok(())
    }
}

/// Reads what [`Display`](fmt::Display) writes, in any order after the name, and `paper`.
///
/// # Errors
/// [`Error::Parameter`] for an unknown, repeated or missing part, and as the constructors for
/// values out of range.
impl FromStr for Schedule {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut parts = text.split(',').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let bad = |range| Error::parameter("schedule", format_args!("{text:?}"), range);

        let mut values = [None; VALUES.len()];
        let mut interleaved = false;
        for part in parts {
            if part == "interleave" && !interleaved {
                interleaved = true;
                continue;
            }
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            match VALUES.iter().position(|&known| known == key) {
                Some(i) if values[i].is_none() => values[i] = Some(value),
                _ => return Err(bad(PARTS)),
            }
        }
        let [drop, start, epochs, period, warm_up] = values;
        let fixed = matches!(name, "dense" | "paper");
        if fixed && (interleaved || values[..VALUES.len() - 1].iter().any(Option::is_some)) {
            return Err(bad("without other parts than warmup= after dense or paper"));
        }
        let span = match (epochs, period) {
            (Some(total), None) => Some(Span::epochs(whole("epochs", total)?)?),
            (None, Some(period)) => Some(Span::iterations(whole("period", period)?)?),
            (None, None) => None,
            (Some(_), Some(_)) => return Err(bad("with epochs= or period=, not both")),
        };
        let target = || rate(drop.ok_or_else(|| bad("with drop= its target drop rate"))?);
        let schedule = match (name, span) {
            ("dense", None) => Self::DENSE,
            ("paper", None) => Self::paper(),
            ("constant", None) if start.is_none() => Self::constant(target()?),
            ("linear", Some(span)) => Self::linear(target()?, span),
            ("cosine", Some(span)) => Self::cosine(target()?, span),
            ("bar", Some(span)) => Self::bar(target()?, span),
            ("constant", _) => return Err(bad("without start=, epochs= and period= if constant")),
            ("linear" | "cosine" | "bar", None) => return Err(bad("with epochs= or period=")),
            _ => return Err(bad("dense, paper, constant, linear, cosine or bar")),
        };
        let schedule = match start {
            Some(start) => schedule.starting_at(rate(start)?),
            None => schedule,
        };
        let schedule = match interleaved {
            true => schedule.interleaved(),
            false => schedule,
        };
        match warm_up {
            Some(epochs) => schedule.warm_up(whole("warmup", epochs)?),
            None => Ok(schedule),
        }
    }
}

const VALUES: [&str; 5] = ["drop", "start", "epochs", "period", "warmup"];
const PARTS: &str = "made of drop=, start=, epochs=, period=, warmup= and interleave, each once";

fn whole(name: &'static str, text: &str) -> Result<u64> {
    text.parse()
        .map_err(|_| Error::parameter(name, format_args!("{text:?}"), "a whole number"))
}

fn rate(text: &str) -> Result<DropRate> {
    match text.parse() {
        Ok(rate) => DropRate::new(rate),
        Err(_) => Err(Error::parameter(
            "drop rate",
            format_args!("{text:?}"),
            "a number",
        )),
    }
}
