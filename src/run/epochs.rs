//! The names of the checkpoints that are kept of single epochs.

use std::path::Path;

use crate::error::{Error, Result};

const BEGIN: &str = "epoch-";
const END: &str = ".safetensors";

/// That of an epoch.
pub(super) fn file(epoch: u64) -> String {
    format!("{BEGIN}{epoch:04}{END}")
}

/// Removes those of a run that is replaced.
pub(super) fn remove_all(folder: &Path) -> Result<()> {
    in_folder(folder)?
        .into_iter()
        .try_for_each(|epoch| remove(folder, epoch))
}

/// Removes that of an epoch.
pub(super) fn remove(folder: &Path, epoch: u64) -> Result<()> {
    let path = folder.join(file(epoch));
    std::fs::remove_file(&path).map_err(|err| Error::io(&path, "remove an old checkpoint", err))
}

/// The epochs that have one in a folder.
pub(super) fn in_folder(folder: &Path) -> Result<Vec<u64>> {
    let failed = |err| Error::io(folder, "list the checkpoints of epochs", err);
    let mut epochs = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let number = name
            .to_str()
            .and_then(|name| name.strip_prefix(BEGIN)?.strip_suffix(END));
        // Other files of such names are somebody else's.
        let epoch = number.and_then(|number| number.parse().ok());
        epochs.extend(epoch.filter(|&epoch| name.to_str() == Some(&file(epoch))));
    }
    Ok(epochs)
}
