use ssprop::internals::args::attention::AttentionOp;
use ssprop::internals::args::Fill;
use ssprop::internals::{AttentionKernel, Views};

use crate::support::{agree, download, noise, room, upload};

/// Depth and positions of a head, and the heads of all images.
fn check([depth, positions, heads]: [usize; 3], size: f32) {
    let op = AttentionOp { depth, positions };
    let len = heads * depth * positions;
    for fill in [Fill::Overwrite, Fill::Add] {
        agree!(1e-5, |dev: D| {
            let values: Vec<f32> = noise(3 * len, 1).iter().map(|v| v * size).collect();
            let qkv = upload(&dev, &values);
            let (mut y, mut statistics) = (room(&dev, len), room(&dev, 2 * heads * positions));
            let (to, to_statistics) = (D::buffer_mut(&mut y), D::buffer_mut(&mut statistics));
            D::attention_forward(&op, D::buffer(&qkv), to, to_statistics).unwrap();
            let dy = upload(&dev, &noise(len, 2));
            let mut dqkv = upload(&dev, &noise(3 * len, 3));
            D::attention_backward(
                &op,
                D::buffer(&qkv),
                D::buffer(&statistics),
                D::buffer(&dy),
                D::buffer_mut(&mut dqkv),
                fill,
            )
            .unwrap();
            vec![
                ("y", download(&dev, &y)),
                ("statistics", download(&dev, &statistics)),
                ("dqkv", download(&dev, &dqkv)),
            ]
        });
    }
}

#[test]
fn forward_and_backward() {
    for sizes in [
        [4, 49, 6],
        [3, 5, 1],
        [16, 32, 2],
        [1, 1, 3],
        [9, 70, 2],
        [4, 9, 0],
    ] {
        check(sizes, 1.0);
    }
}

#[test]
fn large_scores() {
    check([8, 33, 2], 8.0);
}

#[test]
fn heads_that_do_not_fit_into_the_workspace_at_once() {
    // 3 heads forward, 1 backward.
    check([1, 2200, 4], 0.5);
}
