//! What each batch of an epoch has, whoever makes it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::augment::Augmentation;
use super::batch::{Batch, Part};
use super::dataset::{DamagedPicture, ImageDataset, ImageShape, Scratch};
use super::recycled::Pool;
use crate::error::{DataError, Error, Result};

/// An epoch's batches, before they are made.
pub(super) struct Plan {
    pub data: ImageDataset,
    pub shuffled: bool,
    pub tables: Vec<[f32; 256]>,
    pub shape: ImageShape,
    pub batch_size: usize,
    pub drop_last: bool,
    pub order: Vec<u32>,
    pub augmentation: Augmentation,
    /// Of the augmentation, and the epoch.
    pub seeds: (u64, u64),
    pub damaged: Option<Damaged>,
    pub memory: Arc<Pool>,
    /// The rank whose share of each batch is made, and their number.
    pub share: [usize; 2],
}

/// The pictures that were left out, by their places in the data set.
#[derive(Clone, Debug, Default)]
pub(super) struct Damaged(Arc<Mutex<BTreeMap<usize, DamagedPicture>>>);

impl Damaged {
    fn add(&self, picture: DamagedPicture) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(picture.index, picture);
    }

    pub fn list(&self) -> Vec<DamagedPicture> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.values().cloned().collect()
    }
}

/// What a thread that makes batches keeps from one to the next.
#[derive(Default)]
pub(super) struct Room {
    scratch: Scratch,
    image: Vec<u8>,
    other: Vec<u8>,
}

impl Plan {
    /// The error of an epoch without a batch.
    pub fn no_batch(&self) -> Error {
        DataError::NoBatch {
            images: self.data.len(),
            batch_size: self.batch_size,
            drop_last: self.drop_last,
        }
        .into()
    }

    /// The error to give for that of a batch: if a picture is damaged in a shuffled epoch, that of the first
    /// in the data set's order which cannot be read. Most programs end with it, and should name the same one
    /// whatever the order.
    pub fn first_of(&self, error: Error, number: usize) -> Error {
        let is_damage = matches!(error, Error::Data(DataError::Picture { .. }));
        if !is_damage || !self.shuffled || self.damaged.is_some() {
            return error;
        }
        // One of the batch is damaged: none after its last one has to be looked at.
        let last = self.part(number).0.iter().max();
        let len = last.map_or(0, |&last| last as usize + 1);
        self.data.first_error(len).unwrap_or(error)
    }

    /// The images of a batch, or this rank's share of them.
    fn part(&self, number: usize) -> (&[u32], Part) {
        let start = number.saturating_mul(self.batch_size).min(self.order.len());
        let end = start.saturating_add(self.batch_size).min(self.order.len());
        let whole = &self.order[start..end];
        let (range, part) = Part::of(whole.len(), self.share);
        (&whole[range], part)
    }

    /// Makes batch number `number`; `None` if `stop` is set in the meantime.
    pub fn batch(
        &self,
        number: usize,
        room: &mut Room,
        stop: &AtomicBool,
    ) -> Option<Result<Batch>> {
        let (indices, part) = self.part(number);
        let to = self.shape;
        let mut batch = Batch {
            images: self
                .memory
                .take(indices.len() * to.channels * to.height * to.width),
            labels: Vec::new(),
            attributes: Vec::new(),
            multi_label: self.data.is_multi_label(),
            indices: Vec::with_capacity(indices.len()),
            shape: to,
            part,
        };
        let mut first_damaged = None;
        for &index in indices {
            if stop.load(Ordering::Relaxed) {
                return None;
            }
            let index = index as usize;
            match self.add(index, room, &mut batch) {
                Ok(()) => (),
                Err(Error::Data(DataError::Picture { file, message })) => {
                    let error = || DataError::Picture {
                        file: file.clone(),
                        message: message.clone(),
                    };
                    let Some(damaged) = &self.damaged else {
                        return Some(Err(error().into()));
                    };
                    first_damaged.get_or_insert_with(error);
                    damaged.add(DamagedPicture {
                        index,
                        file,
                        message,
                    });
                }
                Err(error) => return Some(Err(error)),
            }
        }
        if batch.is_empty() && self.share[1] > 1 {
            // This rank goes along with an image of another's.
            self.add_spare(number, room, &mut batch);
        }
        match first_damaged {
            Some(error) if batch.is_empty() => Some(Err(error.into())),
            _ => {
                if self.share[1] == 1 {
                    batch.part.of = batch.len();
                }
                Some(Ok(batch))
            }
        }
    }

    /// Adds the first image of a whole batch that can be read, which counts elsewhere.
    fn add_spare(&self, number: usize, room: &mut Room, batch: &mut Batch) {
        let start = number.saturating_mul(self.batch_size).min(self.order.len());
        let whole = &self.order[start..][..batch.part.of];
        let readable = whole.iter().enumerate().find_map(|(first, &index)| {
            let added = self.add(index as usize, room, batch);
            added.is_ok().then_some(first)
        });
        if let Some(first) = readable {
            batch.part.first = first;
            batch.part.is_spare = true;
        }
    }

    /// Adds an image with its labels.
    fn add(&self, index: usize, room: &mut Room, batch: &mut Batch) -> Result<()> {
        let data = &self.data;
        let image = match data.stored(index) {
            Some(image) if self.augmentation.is_none() => image,
            _ => {
                let len = data.shape().image_len()?;
                room.image.resize(len, 0);
                room.other.resize(len, 0);
                let (image, other) = (&mut room.image, &mut room.other);
                self.augmentation
                    .read(data, index, self.seeds, &mut room.scratch, other, image)?;
                &room.image[..]
            }
        };
        normalize(
            &self.tables,
            data.shape(),
            self.shape,
            image,
            &mut batch.images,
        );
        batch.labels.extend(data.label(index));
        let attributes = data.image_attributes(index).unwrap_or_default();
        batch.attributes.extend_from_slice(attributes);
        batch.indices.push(index);
        Ok(())
    }
}

/// Adds the normalised pixels of an image of shape `from`, with black around them up to the shape `to`.
pub(super) fn normalize(
    tables: &[[f32; 256]],
    from: ImageShape,
    to: ImageShape,
    pixels: &[u8],
    images: &mut Vec<f32>,
) {
    let (top, left) = ((to.height - from.height) / 2, (to.width - from.width) / 2);
    let plane = from.height * from.width;
    for channel in 0..to.channels {
        // A single channel is repeated.
        let channel = if from.channels == 1 { 0 } else { channel };
        let table = &tables[channel];
        let black = table[0];
        let rows = pixels[channel * plane..][..plane].chunks_exact(from.width);
        let pad_rows = |images: &mut Vec<f32>, rows: usize| {
            images.resize(images.len() + rows * to.width, black)
        };
        pad_rows(images, top);
        for row in rows {
            images.resize(images.len() + left, black);
            images.extend(row.iter().map(|&p| table[usize::from(p)]));
            images.resize(images.len() + to.width - from.width - left, black);
        }
        pad_rows(images, to.height - from.height - top);
    }
}
