//! Launching a kernel.

use std::ffi::c_void;

use cudarc::driver::result::launch_kernel;

use super::context::{context, failed};
use super::memory::{Slice, SliceMut};
use super::{Source, SELECT};
use crate::args::Fill;
use crate::error::{Error, Result};

/// Threads of a block of an element-wise kernel.
const THREADS: u32 = 256;
/// Blocks of one: enough to fill any GPU, whose threads then go on with further elements.
const MOST_BLOCKS: usize = 1 << 14;

/// One argument of a kernel.
#[derive(Clone, Copy, Debug)]
pub enum Arg {
    /// `float *` and the like
    Address(u64),
    /// `unsigned`
    Size(usize),
    /// `int`
    Int(i32),
    /// `unsigned long long`
    Bits(u64),
    /// `float`
    Float(f32),
    /// `double`
    Double(f64),
}

impl<E> From<Slice<'_, E>> for Arg {
    fn from(memory: Slice<'_, E>) -> Self {
        Self::Address(memory.address)
    }
}

impl<E> From<&SliceMut<'_, E>> for Arg {
    fn from(memory: &SliceMut<'_, E>) -> Self {
        Self::Address(memory.shared().address)
    }
}

/// A null pointer where there is none.
impl<A: Into<Arg>> From<Option<A>> for Arg {
    fn from(memory: Option<A>) -> Self {
        memory.map_or(Self::Address(0), Into::into)
    }
}

/// `int add`: 1 to add, 0 to overwrite.
impl From<Fill> for Arg {
    fn from(fill: Fill) -> Self {
        Self::Int((fill == Fill::Add).into())
    }
}

impl From<usize> for Arg {
    fn from(size: usize) -> Self {
        Self::Size(size)
    }
}

impl From<f32> for Arg {
    fn from(value: f32) -> Self {
        Self::Float(value)
    }
}

impl From<bool> for Arg {
    fn from(value: bool) -> Self {
        Self::Int(value.into())
    }
}

impl Arg {
    /// The bytes that the kernel's parameter is read from, the first ones if it is smaller.
    fn bytes(self) -> Result<[u8; 8]> {
        let of_32 = |word: [u8; 4]| [word[0], word[1], word[2], word[3], 0, 0, 0, 0];
        Ok(match self {
            Self::Address(bits) | Self::Bits(bits) => bits.to_ne_bytes(),
            Self::Size(size) => {
                let size = i32::try_from(size).map_err(|_| {
                    Error::parameter("size of a CUDA kernel", size, "less than 2^31")
                })?;
                of_32(size.to_ne_bytes())
            }
            Self::Int(value) => of_32(value.to_ne_bytes()),
            Self::Float(value) => of_32(value.to_ne_bytes()),
            Self::Double(value) => value.to_ne_bytes(),
        })
    }
}

/// The blocks and threads of a kernel.
#[derive(Clone, Copy, Debug)]
pub struct Grid {
    blocks: usize,
    threads: u32,
}

impl Grid {
    /// For a kernel with a loop over `n` elements (`FOR_EACH` of `common.cuh`).
    pub fn elements(n: usize) -> Self {
        Self {
            blocks: n.div_ceil(THREADS as usize).min(MOST_BLOCKS),
            threads: THREADS,
        }
    }

    /// For a kernel with a warp for each of `n`.
    pub fn warps(n: usize) -> Self {
        Self {
            blocks: n.div_ceil(THREADS as usize / 32),
            threads: THREADS,
        }
    }

    /// How many blocks there are.
    pub fn count(&self) -> usize {
        self.blocks
    }

    /// `blocks` blocks of `threads` threads, a multiple of 32 up to 1024.
    pub fn blocks(blocks: usize, threads: u32) -> Self {
        Self { blocks, threads }
    }
}

/// Launches the kernel `name` of `source` on `device`; nothing for an empty grid.
///
/// The arguments have to be those of the kernel, and its memory as large as it expects: neither the
/// compiler nor the driver can tell.
///
/// # Errors
/// [`Error::Device`] if the driver refuses; [`Error::Parameter`] for a size of 2^31 or more.
pub fn launch(
    source: &'static Source,
    name: &'static str,
    device: i32,
    grid: Grid,
    args: &[Arg],
) -> Result<()> {
    let mut values = Vec::with_capacity(args.len());
    for arg in args {
        values.push(arg.bytes()?);
    }
    let params = values.iter_mut().map(address).collect();
    launch_with(source, name, device, grid, params)
}

fn address<T>(value: &mut T) -> *mut c_void {
    (value as *mut T).cast()
}

/// [`launch`] with the parameters' addresses.
fn launch_with(
    source: &'static Source,
    name: &'static str,
    device: i32,
    grid: Grid,
    mut params: Vec<*mut c_void>,
) -> Result<()> {
    if grid.blocks == 0 {
        return Ok(());
    }
    let blocks = u32::try_from(grid.blocks).unwrap_or(u32::MAX);
    let context = context(device)?;
    let function = context.function(source, name)?;
    // SAFETY: the function belongs to the context that `context` has bound to this thread; the driver
    // copies the parameters before it returns. The kernel reads and writes the device's memory alone, to
    // which no Rust reference points. (That the arguments fit is up to the caller: see above.)
    let launched = unsafe {
        let stream = *context.device().cu_stream();
        launch_kernel(
            function,
            (blocks, 1, 1),
            (grid.threads, 1, 1),
            0,
            stream,
            &mut params,
        )
    };
    launched.map_err(|err| failed(format_args!("kernel {name}: {err:?}")))
}

/// Launches a kernel with one parameter, a struct.
pub(super) fn launch_struct<T: Copy>(
    source: &'static Source,
    name: &'static str,
    device: i32,
    grid: Grid,
    parameter: &mut T,
) -> Result<()> {
    launch_with(source, name, device, grid, vec![address(parameter)])
}

/// Indices that one launch brings along: a kernel's parameters have 4096 bytes at most.
const INDICES: usize = 960;

/// Writes these indices, as `unsigned`. They travel as parameters of a kernel: nothing is waited for, and
/// no memory of the host has to stay.
///
/// # Errors
/// As [`launch`].
///
/// # Panics
/// If there is not room for all.
pub fn store_indices(indices: &[usize], to: &SliceMut<'_, u32>) -> Result<()> {
    for (number, part) in indices.chunks(INDICES).enumerate() {
        let start = number * INDICES;
        let to = to.shared().part(start..start + part.len());
        let mut values = [0u32; INDICES];
        for (value, &index) in values.iter_mut().zip(part) {
            *value = index as u32;
        }
        let (mut at, mut count) = (to.address(), part.len() as u32);
        let params = vec![address(&mut at), address(&mut count), address(&mut values)];
        let grid = Grid::elements(part.len());
        launch_with(&SELECT, "store_indices", to.device(), grid, params)?;
    }
    Ok(())
}
