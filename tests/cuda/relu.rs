use ssprop::internals::args::Fill;
use ssprop::internals::{ReLUKernel, Views};

use crate::support::{agree, download, noise, room, upload};

#[test]
fn forward_and_backward() {
    let len = 5000;
    for fill in [Fill::Overwrite, Fill::Add] {
        agree!(0.0, |dev: D| {
            let (x, dy) = (upload(&dev, &noise(len, 1)), upload(&dev, &noise(len, 2)));
            let mut y = room(&dev, len);
            D::relu_forward(D::buffer(&x), D::buffer_mut(&mut y)).unwrap();
            let mut dx = upload(&dev, &noise(len, 3));
            let (saved, to) = (D::buffer(&y), D::buffer_mut(&mut dx));
            D::relu_backward(saved, D::buffer(&dy), to, fill).unwrap();
            vec![("y", download(&dev, &y)), ("dx", download(&dev, &dx))]
        });
    }
}
