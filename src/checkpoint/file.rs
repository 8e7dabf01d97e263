//! Files of named tensors in the safetensors format, replaced as a whole or not at all.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Error as IoError, ErrorKind, Result as IoResult, Write};
use std::path::Path;

use safetensors::tensor::{Metadata as Header, TensorInfo};
use safetensors::Dtype;

use super::Metadata;
use crate::error::{Error, Result};

/// The key of the metadata in the header, which no tensor can have.
const METADATA_KEY: &str = "__metadata__";

/// A tensor on its way to a file.
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    pub(super) data: Vec<u8>,
}

/// Writes the file of these tensors. The same tensors and metadata give the same bytes.
pub(super) fn write(path: &Path, mut entries: Vec<Entry>, metadata: &Metadata) -> Result<()> {
    // Wider types first keeps every tensor aligned to its type.
    entries.sort_by(|a, b| b.dtype.cmp(&a.dtype).then_with(|| a.name.cmp(&b.name)));
    let header = header(path, &entries, metadata)?;
    replace_file(path, |file| {
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        for entry in &entries {
            file.write_all(&entry.data)?;
        }
        Ok(())
    })
}

/// The header's JSON, with sorted keys (the safetensors crate writes the metadata in the order of a
/// hash map, which differs from run to run), padded to a multiple of 8 bytes.
fn header(path: &Path, entries: &[Entry], metadata: &Metadata) -> Result<Vec<u8>> {
    let format = |what: String| Error::Format {
        path: path.to_owned(),
        what,
    };
    let mut tensors = Vec::with_capacity(entries.len());
    let mut json = BTreeMap::new();
    if !metadata.is_empty() {
        json.insert(METADATA_KEY, serde_json::json!(metadata));
    }
    let mut start = 0;
    for Entry {
        name,
        dtype,
        shape,
        data,
    } in entries
    {
        let info = TensorInfo {
            dtype: *dtype,
            shape: shape.clone(),
            data_offsets: (start, start + data.len()),
        };
        start += data.len();
        let value = serde_json::to_value(&info).map_err(|err| format(err.to_string()))?;
        if name == METADATA_KEY || json.insert(name, value).is_some() {
            return Err(Error::DuplicateName { name: name.clone() });
        }
        tensors.push((name.clone(), info));
    }
    // Checks that shapes, types and offsets fit together.
    Header::new(None, tensors).map_err(|err| format(err.to_string()))?;
    let mut header = serde_json::to_vec(&json).map_err(|err| format(err.to_string()))?;
    header.resize(header.len().next_multiple_of(8), b' ');
    Ok(header)
}

/// Writes a temporary file in the folder of `path`, waits until it is on the disk and gives it the
/// name `path`. Whatever fails, a file that was at `path` before is left as it was.
pub(super) fn replace_file(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<&mut File>) -> IoResult<()>,
) -> Result<()> {
    let Some(file_name) = path.file_name() else {
        let cause = IoError::new(ErrorKind::InvalidInput, "the path names no file");
        return Err(Error::io(path, "write", cause));
    };
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut prefix = std::ffi::OsString::from(".");
    prefix.push(file_name);
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).suffix(".tmp");
    #[cfg(unix)]
    {
        // What a file made in the ordinary way gets, less the process's umask.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    // Dropped on the way out of an error, the temporary file is removed.
    let mut temporary = builder
        .tempfile_in(folder)
        .map_err(|err| Error::io(path, "create a temporary file beside it", err))?;
    let mut buffered = BufWriter::with_capacity(1 << 20, temporary.as_file_mut());
    fill(&mut buffered)
        .and_then(|()| buffered.flush())
        .map_err(|err| Error::io(path, "write", err))?;
    drop(buffered);
    temporary
        .as_file()
        .sync_all()
        .map_err(|err| Error::io(path, "bring to the disk", err))?;
    temporary
        .persist(path)
        .map_err(|err| Error::io(path, "rename the temporary file to it", err.error))?;
    // Makes the new name survive a power cut. Some file systems cannot, and the file is whole in
    // either case.
    #[cfg(unix)]
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
    Ok(())
}

/// The bytes of a file, for [`parse`].
pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|err| Error::io(path, "read", err))
}

/// A tensor in a file.
#[derive(Clone)]
pub(super) struct Stored<'a> {
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    pub(super) data: &'a [u8],
}

/// The tensors and the metadata in the bytes of a file.
pub(super) fn parse<'a>(
    path: &Path,
    bytes: &'a [u8],
) -> Result<(BTreeMap<String, Stored<'a>>, Metadata)> {
    let format = |err: safetensors::SafeTensorError| Error::Format {
        path: path.to_owned(),
        what: format!(
            "not a whole safetensors file ({} bytes): {err}",
            bytes.len()
        ),
    };
    let (_, header) = safetensors::SafeTensors::read_metadata(bytes).map_err(format)?;
    let tensors = safetensors::SafeTensors::deserialize(bytes)
        .map_err(format)?
        .tensors()
        .into_iter()
        .map(|(name, view)| {
            let stored = Stored {
                dtype: view.dtype(),
                shape: view.shape().to_vec(),
                data: view.data(),
            };
            (name, stored)
        })
        .collect();
    let metadata = header.metadata().iter().flatten();
    let metadata = metadata.map(|(k, v)| (k.clone(), v.clone())).collect();
    Ok((tensors, metadata))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<std::ffi::OsString> {
        let files = std::fs::read_dir(folder).unwrap();
        files.map(|f| f.unwrap().file_name()).collect()
    }

    #[test]
    fn a_write_that_fails_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        std::fs::write(&path, b"old").unwrap();
        let err = replace_file(&path, |file| {
            // More than the writer buffers, so that part of it is in the file.
            file.write_all(&vec![1; 3 << 20])?;
            Err(ErrorKind::StorageFull.into())
        })
        .unwrap_err()
        .to_string();
        assert!(
            err.contains("model.safetensors") && err.contains("cannot write"),
            "{err}"
        );
        assert!(err.contains("no storage space"), "{err}");
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(names(folder.path()), ["model.safetensors"]);

        replace_file(&path, |file| file.write_all(b"new")).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(names(folder.path()), ["model.safetensors"]);
    }

    #[test]
    fn a_name_that_cannot_be_taken_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let taken = folder.path().join("taken");
        std::fs::create_dir(&taken).unwrap();
        let err = replace_file(&taken, |file| file.write_all(b"new")).unwrap_err();
        assert!(err.to_string().contains("rename"), "{err}");
        assert_eq!(names(folder.path()), ["taken"]);
        let err = replace_file(Path::new("/"), |_| Ok(())).unwrap_err();
        assert!(err.to_string().contains("names no file"), "{err}");
    }

    #[test]
    fn two_tensors_of_one_name_are_refused() {
        let entry = |name: &str| Entry {
            name: name.to_owned(),
            dtype: Dtype::F32,
            shape: vec![1],
            data: vec![0; 4],
        };
        let path = Path::new("unused");
        for names in [["a", "a"], ["a", METADATA_KEY]] {
            let err = header(path, &names.map(entry), &Metadata::new()).unwrap_err();
            assert!(matches!(&err, Error::DuplicateName { name } if name == names[1]));
        }
    }
}
