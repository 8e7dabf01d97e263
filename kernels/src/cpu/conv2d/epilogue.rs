//! What follows a convolution, while its output is in the cache.

use crate::args::batch_norm::Activation;
use crate::args::conv2d::Epilogue;
use crate::cpu::element::Element;
use crate::cpu::simd::{multiversion, relu};

multiversion! {
    /// y = f(y + residual)
    fn finish_part<E>(y: &mut [E], residual: Option<&[E]>, activation: Activation) {
        match (residual, activation) {
            (None, Activation::Identity) => {}
            (None, Activation::ReLU) => {
                for y in y.iter_mut() {
                    *y = relu(*y);
                }
            }
            (Some(r), Activation::Identity) => {
                for (y, &r) in y.iter_mut().zip(r) {
                    *y += r;
                }
            }
            (Some(r), Activation::ReLU) => {
                for (y, &r) in y.iter_mut().zip(r) {
                    *y = relu(*y + r);
                }
            }
        }
    }
}

impl<E: Element> Epilogue<&[E]> {
    /// The sum with the residual and the activation of `y`, which has the bias and is the output from element
    /// `at` on.
    pub fn finish(&self, at: usize, y: &mut [E]) {
        let residual = self.residual.map(|residual| &residual[at..][..y.len()]);
        finish_part(y, residual, self.activation);
    }
}
