//! The paper's hyperparameters (arXiv 2408.12561, Tables 1 to 4 and 7), and ours where it has none.

use ssprop::data::Task;

use crate::args::Architecture;

/// Epochs: 250 for the deeper networks on CIFAR, else 50.
pub fn epochs(task: Task, model: Architecture) -> usize {
    match (task, model) {
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
