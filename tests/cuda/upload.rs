//! Values that travel to the device while it works.

use dfdx::tensor::Cuda;
use ssprop::internals::{HostAccess, Views};

use crate::support::{download, noise, room};

#[test]
fn the_host_may_change_values_at_once() {
    let dev = crate::support::cuda();
    // Sizes that grow and shrink, more than there are buffers.
    let sizes = [5, 1000, 3, 40_000, 7, 40_000, 1, 0, 900];
    let mut values = vec![0.0; 40_000];
    let uploaded = sizes.iter().enumerate().map(|(number, &len)| {
        values[..len].copy_from_slice(&noise(len, number as u64));
        let mut memory = room(&dev, len);
        <Cuda as HostAccess<f32>>::write(&values[..len], Cuda::buffer_mut(&mut memory)).unwrap();
        values.fill(f32::NAN);
        memory
    });
    let uploaded: Vec<_> = uploaded.collect();
    for (number, (memory, len)) in uploaded.iter().zip(sizes).enumerate() {
        assert_eq!(download(&dev, memory), noise(len, number as u64));
    }
    let mut memory = room(&dev, 3);
    let few = <Cuda as HostAccess<f32>>::write(&[1.0], Cuda::buffer_mut(&mut memory));
    assert!(few.unwrap_err().to_string().contains("expected 3, found 1"));
}
