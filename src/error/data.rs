//! The errors of reading data sets.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The file that an error is about: a path, or an entry of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileName {
    /// The archive that holds the file, if one does.
    pub archive: Option<PathBuf>,
    /// The file's path, or its path inside the archive.
    pub file: PathBuf,
}

impl FileName {
    /// A file outside of any archive.
    pub(crate) fn of(path: &Path) -> Self {
        Self {
            archive: None,
            file: path.into(),
        }
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        match &self.archive {
            Some(archive) => write!(f, " in {}", archive.display()),
            None => Ok(()),
        }
    }
}

/// What can be wrong with the files of a data set.
///
/// An `offset` counts bytes from the beginning of the file, after decompression.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A file of the data set is missing.
    #[error("{}: holds no file {expected}", .path.display())]
    Missing {
        /// The folder or archive that was searched.
        path: PathBuf,
        /// The names that were looked for.
        expected: String,
    },

    /// An archive holds two files that could both be the one wanted.
    #[error("{}: holds both {first} and {second}: expected one of them", .path.display())]
    Ambiguous {
        /// The archive.
        path: PathBuf,
        /// The file found first.
        first: String,
        /// The file found second.
        second: String,
    },

    /// The operating system could not open or read a file.
    #[error("{file}: at byte {offset}: {source}")]
    Io {
        /// The file.
        file: FileName,
        /// Where reading failed.
        offset: u64,
        /// The system's error.
        source: io::Error,
    },

    /// The path is neither a folder nor an archive of a known kind.
    #[error(
        "{}: at byte 0: expected a folder, a zip (50 4b), a tar or a tar.gz (1f 8b), found a file \
         that begins with {found}", .path.display()
    )]
    NotAnArchive {
        /// The file.
        path: PathBuf,
        /// Its first bytes in hexadecimal.
        found: String,
    },

    /// The table of contents of an archive is damaged.
    #[error("{}: damaged archive: {message}", .path.display())]
    Archive {
        /// The archive.
        path: PathBuf,
        /// What the archive's reader said.
        message: String,
    },

    /// Compressed bytes do not decompress, or their checksum is wrong.
    #[error("{file}: decompression failed after byte {offset}: {source}")]
    Decompress {
        /// The file.
        file: FileName,
        /// The decompressed bytes read before.
        offset: u64,
        /// What the decompressor said.
        source: io::Error,
    },

    /// A file ends too early.
    #[error("{file}: ends at byte {offset}, inside {what}: expected {expected} bytes")]
    Truncated {
        /// The file.
        file: FileName,
        /// Where it ends.
        offset: u64,
        /// The least number of bytes that it should have.
        expected: u64,
        /// What lies at that place.
        what: &'static str,
    },

    /// A file goes on after its last record.
    #[error("{file}: goes on at byte {expected}, where {what} end: expected {expected} bytes")]
    Oversized {
        /// The file.
        file: FileName,
        /// The number of bytes that it should have.
        expected: u64,
        /// What came before that place.
        what: &'static str,
    },

    /// The header of a file says something that it cannot.
    #[error("{file}: at byte {offset}: {what}: expected {expected}, found {found}")]
    Header {
        /// The file.
        file: FileName,
        /// Where the field lies.
        offset: u64,
        /// The field.
        what: &'static str,
        /// The values that it can have.
        expected: String,
        /// Its value.
        found: String,
    },

    /// A label is not one of the data set's classes.
    #[error("{file}: at byte {offset}: label {label}: expected less than {classes}")]
    Label {
        /// The file.
        file: FileName,
        /// Where the label lies.
        offset: u64,
        /// The label.
        label: usize,
        /// The number of classes.
        classes: usize,
    },

    /// A file of images and its file of labels have different counts.
    #[error("{labels_file}: at byte 4: {labels} labels, but {images_file} has {images} images")]
    Count {
        /// The file of labels.
        labels_file: FileName,
        /// The number of labels.
        labels: usize,
        /// The file of images.
        images_file: FileName,
        /// The number of images.
        images: usize,
    },

    /// A label of a data set in memory is not one of its classes.
    #[error("label {label} of image {index}: expected less than {classes}")]
    ImageLabel {
        /// The image's place in the data set or batch.
        index: usize,
        /// The label.
        label: usize,
        /// The number of classes.
        classes: usize,
    },

    /// A line of a text file is not what it should be.
    #[error("{}: line {line}: expected {expected}, found {found}", .path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What should be there.
        expected: String,
        /// What is there.
        found: String,
    },

    /// A picture cannot be decoded.
    #[error("{file}: not a whole picture: {message}")]
    Picture {
        /// The file.
        file: FileName,
        /// What the decoder said.
        message: String,
    },

    /// Files do not lie as the data set's have to.
    #[error("{}: expected {expected}, found {found}", .path.display())]
    Layout {
        /// The folder or file.
        path: PathBuf,
        /// What should be there.
        expected: String,
        /// What is there.
        found: String,
    },

    /// A name that is not UTF-8.
    #[error("{}: a name that is not UTF-8: {name}", .folder.display())]
    Name {
        /// The folder or archive that holds it.
        folder: PathBuf,
        /// The name, as far as it can be shown.
        name: String,
    },

    /// An epoch would have no batch.
    #[error(
        "no batch in an epoch: {images} images in batches of {batch_size}{}",
        if *.drop_last { ", of which whole ones only" } else { "" }
    )]
    NoBatch {
        /// Images of the data set.
        images: usize,
        /// Images of a batch.
        batch_size: usize,
        /// Whether a smaller last batch is left out.
        drop_last: bool,
    },

    /// A data set is not where it was looked for.
    #[error(
        "{}: {title} is not there: obtain it from {home_page} and put there {files}",
        .path.display()
    )]
    NotThere {
        /// Where it was looked for.
        path: PathBuf,
        /// The data set.
        title: &'static str,
        /// Where its makers tell how to obtain it.
        home_page: &'static str,
        /// The files that are needed.
        files: &'static str,
    },

    /// The bundled data set is not where the crate's sources are.
    #[error(
        "{}: the bundled data set is missing: make it from a folder with the four files of \
         Fashion-MNIST, by `cargo run --release --example make_bundled_data -- --from DIR`",
        .path.display()
    )]
    NoBundledData {
        /// Where it was looked for.
        path: PathBuf,
    },
}

/// The result of reading a file.
pub(crate) type DataResult<T> = std::result::Result<T, DataError>;
