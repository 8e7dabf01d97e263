//! Files for PyTorch.

use std::collections::BTreeSet;
use std::path::Path;

use dfdx::nn::TensorCollection;

use super::element::StoredElement;
use super::file::Entry;
use super::foreign::DFDX;
use super::{file, model, Metadata};
use crate::backend::Backend;
use crate::error::Result;

/// Saves what PyTorch's `state_dict` of the same network has, so that
/// `load_state_dict(..., strict=True)` takes it:
///
/// - the model's tensors; the scalars of dfdx's norms are left out, and their tensors called `weight`
///   and `bias`,
/// - a `num_batches_tracked` of 0 for every batch norm,
/// - `format = pt` in the metadata.
///
/// [`load`](super::load()) takes such a file too.
///
/// ```python
/// from safetensors.torch import load_file, save_file
///
/// net.load_state_dict(load_file("ours.safetensors"), strict=True)
/// # and the other way:
/// save_file(net.state_dict(), "theirs.safetensors", metadata={"format": "pt"})
/// ```
///
/// # Errors
/// As [`save`](super::save).
pub fn save_for_pytorch<M, E, D>(
    path: impl AsRef<Path>,
    model: &M,
    metadata: &Metadata,
) -> Result<()>
where
    M: TensorCollection<E, D>,
    E: StoredElement,
    D: Backend<E>,
{
    let mut metadata = metadata.clone();
    metadata.insert("format".to_owned(), "pt".to_owned());
    file::write(path.as_ref(), state_dict(model::tensors(model)?), &metadata)
}

/// The tensors of a model as PyTorch has them.
fn state_dict(mut entries: Vec<Entry>) -> Vec<Entry> {
    let names: BTreeSet<String> = entries.iter().map(|entry| entry.name.clone()).collect();
    let mut counters = Vec::new();
    for entry in &mut entries {
        let (layer, last) = split(&entry.name);
        let has = |name: &str| names.contains(&format!("{layer}{name}"));
        let renamed = match DFDX.iter().find(|(_, ours)| *ours == last) {
            // Layers of users may have tensors of such names.
            Some((theirs, _))
                if !has(theirs) && (has("running_mean") || has("gamma") && has("beta")) =>
            {
                Some(format!("{layer}{theirs}"))
            }
            _ => None,
        };
        if last == "running_mean" && !has("num_batches_tracked") {
            counters.push(Entry {
                name: format!("{layer}num_batches_tracked"),
                dtype: safetensors::Dtype::I64,
                shape: Vec::new(),
                data: vec![0; 8],
            });
        }
        if let Some(name) = renamed {
            entry.name = name;
        }
    }
    entries.append(&mut counters);
    entries
}

/// The layer's path with its dot, and the tensor's own name.
fn split(name: &str) -> (&str, &str) {
    name.split_at(name.rfind('.').map_or(0, |dot| dot + 1))
}
