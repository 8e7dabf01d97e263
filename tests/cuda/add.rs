use ssprop::internals::args::Fill;
use ssprop::internals::{AddKernel, Views};

use crate::support::{agree, download, noise, room, upload};

#[test]
fn forward_and_backward() {
    // More elements than threads of a block, not a multiple of them; and none.
    for len in [0, 1, 1000, 70_001] {
        agree!(0.0, |dev: D| {
            let (a, b) = (upload(&dev, &noise(len, 1)), upload(&dev, &noise(len, 2)));
            let mut y = room(&dev, len);
            D::add_forward(D::buffer(&a), D::buffer(&b), D::buffer_mut(&mut y)).unwrap();
            let mut fresh = room(&dev, len);
            D::add_backward(D::buffer(&a), D::buffer_mut(&mut fresh), Fill::Overwrite).unwrap();
            let mut sum = upload(&dev, &noise(len, 3));
            D::add_backward(D::buffer(&a), D::buffer_mut(&mut sum), Fill::Add).unwrap();
            vec![
                ("y", download(&dev, &y)),
                ("dx", download(&dev, &fresh)),
                ("dx, added", download(&dev, &sum)),
            ]
        });
    }
}
