//! From which drop rate on a sparse backward pass takes less time.

use std::collections::HashMap;
use std::time::Instant;

use dfdx::tensor::Cpu;

use super::{LayerCost, ModelCost};
use crate::backend::Conv2DKernel;
use crate::bridge::Buffer;
use crate::error::Result;
use crate::kernels::args::conv2d::{Conv2DShape, OutputGrad};
use crate::kernels::args::{Fill, KeptChannels};
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
/// [`Error::Shape`](crate::Error::Shape) for sizes that overflow, [`Error::Device`](crate::Error::Device)
/// if memory runs out.
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
        let shape = Conv2DShape::new(one.op(), [batch, c, h, w], one.c_out())?;
        let op = shape.op();
        let sizes = [
            c,
            h,
            w,
            shape.c_out(),
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

/// The memory of one layer.
struct Layer {
    dev: Cpu,
    shape: Conv2DShape,
    x: Vec<f32>,
    weight: Vec<f32>,
    dy: Vec<f32>,
    dw: Vec<f32>,
    dx: Vec<f32>,
}

fn time_bound(shape: &Conv2DShape) -> Result<Option<DropRate>> {
    let zeros = |sizes: [usize; 4]| vec![0.0; sizes.iter().product()];
    let c_out = shape.c_out();
    let mut layer = Layer {
        shape: *shape,
        x: zeros(shape.x()),
        weight: zeros(shape.weight()),
        dy: zeros(shape.y(c_out)),
        dw: zeros(shape.weight()),
        dx: zeros(shape.x()),
        dev: Cpu::default(),
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
        let (c_out, pixels) = (shape.c_out(), shape.output_pixels());
        // Which ones does not matter to the time.
        let chosen = KeptChannels::new((0..count).collect(), c_out)?;
        let mut shrunk = None;
        if count < c_out {
            let mut buffer = Buffer::<f32, Cpu>::take(dev, shape.batch() * count * pixels)?;
            dev.channel_importance(&self.dy[..], c_out, pixels)?;
            Cpu::gather_channels(&self.dy[..], c_out, pixels, &chosen, buffer.view_mut())?;
            shrunk = Some(buffer);
        }
        let dy = OutputGrad {
            data: shrunk.as_ref().map_or(&self.dy[..], Buffer::view),
            kept: shrunk.is_some().then_some(&chosen),
        };
        Cpu::conv2d_backward_weight(shape, &self.x, dy, &mut self.dw[..])?;
        Cpu::conv2d_backward_input(shape, &self.weight, dy, &mut self.dx, Fill::Overwrite)
    }
}
