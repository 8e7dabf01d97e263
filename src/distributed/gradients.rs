//! The sum of all ranks' gradients, which is made while the backward pass goes on.

use std::collections::HashMap;
use std::mem::take;
use std::sync::mpsc::{channel, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dfdx::nn::TensorCollection;
use dfdx::tensor::{Gradients, Storage};
use dfdx::tensor_ops::Device;

use super::communicator::Communicator;
use super::engine::Outcome;
use crate::bridge::exchange::{Exchange, Installed};
use crate::bridge::host::HostAccess;
use crate::bridge::tensors::{for_each_part, Part};
use crate::error::{Error, Result};
use crate::profile::timed;

/// Values that travel together: 120 KiB. Fewer, and their number would tell. The part that goes to each of two
/// ranks is what Open MPI sends over TCP at once (up to 64 KiB), without asking, and malloc gives without
/// asking the system.
const BUCKET: usize = 30 << 10;

/// Which rows of a parameter's gradient are not zero.
#[derive(Clone, Debug, Default, PartialEq)]
enum Rows {
    #[default]
    None,
    /// Ascending.
    Some(Vec<usize>),
    All,
}

impl Rows {
    fn add(&mut self, rows: Option<&[usize]>) {
        let Some(new) = rows else {
            *self = Self::All;
            return;
        };
        match self {
            Self::All => {}
            Self::None => *self = Self::Some(new.to_vec()),
            Self::Some(known) => {
                known.extend(new);
                known.sort_unstable();
                known.dedup();
            }
        }
    }
}

/// A trained parameter.
#[derive(Debug, Default)]
struct Parameter {
    len: usize,
    /// Elements in a row of its first dimension.
    row: usize,
    /// Written by this step's hooks, and by those before it that are added to.
    rows: Rows,
    /// Hooks of this step that are still to write it.
    uses: usize,
    is_sent: bool,
}

/// A piece of a parameter in a bucket.
#[derive(Clone, Copy, Debug)]
struct Piece {
    parameter: usize,
    start: usize,
    len: usize,
}

/// Where a step's sums come back.
type Summed = (
    Sender<Outcome<(usize, Vec<f32>)>>,
    Receiver<Outcome<(usize, Vec<f32>)>>,
);

#[derive(Debug, Default)]
struct State {
    parameters: Vec<Parameter>,
    by_weight: HashMap<usize, usize>,
    by_gradient: HashMap<usize, usize>,
    /// Of the buckets so far, the last of which is being filled.
    pieces: Vec<Vec<Piece>>,
    filling: Vec<f32>,
    /// Memory of earlier buckets.
    free: Vec<Vec<f32>>,
    /// Whether gradients are sent as they are written.
    is_eager: bool,
    /// This step's, so that a reply that never comes is noticed.
    summed: Option<Summed>,
    share: f64,
}

/// A rank's gradients on their way to the others, step by step.
#[derive(Debug)]
pub(crate) struct GradientExchange {
    communicator: Communicator,
    state: Mutex<State>,
}

impl GradientExchange {
    pub(crate) fn new(communicator: &Communicator) -> Arc<Self> {
        Arc::new(Self {
            communicator: communicator.clone(),
            state: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the operations of a step's forward and backward pass find the exchange, as long as what is
    /// returned lives. `share` is this rank's of the batch's images. With `is_eager`, gradients are
    /// sent as they are written; without, more will be added to them.
    pub(crate) fn begin<M, D>(
        self: &Arc<Self>,
        model: &M,
        grads: &mut Gradients<f32, D>,
        is_trained: &dyn Fn(&str) -> bool,
        is_eager: bool,
        share: f64,
    ) -> Result<Installed>
    where
        M: TensorCollection<f32, D>,
        D: Device<f32> + HostAccess<f32>,
    {
        let state = &mut *self.lock();
        (state.is_eager, state.share) = (is_eager, share);
        state.summed = Some(channel());
        state.by_weight.clear();
        state.by_gradient.clear();
        let mut count = 0;
        for_each_part(model, &mut |name, part| {
            let Part::Weight(tensor) = part else {
                return Ok(());
            };
            let len = tensor.len();
            if len == 0 || !is_trained(&name) {
                return Ok(());
            }
            let gradient = D::address(D::buffer(tensor.gradient(grads)?));
            state.by_gradient.insert(gradient, count);
            // One that is a view of others' memory is sent at the end.
            if let Ok(view) = tensor.view("exchange") {
                state.by_weight.insert(D::address(view), count);
            }
            if state.parameters.len() <= count {
                state.parameters.push(Parameter::default());
            }
            let parameter = &mut state.parameters[count];
            let first = tensor.sizes().first().copied().unwrap_or(1).max(1);
            (parameter.len, parameter.row) = (len, len / first);
            (parameter.uses, parameter.is_sent) = (0, false);
            count += 1;
            Ok(())
        })?;
        state.parameters.truncate(count);
        Ok(Installed::new(self.clone()))
    }

    /// Sends what the hooks have not, waits for all sums, and puts them into the gradients.
    pub(crate) fn finish<M, D>(
        &self,
        model: &M,
        grads: &mut Gradients<f32, D>,
        is_trained: &dyn Fn(&str) -> bool,
    ) -> Result<()>
    where
        M: TensorCollection<f32, D>,
        D: Device<f32> + HostAccess<f32>,
    {
        let mut count = 0;
        self.each_gradient(model, grads, is_trained, &mut |gradient| {
            let (i, state) = (count, &mut *self.lock());
            count += 1;
            if state.parameters[i].is_sent {
                return Ok(());
            }
            // Operations of dfdx's own have written it, if any has.
            if let Some(values) = D::floats(gradient)? {
                self.send(state, i, &values, &Rows::All);
            }
            Ok(())
        })?;
        let state = &mut *self.lock();
        self.submit(state);
        let pieces = take(&mut state.pieces);
        let mut buckets = vec![Vec::new(); pieces.len()];
        if let Some((reply, summed)) = state.summed.take() {
            drop(reply);
            for _ in &pieces {
                let (index, values) = self.communicator.wait(&summed)?;
                buckets[index] = values;
            }
        }
        // By parameter: where each piece is.
        let mut places = vec![Vec::new(); state.parameters.len()];
        for (bucket, pieces) in pieces.iter().enumerate() {
            let mut from = 0;
            for piece in pieces {
                places[piece.parameter].push((bucket, from, *piece));
                from += piece.len;
            }
        }
        let mut count = 0;
        self.each_gradient(model, grads, is_trained, &mut |gradient| {
            let places = &places[count];
            count += 1;
            D::edit_floats(gradient, &mut |values| {
                for &(bucket, from, piece) in places {
                    let sums = &buckets[bucket][from..from + piece.len];
                    values[piece.start..piece.start + piece.len].copy_from_slice(sums);
                }
                Ok(())
            })
        })?;
        state.free.append(&mut buckets);
        for parameter in &mut state.parameters {
            parameter.rows = Rows::None;
        }
        Ok(())
    }

    /// Calls `f` with the gradients of the trained parameters, in the order of [`begin`](Self::begin).
    fn each_gradient<M, D>(
        &self,
        model: &M,
        grads: &mut Gradients<f32, D>,
        is_trained: &dyn Fn(&str) -> bool,
        f: &mut dyn FnMut(&mut <D as Storage<f32>>::Vec) -> Result<()>,
    ) -> Result<()>
    where
        M: TensorCollection<f32, D>,
        D: Device<f32> + HostAccess<f32>,
    {
        for_each_part(model, &mut |name, part| match part {
            Part::Weight(tensor) if tensor.len() > 0 && is_trained(&name) => {
                f(tensor.gradient(grads)?)
            }
            _ => Ok(()),
        })
    }

    /// Copies a gradient's rows into buckets, which are sent as they are full.
    fn send(&self, state: &mut State, parameter: usize, values: &[f32], rows: &Rows) {
        state.parameters[parameter].is_sent = true;
        let row = state.parameters[parameter].row;
        match rows {
            Rows::None => {}
            Rows::All => self.pack(state, parameter, 0, values),
            Rows::Some(rows) => {
                for &i in rows {
                    if let Some(values) = values.get(i * row..(i + 1) * row) {
                        self.pack(state, parameter, i * row, values);
                    }
                }
            }
        }
    }

    fn pack(&self, state: &mut State, parameter: usize, mut start: usize, mut values: &[f32]) {
        while !values.is_empty() {
            if state.filling.capacity() == 0 {
                state.filling = state.free.pop().unwrap_or_default();
                state.filling.clear();
                state.filling.reserve_exact(BUCKET);
                state.pieces.push(Vec::new());
            }
            let len = values.len().min(BUCKET - state.filling.len());
            state.filling.extend_from_slice(&values[..len]);
            if let Some(pieces) = state.pieces.last_mut() {
                pieces.push(Piece {
                    parameter,
                    start,
                    len,
                });
            }
            values = &values[len..];
            start += len;
            if state.filling.len() == BUCKET {
                self.submit(state);
            }
        }
    }

    /// Sends the bucket that is being filled.
    fn submit(&self, state: &mut State) {
        if state.filling.is_empty() {
            return;
        }
        let (index, values) = (state.pieces.len() - 1, take(&mut state.filling));
        if let Some((reply, _)) = &state.summed {
            self.communicator.begin_sum(index, values, reply);
        }
    }
}

impl Exchange for GradientExchange {
    fn sum(&self, values: &mut [f64]) -> Result<()> {
        timed("exchange of importance", || self.communicator.sum(values))
    }

    fn share(&self) -> f64 {
        self.lock().share
    }

    fn used(&self, parameter: usize) {
        let state = &mut *self.lock();
        if let Some(&i) = state.by_weight.get(&parameter) {
            state.parameters[i].uses += 1;
        }
    }

    fn written(&self, gradient: usize, values: &[f32], rows: Option<&[usize]>) -> Result<()> {
        let state = &mut *self.lock();
        let Some(&i) = state.by_gradient.get(&gradient) else {
            return Ok(());
        };
        let parameter = &mut state.parameters[i];
        if parameter.is_sent {
            let message = "a parameter's gradient is written after it was sent".into();
            return Err(Error::Distributed {
                rank: self.communicator.rank(),
                message,
            });
        }
        parameter.rows.add(rows);
        parameter.uses = parameter.uses.saturating_sub(1);
        if parameter.uses == 0 && state.is_eager {
            let rows = take(&mut parameter.rows);
            self.send(state, i, values, &rows);
        }
        Ok(())
    }
}
