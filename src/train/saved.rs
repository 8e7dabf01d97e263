//! Saving a model in training, and going on from there.

use std::path::Path;

use dfdx::nn::TensorCollection;

use super::{unfinished, Trainer};
use crate::backend::Backend;
use crate::checkpoint::{check_finite, load_training_with, save_training_with, Metadata};
use crate::error::{Error, Result};
use crate::optim::Optimizer;

/// The key of the number of epochs done in a checkpoint's metadata.
const EPOCH: &str = "epoch";
/// The key of the sums of an unfinished one.
const UNFINISHED: &str = "unfinished";
/// The key of the number of the moving average's updates.
const EMA_UPDATES: &str = "ema_updates";

impl<M, D, O> Trainer<M, D, O>
where
    M: TensorCollection<f32, D>,
    D: Backend<f32>,
    O: Optimizer<M, f32, D>,
{
    /// Saves the model, the optimizer's state, the moving average if there is one, the number of epochs
    /// done and how far an unfinished one is, with `metadata`, whose `epoch`, `unfinished` and
    /// `ema_updates` are replaced.
    ///
    /// What else decides how training goes on is the caller's: the seed of the batches, the
    /// optimizer's hyperparameters, the schedule (whose text can be part of `metadata`), the average's
    /// decay, the dropout's rate and seed. A generator of random numbers in the device (that of dfdx's own
    /// dropout) is not saved. The model alone can be read by
    /// [`checkpoint::load`](crate::checkpoint::load), the average by
    /// [`checkpoint::load_average`](crate::checkpoint::load_average).
    ///
    /// # Errors
    /// As [`save_training`](crate::checkpoint::save_training); [`Error::NonFiniteWeight`] if a
    /// weight is infinite or NaN.
    pub fn save(&self, path: impl AsRef<Path>, metadata: &Metadata) -> Result<()> {
        let path = path.as_ref();
        check_finite(&path.display().to_string(), &self.model)?;
        let mut metadata = metadata.clone();
        metadata.insert(EPOCH.to_owned(), self.epoch.to_string());
        metadata.remove(UNFINISHED);
        if let Some(sums) = &self.pending {
            metadata.insert(UNFINISHED.to_owned(), unfinished::to_text(sums));
        }
        metadata.remove(EMA_UPDATES);
        if let Some(ema) = &self.ema {
            metadata.insert(EMA_UPDATES.to_owned(), ema.updates().to_string());
        }
        let average = self.ema.as_ref().map(|ema| &ema.model);
        save_training_with(path, &self.model, &self.optimizer, average, &metadata)
    }

    /// Goes back to what [`save`](Self::save) saved, and returns the metadata. A trainer without a
    /// moving average leaves one in the file aside.
    ///
    /// # Errors
    /// As [`load_training`](crate::checkpoint::load_training), and [`Error::StoredValue`] if the
    /// file does not say how many epochs were done; [`Error::MissingTensor`] if this trainer has a
    /// moving average and the file has none.
    pub fn resume(&mut self, path: impl AsRef<Path>) -> Result<Metadata> {
        let path = path.as_ref();
        let average = self.ema.as_mut().map(|ema| &mut ema.model);
        let metadata = load_training_with(path, &mut self.model, &mut self.optimizer, average)?;
        self.epoch = stored_number(path, &metadata, EPOCH, "a number of epochs")?;
        self.pending =
            match metadata.get(UNFINISHED) {
                Some(text) => Some(unfinished::from_text(text, self.epoch).ok_or_else(|| {
                    Error::StoredValue {
                        place: path.display().to_string(),
                        name: UNFINISHED.to_owned(),
                        value: text.clone(),
                        range: "the sums of an unfinished epoch",
                    }
                })?),
                None => None,
            };
        if let Some(ema) = &mut self.ema {
            let updates = stored_number(path, &metadata, EMA_UPDATES, "a number of updates")?;
            ema.set_updates(updates);
        }
        Ok(metadata)
    }
}

/// A number in a checkpoint's metadata.
fn stored_number(path: &Path, metadata: &Metadata, key: &str, range: &'static str) -> Result<u64> {
    let value = metadata.get(key).map_or("(missing)", String::as_str);
    value.parse().map_err(|_| Error::StoredValue {
        place: path.display().to_string(),
        name: key.to_owned(),
        value: value.to_owned(),
        range,
    })
}
