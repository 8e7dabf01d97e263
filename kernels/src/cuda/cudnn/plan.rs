//! The descriptors of one product, and the algorithm that makes it.

use std::ffi::c_int;

use super::library::{
    Algorithm, Convolve, Library, Object, CROSS_CORRELATION, DEFAULT_MATH, DETERMINISTIC, FLOAT,
    FMA_MATH, NCHW,
};
use super::Pass;
use crate::args::conv2d::Conv2DShape;
use crate::error::{Error, Result};

/// Bytes of a workspace, at most: 1 GiB.
const MOST_WORKSPACE: usize = 1 << 30;
/// Algorithms that are asked for; cuDNN has fewer.
const ALGORITHMS: usize = 16;

/// A descriptor, destroyed with its plan.
struct Descriptor {
    object: Object,
    destroy: unsafe extern "C" fn(Object) -> c_int,
}

impl Descriptor {
    /// By `create`, if cuDNN has room for it.
    fn new(
        library: &Library,
        create: unsafe extern "C" fn(*mut Object) -> c_int,
        destroy: unsafe extern "C" fn(Object) -> c_int,
    ) -> Result<Self> {
        let mut object = std::ptr::null_mut();
        // SAFETY: the descriptor is written to.
        library.check("descriptor", unsafe { create(&mut object) })?;
        Ok(Self { object, destroy })
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        // SAFETY: the library made it, and only this has it.
        let _ = unsafe { (self.destroy)(self.object) };
    }
}

pub(super) struct Plan {
    /// What fails, in errors.
    pub name: &'static str,
    /// Of the factors and the result.
    tensors: [Descriptor; 3],
    convolution: Descriptor,
    /// Elements of the factors and of the result.
    pub elements: [usize; 3],
    pub convolve: Convolve,
    pub algorithm: c_int,
    /// Bytes.
    pub workspace: usize,
}

impl Plan {
    pub(super) fn tensors(&self) -> [Object; 3] {
        [0, 1, 2].map(|i: usize| self.tensors[i].object)
    }

    pub(super) fn convolution(&self) -> Object {
        self.convolution.object
    }

    /// None if no algorithm fits.
    pub(super) fn new(
        lib: &Library,
        handle: Object,
        shape: &Conv2DShape,
        pass: Pass,
        tf32: bool,
    ) -> Result<Option<Self>> {
        let int = |size: usize| {
            c_int::try_from(size)
                .map_err(|_| Error::parameter("size of a convolution", size, "less than 2^31"))
        };
        let mut supported = true;
        let mut tensor = |sizes: [usize; 4], is_filter: bool| -> Result<Descriptor> {
            let [a, b, c, d] = sizes;
            let [a, b, c, d] = [int(a)?, int(b)?, int(c)?, int(d)?];
            if is_filter {
                let made = Descriptor::new(lib, lib.create_filter, lib.destroy_filter)?;
                // SAFETY: the descriptor has just been made, here and below.
                let set = unsafe { (lib.set_filter)(made.object, FLOAT, NCHW, a, b, c, d) };
                supported &= lib.supports("filter", set)?;
                Ok(made)
            } else {
                let made = Descriptor::new(lib, lib.create_tensor, lib.destroy_tensor)?;
                // SAFETY: see above.
                let set = unsafe { (lib.set_tensor)(made.object, NCHW, FLOAT, a, b, c, d) };
                supported &= lib.supports("tensor", set)?;
                Ok(made)
            }
        };
        let op = shape.op();
        let [padding, stride, dilation] = [int(op.padding)?, int(op.stride)?, int(op.dilation)?];
        let convolution = Descriptor::new(lib, lib.create_convolution, lib.destroy_convolution)?;
        let at = convolution.object;
        // SAFETY: see above.
        unsafe {
            let set = (lib.set_convolution)(
                at,
                padding,
                padding,
                stride,
                stride,
                dilation,
                dilation,
                CROSS_CORRELATION,
                FLOAT,
            );
            let groups = (lib.set_groups)(at, int(op.groups)?);
            if !(lib.supports("convolution", set)? && lib.supports("groups", groups)?) {
                return Ok(None);
            }
            let math = if tf32 { DEFAULT_MATH } else { FMA_MATH };
            lib.check("math", (lib.set_math)(at, math))?;
        }

        let (x, w, y) = (
            (shape.x(), false),
            (shape.weight(), true),
            (shape.y(shape.c_out()), false),
        );
        let (name, sizes, find, convolve) = match pass {
            Pass::Forward => ("forward", [x, w, y], lib.find_forward, lib.forward),
            Pass::BackwardInput => (
                "backward data",
                [w, y, x],
                lib.find_backward_data,
                lib.backward_data,
            ),
            Pass::BackwardWeight => (
                "backward filter",
                [x, y, w],
                lib.find_backward_filter,
                lib.backward_filter,
            ),
        };
        let [a, b, c] = sizes;
        let tensors = [tensor(a.0, a.1)?, tensor(b.0, b.1)?, tensor(c.0, c.1)?];
        if !supported {
            return Ok(None);
        }
        let mut found = [Algorithm::default(); ALGORITHMS];
        let mut count = 0;
        // SAFETY: all descriptors are set; there is room for as many algorithms as are asked for.
        let status = unsafe {
            let [a, b, c] = [&tensors[0], &tensors[1], &tensors[2]].map(|t| t.object);
            let room = ALGORITHMS as c_int;
            find(handle, a, b, at, c, room, &mut count, found.as_mut_ptr())
        };
        if !lib.supports(name, status)? {
            return Ok(None);
        }
        let found = &found[..(count as usize).min(ALGORITHMS)];
        let Some(chosen) = found.iter().find(|a| {
            a.status == 0 && a.determinism == DETERMINISTIC && a.memory <= MOST_WORKSPACE
        }) else {
            return Ok(None);
        };
        if tf32 {
            // SAFETY: see above.
            lib.check("math", unsafe { (lib.set_math)(at, chosen.math) })?;
        }
        Ok(Some(Self {
            name,
            tensors,
            convolution,
            elements: sizes.map(|(sizes, _)| sizes.iter().product()),
            convolve,
            algorithm: chosen.number,
            workspace: chosen.memory,
        }))
    }
}
