//! The self-attention block of a U-Net.

use dfdx::dtypes::Dtype;
use dfdx::nn::{
    BuildModule, BuildOnDevice, Module, ModuleVisitor, NonMutableModule, TensorCollection,
    TensorOptions,
};
use dfdx::shapes::{Const, Dim};
use dfdx::tensor::{Storage, Tape, Tensor};
use dfdx::tensor_ops::Device;

use super::modules::{GroupNorm, PointwiseConv1D};
use super::plain_layer::plain_layer;
use crate::backend::Backend;
use crate::bridge::Hidden;
use crate::error::{Error, Result};
use crate::ops::add::add_hidden;
use crate::ops::attention::{attention_hidden, Heads, QkvOrder, Triple};
use crate::ops::group_norm::Activation;

/// The description of the layer.
pub mod builder {
    /// Describes a [self-attention block](crate::nn::modules::AttentionBlock) of `HEADS` heads, for
    /// images of `C` channels normalised in `GROUPS` groups.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct AttentionBlock<const HEADS: usize, const GROUPS: usize, const C: usize>;
}

/// Self-attention over the positions of an image, on top of the image itself:
/// y = x + proj_out(attention(qkv(group_norm(x)))), (B, C, H, W) -> (B, C, H, W).
///
/// The block of OpenAI's diffusion U-Nets, with its tensors' names and shapes: `norm.weight`,
/// `norm.bias` (C), `qkv.weight` (3 C, C, 1), `qkv.bias` (3 C), `proj_out.weight` (C, C, 1),
/// `proj_out.bias` (C). Which channels of `qkv` are whose, [`try_attention`] says. Its backward pass
/// is dense, and the paper does not count it.
///
/// At first `proj_out` is 0, so that the block begins as the identity.
///
/// [`try_attention`]: crate::ops::attention::try_attention
///
/// ```
/// use ssprop::prelude::*;
/// use ssprop::nn::builders::AttentionBlock;
///
/// let dev = Cpu::default();
/// let block = dev.build_module::<AttentionBlock<8, 16, 64>, f32>();
/// let x: Tensor<Rank4<2, 64, 8, 8>, f32, _> = dev.sample_normal();
/// let y: Tensor<Rank4<2, 64, 8, 8>, f32, _> = block.forward(x.clone());
/// assert_eq!(x.array(), y.array());
/// ```
#[derive(Clone, Debug)]
pub struct AttentionBlock<
    const HEADS: usize,
    const GROUPS: usize,
    const C: usize,
    E: Dtype,
    D: Storage<E>,
> {
    /// The normalisation before it.
    pub norm: GroupNorm<GROUPS, C, E, D>,
    /// Makes queries, keys and values.
    pub qkv: PointwiseConv1D<Const<C>, Triple<C>, E, D>,
    /// Mixes the heads' outputs.
    pub proj_out: PointwiseConv1D<Const<C>, Const<C>, E, D>,
}

impl<const HEADS: usize, const GROUPS: usize, const C: usize, E: Dtype, D: Backend<E>>
    AttentionBlock<HEADS, GROUPS, C, E, D>
{
    /// x (B, C, H, W) to (B, C, H, W), with the whole error.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if the images are empty,
    /// [`Error::Device`](crate::Error::Device) if memory runs out.
    pub fn try_apply<B: Dim, H: Dim, W: Dim, T: Tape<E, D>>(
        &self,
        x: Tensor<(B, Const<C>, H, W), E, D, T>,
    ) -> Result<Tensor<(B, Const<C>, H, W), E, D, T>> {
        self.apply_hidden(x.into()).and_then(Hidden::into_tensor)
    }

    /// [`Self::try_apply`] between operations of this crate.
    pub(crate) fn apply_hidden<B: Dim, H: Dim, W: Dim, T: Tape<E, D>>(
        &self,
        x: Hidden<(B, Const<C>, H, W), E, D, T>,
    ) -> Result<Hidden<(B, Const<C>, H, W), E, D, T>> {
        let shortcut = x.with_empty_tape();
        let h = self.norm.apply_hidden(x, None, Activation::Identity)?;
        let h = attention_hidden(self.qkv.apply_hidden(h)?, Heads::<HEADS>, QkvOrder::ByHead)?;
        add_hidden(self.proj_out.apply_hidden(h)?, shortcut)
    }
}

