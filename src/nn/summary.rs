//! A model's layers at a glance.

use std::fmt;

use dfdx::dtypes::Dtype;
use dfdx::nn::TensorCollection;

use super::{BackwardCost, ImageSize, LayerCost, ModelCost};
use crate::backend::Backend;
use crate::bridge::tensors::{for_each_part, Part};
use crate::error::Result;
use crate::sparsity::DropRate;

/// The layers of a model that have parameters: their sizes, and what they cost for one image. Its
/// [`Display`](fmt::Display) is a table.
///
/// Backward FLOPs are those of the paper (convolutions, sparse linear layers, batch norms); forward FLOPs
/// are 2 for each product and sum of a convolution or a linear layer.
///
/// ```
/// use ssprop::nn::ModelSummary;
/// use ssprop::prelude::*;
///
/// let net = Cpu::default().build_module::<ResNet18<10>, f32>();
/// let summary = ModelSummary::of(&net, [3, 32, 32], DropRate::new(0.8)?)?;
/// assert_eq!(summary.parameters(), 11_173_962);
/// println!("{summary}");
/// # assert!(summary.to_string().contains("layer2.0.conv1"));
/// # Ok::<(), ssprop::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct ModelSummary {
    /// The layers, in the model's order.
    pub layers: Vec<LayerSummary>,
    /// The share of the output channels that "sparse" drops.
    pub drop_rate: DropRate,
}

/// A layer of a [`ModelSummary`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LayerSummary {
    /// Its path, as in checkpoints.
    pub path: String,
    /// What it is, or the shapes of its parameters.
    pub kind: String,
    /// (channels, height, width) of its output; `None` for a layer whose FLOPs the paper does not count.
    pub output: Option<ImageSize>,
    /// How many parameters it has.
    pub parameters: usize,
    /// Forward FLOPs of an image.
    pub forward: f64,
    /// Backward FLOPs of an image, dense.
    pub backward: f64,
    /// Backward FLOPs of an image at the drop rate.
    pub sparse_backward: f64,
}

impl ModelSummary {
    /// The layers of `model` for images of size `input`, with sparse backward passes at `drop_rate`.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if an image does not fit a layer.
    pub fn of<M, E, D>(model: &M, input: ImageSize, drop_rate: DropRate) -> Result<Self>
    where
        M: TensorCollection<E, D> + BackwardCost,
        E: Dtype,
        D: Backend<E>,
    {
        let cost = ModelCost::of::<M>(input)?;
        let mut layers: Vec<LayerSummary> = Vec::new();
        for_each_part::<_, E, D>(model, &mut |name, part| {
            let Part::Weight(param) = part else {
                return Ok(());
            };
            let path = match name.rsplit_once('.') {
                Some((layer, _)) => layer,
                // Of a layer alone; or a tensor of the network's own.
                None if ["weight", "bias"].contains(&&*name) => "",
                None => &name,
            };
            if layers.last().is_none_or(|layer| layer.path != path) {
                let counted = cost.layers.iter().find(|(at, _)| at == path);
                layers.push(match counted {
                    Some((_, cost)) => LayerSummary::counted(path, cost, drop_rate),
                    None => LayerSummary::other(path, &param.sizes()),
                });
            }
            if let Some(layer) = layers.last_mut() {
                layer.parameters += param.len();
            }
            Ok(())
        })?;
        Ok(Self { layers, drop_rate })
    }

    /// How many parameters the model has.
    pub fn parameters(&self) -> usize {
        self.layers.iter().map(|layer| layer.parameters).sum()
    }

    /// The sum over the layers.
    fn total(&self) -> LayerSummary {
        let sum = |of: fn(&LayerSummary) -> f64| self.layers.iter().map(of).sum();
        LayerSummary {
            path: "all".to_owned(),
            parameters: self.parameters(),
            forward: sum(|layer| layer.forward),
            backward: sum(|layer| layer.backward),
            sparse_backward: sum(|layer| layer.sparse_backward),
            ..LayerSummary::default()
        }
    }
}

