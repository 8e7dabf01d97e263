//! Trainers, optimizers and checkpoints.

mod checkpoint;
mod classifier;
mod diffusion;
mod diffusion_training;
mod foreign_weights;
mod frozen;
mod guidance;
mod optim;
mod pytorch_optimizers;
mod stripes;
mod trainer_options;
