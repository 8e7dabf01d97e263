use ssprop::prelude::*;

use crate::support::{agree, noise};

/// Gradients of both parameters are mostly far from zero, where Adam's step has an edge.
#[test]
fn adam_and_moving_average() {
    let kinds = [(0.0, false, false), (0.1, false, false), (0.1, true, true)];
    for (weight_decay, decoupled, lazy) in kinds {
        let cfg = AdamConfig {
            weight_decay,
            decoupled,
            lazy,
            ..Default::default()
        };
        agree!(1e-4, |dev: D| {
            let mut net = dev.build_module::<Linear<20, 30>, f32>();
            let before = net.clone();
            let mut adam = Adam::new(&net, cfg).unwrap();
            let mut ema = Ema::new(&net, 0.9).unwrap();
            let mut grads = net.alloc_grads();
            for step in 1..=5 {
                let mut x = noise(160, step);
                // No gradient in a column of the weights any more, which a lazy step leaves alone.
                if step > 2 {
                    x.iter_mut().step_by(20).for_each(|x| *x = 0.0);
                }
                let x: Tensor<Rank2<8, 20>, f32, D> = dev.tensor_from_vec(x, Default::default());
                let loss = net.forward(x.trace(grads)).square().mean();
                grads = loss.backward();
                adam.update_and_zero(&mut net, &mut grads).unwrap();
                ema.update(&net).unwrap();
            }
            // A copy of the network shares its weights until one of them changes.
            let mut found = vec![
                ("before", before.weight.as_vec()),
                ("weight", net.weight.as_vec()),
                ("bias", net.bias.as_vec()),
                ("average", ema.model.weight.as_vec()),
                ("gradient", grads.get(&net.weight).as_vec()),
            ];
            assert!(found[4].1.iter().all(|&g| g == 0.0));
            found.truncate(4);
            found
        });
    }
}
