//! What a model's backward pass costs, from its type and the size of its input alone.

use super::join;
use crate::error::Result;
use crate::ops::conv2d::Conv2DShape;
use crate::sparsity::{flops, DropRate};

/// (channels, height, width)
pub type ImageSize = [usize; 3];

/// A layer whose backward FLOPs the paper counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LayerCost {
    /// A convolution of one image (`batch` is 1).
    Conv2D(Conv2DShape),
    /// A linear layer whose backward pass can be sparse. It counts as a 1x1 convolution of a 1x1
    /// image; the dense classifiers of the paper's networks do not count, there or here.
    Linear {
        /// Input features.
        inputs: usize,
        /// Output features.
        outputs: usize,
    },
    /// A convolution that is not trained: dX alone.
    FrozenConv2D(Conv2DShape),
    /// A linear layer that is not trained: dX alone.
    FrozenLinear {
        /// Input features.
        inputs: usize,
        /// Output features.
        outputs: usize,
    },
    /// A batch norm of images of this size.
    BatchNorm2D(ImageSize),
    /// A dropout layer on images of this size.
    Dropout(ImageSize),
}

impl LayerCost {
    /// The drop rate above which a sparse backward pass of this layer with `batch` images costs less
    /// than a dense one (Eq. 10, [`flops::least_useful_drop_rate`]). `None` for a layer that is
    /// never sparse.
    pub fn least_useful_drop_rate(&self, batch: usize) -> Option<f64> {
        match self {
            Self::Conv2D(conv) => Some(flops::least_useful_drop_rate(
                batch * conv.output_pixels(),
                conv.group_in() * conv.op().kernel * conv.op().kernel,
            )),
            _ => None,
        }
    }

    /// Backward FLOPs of one iteration with `batch` images, by the formulas of
    /// [`flops`](crate::sparsity::flops).
    pub fn flops(&self, batch: usize, drop_rate: DropRate) -> f64 {
        match self {
            Self::Conv2D(conv) => flops::conv2d(
                batch * conv.output_pixels(),
                conv.group_in() * conv.op().kernel * conv.op().kernel,
                conv.c_out(),
                drop_rate,
            ),
            &Self::Linear { inputs, outputs } => flops::linear(batch, inputs, outputs, drop_rate),
            &Self::FrozenConv2D(conv) => {
                let ranking = flops::importance(batch * conv.output_pixels(), conv.c_out());
                half(
                    Self::Conv2D(conv).flops(batch, drop_rate),
                    ranking,
                    drop_rate,
                )
            }
            &Self::FrozenLinear { inputs, outputs } => {
                let whole = Self::Linear { inputs, outputs }.flops(batch, drop_rate);
                half(whole, flops::importance(batch, outputs), drop_rate)
            }
            &Self::BatchNorm2D([c, h, w]) => flops::batch_norm2d(batch * h * w, c),
            &Self::Dropout([c, h, w]) => flops::dropout(batch * h * w, c),
        }
    }
}

/// FLOPs of dX alone: half of the products of a whole pass, and all of its ranking, where there is one.
fn half(whole: f64, ranking: f64, drop_rate: DropRate) -> f64 {
    match drop_rate.is_dense() {
        true => whole / 2.0,
        false => (whole + ranking) / 2.0,
    }
}

/// A model, layer or tuple of them whose backward FLOPs can be counted without running it.
///
/// The type alone tells the cost, so a `Vec` of layers, whose length only its value knows, has
/// none: [`Repeated`](dfdx::nn::modules::Repeated) is the chain to use. See [`ModelCost`] for what
/// to do with the count.
pub trait BackwardCost {
    /// Calls `f` with the path (which begins with `path`, empty at the root) and the cost of every
    /// counted layer, and returns the output's size.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if an image does not fit a layer.
    fn visit_cost(
        path: &str,
        input: ImageSize,
        f: &mut dyn FnMut(&str, LayerCost),
    ) -> Result<ImageSize>;
}

