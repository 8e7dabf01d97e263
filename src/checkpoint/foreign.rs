//! Files that others wrote (PyTorch, torchvision): their names and types as the model has them.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use safetensors::Dtype;

use super::convert::{narrowed, widened, widens};
use super::file::Stored;
use crate::error::{Error, Result};

/// What `DataParallel` and `torch.compile` put before every name.
const PREFIXES: [&str; 2] = ["module.", "_orig_mod."];
/// A batch norm's number of updates in PyTorch, which has no counterpart.
const COUNTER: &str = "num_batches_tracked";
/// Parts of torchvision's ResNets' names, and of ours.
const TORCHVISION: [(&str, &str); 2] = [("fc", "linear"), ("downsample", "shortcut")];
/// Last parts of PyTorch's names of norms, and of dfdx's.
pub(super) const DFDX: [(&str, &str); 3] =
    [("weight", "scale"), ("weight", "gamma"), ("bias", "beta")];

/// A tensor or a number of the model.
pub(super) struct Expected {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) is_number: bool,
}

/// A file's tensors under the model's names.
pub(super) struct Adapted<'a> {
    pub(super) stored: BTreeMap<String, Stored<'a>>,
    /// The file's names of those that are renamed.
    names: BTreeMap<String, String>,
}

impl<'a> Adapted<'a> {
    /// Takes prefixes off, leaves counters out, and renames what has a counterpart of another name.
    pub(super) fn new(stored: BTreeMap<String, Stored<'a>>, expected: &[Expected]) -> Self {
        let ours: BTreeSet<&str> = expected.iter().map(|part| &part.name[..]).collect();
        let prefix = prefix(&stored, &ours);
        let is_counter = |name: &str, stored: &Stored| {
            !ours.contains(name)
                && name.rsplit('.').next() == Some(COUNTER)
                && stored.dtype == Dtype::I64
                && stored.data.len() == 8
        };
        let mut adapted = Self {
            stored: BTreeMap::new(),
            names: BTreeMap::new(),
        };
        let stripped: BTreeMap<_, _> = stored
            .into_iter()
            .map(|(name, stored)| (name[prefix..].to_owned(), (name, stored)))
            .filter(|(name, (_, stored))| !is_counter(name, stored))
            .collect();
        let taken: BTreeSet<String> = stripped.keys().cloned().collect();
        for (name, (theirs, stored)) in stripped {
            let free = |other: &String| {
                ours.contains(&other[..])
                    && !taken.contains(other)
                    && !adapted.stored.contains_key(other)
            };
            let name = match ours.contains(&name[..]) {
                true => name,
                false => other_names(&name).into_iter().find(free).unwrap_or(name),
            };
            if name != theirs {
                adapted.names.insert(name.clone(), theirs);
            }
            adapted.stored.insert(name, stored);
        }
        adapted
    }

    /// The name that the file has for the model's `name`.
    pub(super) fn file_name<'n>(&'n self, name: &'n str) -> &'n str {
        self.names.get(name).map_or(name, String::as_str)
    }

    /// Widens what the model has in a wider type, and narrows it to f32 if that is wanted.
    pub(super) fn convert(
        &mut self,
        expected: &[Expected],
        to: Dtype,
        narrow_f64: bool,
        place: &str,
    ) -> Result<()> {
        for part in expected.iter().filter(|part| !part.is_number) {
            let Some(stored) = self.stored.get_mut(&part.name) else {
                continue;
            };
            let name = self.names.get(&part.name).unwrap_or(&part.name);
            if widens(stored.dtype, to) {
                let Some(data) = widened(&stored.data, stored.dtype, to) else {
                    continue;
                };
                (stored.dtype, stored.data) = (to, Cow::Owned(data));
            } else if (stored.dtype, to) == (Dtype::F64, Dtype::F32) {
                if !narrow_f64 {
                    return Err(Error::TensorDtype {
                        place: place.to_owned(),
                        name: name.clone(),
                        expected: format!("{to} of shape {:?}", part.shape),
                        found: format!(
                            "{} of shape {:?} (LoadOptions::narrow_f64 rounds it)",
                            stored.dtype, stored.shape
                        ),
                    });
                }
                let data = narrowed(&stored.data).map_err(|value| Error::StoredValue {
                    place: place.to_owned(),
                    name: name.clone(),
                    value: format!("{value:e}"),
                    range: "a value of f32",
                })?;
                (stored.dtype, stored.data) = (to, Cow::Owned(data));
            }
        }
        Ok(())
    }

    /// Takes out what has another shape than in the model, and returns the file's names of it.
    pub(super) fn take_mismatched(&mut self, expected: &[Expected]) -> Vec<String> {
        let mut taken = Vec::new();
        for part in expected {
            let differs = |stored: &Stored| stored.shape != part.shape;
            if self.stored.get(&part.name).is_some_and(differs) {
                taken.push(self.file_name(&part.name).to_owned());
                self.stored.remove(&part.name);
            }
        }
        taken
    }

    /// An error that names the file's tensor, and says what may be behind it.
    pub(super) fn explain(&self, mut err: Error) -> Error {
        match &mut err {
            Error::TensorShape {
                name,
                expected,
                found,
                note,
                ..
            } => {
                *note = why(name, expected, found).into();
                if note.is_empty() && self.names.contains_key(name) {
                    *note = format!("it is the model's `{name}`").into();
                }
                *name = self.file_name(name).to_owned();
            }
            Error::TensorDtype { name, .. } | Error::UnexpectedTensor { name, .. } => {
                *name = self.file_name(name).to_owned();
            }
            _ => (),
        }
        err
    }
}

/// The length of the prefixes that every name has and the model's have not.
fn prefix(stored: &BTreeMap<String, Stored>, ours: &BTreeSet<&str>) -> usize {
    let mut length = 0;
    loop {
        let rest = stored.keys().map(|name| &name[length..]);
        if stored.is_empty() || rest.clone().any(|name| ours.contains(name)) {
            return length;
        }
        let has = |name: &str, prefix| name.len() > str::len(prefix) && name.starts_with(prefix);
        match PREFIXES
            .iter()
            .find(|p| rest.clone().all(|name| has(name, p)))
        {
            Some(prefix) => length += prefix.len(),
            None => return length,
        }
    }
}

/// What the model may call a tensor.
fn other_names(name: &str) -> Vec<String> {
    let parts = name.split('.').map(|part| {
        let renamed = TORCHVISION.iter().find(|(theirs, _)| *theirs == part);
        renamed.map_or(part, |(_, ours)| ours)
    });
    let renamed = parts.collect::<Vec<_>>().join(".");
    let mut names = vec![renamed];
    for base in [name, &names[0].clone()] {
        let (layer, last) = base
            .rsplit_once('.')
            .map_or(("", base), |(l, last)| (l, last));
        for (theirs, ours) in DFDX {
            if last == theirs {
                let dot = if layer.is_empty() { "" } else { "." };
                names.push(format!("{layer}{dot}{ours}"));
            }
        }
    }
    names
}

/// Why the tensor that the model calls `name` may have another shape.
fn why(name: &str, expected: &[usize], found: &[usize]) -> String {
    match (expected, found) {
        ([_, _, 3, 3], [_, _, 7, 7]) if name == "conv1.weight" => {
            "the file's network, such as torchvision's ResNets, begins with a 7x7 convolution and a \
             max pool, for large images; the model begins with a 3x3 convolution"
                .to_owned()
        }
        ([classes, ..], [others, ..]) if name.starts_with("linear.") && classes != others => {
            format!("the model has {classes} classes, the file's network {others}")
        }
        _ => String::new(),
    }
}
