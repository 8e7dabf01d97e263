//! A sum over all ranks, of many values.
//!
//! Each rank adds one part of the values and tells the others the result, so that every value crosses
//! the wire twice, whatever the number of ranks, and all ranks have the same bits. The terms are added in
//! the order of the ranks, whichever comes first: the bits are the same from run to run.

use std::ops::Range;

use super::transport::{Kind, Payload, Tag, Transport};
use crate::error::Result;

/// The part of `len` values that a rank adds.
fn part(len: usize, rank: usize, size: usize) -> Range<usize> {
    len * rank / size..len * (rank + 1) / size
}

/// A sum that is under way.
pub(super) struct Sum {
    pub(super) number: u32,
    pub(super) values: Vec<f32>,
    /// This rank's part, of each rank that has sent it.
    parts: Vec<Option<Vec<f32>>>,
    /// Whose totals have come.
    totals: Vec<bool>,
}

impl Sum {
    /// Sends the parts of `values` to the ranks that add them.
    pub(super) fn begin(
        number: u32,
        values: Vec<f32>,
        transport: &mut dyn Transport,
    ) -> Result<Self> {
        let (rank, size) = (transport.rank(), transport.size());
        let kind = Kind::Part;
        for to in (0..size).filter(|&to| to != rank) {
            let values = values[part(values.len(), to, size)].to_vec();
            transport.send(to, Tag { kind, number }, Payload::Floats(values))?;
        }
        Ok(Self {
            number,
            values,
            parts: (0..size).map(|_| None).collect(),
            totals: (0..size).map(|_| false).collect(),
        })
    }

    /// Takes a message that belongs to it. What is not as long as it should be is reported.
    pub(super) fn take(
        &mut self,
        from: usize,
        kind: Kind,
        values: Vec<f32>,
        transport: &mut dyn Transport,
    ) -> Result<Option<String>> {
        let (rank, size) = (transport.rank(), transport.size());
        let whose = if kind == Kind::Part { rank } else { from };
        let range = part(self.values.len(), whose, size);
        if values.len() != range.len() {
            return Ok(Some(format!(
                "rank {from} exchanges {} values where this one has {}: it trains another network, or \
                 is at another step",
                values.len(),
                range.len(),
            )));
        }
        if kind == Kind::Total {
            self.values[range].copy_from_slice(&values);
            self.totals[from] = true;
            return Ok(None);
        }
        self.parts[from] = Some(values);
        if (0..size).any(|other| other != rank && self.parts[other].is_none()) {
            return Ok(None);
        }
        self.add(rank, range.clone());
        let kind = Kind::Total;
        let number = self.number;
        for to in (0..size).filter(|&to| to != rank) {
            let total = self.values[range.clone()].to_vec();
            transport.send(to, Tag { kind, number }, Payload::Floats(total))?;
        }
        self.totals[rank] = true;
        Ok(None)
    }

    /// Adds the parts, in the order of the ranks.
    fn add(&mut self, rank: usize, range: Range<usize>) {
        let own = self.values[range.clone()].to_vec();
        self.parts[rank] = Some(own);
        let mut parts = self.parts.iter_mut().filter_map(Option::take);
        let Some(mut total) = parts.next() else {
            return;
        };
        for part in parts {
            for (total, term) in total.iter_mut().zip(part) {
                *total += term;
            }
        }
        self.values[range].copy_from_slice(&total);
    }

    /// Whether all values are sums.
    pub(super) fn is_done(&self) -> bool {
        self.totals.iter().all(|&done| done)
    }

    /// The ranks that it waits for.
    pub(super) fn missing(&self, rank: usize) -> impl Iterator<Item = usize> + '_ {
        let added = self.totals[rank];
        (0..self.totals.len()).filter(move |&other| {
            other != rank && (!self.totals[other] || (!added && self.parts[other].is_none()))
        })
    }
}