/// The counted layers of a model for one size of its input.
///
/// ```
/// use ssprop::models::modules;
/// use ssprop::nn::{ModelCost, RunSize};
/// use ssprop::prelude::*;
///
/// let cost = ModelCost::of::<modules::ResNet18<10, 3, f32, Cpu>>([3, 32, 32])?;
/// // Table 4, CIFAR-10: 285.32e9 FLOPs an iteration.
/// let dense = cost.per_iteration(128, DropRate::DENSE);
/// assert_eq!((dense / 1e7).round(), 28532.0);
///
/// let run = RunSize { images: 50_000, batch: 128, epochs: 50 };
/// let run = cost.on_schedule(&Schedule::paper().into(), run)?;
/// assert_eq!((run.total.scheduled / 1e13).round(), 335.0);
///
/// for (path, layer) in &cost.layers {
///     println!("{path}: {}", layer.flops(128, DropRate::DENSE));
/// }
/// # Ok::<(), ssprop::Error>(())
/// ```
///
/// What a run costs on a [`SchedulePlan`](super::SchedulePlan), and each layer's part of it, is
/// [`on_schedule`](Self::on_schedule).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelCost {
    /// The layers' paths, as in checkpoints, and their costs.
    pub layers: Vec<(String, LayerCost)>,
}

impl ModelCost {
    /// The counted layers of models of the type `M` for images of size `input`.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if an image does not fit a layer.
    pub fn of<M: BackwardCost>(input: ImageSize) -> Result<Self> {
        let mut layers = Vec::new();
        M::visit_cost("", input, &mut |path, layer| {
            layers.push((path.to_string(), layer));
        })?;
        Ok(Self { layers })
    }

