//! A network's tensors.

use dfdx::nn::tensor_collection::{
    RecursiveWalker, TensorCollection, TensorOptions, TensorVisitor, ViewTensorName, ViewTensorRef,
};
use ssprop::prelude::*;

/// Names and shapes, and how many elements are trained.
#[derive(Default)]
struct Tensors {
    found: Vec<(String, Vec<usize>)>,
    trained: usize,
}

impl TensorVisitor<f32, Cpu> for Tensors {
    type Viewer = (ViewTensorRef, ViewTensorName);
    type Err = <Cpu as HasErr>::Err;
    type E2 = f32;
    type D2 = Cpu;

    fn visit<S: Shape>(
        &mut self,
        opts: TensorOptions<S, f32, Cpu>,
        (tensor, name): (&Tensor<S, f32, Cpu>, String),
    ) -> Result<Option<Tensor<S, f32, Cpu>>, Self::Err> {
        if opts.do_gradient_update {
            self.trained += tensor.shape().num_elements();
        }
        self.found.push((name, tensor.shape().concrete().into()));
        Ok(None)
    }
}

/// That a network's tensors have the names and shapes, and its parameters the number, that `fixture` has
/// for the network `name`. Returns that number.
pub fn check_tensors<M: TensorCollection<f32, Cpu>>(net: &M, fixture: &str, name: &str) -> usize {
    let mut tensors = Tensors::default();
    M::iter_tensors(&mut RecursiveWalker {
        m: (net, String::new()),
        f: &mut tensors,
    })
    .unwrap();
    let fixture: serde_json::Value = serde_json::from_str(fixture).unwrap();
    let mut expected: Vec<(String, Vec<usize>)> =
        serde_json::from_value(fixture[name]["tensors"].clone()).unwrap();
    tensors.found.sort();
    expected.sort();
    assert_eq!(tensors.found, expected, "{name}");
    assert_eq!(fixture[name]["parameters"], tensors.trained, "{name}");
    tensors.trained
}
