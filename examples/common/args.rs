//! Values of flags that are checked when they are read.

use ssprop::{prelude::DropRate, sparsity};

/// When the epochs are sparse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Schedule {
    /// Dense and sparse epochs in turn, the first dense
    Bar,
    /// Every epoch dense
    Dense,
    /// Every epoch sparse
    Constant,
}

impl Schedule {
    /// The schedule whose sparse epochs drop at the rate `sparse`.
    pub fn with(self, sparse: DropRate) -> sparsity::Schedule {
        match self {
            Self::Bar => sparsity::Schedule::alternating(sparse),
            Self::Dense => sparsity::Schedule::DENSE,
            Self::Constant => sparsity::Schedule::constant(sparse),
        }
    }
}

/// Whole numbers from 1.
pub fn count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if n > 0 => Ok(n),
        _ => Err("must be a whole number of at least 1".into()),
    }
}

/// Numbers of threads.
pub fn threads(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if (1..=1024).contains(&n) => Ok(n),
        _ => Err("must be a whole number in 1..=1024".into()),
    }
}

/// Learning rates.
pub fn lr(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(lr) if lr > 0.0 && lr.is_finite() => Ok(lr),
        _ => Err("must be a finite number greater than 0".into()),
    }
}

/// Drop rates.
pub fn drop_rate(text: &str) -> Result<DropRate, String> {
    let rate = text.parse().map_err(|_| "must be a number".to_string())?;
    DropRate::new(rate).map_err(|_| "must be at least 0 and less than 1".into())
}
