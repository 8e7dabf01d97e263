use dfdx::prelude::*;
use ssprop::optim::{AdamConfig, AdamKernel, AdamStep};

use crate::support::{agree, download, noise, upload};

#[test]
fn adam_and_moving_average() {
    for (weight_decay, decoupled) in [(0.0, false), (0.1, false), (0.1, true)] {
        let cfg = AdamConfig {
            weight_decay,
            decoupled,
            ..Default::default()
        };
        agree!(1e-5, |dev: D| {
            let len = 1000;
            let mut w: Tensor<(usize,), f32, D> = dev.tensor_from_vec(noise(len, 1), (len,));
            let mut average = w.clone();
            let [mut m, mut v] = [(); 2].map(|()| upload(&dev, &vec![0.0; len]));
            for step in 1..=5 {
                let mut g = upload(&dev, &noise(len, 10 + step));
                let zero_grad = step % 2 == 1;
                let step = AdamStep {
                    cfg,
                    step,
                    zero_grad,
                };
                dev.adam_update(&step, &mut w, &mut m, &mut v, &mut g)
                    .unwrap();
                dev.ema_update(0.1, &mut average, &w).unwrap();
                assert_eq!(download(&dev, &g).iter().all(|&g| g == 0.0), zero_grad);
            }
            vec![("w", w.as_vec()), ("average", average.as_vec())]
        });
    }
}
