//! Five chapters, from a network to what one does with it. Each takes some minutes to read, and its code runs.
//!
//! | chapter | |
//! |---|---|
//! | [1](c1_network) | a network is a type: layers, sizes, images through it |
//! | [2](c2_sparse_backward) | what its backward pass leaves out, and when |
//! | [3](c3_training) | training it: data, optimizer, schedule, and what that costs |
//! | [4](c4_runs) | runs that are recorded, interrupted, resumed, stopped early; fine-tuning |
//! | [5](c5_use) | what was trained: classes of pictures, other programs, new images from noise |

#[doc = include_str!("c1_network.md")]
pub mod c1_network {}

#[doc = include_str!("c2_sparse_backward.md")]
pub mod c2_sparse_backward {}

#[doc = include_str!("c3_training.md")]
pub mod c3_training {}

#[doc = include_str!("c4_runs.md")]
pub mod c4_runs {}

#[doc = include_str!("c5_use.md")]
pub mod c5_use {}
