//! Files replaced as a whole or not at all, and what remains of writes that were interrupted.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Error as IoError, ErrorKind, Result as IoResult, Write};
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile};

use crate::error::{Error, Result};

/// Ends the names of temporary files; they begin with a dot and the name of the file to be.
const SUFFIX: &str = ".ssprop.tmp";

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
    let mut prefix = OsString::from(".");
    prefix.push(file_name);
    // Dropped on the way out of an error, the temporary file is removed.
    let mut temporary = locked_temporary(folder, &prefix)
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

/// A temporary file, locked as long as it is open: what tells it from the remains of a process that
/// has ended.
fn locked_temporary(folder: &Path, prefix: &OsString) -> IoResult<NamedTempFile> {
    let mut builder = Builder::new();
    builder.prefix(prefix).suffix(SUFFIX);
    #[cfg(unix)]
    {
        // What a file made in the ordinary way gets, less the process's umask.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    loop {
        let temporary = builder.tempfile_in(folder)?;
        // A file system without locks: `remove_remains` does not lock there either, and leaves all.
        let locked = temporary.as_file().lock().is_ok();
        // Else another process took it for remains, before it was locked.
        if !locked || temporary.path().exists() {
            return Ok(temporary);
        }
    }
}

/// Removes the temporary files that interrupted writes have left in a folder, and returns their
/// paths. A file that is being written, by this process or another, is locked and stays. There is
/// nothing to remove in a folder that does not exist.
///
/// # Errors
/// [`Error::Io`] with the path and the cause.
pub fn remove_remains(folder: impl AsRef<Path>) -> Result<Vec<PathBuf>> {
    let folder = folder.as_ref();
    let entries = match std::fs::read_dir(folder) {
        Err(err) if err.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|err| Error::io(folder, "read", err))?,
    };
    let mut removed = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|err| Error::io(folder, "read", err))?;
        let path = entry.path();
        let is_file = entry.file_type().is_ok_and(|t| t.is_file());
        if is_file
            && is_temporary(&entry.file_name())
            && remove_unlocked(&path).map_err(|err| Error::io(&path, "remove", err))?
        {
            removed.push(path);
        }
    }
    removed.sort();
    Ok(removed)
}

fn is_temporary(name: &std::ffi::OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.starts_with(b".") && name.ends_with(SUFFIX.as_bytes())
}

/// Whether the file was there, not locked, and is removed.
fn remove_unlocked(path: &Path) -> IoResult<bool> {
    // A file of another user, or one that has just been renamed or removed.
    let Ok(file) = OpenOptions::new().read(true).write(true).open(path) else {
        return Ok(false);
    };
    if file.try_lock().is_err() {
        return Ok(false);
    }
    match std::fs::remove_file(path) {
        Err(err) if err.kind() == ErrorKind::NotFound => Ok(false),
        removed => removed.map(|()| true),
    }
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
    fn remains_of_writes_that_ended_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let remains = path(".model.safetensorsAbC123.ssprop.tmp");
        let others = ["model.safetensors", ".hidden", ".other.tmp", "a.ssprop.tmp"];
        std::fs::write(&remains, b"cut").unwrap();
        for name in others {
            std::fs::write(path(name), b"kept").unwrap();
        }
        std::fs::create_dir(path(".folder.ssprop.tmp")).unwrap();
        replace_file(&path("model.safetensors"), |file| {
            // The write in progress is not among them.
            let removed = remove_remains(folder.path()).unwrap();
            assert_eq!(removed, std::slice::from_ref(&remains));
            assert!(remove_remains(folder.path()).unwrap().is_empty());
            file.write_all(b"new")
        })
        .unwrap();
        assert_eq!(std::fs::read(path("model.safetensors")).unwrap(), b"new");
        let mut left = names(folder.path());
        left.sort();
        let mut expected = others.map(OsString::from).to_vec();
        expected.push(".folder.ssprop.tmp".into());
        expected.sort();
        assert_eq!(left, expected);
        assert!(remove_remains(path("absent")).unwrap().is_empty());
        remove_remains(path("model.safetensors")).unwrap_err();
    }

    #[test]
    fn writers_and_removers_at_once_lose_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let remover = scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    remove_remains(folder.path()).unwrap();
                }
            });
            for i in 0..200_u8 {
                let path = folder.path().join("file");
                replace_file(&path, |file| file.write_all(&[i])).unwrap();
                assert_eq!(std::fs::read(&path).unwrap(), [i]);
            }
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            remover.join().unwrap();
        });
        assert_eq!(names(folder.path()), ["file"]);
    }
}