    /// The same where some of the model's parameters are frozen: all of them by path, in the model's order, and whether
    /// each is. Layers in front of the first that is trained cost nothing, other frozen ones the gradient of their
    /// input.
    pub(crate) fn with_frozen(mut self, parameters: &[(String, bool)]) -> Self {
        let first = parameters.iter().position(|(_, frozen)| !frozen);
        let first = first.unwrap_or(parameters.len());
        let of = |path: &str, name: &str| {
            let rest = name.strip_prefix(path);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        // The place of a layer's last parameter, and whether all are frozen.
        let found = |path: &str| {
            let mut own = parameters
                .iter()
                .enumerate()
                .filter(|(_, (name, _))| of(path, name));
            let (mut last, (_, mut frozen)) = own.next().map(|(i, p)| (i, p.clone()))?;
            for (i, (_, is_frozen)) in own {
                (last, frozen) = (i, frozen && *is_frozen);
            }
            Some((last, frozen))
        };
        let is_reached =
            |(path, _): &(String, LayerCost)| found(path).is_some_and(|p| p.0 >= first);
        let reached = self.layers.iter().position(is_reached);
        self.layers.drain(..reached.unwrap_or(self.layers.len()));
        for (path, layer) in &mut self.layers {
            let is_frozen = found(path).is_some_and(|(_, frozen)| frozen);
            match *layer {
                LayerCost::Conv2D(conv) if is_frozen => *layer = LayerCost::FrozenConv2D(conv),
                LayerCost::Linear { inputs, outputs } if is_frozen => {
                    *layer = LayerCost::FrozenLinear { inputs, outputs };
                }
                _ => {}
            }
        }
        self
    }

    /// The same with a dropout layer, `PATH.dropout`, after every batch norm whose path is `after`.
    ///
    /// For the type alone does not tell whether dropout is on (see
    /// [`VisitLayers`](super::VisitLayers)).
    ///
    /// ```
    /// use ssprop::models::modules;
    /// use ssprop::nn::ModelCost;
    /// use ssprop::prelude::*;
    ///
    /// let cost = ModelCost::of::<modules::ResNet50<10, 3, f32, Cpu>>([3, 32, 32])?;
    /// let with = cost.clone().with_dropout(|_| true);
    /// let dropout = with.per_iteration(128, DropRate::DENSE) - cost.per_iteration(128, DropRate::DENSE);
    /// // Table 6 has 671.51e9 FLOPs an iteration where Table 4 has 669.75e9: twice Eq. 8.
    /// assert_eq!((2.0 * dropout / 1e7).round(), 176.0);
    /// # Ok::<(), ssprop::Error>(())
    /// ```
    pub fn with_dropout(self, mut after: impl FnMut(&str) -> bool) -> Self {
        let mut layers = Vec::with_capacity(self.layers.len());
        for (path, layer) in self.layers {
            let dropout = match layer {
                LayerCost::BatchNorm2D(size) if after(&path) => {
                    Some((join(&path, "dropout"), LayerCost::Dropout(size)))
                }
                _ => None,
            };
            layers.push((path, layer));
            layers.extend(dropout);
        }
        Self { layers }
    }

    /// Backward FLOPs of an iteration with `batch` images.
    pub fn per_iteration(&self, batch: usize, drop_rate: DropRate) -> f64 {
        let layers = self.layers.iter();
        layers.map(|(_, l)| l.flops(batch, drop_rate)).sum()
    }

    /// [`per_iteration`](Self::per_iteration) where each layer has its own drop rate: `drop_rate`
    /// is asked with the layers' paths.
    pub fn per_iteration_by_layer(
        &self,
        batch: usize,
        mut drop_rate: impl FnMut(&str) -> DropRate,
    ) -> f64 {
        let layers = self.layers.iter();
        layers
            .map(|(path, l)| l.flops(batch, drop_rate(path)))
            .sum()
    }

    /// Backward FLOPs of an epoch of `images` in batches of `batch`: images / batch iterations, a
    /// fraction of one included, as in the paper's totals. 0 for batches of 0.
    pub fn per_epoch(&self, images: usize, batch: usize, drop_rate: DropRate) -> f64 {
        if batch == 0 {
            return 0.0;
        }
        self.per_iteration(batch, drop_rate) * images as f64 / batch as f64
    }

    /// [`per_epoch`](Self::per_epoch), summed over the drop rates of the epochs of a run.
    pub fn per_run(
        &self,
        images: usize,
        batch: usize,
        drop_rates: impl IntoIterator<Item = DropRate>,
    ) -> f64 {
        let rates = drop_rates.into_iter();
        rates.map(|rate| self.per_epoch(images, batch, rate)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::modules::ResNet18;
    use crate::nn::{modules, VisitLayers};
    use dfdx::tensor::Cpu;

    #[test]
    fn layers_have_their_paths_and_sizes() {
        let cost = ModelCost::of::<ResNet18<10, 3, f32, Cpu>>([3, 32, 32]).unwrap();
        assert_eq!(cost.layers.len(), 40);
        let find = |path: &str| cost.layers.iter().find(|(p, _)| p == path).unwrap().1;
        let LayerCost::Conv2D(shortcut) = find("layer3.0.shortcut.0") else {
            panic!("not a convolution");
        };
        // Beside the block's other layers: its input is the block's.
        assert_eq!((shortcut.c_in(), shortcut.input()), (128, [16, 16]));
        assert_eq!((shortcut.c_out(), shortcut.output()), (256, [8, 8]));
        assert_eq!(find("layer4.1.bn2"), LayerCost::BatchNorm2D([512, 4, 4]));
        assert!(ModelCost::of::<ResNet18<10, 3, f32, Cpu>>([1, 28, 28]).is_err());
    }

    #[test]
    fn dfdx_layers_are_counted_and_named_as_they_are_visited() {
        use dfdx::nn::modules as plain;
        type Conv = modules::SparseConv2D<4, 4, 3, 1, 1, 1, 1, f32, Cpu>;
        type Net = (
            plain::Residual<(Conv, plain::BatchNorm2D<4, f32, Cpu>, plain::Tanh)>,
            plain::Repeated<(Conv, plain::Sigmoid), 2>,
            plain::GeneralizedResidual<Conv, (Conv, plain::FastGeLU)>,
            plain::Dropout,
            plain::DropoutOneIn<3>,
        );
        let cost = ModelCost::of::<Net>([4, 6, 5]).unwrap();
        let size = [4, 6, 5];
        assert_eq!(
            cost.layers[1],
            ("0.0.1".into(), LayerCost::BatchNorm2D(size))
        );
        assert_eq!(cost.layers[6], ("3".into(), LayerCost::Dropout(size)));
        assert_eq!(cost.layers[7], ("4".into(), LayerCost::Dropout(size)));
        // Eq. 8: 2 M C.
        assert_eq!(
            cost.layers[6].1.flops(7, DropRate::DENSE),
            2.0 * 7.0 * 30.0 * 4.0
        );

        use crate::nn::builders::SparseConv2D;
        use dfdx::nn::{builders as b, DeviceBuildExt};
        type Conv2 = SparseConv2D<4, 4, 3, 1, 1>;
        type Build = (
            b::Residual<(Conv2, b::BatchNorm2D<4>, b::Tanh)>,
            b::Repeated<(Conv2, b::Sigmoid), 2>,
            b::GeneralizedResidual<Conv2, (Conv2, b::FastGeLU)>,
            b::Dropout,
            b::DropoutOneIn<3>,
        );
        let mut net: Net = Cpu::default().build_module::<Build, f32>();
        assert_eq!(convs(&cost), visited(&mut net));
        let mut net = Cpu::default().build_module::<crate::models::builders::ResNet18<10>, f32>();
        let cost = ModelCost::of::<ResNet18<10, 3, f32, Cpu>>([3, 32, 32]).unwrap();
        assert_eq!(convs(&cost), visited(&mut net));

        type Uneven = plain::Residual<modules::SparseConv2D<4, 5, 3, 1, 1, 1, 1, f32, Cpu>>;
        assert!(ModelCost::of::<Uneven>(size).is_err());
    }

    fn convs(cost: &ModelCost) -> Vec<&str> {
        let layers = cost.layers.iter();
        layers
            .filter(|(_, layer)| matches!(layer, LayerCost::Conv2D(_)))
            .map(|(path, _)| path.as_str())
            .collect()
    }

    fn visited(net: &mut impl VisitLayers) -> Vec<String> {
        let mut paths = Vec::new();
        net.visit_sparse(&mut |layer| paths.push(layer.path.to_owned()));
        paths
    }

    #[test]
    fn a_sparse_linear_layer_counts_as_a_pointwise_convolution() {
        use dfdx::nn::modules::Linear;
        type Net = (
            modules::Flatten<48>,
            modules::SparseLinear<48, 20, f32, Cpu>,
            modules::ReLU,
            modules::UnbiasedSparseLinear<20, 8, f32, Cpu>,
            Linear<8, 3, f32, Cpu>,
        );
        let cost = ModelCost::of::<Net>([3, 4, 4]).unwrap();
        let paths: Vec<_> = cost.layers.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(paths, ["1", "3"]);
        let dense = cost.per_iteration(10, DropRate::DENSE);
        assert_eq!(dense, 4.0 * 10.0 * (48.0 * 20.0 + 20.0 * 8.0));
        let sparse = cost.per_iteration(10, DropRate::new(0.75).unwrap());
        assert_eq!(sparse, 0.25 * dense + 9.0 * 28.0);
        assert!(ModelCost::of::<Net>([3, 4, 5]).is_err());
        type Conv = modules::SparseConv2D<48, 20, 1, 1, 0, 1, 1, f32, Cpu>;
        let conv = ModelCost::of::<Conv>([48, 1, 1]).unwrap();
        let rate = DropRate::new(0.3).unwrap();
        let linear = cost.layers[0].1.flops(7, rate);
        assert_eq!(conv.per_iteration(7, rate), linear);
    }

    #[test]
    fn tuples_and_pools_hand_the_size_on() {
        type Net = (
            modules::BiasedSparseConv2D<2, 6, 5, 1, 0, 1, 2, f32, Cpu>,
            modules::MaxPool2D<2, 2>,
            modules::SparseConv2D<6, 4, 3, 2, 1, 1, 1, f32, Cpu>,
        );
        let cost = ModelCost::of::<Net>([2, 12, 12]).unwrap();
        let flops: Vec<f64> = cost
            .layers
            .iter()
            .map(|(_, l)| l.flops(3, DropRate::DENSE))
            .collect();
        // 8x8 outputs of 1x5x5 taps to 6; then 2x2 outputs (of 4x4) of 6x3x3 taps to 4.
        assert_eq!(flops, [4.0 * 192.0 * 25.0 * 6.0, 4.0 * 12.0 * 54.0 * 4.0]);
        assert!(ModelCost::of::<Net>([2, 4, 4]).is_err());
    }
}
