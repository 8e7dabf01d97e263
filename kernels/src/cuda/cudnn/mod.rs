//! Convolutions by cuDNN: the fastest algorithm of those that give the same bits each time, kept by shape.

mod library;
mod plan;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::c_void;
use std::rc::Rc;

use self::library::{Library, Object};
use self::plan::Plan;
use super::context::{context, Context};
use super::memory::{Slice, SliceMut};
use super::per_device::PerDevice;
use super::tf32::tf32;
use crate::args::conv2d::Conv2DShape;
use crate::args::Fill;
use crate::error::{Error, Result};

/// A product of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pass {
    /// y of x and the weight
    Forward,
    /// dX of the weight and dY
    BackwardInput,
    /// dW of x and dY
    BackwardWeight,
}

/// Elements of memory to which the parts of a workspace are rounded up: 256 bytes.
const ALIGNED: usize = 64;

/// What a plan is made for.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    shape: Conv2DShape,
    pass: Pass,
    tf32: bool,
}

/// What a thread keeps for a device: a handle and plans.
struct Cudnn {
    functions: &'static Library,
    handle: Object,
    plans: RefCell<HashMap<Key, Option<Rc<Plan>>>>,
    /// Keeps the driver's context.
    _context: Rc<Context>,
}

impl Cudnn {
    /// For the device whose context is the thread's, this one.
    fn new(context: Rc<Context>) -> Result<Self> {
        let functions = Library::get()?;
        let mut handle = std::ptr::null_mut();
        // SAFETY: the handle is written to.
        functions.check("handle", unsafe { (functions.create)(&mut handle) })?;
        Ok(Self {
            functions,
            handle,
            plans: RefCell::default(),
            _context: context,
        })
    }

    fn plan(&self, key: Key) -> Result<Option<Rc<Plan>>> {
        if let Some(plan) = self.plans.borrow().get(&key) {
            return Ok(plan.clone());
        }
        let plan =
            Plan::new(self.functions, self.handle, &key.shape, key.pass, key.tf32)?.map(Rc::new);
        self.plans.borrow_mut().insert(key, plan.clone());
        Ok(plan)
    }
}

impl Drop for Cudnn {
    fn drop(&mut self) {
        // The plans' descriptors do not need the handle.
        // SAFETY: it was made by this library, and nobody else has it.
        let _ = unsafe { (self.functions.destroy)(self.handle) };
    }
}

thread_local! {
    static CUDNNS: PerDevice<Cudnn> = const { PerDevice::new() };
    static IS_USED: Cell<bool> = const { Cell::new(true) };
}

/// Sets whether this thread's convolutions may be cuDNN's; on every thread they may at first.
pub fn use_cudnn(on: bool) {
    IS_USED.set(on);
}

/// Whether this thread's convolutions may be cuDNN's.
pub fn uses_cudnn() -> bool {
    IS_USED.get()
}

/// That cuDNN can be loaded.
///
/// # Errors
/// [`Error::Device`] if not: what it says tells what to do.
pub fn check_cudnn() -> Result<()> {
    Library::get().map(drop)
}

/// A product for which cuDNN has an algorithm.
pub struct Planned {
    device: i32,
    cudnn: Rc<Cudnn>,
    plan: Rc<Plan>,
}

impl Planned {
    /// A product of `shape` on `device`; of a sparse backward pass the shape has the kept channels alone. None if cuDNN
    /// has no algorithm for it that is deterministic, or is not to be used.
    ///
    /// # Errors
    /// [`Error::Device`] if cuDNN fails or is missing.
    pub fn new(device: i32, shape: &Conv2DShape, pass: Pass) -> Result<Option<Self>> {
        if !uses_cudnn() {
            return Ok(None);
        }
        let key = Key {
            shape: *shape,
            pass,
            tf32: tf32().in_convolutions(),
        };
        let context = context(device)?;
        let cudnn = CUDNNS.with(|cudnns| cudnns.get(device, || Cudnn::new(context)))?;
        let plan = cudnn.plan(key)?;
        Ok(plan.map(|plan| Self {
            device,
            cudnn,
            plan,
        }))
    }

    /// Elements of its workspace, a multiple of 256 bytes.
    pub fn workspace(&self) -> usize {
        self.plan
            .workspace
            .div_ceil(size_of::<f32>())
            .next_multiple_of(ALIGNED)
    }

    /// `to` = the product of `left` and `right`, or `to` += it: (x, weight), (weight, dY) or (x, dY).
    ///
    /// # Errors
    /// [`Error::Device`] if cuDNN fails; [`Error::Shape`] for memory of another size.
    pub fn run(
        &self,
        left: Slice<'_, f32>,
        right: Slice<'_, f32>,
        workspace: &SliceMut<'_, f32>,
        to: &SliceMut<'_, f32>,
        fill: Fill,
    ) -> Result<()> {
        let plan = &*self.plan;
        let given = [left.len(), right.len(), to.len()];
        if given != plan.elements || workspace.len() < self.workspace() {
            return Err(Error::Shape {
                op: "conv2d",
                what: "memory for cuDNN",
                expected: format!("{:?} and {}", plan.elements, self.workspace()),
                found: format!("{given:?} and {}", workspace.len()),
            });
        }
        context(self.device)?;
        let (one, beta) = (1f32, if fill == Fill::Add { 1f32 } else { 0f32 });
        let [of_left, of_right, of_result] = plan.tensors();
        // SAFETY: the sizes have been checked against the memory, which its owners keep, and whose frees are
        // ordered behind this product, on the default stream as the handle.
        let status = unsafe {
            (plan.convolve)(
                self.cudnn.handle,
                &one,
                of_left,
                left.address as *const c_void,
                of_right,
                right.address as *const c_void,
                plan.convolution(),
                plan.algorithm,
                workspace.shared().address as *mut c_void,
                plan.workspace,
                &beta,
                of_result,
                to.shared().address as *mut c_void,
            )
        };
        self.cudnn.functions.check(plan.name, status)
    }
}
