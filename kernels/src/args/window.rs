//! How often a window fits.

/// The output size of a window of `kernel` taps, `dilation` apart, that moves by `stride` over
/// `size` elements with `padding` zeros at either end:
/// floor((size + 2 padding - dilation (kernel - 1) - 1) / stride) + 1.
///
/// `None` if the window does not fit once, or if `kernel`, `stride` or `dilation` is 0.
pub const fn window_count(
    size: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
    dilation: usize,
) -> Option<usize> {
    if kernel == 0 || stride == 0 || dilation == 0 {
        return None;
    }
    // Sizes beyond a usize fit nothing.
    let (Some(reach), Some(both)) = (dilation.checked_mul(kernel - 1), padding.checked_mul(2))
    else {
        return None;
    };
    let (Some(span), Some(padded)) = (reach.checked_add(1), size.checked_add(both)) else {
        return None;
    };
    if padded < span {
        return None;
    }
    Some((padded - span) / stride + 1)
}
