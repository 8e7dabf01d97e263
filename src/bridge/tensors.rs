//! A module's tensors one by one, whatever their shapes.
//!
//! dfdx compiles a walk through a module anew for every visitor, for each module type in it: with a
//! visitor for each purpose that was a third of what a program with a ResNet compiled. So there are
//! two walks, one that reads and one that writes, and both show a tensor as a trait object.

use std::any::Any;

use dfdx::dtypes::Dtype;
use dfdx::nn::{RecursiveWalker, ScalarOptions, TensorCollection, TensorOptions, TensorVisitor};
use dfdx::nn::{ViewTensorMut, ViewTensorName, ViewTensorRef};
use dfdx::optim::UnusedTensors;
use dfdx::shapes::{HasShape, Shape};
use dfdx::tensor::{Gradients, Storage, Tensor};
use dfdx::tensor_ops::Device;
use num_traits::NumCast;

use super::upload::values;
use super::view::{View, ViewMut, Views};
use crate::error::{Error, Result};

/// A tensor of any shape.
pub trait AnyTensor<E: Dtype, D: Device<E> + Views<E>> {
    /// Its sizes.
    fn sizes(&self) -> Vec<usize>;

    /// How many elements it has.
    fn len(&self) -> usize;

    /// Its device.
    fn device(&self) -> &D;

    /// Its elements in row-major order, in the host's memory.
    fn elements(&self) -> Vec<E>;

    /// Its elements, where they are.
    ///
    /// # Errors
    /// [`Error::Shape`] if it is not contiguous; `op` is who asks.
    fn view(&self, op: &'static str) -> Result<View<'_, E, D>>;

    /// Its elements, to write.
    ///
    /// # Errors
    /// As [`view`](Self::view).
    fn view_mut(&mut self, op: &'static str) -> Result<ViewMut<'_, E, D>>;

    /// Its gradient: zeros if there was none.
    ///
    /// # Errors
    /// [`Error::Device`] if memory runs out.
    fn gradient<'g>(
        &self,
        grads: &'g mut Gradients<E, D>,
    ) -> Result<&'g mut <D as Storage<E>>::Vec>;

    /// Tells dfdx that it had no gradient.
    fn add_to_unused(&self, unused: &mut UnusedTensors);

    /// Sets its elements, given in row-major order. A view of others' memory becomes a tensor with
    /// memory and an id of its own.
    ///
    /// # Errors
    /// [`Error::Device`] if memory runs out; [`Error::Shape`] for another number of elements.
    fn set(&mut self, elements: Vec<E>) -> Result<()>;

    /// Becomes `other`, whose memory it shares until one of them is written.
    ///
    /// # Errors
    /// [`Error::Shape`] if `other` is of another shape.
    fn assign(&mut self, other: &dyn AnyTensor<E, D>) -> Result<()>;

    /// The same tensor: it shares the memory.
    fn boxed(&self) -> Box<dyn AnyTensor<E, D>>;

    /// The tensor itself.
    fn as_any(&self) -> &dyn Any;
}

impl<S: Shape, E: Dtype, D: Device<E> + Views<E>> AnyTensor<E, D> for Tensor<S, E, D> {
    fn sizes(&self) -> Vec<usize> {
        HasShape::shape(self).concrete().into()
    }

    fn len(&self) -> usize {
        HasShape::shape(self).num_elements()
    }

    fn device(&self) -> &D {
        Tensor::device(self)
    }

    fn elements(&self) -> Vec<E> {
        values(self)
    }

    fn view(&self, op: &'static str) -> Result<View<'_, E, D>> {
        D::view(op, self)
    }

    fn view_mut(&mut self, op: &'static str) -> Result<ViewMut<'_, E, D>> {
        D::view_mut(op, self)
    }

    fn gradient<'g>(
        &self,
        grads: &'g mut Gradients<E, D>,
    ) -> Result<&'g mut <D as Storage<E>>::Vec> {
        grads.get_or_alloc_mut(self).map_err(Error::device)
    }

