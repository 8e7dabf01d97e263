//! The rows of dW.

use crate::args::KeptChannels;

/// Those of `len` elements that are written, in the order of dY's channels.
pub fn kept_rows<'a, E>(
    dw: &'a mut [E],
    len: usize,
    kept: Option<&KeptChannels>,
) -> Vec<&'a mut [E]> {
    let rows = dw.chunks_exact_mut(len);
    match kept {
        None => rows.collect(),
        Some(kept) => {
            let mut next = kept.iter().copied().peekable();
            rows.enumerate()
                .filter(|(k, _)| next.next_if_eq(k).is_some())
                .map(|(_, row)| row)
                .collect()
        }
    }
}
