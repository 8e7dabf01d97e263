//! Plain loops, the oracle of the tests.

use num_traits::Float;

use crate::args::linear::LinearShape;

/// y = x weightT + bias
pub fn forward<E: Float>(shape: &LinearShape, x: &[E], w: &[E], bias: Option<&[E]>) -> Vec<E> {
    let mut y = Vec::new();
    for x in x.chunks(shape.inputs) {
        for (o, w) in w.chunks(shape.inputs).enumerate() {
            let start = bias.map_or(E::zero(), |bias| bias[o]);
            y.push(x.iter().zip(w).fold(start, |sum, (&x, &w)| sum + x * w));
        }
    }
    y
}

/// dX, dW and db of dY (B, O).
pub fn backward<E: Float>(shape: &LinearShape, x: &[E], w: &[E], dy: &[E]) -> [Vec<E>; 3] {
    let mut dx = vec![E::zero(); x.len()];
    let mut dw = vec![E::zero(); w.len()];
    let mut db = vec![E::zero(); shape.outputs];
    for b in 0..shape.batch {
        for o in 0..shape.outputs {
            let g = dy[b * shape.outputs + o];
            db[o] = db[o] + g;
            for i in 0..shape.inputs {
                let (at_x, at_w) = (b * shape.inputs + i, o * shape.inputs + i);
                dx[at_x] = dx[at_x] + g * w[at_w];
                dw[at_w] = dw[at_w] + g * x[at_x];
            }
        }
    }
    [dx, dw, db]
}
