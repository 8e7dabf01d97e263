//! Plans as texts: `paper; layer1=dense; @stem=dense`.

use std::fmt;
use std::str::FromStr;

use super::{LayerSelector, SchedulePlan};
use crate::error::{Error, Result};

/// The default [`Schedule`](crate::sparsity::Schedule), then `; LAYERS=SCHEDULE` for each override. What it writes,
/// [`FromStr`] reads back, unless a predicate is among the overrides.
impl fmt::Display for SchedulePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.default)?;
        let mut overrides = self.overrides.iter();
        overrides.try_for_each(|(layers, schedule)| write!(f, "; {layers}={schedule}"))
    }
}

/// Reads what [`Display`](fmt::Display) writes.
///
/// # Errors
/// [`Error::Parameter`] as for schedules, and for an override that is not `LAYERS=SCHEDULE`.
impl FromStr for SchedulePlan {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut parts = text.split(';').map(str::trim);
        let mut plan = Self::new(parts.next().unwrap_or_default().parse()?);
        for part in parts {
            let Some((layers, schedule)) = part.split_once('=') else {
                return Err(Error::parameter(
                    "schedule of some layers",
                    format_args!("{part:?}"),
                    "LAYERS=SCHEDULE",
                ));
            };
            plan = plan.with(
                LayerSelector::parse(layers.trim())?,
                schedule.trim().parse()?,
            );
        }
        Ok(plan)
    }
}
