//! The exponential moving average of a model's weights.

use dfdx::dtypes::Dtype;
use dfdx::nn::TensorCollection;

use crate::backend::Backend;
use crate::bridge::tensors::{for_each_part, for_each_part_mut, AnyTensor, Part, PartMut};
use crate::error::{Error, Result};
use crate::profile::timed;

/// The exponential moving average of a model's trainable parameters, in a model of its own:
/// average = d average + (1 - d) parameter after every step, with d = min(decay, (1 + n) / (10 + n))
/// after n updates, so that the first weights are soon forgotten.
///
/// Tensors that are not trained (the running statistics of a batch norm) are copied as they are.
/// Samples of a diffusion model are usually drawn with the average
/// ([arXiv 2006.11239](https://arxiv.org/abs/2006.11239), appendix B: decay 0.9999). To save it for
/// use, [`save`](crate::checkpoint::save) its `model`.
///
/// ```
/// use ssprop::optim::Ema;
/// use ssprop::prelude::*;
///
/// let dev = Cpu::default();
/// let mut model = dev.build_module::<Linear<1, 1>, f32>();
/// model.weight.fill_with_zeros();
/// let mut ema = Ema::new(&model, 0.999)?;
/// model.weight.fill_with_ones();
/// ema.update(&model)?;
/// // The first d is 1/10.
/// assert_eq!(ema.model.weight.array(), [[0.9]]);
/// # Ok::<(), ssprop::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Ema<M> {
    /// The model with the averaged weights. For inference: it may share dfdx's tensor ids with the
    /// one that it averages.
    pub model: M,
    decay: f64,
    updates: u64,
}

impl<M> Ema<M> {
    /// Begins with a copy of the model.
    ///
    /// # Errors
    /// [`Error::Parameter`] if `decay` is not at least 0 and less than 1.
    pub fn new(model: &M, decay: f64) -> Result<Self>
    where
        M: Clone,
    {
        if !(0.0..1.0).contains(&decay) {
            return Err(Error::parameter(
                "decay",
                decay,
                "at least 0 and less than 1",
            ));
        }
        Ok(Self {
            model: model.clone(),
            decay,
            updates: 0,
        })
    }

    /// The largest d.
    pub fn decay(&self) -> f64 {
        self.decay
    }

    /// The number of updates so far.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// Goes on as after this many updates.
    pub(crate) fn set_updates(&mut self, updates: u64) {
        self.updates = updates;
    }

    /// Moves the average towards `model`, after a step of the optimizer.
    ///
    /// # Errors
    /// [`Error::TensorShape`] if a tensor's shape is not that of the average (it can be otherwise
    /// only where it is known at run time), [`Error::Shape`] if it is not contiguous,
    /// [`Error::Device`] if the device fails.
    pub fn update<E: Dtype, D: Backend<E>>(&mut self, model: &M) -> Result<()>
    where
        M: TensorCollection<E, D>,
    {
        let n = self.updates as f64;
        let decay = self.decay.min((1.0 + n) / (10.0 + n));
        timed("moving average", || {
            // dfdx would walk through both at once, but for each pair of module types anew.
            let mut tensors = Vec::new();
            for_each_part::<_, E, D>(model, &mut |_, part| {
                if let Part::Weight(tensor) | Part::Statistic(tensor) = part {
                    tensors.push(tensor.boxed());
                }
                Ok(())
            })?;
            let mut tensors = tensors.into_iter();
            for_each_part_mut::<_, E, D>(&mut self.model, &mut |name, part| {
                let (average, trained) = match part {
                    PartMut::Weight(average) => (average, true),
                    PartMut::Statistic(average) => (average, false),
                    PartMut::Number(_) => return Ok(()),
                };
                match tensors.next() {
                    Some(tensor) if tensor.sizes() == average.sizes() => {
                        move_towards(average, &*tensor, trained.then_some(1.0 - decay))
                    }
                    other => Err(Error::TensorShape {
                        place: "moving average".to_owned(),
                        name,
                        expected: average.sizes(),
                        found: other.map_or_else(Vec::new, |tensor| tensor.sizes()),
                        note: "".into(),
                    }),
                }
            })
        })?;
        self.updates = self.updates.saturating_add(1);
        Ok(())
    }
}

/// average += rate (tensor - average); without a rate the tensor as it is.
fn move_towards<E: Dtype, D: Backend<E>>(
    average: &mut dyn AnyTensor<E, D>,
    tensor: &dyn AnyTensor<E, D>,
    rate: Option<f64>,
) -> Result<()> {
    match rate {
        Some(rate) => D::ema_update(rate, average.view_mut("ema")?, tensor.view("ema")?),
        None => average.assign(tensor),
    }
}
