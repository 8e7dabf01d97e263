//! A norm of one tensor, and one of which only the weight or the bias is trained.

use crate::support::cuda;
use support::norms::{one_of_both_may_be_trained, one_tensor_gets_both_gradients};

#[test]
fn one_tensor() {
    one_tensor_gets_both_gradients(&cuda());
}

#[test]
fn one_that_is_trained() {
    one_of_both_may_be_trained(&cuda());
}
