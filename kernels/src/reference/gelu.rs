//! GELU in plain loops: what the kernels are held against.

/// The share of the standard normal distribution below `x`: by its series around 0, and for large |x| by
/// Laplace's continued fraction, so that neither has anything of the kernels' polynomials.
fn normal_cdf(x: f64) -> f64 {
    if x.abs() < 3.0 {
        // density(x) (x + x^3 / 3 + x^5 / (3 5) + ...)
        let (mut term, mut sum) = (x, x);
        for k in 1..100 {
            term *= x * x / f64::from(2 * k + 1);
            sum += term;
        }
        return 0.5 + density(x) * sum;
    }
    // density(x) / (x + 1 / (x + 2 / (x + ...)))
    let a = x.abs();
    let fraction = (1..400).rev().fold(a, |rest, k| a + f64::from(k) / rest);
    let tail = density(a) / fraction;
    if x < 0.0 {
        tail
    } else {
        1.0 - tail
    }
}

fn density(x: f64) -> f64 {
    (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt()
}

/// x times the share of the standard normal distribution below x
pub fn forward(x: &[f64]) -> Vec<f64> {
    x.iter().map(|&x| x * normal_cdf(x)).collect()
}

/// dy times the derivative at x.
pub fn backward(x: &[f64], dy: &[f64]) -> Vec<f64> {
    let derivative = |x: f64| normal_cdf(x) + x * density(x);
    x.iter()
        .zip(dy)
        .map(|(&x, dy)| dy * derivative(x))
        .collect()
}
