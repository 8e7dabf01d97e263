//! Convolutions and linear layers: what holds of their passes, dense and sparse.

mod algorithms;
mod determinism;
mod dfdx_modules;
mod fixture;
mod properties;
mod selection;
mod typed_shapes;