    fn add_to_unused(&self, unused: &mut UnusedTensors) {
        unused.add(self);
    }

    fn set(&mut self, elements: Vec<E>) -> Result<()> {
        if elements.len() != AnyTensor::len(self) {
            let shape = HasShape::shape(self);
            return Err(Error::shape("set", "elements", shape, elements.len()));
        }
        // dfdx copies into the memory in its order, whatever the view of it.
        if D::view("set", self).is_ok() {
            if !elements.is_empty() {
                self.copy_from(&elements);
            }
            return Ok(());
        }
        let dev = Tensor::device(self).clone();
        *self = dev
            .try_tensor_from_vec(elements, *HasShape::shape(self))
            .map_err(Error::device)?;
        Ok(())
    }

    fn assign(&mut self, other: &dyn AnyTensor<E, D>) -> Result<()> {
        match other.as_any().downcast_ref::<Self>() {
            Some(other) if HasShape::shape(other) == HasShape::shape(self) => {
                self.clone_from(other);
                Ok(())
            }
            _ => {
                let (expected, found) = (AnyTensor::sizes(self), other.sizes());
                Err(Error::shape("assign", "shape", expected, found))
            }
        }
    }

    fn boxed(&self) -> Box<dyn AnyTensor<E, D>> {
        Box::new(self.clone())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// A number of any type.
pub trait AnyNumber {
    /// Its value, if f64 can hold it.
    fn value(&self) -> Option<f64>;

    /// Its type's name.
    fn type_name(&self) -> &'static str;

    /// Whether its type has this value.
    fn can_be(&self, value: f64) -> bool;

    /// Sets it, if its type has this value.
    fn set(&mut self, value: f64);
}

impl<N: NumCast> AnyNumber for N {
    fn value(&self) -> Option<f64> {
        self.to_f64()
    }

    fn type_name(&self) -> &'static str {
        std::any::type_name::<N>()
    }

    fn can_be(&self, value: f64) -> bool {
        N::from(value).is_some()
    }

    fn set(&mut self, value: f64) {
        if let Some(value) = N::from(value) {
            *self = value;
        }
    }
}

/// What a module consists of.
pub enum Part<'a, E: Dtype, D: Device<E> + Views<E>> {
    /// A tensor that is trained.
    Weight(&'a dyn AnyTensor<E, D>),
    /// A tensor that is not: a running statistic.
    Statistic(&'a dyn AnyTensor<E, D>),
    /// A number that belongs to the module's state.
    Number(&'a dyn AnyNumber),
}

/// [`Part`] to write.
pub enum PartMut<'a, E: Dtype, D: Device<E> + Views<E>> {
    /// A tensor that is trained.
    Weight(&'a mut dyn AnyTensor<E, D>),
    /// A tensor that is not.
    Statistic(&'a mut dyn AnyTensor<E, D>),
    /// A number that belongs to the module's state.
    Number(&'a mut dyn AnyNumber),
}

/// What is done with each part, by its path name.
type Visit<'f, E, D> = dyn FnMut(String, Part<'_, E, D>) -> Result<()> + 'f;
type VisitMut<'f, E, D> = dyn FnMut(String, PartMut<'_, E, D>) -> Result<()> + 'f;

/// Calls `f` with each part of `module` and its path name, in the module's order.
///
/// # Errors
/// The first that `f` returns, here and below.
pub fn for_each_part<M, E, D>(module: &M, f: &mut Visit<'_, E, D>) -> Result<()>
where
    M: TensorCollection<E, D>,
    E: Dtype,
    D: Device<E> + Views<E>,
{
    M::iter_tensors(&mut RecursiveWalker {
        m: (module, String::new()),
        f: &mut Reading(f),
    })
    .map(drop)
}

/// Calls `f` with each part of `module` to write, and its path name, in the module's order.
pub fn for_each_part_mut<M, E, D>(module: &mut M, f: &mut VisitMut<'_, E, D>) -> Result<()>
where
    M: TensorCollection<E, D>,
    E: Dtype,
    D: Device<E> + Views<E>,
{
    M::iter_tensors(&mut RecursiveWalker {
        m: (module, String::new()),
        f: &mut Writing(f),
    })
    .map(drop)
}

struct Reading<'a, 'f, E: Dtype, D: Device<E> + Views<E>>(&'a mut Visit<'f, E, D>);

impl<E: Dtype, D: Device<E> + Views<E>> TensorVisitor<E, D> for Reading<'_, '_, E, D> {
    type Viewer = (ViewTensorRef, ViewTensorName);
    type Err = Error;
    type E2 = E;
    type D2 = D;

    fn visit<S: Shape>(
        &mut self,
        opts: TensorOptions<S, E, D>,
        (tensor, name): (&Tensor<S, E, D>, String),
    ) -> Result<Option<Tensor<S, E, D>>> {
        let part = if opts.do_gradient_update {
            Part::Weight(tensor)
        } else {
            Part::Statistic(tensor)
        };
        (self.0)(name, part).map(|()| None)
    }

    fn visit_scalar<N: NumCast>(
        &mut self,
        _: ScalarOptions<N>,
        (number, name): (&N, String),
    ) -> Result<Option<N>> {
        (self.0)(name, Part::Number(number)).map(|()| None)
    }
}

struct Writing<'a, 'f, E: Dtype, D: Device<E> + Views<E>>(&'a mut VisitMut<'f, E, D>);

impl<E: Dtype, D: Device<E> + Views<E>> TensorVisitor<E, D> for Writing<'_, '_, E, D> {
    type Viewer = (ViewTensorMut, ViewTensorName);
    type Err = Error;
    type E2 = E;
    type D2 = D;

    fn visit<S: Shape>(
        &mut self,
        opts: TensorOptions<S, E, D>,
        (tensor, name): (&mut Tensor<S, E, D>, String),
    ) -> Result<Option<Tensor<S, E, D>>> {
        let part = if opts.do_gradient_update {
            PartMut::Weight(tensor)
        } else {
            PartMut::Statistic(tensor)
        };
        (self.0)(name, part).map(|()| None)
    }

    fn visit_scalar<N: NumCast>(
        &mut self,
        _: ScalarOptions<N>,
        (number, name): (&mut N, String),
    ) -> Result<Option<N>> {
        (self.0)(name, PartMut::Number(number)).map(|()| None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dfdx::prelude::*;

    #[test]
    fn views_are_set_in_row_major_order() {
        let dev = Cpu::default();
        let elements = vec![1.0, f32::NAN, 3.0, 4.0, 5.0, 6.0];
        let bits = |elements: &[f32]| elements.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        let check = |mut t: Tensor<Rank2<3, 2>, f32, Cpu>| {
            AnyTensor::set(&mut t, elements.clone()).unwrap();
            assert_eq!(bits(&t.as_vec()), bits(&elements));
            assert!(AnyTensor::set(&mut t, vec![0.0; 5]).is_err());
        };
        check(dev.zeros());
        check(dev.zeros::<Rank2<2, 3>>().permute());
        check(dev.zeros::<Rank1<2>>().broadcast());
    }

    #[test]
    fn tensors_of_other_shapes_are_not_assigned() {
        let dev = Cpu::default();
        let mut a: Tensor<(usize,), f32, _> = dev.zeros_like(&(3,));
        let b: Tensor<(usize,), f32, _> = dev.ones_like(&(3,));
        AnyTensor::assign(&mut a, &b).unwrap();
        assert_eq!(a.as_vec(), [1.0; 3]);
        let longer: Tensor<(usize,), f32, _> = dev.zeros_like(&(4,));
        let other: Tensor<Rank1<3>, f32, _> = dev.zeros();
        assert!(AnyTensor::assign(&mut a, &longer).is_err());
        assert!(AnyTensor::assign(&mut a, &other).is_err());
    }
}
