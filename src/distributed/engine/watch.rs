//! What becomes of a rank that ends, hangs or is busy: those that wait for it learn of it.

use std::fmt::Write;
use std::time::{Duration, Instant};

use super::{Engine, LATE};
use crate::distributed::transport::{Kind, Payload, Tag};

/// A rank that answers may take so many times longer than one that does not.
const BUSY: u32 = 10;

/// A question to all ranks whether they are there.
pub(super) struct Inquiry {
    asked: Instant,
    /// How long each has been busy since it was last asked for something by its program.
    pub(super) answers: Vec<Option<Duration>>,
}

impl Engine {
    /// The ranks that something waits for.
    fn missing(&self) -> Vec<usize> {
        let rank = self.transport.rank();
        let gathers = self.gathers.iter().flat_map(|gather| {
            let found = gather.found.iter().enumerate();
            found.filter(|(_, found)| found.is_none()).map(|(i, _)| i)
        });
        let sums = self.sums.iter().flat_map(|s| s.sum.missing(rank));
        let mut missing: Vec<usize> = gathers.chain(sums).collect();
        missing.sort_unstable();
        missing.dedup();
        missing
    }

    /// Fails if a rank that something waits for has ended, or has long been silent.
    pub(super) fn watch(&mut self) {
        let begun = self.gathers.iter().map(|gather| gather.begun);
        let begun = begun.chain(self.sums.iter().map(|s| s.begun)).min();
        let Some(begun) = begun else {
            self.inquiry = None;
            return;
        };
        let gone: Vec<_> = (self.ended.iter().enumerate())
            .filter_map(|(rank, ended)| ended.as_ref().map(|(at, why)| (rank, *at, why.clone())))
            .collect();
        for (rank, at, why) in gone {
            if at.elapsed() >= LATE && self.missing().contains(&rank) {
                let why = if why.is_empty() {
                    "the program ended"
                } else {
                    &why
                };
                return self.fail(format!("{} has ended: {why}", self.name(rank)));
            }
        }
        self.inquire(begun, self.timeout * BUSY);
    }

    /// Asks the ranks whether they are there, if nothing has come for too long of what has been waited for
    /// since `begun`, and fails if one does not answer, or if the waiting has gone on for `patience`.
    pub(super) fn inquire(&mut self, begun: Instant, patience: Duration) {
        let since = begun.max(self.last_message);
        match &self.inquiry {
            None if since.elapsed() >= self.timeout => self.ask(),
            None => {}
            Some(inquiry)
                if inquiry.asked.elapsed() < self.timeout.min(Duration::from_secs(10)) => {}
            Some(_) => self.judge(begun, patience),
        }
    }

    fn ask(&mut self) {
        let tag = Tag {
            kind: Kind::Question,
            number: 0,
        };
        let answers = self.ended.iter().map(|_| None).collect();
        let asked = Instant::now();
        self.inquiry = Some(Inquiry { asked, answers });
        for to in self.others() {
            let sent = self.send(to, tag, Payload::Bytes(Vec::new()));
            self.fail_on(sent);
        }
    }

    /// What the answers mean for what has been waited for since `begun`.
    fn judge(&mut self, begun: Instant, patience: Duration) {
        let Some(inquiry) = self.inquiry.take() else {
            return;
        };
        let silent = self
            .others()
            .filter(|&rank| inquiry.answers[rank].is_none());
        let silent: Vec<String> = silent.map(|rank| self.name(rank)).collect();
        let waited = begun.elapsed().as_secs();
        if !silent.is_empty() {
            return self.fail(format!(
                "no answer from {} for {waited} s",
                silent.join(", ")
            ));
        }
        if begun.elapsed() < patience {
            return self.ask();
        }
        let mut busy = String::new();
        for rank in self.missing() {
            let time = inquiry.answers[rank].unwrap_or_default().as_secs();
            let comma = if busy.is_empty() { "" } else { ", " };
            let _ = write!(busy, "{comma}{} (busy for {time} s)", self.name(rank));
        }
        self.fail(format!("waited {waited} s for {busy}"));
    }

    fn name(&self, rank: usize) -> String {
        match self.places.get().and_then(|places| places.get(rank)) {
            Some(place) => format!("rank {rank} ({place})"),
            None => format!("rank {rank}"),
        }
    }
}
