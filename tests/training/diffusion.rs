//! The diffusion process against PyTorch's numbers, and against itself.

use ssprop::diffusion::{BetaSchedule, Diffusion, Parameterization};
use ssprop::prelude::*;
use ssprop::Error;

type Images = Tensor<(usize, Const<1>, Const<32>, Const<32>), f32, Cpu>;

fn fixture(name: &str) -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/");
    std::fs::read(format!("{folder}{name}.safetensors")).unwrap()
}

#[test]
fn betas_are_those_of_latent_diffusion() {
    let bytes = fixture("diffusion_schedules");
    let file = ::safetensors::SafeTensors::deserialize(&bytes).unwrap();
    for (schedule, name) in [
        (BetaSchedule::Linear, "linear"),
        (BetaSchedule::Cosine, "cosine"),
        (BetaSchedule::SqrtLinear, "sqrt_linear"),
        (BetaSchedule::Sqrt, "sqrt"),
    ] {
        for steps in [200, 1000] {
            let stored = file.tensor(&format!("{name}_{steps}")).unwrap();
            assert_eq!(stored.dtype(), ::safetensors::Dtype::F64);
            let betas = schedule.betas(steps).unwrap();
            let (expected, _) = stored.data().as_chunks::<8>();
            assert_eq!(betas.len(), expected.len());
            for (t, (beta, expected)) in betas.iter().zip(expected).enumerate() {
                let expected = f64::from_le_bytes(*expected);
                assert!((beta - expected).abs() <= 1e-12, "{name}: {steps}: {t}");
            }
        }
    }
}

/// Tensors of the process on two images, computed in f32 by PyTorch (cosine schedule, 200 steps).
struct Stored {
    bytes: Vec<u8>,
}

impl Stored {
    fn new() -> Self {
        Self {
            bytes: fixture("diffusion_process"),
        }
    }

    fn values(&self, name: &str) -> Vec<f32> {
        let file = ::safetensors::SafeTensors::deserialize(&self.bytes).unwrap();
        let stored = file.tensor(name).unwrap();
        let (values, _) = stored.data().as_chunks::<4>();
        values.iter().map(|v| f32::from_le_bytes(*v)).collect()
    }

    fn images(&self, dev: &Cpu, name: &str) -> Images {
        dev.tensor_from_vec(self.values(name), (2, Const, Const, Const))
    }

    fn timesteps(&self) -> Vec<usize> {
        let file = ::safetensors::SafeTensors::deserialize(&self.bytes).unwrap();
        let stored = file.tensor("t").unwrap();
        let (values, _) = stored.data().as_chunks::<8>();
        let whole = |v: &[u8; 8]| usize::try_from(i64::from_le_bytes(*v)).unwrap();
        values.iter().map(whole).collect()
    }
}

fn assert_near(found: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        let near = (f - e).abs() <= tolerance * e.abs().max(1.0);
        assert!(near, "{what}: element {i} is {f}, not {e}");
    }
}

#[test]
fn noising_and_the_reverse_step_are_those_of_pytorch() {
    let (dev, stored) = (Cpu::default(), Stored::new());
    let t = stored.timesteps();
    assert_eq!(t, [3, 177]);
    let diffusion = Diffusion::new(BetaSchedule::Cosine, 200).unwrap();
    let [x, noise, x_t, output] =
        ["x", "noise", "x_noisy", "eps"].map(|name| stored.images(&dev, name));

    let found = diffusion.q_sample(&x, &t, &noise).unwrap();
    assert_near(&found.as_vec(), &x_t.as_vec(), 2e-6, "q_sample");

    let target = diffusion.target(&x, &t, &noise).unwrap();
    assert_eq!(target.as_vec(), noise.as_vec());

    let p = diffusion.p_mean_variance(&output, &x_t, &t, true).unwrap();
    assert_near(
        &p.mean.as_vec(),
        &stored.values("p_mean"),
        1e-5,
        "p_mean_variance",
    );
    let log_variance: Vec<f32> = p.log_variance.iter().map(|&v| v as f32).collect();
    let expected = stored.values("p_log_variance");
    assert_near(&log_variance, &expected, 1e-6, "log-variance");
    assert!(p.x0.as_vec().iter().all(|v| (-1.0..=1.0).contains(v)));
}

#[test]
fn every_parameterization_stands_for_its_image_and_noise() {
    let dev = Cpu::seed_from_u64(1);
    let x0: Tensor<Rank4<3, 2, 4, 5>, f64, _> = dev.sample_normal();
    let noise: Tensor<Rank4<3, 2, 4, 5>, f64, _> = dev.sample_normal();
    let t = [0, 20, 49];
    for schedule in BetaSchedule::ALL {
        for kind in [
            Parameterization::Eps,
            Parameterization::X0,
            Parameterization::V,
        ] {
            let diffusion = Diffusion::new(schedule, 50)
                .unwrap()
                .with_parameterization(kind);
            let x_t = diffusion.q_sample(&x0, &t, &noise).unwrap();
            let output = diffusion.target(&x0, &t, &noise).unwrap();
            let found = diffusion.predict_x0(&output, &x_t, &t).unwrap();
            let off = (found.clone() - x0.clone()).abs().max::<Rank0, _>().array();
            assert!(off < 1e-9, "{schedule} {kind}: x0 is off by {off}");
            let eps = diffusion.predict_eps(&found, &x_t, &t).unwrap();
            let off = (eps - noise.clone()).abs().max::<Rank0, _>().array();
            assert!(off < 1e-9, "{schedule} {kind}: noise is off by {off}");
        }
    }
}

