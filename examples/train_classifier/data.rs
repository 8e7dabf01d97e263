//! The images of a task.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use common::say;
use ssprop::data::{bundled, folder, BatchLoader, Limits, Normalization, Splits, Task};
use ssprop::Error;

use crate::args::Args;

/// The images for training, validation and test, with their normalisation; without a `path`, of
/// Fashion-MNIST the bundled part, and what lies in data/ of the others.
pub fn read(args: &Args) -> ssprop::Result<(Splits, Normalization)> {
    let (task, seed) = (args.task, args.seed);
    let limits = Limits {
        train: args.train_limit,
        test: args.test_limit,
    };
    let splits = match (task, args.data.as_deref()) {
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
        (Task::Folder, path) => {
            let size = args.size.unwrap_or(64);
            folder(self::path(task, path)?, size, limits, seed)?
        }
        (_, path) => task.load(self::path(task, path)?, limits, seed)?,
    };
    if splits.train.is_empty() || splits.validation.is_empty() {
        return Err(Error::parameter(
            "--train-limit",
            splits.train.len() + splits.validation.len(),
            "enough for images to train on and a fifth for validation",
        ));
    }
    args.preparation.apply(args, splits)
}

/// Where a task's files lie.
///
/// # Errors
/// For a folder that is not there: how to obtain the data set.
pub fn path(task: Task, path: Option<&Path>) -> ssprop::Result<PathBuf> {
    let path = path.map_or_else(|| format!("data/{task}").into(), PathBuf::from);
    if task == Task::Folder && !path.exists() {
        // Says what should be there.
        task.load(&path, Limits::default(), 0)?;
    }
    Ok(path)
}

/// The damaged pictures that loaders left out.
#[derive(Default)]
pub struct LeftOut {
    told: BTreeSet<String>,
}

impl LeftOut {
    /// A line for each that was not told before.
    pub fn news(&mut self, loaders: &[&BatchLoader]) -> Vec<String> {
        let damaged = loaders.iter().flat_map(|loader| loader.damaged());
        let lines = damaged.map(|picture| picture.to_string());
        lines
            .filter(|line| self.told.insert(line.clone()))
            .map(|line| format!("Left out: {line}"))
            .collect()
    }

    pub fn count(&self) -> usize {
        self.told.len()
    }
}

/// How to have the whole data set.
fn whole(task: Task) -> String {
    let info = task.info();
    format!(
        "For all of it, obtain it from {} and pass its folder with --data.",
        info.home_page
    )
}
