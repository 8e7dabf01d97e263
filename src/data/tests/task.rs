//! The table of tasks.

use super::super::{bundled, Limits, Normalization, Splits, Task};
use super::{data_error, says};

#[test]
fn tasks_have_names_and_descriptions_that_fit() {
    for task in Task::ALL {
        let info = task.info();
        assert_eq!(task.to_string().parse::<Task>().unwrap(), task);
        assert_eq!(task.normalization().channels(), info.shape.channels);
        let (mean, std) = (info.mean.to_vec(), info.std.to_vec());
        assert_eq!(Normalization::new(mean, std).unwrap(), task.normalization());
        let e = data_error(task.load("/nowhere", Limits::default(), 0));
        says(e, &["/nowhere", info.title, info.home_page, info.files]);
    }
    says(
        "mnst".parse::<Task>().unwrap_err(),
        &["mnst", "fashion-mnist"],
    );
}

#[test]
fn a_fifth_is_held_out_by_the_seed() {
    let (train, test) = bundled().unwrap();
    let (train, test) = (train.take(100), test.take(10));
    let splits = |seed| Splits::new(train.clone(), test.clone(), seed).unwrap();
    let found = splits(1);
    let parts = (found.train.len(), found.validation.len(), found.test.len());
    assert_eq!(parts, (80, 20, 10));
    assert_eq!(found, splits(1));
    assert_ne!(found.validation, splits(2).validation);
    // Disjoint and complete: the bundled images are all different.
    let images = |data: &super::super::ImageDataset| -> Vec<Vec<u8>> {
        (0..data.len())
            .map(|i| data.image(i).unwrap().into_owned())
            .collect()
    };
    let mut all = [images(&found.train), images(&found.validation)].concat();
    let mut before = images(&train);
    all.sort();
    before.sort();
    assert_eq!(all, before);
}

#[test]
fn usual_constants_are_those_of_the_images() {
    let computed = Normalization::of(&bundled().unwrap().0).unwrap();
    let usual = Task::FashionMnist.normalization();
    assert!((computed.mean()[0] - usual.mean()[0]).abs() < 0.01);
    assert!((computed.std()[0] - usual.std()[0]).abs() < 0.01);
}
