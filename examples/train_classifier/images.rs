//! What the networks are compiled for.

use std::fmt;

use ssprop::data::Task;
use ssprop::Error;

/// What a network is for. Its type has the images' size and the number of classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Images {
    Task(Task),
    /// Pictures of a folder, of `classes` classes. The networks are compiled for 10, 100 and 1000: of the
    /// next number, the last logits belong to no class. No image has them as its label, so that
    /// training makes them small.
    Folder {
        size: usize,
        classes: usize,
    },
}

/// The sizes of the pictures of a folder.
pub const SIZES: [usize; 3] = [32, 64, 224];

impl Images {
    /// # Errors
    /// [`Error::Parameter`] for other sizes, and more classes than a network has.
    pub fn of_folder(size: usize, classes: usize) -> ssprop::Result<Self> {
        if !SIZES.contains(&size) {
            return Err(Error::parameter("--size", size, "32, 64 or 224"));
        }
        match classes {
            1..=1000 => Ok(Self::Folder { size, classes }),
            _ => Err(Error::parameter(
                "classes of --data",
                classes,
                "in 1..=1000",
            )),
        }
    }

    pub fn task(self) -> Task {
        match self {
            Self::Task(task) => task,
            Self::Folder { .. } => Task::Folder,
        }
    }
}

impl fmt::Display for Images {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Task(task) => task.fmt(f),
            Self::Folder { size, classes } => {
                write!(f, "{} of {classes} classes at {size}x{size}", Task::Folder)
            }
        }
    }
}
