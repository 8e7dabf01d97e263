//! Empty batches and images, and views that are not contiguous, on the parent module's device.

use std::panic::{catch_unwind, AssertUnwindSafe};

use dfdx::prelude::*;
use ssprop::nn::builders as layers;
use ssprop::prelude::{CelebAUNet, Cnn, ResNet18, MLP};
use ssprop::Error;

use super::cases::{networks, operations_and_layers, values, Case, Images, C};
use super::{device, D, NETWORKS_ARE_SLOW};

fn images(dev: &D, shape: [usize; 3]) -> Images {
    dev.sample_normal_like(&(shape[0], Const, shape[1], shape[2]))
}

/// Runs what may panic; the panics' messages are collected.
pub fn run<T>(name: String, panics: &mut Vec<String>, f: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(f))
        .map_err(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
            panics.push(format!("{name}: {}", text.unwrap_or_default()));
        })
        .ok()
}

/// Images, and their height and width: none of some of them, or few.
const SIZES: [[usize; 3]; 8] = [
    [0, 6, 6],
    [2, 0, 6],
    [2, 6, 0],
    [2, 0, 0],
    [0, 0, 0],
    [1, 1, 1],
    [2, 1, 1],
    [2, 8, 8],
];

#[test]
fn operations_and_layers_of_any_images() {
    check(operations_and_layers(), &SIZES, true);
}

#[test]
fn networks_of_any_images() {
    match NETWORKS_ARE_SLOW {
        true => check(networks(), &SIZES[..5], false),
        false => check(networks(), &SIZES, true),
    }
}

fn check(cases: Vec<Case>, sizes: &[[usize; 3]], with_views: bool) {
    let mut panics = Vec::new();
    let dev = device(7);
    for case in &cases {
        small_images(&dev, case, sizes, &mut panics);
        if with_views {
            views(&dev, case, &mut panics);
        }
    }
    assert!(panics.is_empty(), "\n{}", panics.join("\n"));
}

fn small_images(dev: &D, (name, case): &Case, sizes: &[[usize; 3]], panics: &mut Vec<String>) {
    for &size in sizes {
        let x = images(dev, size);
        let at = format!("{name} of {size:?}");
        let Some(found) = run(at.clone(), panics, || case(&x, x.leaky_trace())) else {
            continue;
        };
        match found {
            Ok((_, dx)) => assert_eq!(dx.len(), x.shape().num_elements(), "{at}"),
            Err(err) => {
                let text = err.to_string();
                // A whole error, and none for images that are not empty.
                assert!(!text.contains("WrongNumElements"), "{at}: {text}");
                let small = size.contains(&0) || size[1] == 1;
                assert!(small, "{at}: {text}");
            }
        }
    }
}

/// A view gives what its copy gives.
fn views(dev: &D, (name, case): &Case, panics: &mut Vec<String>) {
    let whole = images(dev, [2, 8, 8]);
    let turned: Images = whole.clone().permute::<_, Axes4<0, 1, 3, 2>>();
    let copied: Images = turned.clone().contiguous();
    let Some(Ok(expected)) = run((*name).into(), panics, || {
        case(&copied, copied.leaky_trace())
    }) else {
        panics.push(format!("{name}: no result of a copy"));
        return;
    };
    let found = run(format!("{name}, turned"), panics, || {
        case(&turned, turned.leaky_trace())
    });
    if let Some(found) = found {
        let found = found.unwrap();
        assert!(found.0 == expected.0, "{name}, turned");
        assert!(found.1 == expected.1, "{name}, turned: gradient");
    }

    // dfdx's own copy panics at an empty view.
    let none: Images = images(dev, [0, 8, 8]).permute::<_, Axes4<0, 1, 3, 2>>();
    run(format!("{name}, turned and empty"), panics, || {
        case(&none, none.leaky_trace())
    });

    let row: Tensor<(Const<C>,), f32, _> = dev.sample_normal();
    let wide: Images = row.broadcast_like::<_, Axes3<0, 2, 3>>(&(2, Const, 8, 8));
    let copied = wide.clone().contiguous();
    let expected = run((*name).into(), panics, || {
        case(&copied, copied.leaky_trace())
    });
    let found = run(format!("{name}, broadcast"), panics, || {
        case(&wide, wide.leaky_trace())
    });
    if let (Some(Ok(expected)), Some(found)) = (expected, found) {
        assert!(found.unwrap().0 == expected.0, "{name}, broadcast");
    }
}

#[test]
fn networks_of_empty_batches() {
    let mut panics = Vec::new();
    let dev = device(1);
    macro_rules! network {
        ($net:ty, $c:literal, $size:literal) => {
            let name = stringify!($net);
            let found = run(name.into(), &mut panics, || {
                let mut net = dev.build_module::<$net, f32>();
                let x: Tensor<(usize, Const<$c>, Const<$size>, Const<$size>), f32, _> =
                    dev.zeros_like(&(0, Const, Const, Const));
                net.try_forward_mut(x.leaky_trace())
                    .map(|y| values(&y))
                    .map_err(Error::from)
            });
            match found {
                Some(Ok(logits)) => assert!(logits.is_empty()),
                Some(Err(err)) => assert!(!err.to_string().contains("WrongNum"), "{name}: {err}"),
                None => (),
            }
        };
    }
    network!(MLP<10, 784, 32, 1>, 1, 28);
    network!(Cnn<2, 10, 1>, 1, 28);
    network!(
        (
            layers::SparseConv2D<3, 4, 3, 1, 1>,
            layers::Flatten<256>,
            layers::SparseLinear<256, 2>
        ),
        3,
        8
    );
    run("ResNet18, evaluation".into(), &mut panics, || {
        let net = dev.build_module::<ResNet18<10>, f32>();
        let x: Tensor<(usize, Const<3>, Const<8>, Const<8>), f32, _> =
            dev.zeros_like(&(0, Const, Const, Const));
        assert!(values(&net.try_forward(x).unwrap()).is_empty());
    });
    run("CelebAUNet".into(), &mut panics, || {
        let net = dev.build_module::<CelebAUNet, f32>();
        let x: Tensor<(usize, Const<3>, Const<64>, Const<64>), f32, _> =
            dev.zeros_like(&(0, Const, Const, Const));
        let timesteps = dev.zeros_like(&(0,));
        net.try_apply(x, &timesteps)
            .map(|y| assert!(values(&y).is_empty()))
    });
    assert!(panics.is_empty(), "\n{}", panics.join("\n"));
}
