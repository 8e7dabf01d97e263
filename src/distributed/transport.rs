//! What carries messages from rank to rank.

use crate::error::Result;

/// What a message is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Kind {
    /// A part of a sum, to the rank that adds it. Floats.
    Part,
    /// A part's sum, from that rank to the others. Floats.
    Total,
    /// What each rank tells all others. Bytes.
    Gather,
    /// What a rank that has waited for long asks the others. No bytes.
    Question,
    /// What they answer. Bytes.
    Answer,
    /// A rank ends with an error. Its text.
    Failure,
}

/// What a message is of, and the number of the operation that it belongs to, below [`Tag::NUMBERS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Tag {
    pub(super) kind: Kind,
    pub(super) number: u32,
}

impl Tag {
    /// Operations are counted modulo this number. So few are under way that no two of them meet.
    pub(super) const NUMBERS: u32 = 1 << 18;
}

/// A message's content.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Payload {
    Bytes(Vec<u8>),
    Floats(Vec<f32>),
}

/// Messages from rank to rank. One thread owns it and calls it often; nothing waits.
pub(super) trait Transport {
    /// This process's rank, below [`size`](Self::size).
    fn rank(&self) -> usize;

    /// The number of ranks.
    fn size(&self) -> usize;

    /// Begins to send. What is sent with the same tag to the same rank arrives in order.
    ///
    /// # Errors
    /// Those of what carries it.
    fn send(&mut self, to: usize, tag: Tag, payload: Payload) -> Result<()>;

    /// A message that has arrived whole, with the rank that it is from; goes on with what is under way.
    ///
    /// # Errors
    /// Those of what carries it.
    fn receive(&mut self) -> Result<Option<(usize, Tag, Payload)>>;

    /// Whether all that was sent has left.
    fn is_sent(&self) -> bool;

    /// Whether no rank may end before the others have come to their ends.
    fn ends_together(&self) -> bool;

    /// The end, which all ranks come to. It may wait for the others.
    fn close(self: Box<Self>);
}
