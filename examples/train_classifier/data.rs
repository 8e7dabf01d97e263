//! The images of a task.

use std::path::{Path, PathBuf};

use common::say;
use ssprop::data::{bundled, Limits, Splits, Task};
use ssprop::Error;

/// The images for training, validation and test; without a `path`, of Fashion-MNIST the bundled
/// part, and what lies in data/ of the others.
pub fn read(task: Task, path: Option<&Path>, limits: Limits, seed: u64) -> ssprop::Result<Splits> {
    let splits = match (task, path) {
        (Task::FashionMnist, None) => {
            say!(
                "No --data: training on the bundled part of Fashion-MNIST. {}",
                whole(task)
            );
            let (train, test) = bundled()?;
            let limited = |limit: Option<usize>, all| limit.unwrap_or(all);
            let train = train.take_balanced(limited(limits.train, train.len()));
            let test = test.take_balanced(limited(limits.test, test.len()));
            Splits::new(train, test, seed)?
        }
        (_, Some(path)) => task.load(path, limits, seed)?,
        (_, None) => task.load(PathBuf::from(format!("data/{task}")), limits, seed)?,
    };
    if splits.train.is_empty() || splits.validation.is_empty() {
        return Err(Error::parameter(
            "--train-limit",
            splits.train.len() + splits.validation.len(),
            "enough for images to train on and a fifth for validation",
        ));
    }
    Ok(splits)
}

/// How to have the whole data set.
fn whole(task: Task) -> String {
    let info = task.info();
    format!(
        "For all of it, obtain it from {} and pass its folder with --data.",
        info.home_page
    )
}