impl<
        const HEADS: usize,
        const GROUPS: usize,
        const C: usize,
        B: Dim,
        H: Dim,
        W: Dim,
        E: Dtype,
        D: Backend<E>,
        T: Tape<E, D>,
    > Module<Tensor<(B, Const<C>, H, W), E, D, T>> for AttentionBlock<HEADS, GROUPS, C, E, D>
{
    type Output = Tensor<(B, Const<C>, H, W), E, D, T>;
    type Error = D::Err;

    fn try_forward(&self, x: Tensor<(B, Const<C>, H, W), E, D, T>) -> Result<Self::Output, D::Err> {
        self.try_apply(x).map_err(D::device_error)
    }
}

impl<const HEADS: usize, const GROUPS: usize, const C: usize, E: Dtype, D: Storage<E>>
    NonMutableModule for AttentionBlock<HEADS, GROUPS, C, E, D>
{
}

impl<const HEADS: usize, const GROUPS: usize, const C: usize, E: Dtype, D: Device<E>>
    BuildOnDevice<D, E> for builder::AttentionBlock<HEADS, GROUPS, C>
where
    AttentionBlock<HEADS, GROUPS, C, E, D>: BuildModule<D, E>,
{
    type Built = AttentionBlock<HEADS, GROUPS, C, E, D>;
}

impl<const HEADS: usize, const GROUPS: usize, const C: usize, E: Dtype, D: Device<E>>
    TensorCollection<E, D> for AttentionBlock<HEADS, GROUPS, C, E, D>
{
    type To<E2: Dtype, D2: Device<E2>> = AttentionBlock<HEADS, GROUPS, C, E2, D2>;

    fn iter_tensors<V: ModuleVisitor<Self, E, D>>(
        visitor: &mut V,
    ) -> Result<Option<Self::To<V::E2, V::D2>>, V::Err> {
        visitor.visit_fields(
            (
                Self::module("norm", |m| &m.norm, |m| &mut m.norm),
                Self::module("qkv", |m| &m.qkv, |m| &mut m.qkv),
                // Its tensors one by one, since they start from 0 here.
                Self::tensor(
                    "proj_out.weight",
                    |m| &m.proj_out.weight,
                    |m| &mut m.proj_out.weight,
                    TensorOptions::reset_to_zeros(),
                ),
                Self::tensor(
                    "proj_out.bias",
                    |m| &m.proj_out.bias,
                    |m| &mut m.proj_out.bias,
                    TensorOptions::reset_to_zeros(),
                ),
            ),
            |(norm, qkv, weight, bias)| AttentionBlock {
                norm,
                qkv,
                proj_out: PointwiseConv1D { weight, bias },
            },
        )
    }
}

plain_layer!([
    const HEADS: usize, const G: usize, const C: usize, E: Dtype, D: Storage<E>
] AttentionBlock<HEADS, G, C, E, D>: |x| match x[0] {
    c if c != C => Err(Error::shape("attention", "input channels", C, c)),
    _ => Ok(x),
});

#[cfg(test)]
mod tests {
    use dfdx::prelude::*;

    use crate::nn::modules;
    use crate::nn::{builders, ModelCost, VisitLayers};

    type Block<E> = modules::AttentionBlock<4, 2, 8, E, Cpu>;

    /// scale * sin(0.37 i + seed)
    fn wave<S: Shape>(seed: f64, scale: f64, shape: S) -> Tensor<S, f64, Cpu> {
        let number = |i| scale * (i as f64 * 0.37 + seed).sin();
        let data = (0..shape.num_elements()).map(number).collect();
        Cpu::default().tensor_from_vec(data, shape)
    }

    fn filled() -> Block<f64> {
        let dev = Cpu::default();
        let mut block = dev.build_module::<builders::AttentionBlock<4, 2, 8>, f64>();
        block.norm.weight = wave(1.0, 0.5, (Const,)) + 1.0;
        block.norm.bias = wave(2.0, 0.5, (Const,));
        block.qkv.weight = wave(3.0, 1.0, Default::default());
        block.qkv.bias = wave(4.0, 0.5, Default::default());
        block.proj_out.weight = wave(5.0, 1.0, Default::default());
        block.proj_out.bias = wave(6.0, 0.5, Default::default());
        block
    }

