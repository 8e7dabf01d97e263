//! The vision transformer that is trained.

use ssprop::models::builders;

/// Patches of 4x4 pixels, 64 channels, MLPs of 256, 4 heads, 6 blocks.
pub type ViT<const CLASSES: usize, const C: usize, const IMAGE: usize> =
    builders::ViT<CLASSES, C, IMAGE, 4, 64, 256, 4, 6>;
