use ssprop::internals::args::attention::{AttentionOp, QkvOrder};
use ssprop::internals::args::Fill;
use ssprop::internals::{AttentionKernel, Views};

use crate::support::{agree, download, noise, room, upload};

/// Depth and positions of a head, and the heads of all images.
fn check(sizes: [usize; 3], size: f32) {
    check_order(sizes, QkvOrder::ByHead, size);
}

fn check_order([depth, positions, heads]: [usize; 3], order: QkvOrder, size: f32) {
    let op = AttentionOp {
        depth,
        positions,
        order,
    };
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
            // A device may have the statistics of its heads in another order.
            let mut statistics = download(&dev, &statistics);
            statistics.sort_by(f32::total_cmp);
            vec![
                ("y", download(&dev, &y)),
                ("statistics", statistics),
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
fn queries_of_all_heads_before_their_keys_and_values() {
    for (sizes, heads) in [
        ([4, 49, 6], 3),
        ([16, 16, 8], 4),
        ([5, 9, 4], 4),
        ([3, 33, 3], 1),
        ([4, 9, 0], 2),
    ] {
        check_order(sizes, QkvOrder::ByKind { heads }, 1.0);
    }
    // One head of an image at a time.
    check_order([1, 2200, 6], QkvOrder::ByKind { heads: 2 }, 0.5);
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