/// Bayes: q(x_{t-1} | x_t, x0) is proportional to q(x_t | x_{t-1}) q(x_{t-1} | x0).
#[test]
fn the_posterior_is_that_of_two_normal_distributions() {
    let diffusion = Diffusion::new(BetaSchedule::SqrtLinear, 40).unwrap();
    let dev = Cpu::default();
    let image = |v: f64| -> Tensor<Rank4<1, 1, 1, 1>, f64, _> { dev.tensor([[[[v]]]]) };
    let (x0, x_t) = (0.7, -0.4);
    for t in 1..40 {
        let (beta, before) = (diffusion.betas()[t], diffusion.alphas_bar()[t - 1]);
        // As a likelihood of x_{t-1}: mean x_t / sqrt(alpha), variance beta / alpha.
        let alpha = 1.0 - beta;
        let (m1, v1) = (x_t / alpha.sqrt(), beta / alpha);
        let (m2, v2) = (before.sqrt() * x0, 1.0 - before);
        let variance = 1.0 / (1.0 / v1 + 1.0 / v2);
        let mean = variance * (m1 / v1 + m2 / v2);
        let found = diffusion
            .posterior_mean(&image(x0), &image(x_t), &[t])
            .unwrap()
            .as_vec()[0];
        assert!((found - mean).abs() < 1e-12, "{t}");
        assert!((diffusion.posterior_variance(t).unwrap() - variance).abs() < 1e-12);
        let log = diffusion.posterior_log_variance(t).unwrap();
        assert!((log - variance.ln()).abs() < 1e-9);
    }
    assert_eq!(diffusion.posterior_variance(0).unwrap(), 0.0);
    assert_eq!(
        diffusion.posterior_log_variance(0).unwrap(),
        diffusion.posterior_log_variance(1).unwrap()
    );
    // The last step back gives the image itself.
    let last = diffusion.posterior_mean(&image(x0), &image(x_t), &[0]);
    assert!((last.unwrap().as_vec()[0] - x0).abs() < 1e-12);
}

#[test]
fn what_does_not_fit_is_named() {
    let dev = Cpu::default();
    let diffusion = Diffusion::new(BetaSchedule::Cosine, 10).unwrap();
    let images = |n: usize| -> Images { dev.zeros_like(&(n, Const, Const, Const)) };
    let err = |n: usize, m: usize, t: &[usize]| {
        let found = diffusion.q_sample(&images(n), t, &images(m));
        found.unwrap_err()
    };
    let wrong = err(2, 2, &[3, 10]);
    assert!(matches!(wrong, Error::Parameter { .. }));
    assert!(wrong.to_string().contains("10 of 10"), "{wrong}");
    let wrong = err(2, 2, &[3]).to_string();
    assert!(wrong.contains("timesteps: expected 2, found 1"), "{wrong}");
    let wrong = err(2, 3, &[3, 3]).to_string();
    assert!(wrong.contains("q_sample: images"), "{wrong}");
    assert!(diffusion.q_sample(&images(0), &[], &images(0)).is_ok());
    assert!(diffusion.posterior_variance(10).is_err());
    assert!(diffusion.posterior_log_variance(10).is_err());

    for betas in [
        vec![],
        vec![0.0],
        vec![0.1, 1.0],
        vec![f64::NAN],
        vec![-0.1],
    ] {
        assert!(Diffusion::from_betas(betas).is_err());
    }
    let wrong = Diffusion::from_betas(vec![0.5; 1000])
        .unwrap_err()
        .to_string();
    assert!(wrong.starts_with("alpha_bar = "), "{wrong}");
    let one = Diffusion::from_betas(vec![0.5]).unwrap();
    assert!(one.posterior_log_variance(0).unwrap().is_finite());
}

#[test]
fn clipping_keeps_what_is_not_a_number() {
    let dev = Cpu::default();
    let diffusion = Diffusion::new(BetaSchedule::Cosine, 10)
        .unwrap()
        .with_parameterization(Parameterization::X0);
    let output: Tensor<Rank4<1, 1, 1, 3>, f32, _> = dev.tensor([[[[f32::NAN, 3.0, -3.0]]]]);
    let x_t = dev.zeros();
    let p = diffusion
        .p_mean_variance(&output, &x_t, &[5], true)
        .unwrap();
    let x0 = p.x0.as_vec();
    assert!(x0[0].is_nan() && x0[1..] == [1.0, -1.0], "{x0:?}");
    let p = diffusion
        .p_mean_variance(&output, &x_t, &[5], false)
        .unwrap();
    assert_eq!(p.x0.as_vec()[1..], [3.0, -3.0]);
}
