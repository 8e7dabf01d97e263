//! From which drop rate on a sparse backward pass takes less time.

use std::collections::HashMap;
use std::time::Instant;

use dfdx::tensor::{Cpu, Storage, Tensor, ZerosTensor};

use super::{LayerCost, ModelCost};
use crate::bridge::Buffer;
use crate::error::{Error, Result};
use crate::ops::conv2d::{Conv2DGrads, Conv2DKernel, Conv2DShape, OutputGrad};
use crate::ops::Fill;
use crate::sparsity::{flops, DropRate};

/// From which drop rate on the backward pass of a layer is cheaper than the dense one.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerBound {
    /// The layer's path, as in checkpoints.
    pub path: String,
    /// Its sizes, with the batch that was measured.
    pub shape: Conv2DShape,
    /// In FLOPs: Eq. 10 of arXiv 2408.12561.
    pub flops: f64,
    /// In time, as measured here; `None` if no drop rate pays.
    pub time: Option<DropRate>,
}

/// Measures, for each convolution of a model, the drop rate above which its sparse backward pass
/// (ranking, copying, dW and dX) is faster than its dense one on this machine, on the threads that
/// it is called on, for `f32` and `batch` images. Each distinct size is measured once; ResNet-18
/// takes some seconds. The figures are of this machine and moment: they are not reproducible.
///
/// # Errors
/// [`Error::Shape`] for sizes that overflow, [`Error::Device`] if memory runs out.
///
/// ```
/// use ssprop::models::modules;
/// use ssprop::nn::{time_bounds, ModelCost};
/// use ssprop::prelude::*;
///
/// let dev = Cpu::default();
/// let mut net = dev.build_module::<Cnn<2, 10, 1>, f32>();
/// let cost = ModelCost::of::<modules::Cnn<2, 10, 1, f32, Cpu>>([1, 8, 8])?;
/// let bounds = time_bounds(&cost, 2)?;
/// assert_eq!(bounds[0].path, "layer1.conv");
/// net.visit_sparse(&mut |layer| {
///     let bound = bounds.iter().find(|b| b.path == layer.path);
///     // Below it, the dense products.
///     layer.backward.dense_below = bound.and_then(|b| b.time).unwrap_or(DropRate::DENSE);
/// });
/// # Ok::<(), ssprop::Error>(())
/// ```
pub fn time_bounds(cost: &ModelCost, batch: usize) -> Result<Vec<LayerBound>> {
    let mut known: HashMap<[usize; 9], Option<DropRate>> = HashMap::new();
    let mut bounds = Vec::new();
    for (path, layer) in &cost.layers {
        let LayerCost::Conv2D(one) = layer else {
            continue;
        };
        let [_, c, h, w] = one.x();
        let shape = Conv2DShape::new(one.op, [batch, c, h, w], one.c_out)?;
        let op = shape.op;
        let sizes = [
            c,
            h,
            w,
            shape.c_out,
            op.kernel,
            op.stride,
            op.padding,
            op.dilation,
            op.groups,
        ];
        let time = match known.get(&sizes) {
            Some(&time) => time,
            None => *known.entry(sizes).or_insert(time_bound(&shape)?),
        };
        let m = batch * shape.output_pixels();
        bounds.push(LayerBound {
            path: path.clone(),
            shape,
            flops: flops::least_useful_drop_rate(m, shape.filter_len()),
            time,
        });
    }
    Ok(bounds)
}

/// Backward passes of each kind, of which the median counts.
const REPEATS: usize = 5;

/// The tensors of one layer.
struct Layer {
    dev: Cpu,
    shape: Conv2DShape,
    x: Tensor<(usize,), f32, Cpu>,
    weight: Tensor<(usize,), f32, Cpu>,
    dy: <Cpu as Storage<f32>>::Vec,
    dw: <Cpu as Storage<f32>>::Vec,
    dx: <Cpu as Storage<f32>>::Vec,
}

fn time_bound(shape: &Conv2DShape) -> Result<Option<DropRate>> {
    let dev = Cpu::default();
    let len = |sizes: [usize; 4]| sizes.iter().product::<usize>();
    let buffer = |sizes| Storage::<f32>::try_alloc_len(&dev, len(sizes)).map_err(Error::device);
    let tensor = |sizes| dev.try_zeros_like(&(len(sizes),)).map_err(Error::device);
    let c_out = shape.c_out;
    let mut layer = Layer {
        shape: *shape,
        x: tensor(shape.x())?,
        weight: tensor(shape.weight())?,
        dy: buffer(shape.y(c_out))?,
        dw: buffer(shape.weight())?,
        dx: buffer(shape.x())?,
        dev: dev.clone(),
    };
    let dense = layer.time(c_out)?;
    // The most channels that are kept in less time, between `faster` and `slower`.
    let (mut faster, mut slower) = (0, c_out);
    while slower - faster > (c_out / 32).max(1) {
        let kept = (faster + slower) / 2;
        match layer.time(kept)? < dense {
            true => faster = kept,
            false => slower = kept,
        }
    }
    if faster == 0 && layer.time(1)? >= dense {
        return Ok(None);
    }
    let share = faster.max(1) as f64 / c_out as f64;
    DropRate::from_keep(share).map(Some)
}

impl Layer {
    /// Seconds of a backward pass that keeps `kept` channels: the median of some.
    fn time(&mut self, kept: usize) -> Result<f64> {
        self.pass(kept)?;
        let mut times = [0.0; REPEATS];
        for time in &mut times {
            let start = Instant::now();
            self.pass(kept)?;
            *time = start.elapsed().as_secs_f64();
        }
        times.sort_by(f64::total_cmp);
        Ok(times[REPEATS / 2])
    }

    fn pass(&mut self, count: usize) -> Result<()> {
        let (dev, shape) = (&self.dev, &self.shape);
        let (c_out, pixels) = (shape.c_out, shape.output_pixels());
        // Which ones does not matter to the time.
        let chosen: Vec<usize> = (0..count).collect();
        let shrunk = if count < c_out {
            Conv2DKernel::<f32>::channel_importance(dev, &self.dy, c_out, pixels)?;
            let kept = &chosen[..];
            let mut shrunk = Buffer::<f32, Cpu>::take(dev, shape.batch * count * pixels)?;
            Conv2DKernel::<f32>::gather_channels(dev, &self.dy, c_out, pixels, kept, &mut shrunk)?;
            Some(shrunk)
        } else {
            None
        };
        let dy = OutputGrad {
            data: shrunk.as_deref().unwrap_or(&self.dy),
            kept: shrunk.is_some().then_some(&chosen[..]),
        };
        let (x, weight) = (&self.x, &self.weight);
        dev.conv2d_backward(shape, x, weight, dy, Conv2DGrads::Weight(&mut self.dw))?;
        let dx = Conv2DGrads::Input(&mut self.dx, Fill::Overwrite);
        dev.conv2d_backward(shape, x, weight, dy, dx)?;
        Ok(())
    }
}
