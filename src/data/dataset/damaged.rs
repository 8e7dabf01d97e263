//! Pictures that cannot be decoded.

use rayon::prelude::*;

use super::pixels::{decoded, Scratch};
use super::{ImageDataset, Store};
use crate::error::{DataError, Error, FileName, Result};

/// A picture that could not be decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedPicture {
    /// Its place in the data set.
    pub index: usize,
    /// Its file.
    pub file: FileName,
    /// What is wrong with it.
    pub message: String,
}

impl std::fmt::Display for DamagedPicture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.file, self.message)
    }
}

impl ImageDataset {
    /// The images that can be decoded, and those that cannot, in the data set's order: reads all, on the
    /// current rayon pool's threads. (A [`BatchLoader`](crate::data::BatchLoader) can
    /// [skip](crate::data::BatchLoader::skip_damaged) damaged pictures as it meets them.)
    ///
    /// # Errors
    /// That of the first image, in the data set's order, which cannot be read for another reason.
    pub fn without_damaged(&self) -> Result<(Self, Vec<DamagedPicture>)> {
        if !self.is_lazy() {
            return Ok((self.clone(), Vec::new()));
        }
        let damage = |scratch: &mut Scratch, index| match self.check(index, scratch) {
            Ok(()) => None,
            Err(Error::Data(DataError::Picture { file, message })) => Some(Ok(DamagedPicture {
                index,
                file,
                message,
            })),
            Err(error) => Some(Err(error)),
        };
        let indices = (0..self.len()).into_par_iter();
        // In the data set's order.
        let found: Vec<_> = indices
            .map_init(Scratch::default, damage)
            .flatten_iter()
            .collect();
        let damaged = found.into_iter().collect::<Result<Vec<_>>>()?;
        let mut bad = damaged.iter().map(|d| d.index).peekable();
        let whole = (0..self.len()).filter(|i| bad.next_if_eq(i).is_none());
        Ok((self.select(&whole.collect::<Vec<_>>()), damaged))
    }

    /// The error of the first of the first `len` images, in the data set's order, that cannot be read: the
    /// same for any number of threads, which are the current rayon pool's.
    pub(in crate::data) fn first_error(&self, len: usize) -> Option<Error> {
        let len = len.min(self.len());
        // In parts, so that little is read beyond it.
        let parts = (0..len)
            .step_by(1024)
            .map(|start| start..len.min(start + 1024));
        let check = |scratch: &mut Scratch, index| self.check(index, scratch).err();
        parts
            .map(|part| part.into_par_iter().map_init(Scratch::default, check))
            .find_map(|errors| errors.find_map_first(|error| error))
    }

    /// That an image can be read and decoded.
    fn check(&self, index: usize, scratch: &mut Scratch) -> Result<()> {
        match (&*self.store, self.place(index)) {
            (Store::Pictures { files, .. }, Some(place)) => {
                decoded(files, place, &mut scratch.file, &mut scratch.pixels).map(drop)
            }
            _ => Ok(()),
        }
    }
}
