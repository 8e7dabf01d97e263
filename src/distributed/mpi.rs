//! Messages over MPI.

mod calls;
#[cfg(test)]
mod tests;

use std::ffi::c_int;
use std::mem::ManuallyDrop;
use std::thread::sleep;
use std::time::Duration;

use super::transport::{Kind, Payload, Tag, Transport};
use crate::error::{Error, Result};
use crate::threads::launched;
use calls::{Called, Found, Request, World};

/// Kinds of messages that a tag of MPI's has room for.
const KINDS: u32 = 8;

impl Kind {
    const ALL: [Self; 6] = [
        Self::Part,
        Self::Total,
        Self::Gather,
        Self::Question,
        Self::Answer,
        Self::Failure,
    ];

    /// Whether its messages are floats.
    fn is_floats(self) -> bool {
        matches!(self, Self::Part | Self::Total)
    }
}

/// All ranks of a program that MPI's launcher has started.
pub(super) struct Mpi {
    world: World,
    rank: usize,
    size: usize,
    /// What is under way and what nobody has taken yet, in the order that it began.
    transfers: Vec<Transfer>,
    /// Their requests, one each; null for what has ended.
    requests: Vec<Request>,
}

/// A message on its way.
struct Transfer {
    /// Who it comes from; `None` if it goes.
    from: Option<usize>,
    tag: Tag,
    /// MPI has the elements' address until the request ends. Dropped before, they are leaked.
    payload: ManuallyDrop<Payload>,
    has_ended: bool,
}

impl Mpi {
    /// Starts MPI, which this thread alone may call from then on.
    ///
    /// # Errors
    /// [`Error::Distributed`] if it cannot be started, or has been before.
    pub(super) fn start() -> Result<Self> {
        let number = (Tag::NUMBERS - 1) as c_int;
        let started = World::start(number * KINDS as c_int + KINDS as c_int - 1);
        let placed = started.and_then(|world| Ok((world.place()?, world)));
        let ([rank, size], world) = placed.map_err(|message| {
            let rank = launched().map_or(0, |launched| launched.rank);
            Error::Distributed { rank, message }
        })?;
        Ok(Self {
            world,
            rank,
            size,
            transfers: Vec::new(),
            requests: Vec::new(),
        })
    }

    fn failed(&self, message: String) -> Error {
        let rank = self.rank;
        Error::Distributed { rank, message }
    }

    /// Begins to receive a message.
    fn accept(&mut self, found: Found) -> Called<()> {
        let (from, tag) = (found.from(), found.tag());
        let tag = from_mpi(tag).ok_or_else(|| format!("rank {from} has sent tag {tag}"))?;
        let floats = tag.kind.is_floats();
        let len = found.count(floats)?;
        let mut payload = ManuallyDrop::new(match floats {
            true => Payload::Floats(vec![0.0; len]),
            false => Payload::Bytes(vec![0; len]),
        });
        // SAFETY: it has the message's length, and is left alone until the request ends.
        let request = unsafe { self.world.receive(found, &mut payload)? };
        self.requests.push(request);
        self.transfers.push(Transfer {
            from: Some(from as usize),
            tag,
            payload,
            has_ended: false,
        });
        Ok(())
    }

    /// Accepts what has come, goes on with what is under way, forgets what has been sent.
    fn go_on(&mut self) -> Called<()> {
        while let Some(found) = self.world.find()? {
            self.accept(found)?;
        }
        let ended = self.world.go_on(&mut self.requests)?;
        let (mut sent, mut done) = (false, Ok(()));
        for (i, how) in ended {
            let transfer = &mut self.transfers[i];
            transfer.has_ended = true;
            sent |= transfer.from.is_none();
            done = done.and(match transfer.from {
                Some(from) => how.map_err(|e| format!("message from rank {from}: {e}")),
                None => how,
            });
        }
        done?;
        if sent {
            for i in (0..self.transfers.len()).rev() {
                if self.transfers[i].has_ended && self.transfers[i].from.is_none() {
                    drop(self.take(i));
                }
            }
        }
        Ok(())
    }

    /// A transfer that has ended.
    fn take(&mut self, i: usize) -> (Option<usize>, Tag, Payload) {
        debug_assert!(self.transfers[i].has_ended);
        self.requests.remove(i);
        let Transfer {
            from, tag, payload, ..
        } = self.transfers.remove(i);
        (from, tag, ManuallyDrop::into_inner(payload))
    }
}

impl Transport for Mpi {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn send(&mut self, to: usize, tag: Tag, payload: Payload) -> Result<()> {
        let floats = matches!(payload, Payload::Floats(_));
        debug_assert_eq!(floats, tag.kind.is_floats());
        let payload = ManuallyDrop::new(payload);
        // SAFETY: the payload's elements are left alone until the request ends.
        let request = unsafe { self.world.send(to, to_mpi(tag), &payload) };
        let request = request.map_err(|e| self.failed(format!("message to rank {to}: {e}")))?;
        self.requests.push(request);
        self.transfers.push(Transfer {
            from: None,
            tag,
            payload,
            has_ended: false,
        });
        Ok(())
    }

    fn receive(&mut self) -> Result<Option<(usize, Tag, Payload)>> {
        self.go_on().map_err(|e| self.failed(e))?;
        // A short message ends before a long one that began earlier; it is not told before it.
        let of = |transfer: &Transfer| (transfer.from, transfer.tag);
        let next = (0..self.transfers.len()).find(|&i| {
            let (earlier, this) = (&self.transfers[..i], &self.transfers[i]);
            this.has_ended && earlier.iter().all(|other| of(other) != of(this))
        });
        Ok(next.and_then(|i| match self.take(i) {
            (Some(from), tag, payload) => Some((from, tag, payload)),
            (None, ..) => None,
        }))
    }

    fn is_sent(&self) -> bool {
        self.transfers
            .iter()
            .all(|transfer| transfer.from.is_some())
    }

    fn ends_together(&self) -> bool {
        true
    }

    fn close(mut self: Box<Self>) {
        // MPI must not end with anything under way.
        while self.transfers.iter().any(|transfer| !transfer.has_ended) {
            if self.go_on().is_err() {
                return;
            }
            sleep(Duration::from_micros(50));
        }
        self.world.finalize();
    }
}

fn to_mpi(tag: Tag) -> c_int {
    let kind = Kind::ALL.iter().position(|&kind| kind == tag.kind);
    (tag.number * KINDS) as c_int + kind.map_or(0, |kind| kind as c_int)
}

fn from_mpi(tag: c_int) -> Option<Tag> {
    let tag = u32::try_from(tag).ok()?;
    let kind = *Kind::ALL.get((tag % KINDS) as usize)?;
    let number = tag / KINDS;
    Some(Tag { kind, number })
}
