//! Ranks that are threads of one process.

use std::sync::mpsc::{channel, Receiver, Sender, TryRecvError};

use super::transport::{Payload, Tag, Transport};
use crate::error::Result;

type Letter = (usize, Tag, Payload);

/// A rank of a group within this process.
pub(super) struct Local {
    rank: usize,
    outboxes: Vec<Sender<Letter>>,
    inbox: Receiver<Letter>,
}

impl Local {
    /// As many ranks as asked for.
    pub(super) fn group(size: usize) -> Vec<Self> {
        let (outboxes, inboxes): (Vec<_>, Vec<_>) = (0..size).map(|_| channel()).unzip();
        let ranks = inboxes.into_iter().enumerate();
        ranks
            .map(|(rank, inbox)| Self {
                rank,
                outboxes: outboxes.clone(),
                inbox,
            })
            .collect()
    }
}

impl Transport for Local {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.outboxes.len()
    }

    fn send(&mut self, to: usize, tag: Tag, payload: Payload) -> Result<()> {
        if let Some(outbox) = self.outboxes.get(to) {
            // One that is gone is missed where something is expected of it.
            let _ = outbox.send((self.rank, tag, payload));
        }
        Ok(())
    }

    fn receive(&mut self) -> Result<Option<Letter>> {
        match self.inbox.try_recv() {
            Ok(letter) => Ok(Some(letter)),
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => Ok(None),
        }
    }

    fn is_sent(&self) -> bool {
        true
    }

    fn ends_together(&self) -> bool {
        false
    }

    fn close(self: Box<Self>) {}
}
