//! The paper's hyperparameters (arXiv 2408.12561, Tables 2 and 7, and the text on Table 6), and ours where it has none.

use ssprop::data::Task;

use crate::args::Architecture;

/// Epochs: 50, more for the deeper networks on CIFAR, and most with dropout, which learn slowest.
pub fn epochs(task: Task, model: Architecture, dropout: bool) -> usize {
    match (task, model) {
        (Task::Cifar10, Architecture::ResNet50) if dropout => 4000,
        (Task::Cifar100, Architecture::ResNet50) if dropout => 1800,
        (Task::Cifar10 | Task::Cifar100, Architecture::ResNet26 | Architecture::ResNet50) => 250,
        _ => 50,
    }
}

/// Images in a batch: fewer where the images or the networks are large.
pub fn batch_size(task: Task, model: Architecture) -> usize {
    match (task, model) {
        (Task::CelebA, Architecture::ResNet50) => 32,
        (Task::ImageNet, Architecture::ResNet50) => 16,
        (Task::ImageNet, _) => 32,
        _ => 128,
    }
}
