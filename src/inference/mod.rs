//! What a trained network computes, without its types: as a list of operations ([`Graph`]), which can be
//! folded, run ([`Inference`]) and written to a file for other programs
//! ([`checkpoint::save_onnx`](crate::checkpoint::save_onnx)). A [`PictureClassifier`] names what is in picture files.
//!
//! In evaluation mode a batch norm is a factor and a term for each channel, which
//! [`fold_batch_norms`](Graph::fold_batch_norms) brings into the weights and the bias of the convolution before it.
//!
//! ```
//! use ssprop::inference::{Graph, Inference};
//! use ssprop::prelude::*;
//!
//! let dev = Cpu::default();
//! let net = dev.build_module::<ResNet18<10>, f32>();
//! let fast = Inference::new(&dev, &Graph::of(&net)?.fold_batch_norms())?;
//!
//! let images: Tensor<Rank4<2, 3, 32, 32>, f32, _> = dev.sample_normal();
//! let logits: Tensor<Rank2<2, 10>, f32, _> = fast.run(&images)?;
//! let difference: Tensor<Rank0, f32, _> = (logits - net.try_forward(images)?).abs().max();
//! assert!(difference.array() < 1e-4);
//! # Ok::<(), ssprop::Error>(())
//! ```

mod fold;
mod graph;
mod pictures;
mod run;
mod sizes;
mod to_graph;

pub use graph::{Graph, Node, Operation, PoolWindow, Value, Weight};
pub use pictures::{Guess, PictureClassifier};
pub use run::Inference;
pub(crate) use sizes::Sizes;
pub use to_graph::ToGraph;
