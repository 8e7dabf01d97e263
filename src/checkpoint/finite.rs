//! Weights that training has spoilt.

use dfdx::nn::TensorCollection;

use super::element::StoredElement;
use crate::backend::Backend;
use crate::bridge::tensors::{for_each_part, Part};
use crate::error::{Error, Result};

/// An error if a tensor or number of the model is infinite or not a number, running statistics
/// included. `place` is the model's or its file's name.
///
/// ```
/// use ssprop::checkpoint::check_finite;
/// use ssprop::prelude::*;
///
/// let mut model = Cpu::default().build_module::<Linear<3, 2>, f32>();
/// check_finite("a.safetensors", &model)?;
/// model.bias.copy_from(&[0.0, f32::NAN]);
/// let err = check_finite("a.safetensors", &model).unwrap_err().to_string();
/// assert_eq!(err, "a.safetensors: `bias`: element 1 is NaN: must be finite");
/// # Ok::<(), ssprop::Error>(())
/// ```
///
/// # Errors
/// [`Error::NonFiniteWeight`] names the first one, in the model's order.
pub fn check_finite<M, E, D>(place: &str, model: &M) -> Result<()>
where
    M: TensorCollection<E, D>,
    E: StoredElement,
    D: Backend<E>,
{
    for_each_part::<_, E, D>(model, &mut |name, part| {
        let found = match part {
            Part::Weight(tensor) | Part::Statistic(tensor) => {
                E::first_non_finite(&tensor.elements())
            }
            Part::Number(number) => number.value().filter(|x| !x.is_finite()).map(|x| (0, x)),
        };
        match found {
            None => Ok(()),
            Some((index, value)) => Err(Error::NonFiniteWeight {
                place: place.to_owned(),
                name,
                index,
                value,
            }),
        }
    })
}