impl LayerSummary {
    fn counted(path: &str, cost: &LayerCost, drop_rate: DropRate) -> Self {
        let (kind, output, products) = match cost {
            LayerCost::Conv2D(conv) | LayerCost::FrozenConv2D(conv) => {
                let (op, [h, w]) = (conv.op(), conv.output());
                let mut kind = format!("conv {}x{}", op.kernel, op.kernel);
                for (name, value, usual) in [
                    ("stride", op.stride, 1),
                    ("dilation", op.dilation, 1),
                    ("groups", op.groups, 1),
                ] {
                    if value != usual {
                        kind += &format!(", {name} {value}");
                    }
                }
                let products = h * w * conv.c_out() * conv.filter_len();
                (kind, [conv.c_out(), h, w], products)
            }
            &LayerCost::Linear { inputs, outputs }
            | &LayerCost::FrozenLinear { inputs, outputs } => {
                ("linear".to_owned(), [outputs, 1, 1], inputs * outputs)
            }
            &LayerCost::BatchNorm2D(size) => ("batch norm".to_owned(), size, 0),
            &LayerCost::Dropout(size) => ("dropout".to_owned(), size, 0),
        };
        Self {
            path: path.to_owned(),
            kind,
            output: Some(output),
            parameters: 0,
            forward: 2.0 * products as f64,
            backward: cost.flops(1, DropRate::DENSE),
            sparse_backward: cost.flops(1, drop_rate),
        }
    }

    /// A layer whose FLOPs the paper does not count, by its first parameter.
    fn other(path: &str, sizes: &[usize]) -> Self {
        Self {
            path: path.to_owned(),
            kind: format!("{sizes:?}"),
            forward: match sizes {
                [outputs, inputs] => 2.0 * (outputs * inputs) as f64,
                _ => 0.0,
            },
            ..Self::default()
        }
    }

    fn cells(&self) -> [String; 7] {
        let millions = |flops: f64| match flops == 0.0 {
            true => String::new(),
            false => format!("{:.2}", flops / 1e6),
        };
        [
            self.path.clone(),
            self.kind.clone(),
            self.output
                .map_or(String::new(), |[c, h, w]| format!("{c}x{h}x{w}")),
            self.parameters.to_string(),
            millions(self.forward),
            millions(self.backward),
            millions(self.sparse_backward),
        ]
    }
}

impl fmt::Display for ModelSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = [
            "layer",
            "kind",
            "output",
            "parameters",
            "forward",
            "backward",
            "sparse",
        ];
        let mut rows = vec![head.map(str::to_owned)];
        rows.extend(self.layers.iter().map(LayerSummary::cells));
        rows.push(self.total().cells());
        let width = |column: usize| {
            let cells = rows.iter().map(|row| row[column].chars().count());
            cells.max().unwrap_or(0)
        };
        let widths: [usize; 7] = std::array::from_fn(width);
        for row in &rows {
            let mut line = String::new();
            for (i, (cell, width)) in row.iter().zip(widths).enumerate() {
                // Words to the left, numbers to the right.
                line += &match i < 3 {
                    true => format!("{cell:<width$}  "),
                    false => format!("{cell:>width$}  "),
                };
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        writeln!(
            f,
            "millions of FLOPs for one image; sparse: backward, {:.0}% dropped",
            100.0 * self.drop_rate.rate()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{builders, modules};
    use dfdx::prelude::{Cpu, DeviceBuildExt, Linear, ReLU};

    type Net = (
        builders::SparseConv2D<3, 8, 3, 2, 1>,
        (builders::BatchNorm2D<8>, ReLU),
        modules::GlobalAvgPool,
        Linear<8, 10>,
    );

    #[test]
    fn layers_and_their_sum() {
        let net = Cpu::default().build_module::<Net, f32>();
        let summary = ModelSummary::of(&net, [3, 8, 8], DropRate::new(0.5).unwrap()).unwrap();
        let found: Vec<_> = summary
            .layers
            .iter()
            .map(|layer| (&*layer.path, &*layer.kind, layer.output, layer.parameters))
            .collect();
        let size = Some([8, 4, 4]);
        assert_eq!(
            found,
            [
                ("0", "conv 3x3, stride 2", size, 216),
                ("1.0", "batch norm", size, 16),
                ("3", "[10, 8]", None, 90),
            ]
        );
        assert_eq!(summary.layers[0].forward, 2.0 * 16.0 * 216.0);
        assert_eq!(summary.layers[2].forward, 160.0);
        let cost = ModelCost::of::<<Net as dfdx::nn::BuildOnDevice<Cpu, f32>>::Built>([3, 8, 8]);
        let cost = cost.unwrap();
        let total = summary.total();
        assert_eq!(total.backward, cost.per_iteration(1, DropRate::DENSE));
        assert_eq!(
            total.sparse_backward,
            cost.per_iteration(1, summary.drop_rate)
        );
        assert!(total.sparse_backward < total.backward);

        let text = summary.to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 6);
        assert!(
            lines[4].starts_with("all") && lines[4].contains("322"),
            "{text}"
        );
        assert!(lines[5].ends_with("50% dropped"), "{text}");
    }
}