    fn close(found: &[f64], expected: &[f64]) {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!(
                (found - expected).abs() < 2e-8,
                "{found}, expected {expected}"
            );
        }
    }

    #[test]
    #[rustfmt::skip]
    fn numbers_are_those_of_pytorch() {
        // With torch.nn.GroupNorm(2, 8), Conv1d(8, 24, 1) and Conv1d(8, 8, 1), filled as above:
        // b, c, h, w = x.shape
        // q, k, v = qkv(norm(x).reshape(b, c, h * w)).reshape(b * 4, 6, h * w).split(2, dim=1)
        // w = torch.einsum("bct,bcs->bts", q * 2 ** -0.25, k * 2 ** -0.25).softmax(-1)
        // y = x + proj_out(torch.einsum("bts,bcs->bct", w, v).reshape(b, c, -1)).reshape(x.shape)
        // (y * dy).sum().backward()
        let block = filled();
        let x: Tensor<Rank4<2, 8, 2, 3>, f64, _> = wave(0.0, 1.0, Default::default());
        let y = block.forward(x.leaky_trace());
        close(&y.as_vec()[48 + 12..][..18], &[
            0.22083886, -0.1434591, -0.41917652, -0.57338786, -0.59258379, -0.47762629,
            -0.79077784, -0.4559971, -0.09070228, 0.2607817, 0.55777238, 0.76265196,
            2.24870697, 2.19537879, 2.02792383, 1.76333411, 1.43123108, 1.0749512,
        ]);
        let grads = (y * wave(7.0, 1.0, *x.shape())).sum::<Rank0, _>().backward();
        close(&grads.get(&x).as_vec()[18..36], &[
            0.57060512, 0.77146321, 0.74424517, 0.48777658, 0.25815616, 0.15479422,
            -0.24214589, -0.51356215, -0.81250654, -1.08268338, -1.10326025, -0.79757464,
            -0.72082775, -0.36856059, -0.04747751, 0.22871296, 0.54490979, 0.92380012,
        ]);
        close(&grads.get(&block.norm.weight).as_vec(), &[
            3.60051551, -0.12794526, -0.59807381, -0.78616164, 0.63833844, 3.44234809,
            -5.73084263, 4.13519041,
        ]);
        close(&grads.get(&block.norm.bias).as_vec(), &[
            3.29320254, 1.98607635, 0.41014404, -1.22129934, -2.68744559, -3.78985868,
            -4.37933218, -4.37608361,
        ]);
        let dw = grads.get(&block.qkv.weight).as_vec();
        let dw: Vec<f64> = (0..24).step_by(5).map(|o| dw[o * 8 + 3]).collect();
        close(&dw, &[-0.02647769, -7.1980003, -9.75715567, -0.17666254, -0.45523053]);
        let db = grads.get(&block.qkv.bias).as_vec();
        let db: Vec<f64> = db.into_iter().step_by(5).collect();
        close(&db, &[0.26536505, -4.78908948, -6.27852015, 0.0, 0.0]);
        close(&grads.get(&block.proj_out.weight).as_vec()[16..24], &[
            -13.70762893, 17.19513557, -12.87812039, 4.85319805, 7.35418175, -5.73194707,
            17.33461528, -15.9118261,
        ]);
        close(&grads.get(&block.proj_out.bias).as_vec(), &[
            7.41158156, -1.45377764, -5.65381241, 8.2898279, -4.36945617, -3.00669861,
            8.00486911, -6.67202499,
        ]);
    }

    #[test]
    fn narrow_elements_and_run_time_sizes_agree_with_wide_ones() {
        let wide = filled();
        let mut block: Block<f32> =
            Cpu::default().build_module::<builders::AttentionBlock<4, 2, 8>, f32>();
        block.norm.weight = wide.norm.weight.clone().to_dtype();
        block.norm.bias = wide.norm.bias.clone().to_dtype();
        block.qkv.weight = wide.qkv.weight.clone().to_dtype();
        block.qkv.bias = wide.qkv.bias.clone().to_dtype();
        block.proj_out.weight = wide.proj_out.weight.clone().to_dtype();
        block.proj_out.bias = wide.proj_out.bias.clone().to_dtype();
        let shape = (2usize, Const::<8>, 3usize, 5usize);
        let (x, dy) = (wave(0.0, 1.0, shape), wave(7.0, 1.0, shape));
        let narrow: Tensor<_, f32, _> = x.clone().to_dtype();
        let y = wide.forward(x.leaky_trace());
        let y32 = block.forward(narrow.leaky_trace());
        let close = |found: Vec<f32>, expected: Vec<f64>| {
            let largest = expected.iter().fold(1.0f64, |m, e| m.max(e.abs()));
            let error = |(f, e): (f32, f64)| (f64::from(f) - e).abs() / largest;
            found
                .into_iter()
                .zip(expected)
                .map(error)
                .fold(0.0, f64::max)
                < 3e-6
        };
        assert!(close(y32.as_vec(), y.as_vec()));
        let grads = (y * dy.clone()).sum::<Rank0, _>().backward();
        let grads32 = (y32 * dy.to_dtype::<f32>()).sum::<Rank0, _>().backward();
        assert!(close(grads32.get(&narrow).as_vec(), grads.get(&x).as_vec()));
        let (dw32, dw) = (grads32.get(&block.qkv.weight), grads.get(&wide.qkv.weight));
        assert!(close(dw32.as_vec(), dw.as_vec()));
        let (dw32, dw) = (
            grads32.get(&block.proj_out.weight),
            grads.get(&wide.proj_out.weight),
        );
        assert!(close(dw32.as_vec(), dw.as_vec()));
    }

    #[test]
    fn it_begins_as_the_identity_with_all_its_tensors_in_the_gradients() {
        let dev = Cpu::default();
        let mut block = dev.build_module::<builders::AttentionBlock<4, 2, 8>, f32>();
        let bound = 1.0 / 8f32.sqrt();
        let qkv = block.qkv.weight.as_vec();
        assert!(qkv.iter().all(|w| w.abs() <= bound));
        assert!(qkv.iter().any(|&w| w > 0.5 * bound) && qkv.iter().any(|&w| w < -0.5 * bound));
        let x: Tensor<Rank4<2, 8, 4, 4>, f32, _> = dev.sample_normal();
        let y = block.forward(x.trace(block.alloc_grads()));
        assert_eq!(y.as_vec(), x.as_vec());
        let grads = y.square().mean().backward();
        assert!(grads
            .get(&block.proj_out.weight)
            .as_vec()
            .iter()
            .all(|&g| g != 0.0));
        assert!(grads
            .get(&block.qkv.weight)
            .as_vec()
            .iter()
            .all(|&g| g == 0.0));

        let mut visited = 0;
        block.visit_sparse(&mut |_| visited += 1);
        block.visit_dropout(&mut |_| visited += 1);
        assert_eq!(visited, 0);
        assert!(ModelCost::of::<Block<f32>>([8, 4, 4])
            .unwrap()
            .layers
            .is_empty());
        assert!(ModelCost::of::<Block<f32>>([7, 4, 4]).is_err());
    }

    #[test]
    fn tensors_have_the_names_of_pytorch() {
        struct Names(Vec<(String, Vec<usize>)>);
        impl TensorVisitor<f32, Cpu> for Names {
            type Viewer = (ViewTensorRef, ViewTensorName);
            type Err = CpuError;
            type E2 = f32;
            type D2 = Cpu;
            fn visit<S: Shape>(
                &mut self,
                _: TensorOptions<S, f32, Cpu>,
                (tensor, name): (&Tensor<S, f32, Cpu>, String),
            ) -> Result<Option<Tensor<S, f32, Cpu>>, CpuError> {
                self.0
                    .push((name, tensor.shape().concrete().into_iter().collect()));
                Ok(None)
            }
        }
        let block = Cpu::default().build_module::<builders::AttentionBlock<4, 2, 8>, f32>();
        let mut names = Names(Vec::new());
        Block::iter_tensors(&mut RecursiveWalker {
            m: (&block, String::new()),
            f: &mut names,
        })
        .unwrap();
        let expected: [(&str, &[usize]); 6] = [
            ("norm.weight", &[8]),
            ("norm.bias", &[8]),
            ("qkv.weight", &[24, 8, 1]),
            ("qkv.bias", &[24]),
            ("proj_out.weight", &[8, 8, 1]),
            ("proj_out.bias", &[8]),
        ];
        let found: Vec<_> = names
            .0
            .iter()
            .map(|(name, shape)| (&name[..], &shape[..]))
            .collect();
        assert_eq!(found, expected);
    }
}
