//! Which sparse layers of a model are meant.

use std::fmt;
use std::sync::Arc;

use crate::bridge::path;
use crate::error::{Error, Result};

/// What tells one sparse layer of a model from the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerInfo<'a> {
    /// The path of its weight without the last part, as in checkpoints: `layer1.0.conv1`.
    pub path: &'a str,
    /// Its place among the sparse layers, in the order of the forward pass, from 0.
    pub index: usize,
    /// Input channels (or features).
    pub c_in: usize,
    /// Output channels (or features).
    pub channels: usize,
    /// Height and width of a convolution's kernel. `None` for a layer without one.
    pub kernel: Option<usize>,
}

/// Some of a model's sparse layers, by path, by place or by a predicate.
///
/// A path pattern means the layer of that path and every layer below it. In one part of a path `*`
/// stands for any characters, and `**` for any number of parts: `layer4`, `layer1.*.conv2`,
/// `**.conv1`. A `&str` converts into it; a word that begins with `@` is a preset, [`stem`](Self::stem)
/// or [`shortcuts`](Self::shortcuts).
///
/// ```
/// use ssprop::nn::{LayerInfo, LayerSelector};
///
/// let layer = LayerInfo { path: "layer4.1.conv2", index: 18, c_in: 512, channels: 512, kernel: Some(3) };
/// assert!(LayerSelector::at("layer4").contains(&layer));
/// assert!(LayerSelector::at("layer*.1.conv2").contains(&layer));
/// assert!(!LayerSelector::at("layer4.1.conv").contains(&layer));
/// assert!(LayerSelector::matching("wide", |layer| layer.channels >= 256).contains(&layer));
/// ```
#[derive(Clone)]
pub struct LayerSelector(Kind);

#[derive(Clone)]
enum Kind {
    At(String),
    Stem,
    Shortcuts,
    Matching(String, Arc<dyn Fn(&LayerInfo<'_>) -> bool + Send + Sync>),
}

impl LayerSelector {
    /// The layers at or below a path pattern.
    pub fn at(pattern: impl Into<String>) -> Self {
        Self(Kind::At(pattern.into()))
    }

    /// The first sparse layer of the forward pass.
    pub fn stem() -> Self {
        Self(Kind::Stem)
    }

    /// The 1x1 convolutions of residual blocks' shortcuts: those with a part `shortcut` or `r` (as
    /// in dfdx's `GeneralizedResidual`) in their path.
    pub fn shortcuts() -> Self {
        Self(Kind::Shortcuts)
    }

    /// The layers of which `predicate` is true. Errors name them by `name`.
    pub fn matching(
        name: impl Into<String>,
        predicate: impl Fn(&LayerInfo<'_>) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self(Kind::Matching(name.into(), Arc::new(predicate)))
    }

    /// Whether a layer is one of them.
    pub fn contains(&self, layer: &LayerInfo<'_>) -> bool {
        match &self.0 {
            Kind::At(pattern) => path::matches(pattern, layer.path),
            Kind::Stem => layer.index == 0,
            Kind::Shortcuts => {
                let mut parts = layer.path.split('.');
                layer.kernel == Some(1) && parts.any(|part| matches!(part, "shortcut" | "r"))
            }
            Kind::Matching(_, predicate) => predicate(layer),
        }
    }

    /// Reads a path pattern, or a preset that begins with `@`.
    ///
    /// # Errors
    /// [`Error::Parameter`] for another word that begins with `@`.
    pub(super) fn parse(text: &str) -> Result<Self> {
        match text {
            "@stem" => Ok(Self::stem()),
            "@shortcuts" => Ok(Self::shortcuts()),
            _ if text.starts_with('@') => Err(Error::parameter(
                "layers",
                text,
                "a path pattern, @stem or @shortcuts",
            )),
            _ => Ok(Self::at(text)),
        }
    }
}

/// A path pattern, `@stem` or `@shortcuts`.
impl From<&str> for LayerSelector {
    fn from(text: &str) -> Self {
        // Another word with an @ is no layer's path, which the plan reports when it is applied.
        Self::parse(text).unwrap_or_else(|_| Self::at(text))
    }
}

/// The pattern, `@stem`, `@shortcuts`, or `@` and the predicate's name, which cannot be read back.
impl fmt::Display for LayerSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::At(pattern) => write!(f, "{pattern}"),
            Kind::Stem => write!(f, "@stem"),
            Kind::Shortcuts => write!(f, "@shortcuts"),
            Kind::Matching(name, _) => write!(f, "@{name}"),
        }
    }
}

impl fmt::Debug for LayerSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LayerSelector({self})")
    }
}
