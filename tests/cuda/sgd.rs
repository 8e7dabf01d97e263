use ssprop::optim::{clip_grad_norm, clip_grad_value, Optimizer as _};
use ssprop::prelude::*;

use crate::support::{agree, noise};

#[test]
fn sgd_and_clipping() {
    for (momentum, dampening, nesterov) in [(0.0, 0.0, false), (0.9, 0.2, false), (0.9, 0.0, true)]
    {
        let cfg = SgdConfig {
            lr: 0.5,
            momentum,
            dampening,
            nesterov,
            weight_decay: 0.1,
        };
        agree!(1e-4, |dev: D| {
            let mut net = dev.build_module::<Linear<20, 30>, f32>();
            let mut sgd = Sgd::new(&net, cfg).unwrap();
            let mut grads = net.alloc_grads();
            let mut norms = Vec::new();
            for step in 1..=5 {
                let x: Tensor<Rank2<8, 20>, f32, D> =
                    dev.tensor_from_vec(noise(160, step), Default::default());
                let loss = net.forward(x.trace(grads)).square().mean();
                grads = loss.backward();
                clip_grad_value(&net, &mut grads, 0.02).unwrap();
                norms.push(clip_grad_norm(&net, &mut grads, 0.1).unwrap() as f32);
                sgd.step(&mut net, &mut grads, 0.5).unwrap();
            }
            assert!(norms.iter().all(|&norm| norm > 0.1), "{norms:?}");
            assert!(grads.get(&net.weight).as_vec().iter().all(|&g| g == 0.0));
            vec![
                ("weight", net.weight.as_vec()),
                ("bias", net.bias.as_vec()),
                ("norms", norms),
            ]
        });
    }
}

/// A trainer's scale, and more elements than a grid has threads.
#[test]
fn adam_of_a_share_of_the_gradient() {
    agree!(1e-4, |dev: D| {
        let mut net = dev.build_module::<Linear<300, 200>, f32>();
        let cfg = AdamConfig {
            weight_decay: 0.1,
            ..AdamConfig::adam()
        };
        let mut adam = Adam::new(&net, cfg).unwrap();
        let x: Tensor<Rank2<2, 300>, f32, D> =
            dev.tensor_from_vec(noise(600, 1), Default::default());
        let mut grads = net.forward(x.leaky_trace()).square().mean().backward();
        let norm = ssprop::optim::grad_norm(&net, &mut grads).unwrap() as f32;
        adam.step(&mut net, &mut grads, 0.01).unwrap();
        vec![("weight", net.weight.as_vec()), ("norm", vec![norm])]
    });
}
