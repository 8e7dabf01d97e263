//! CelebA and ImageNet, from small folders.

use std::path::Path;

use image::{Rgb, RgbImage};
use tempfile::TempDir;

use super::super::{celeba, imagenet, Limits};
use super::{data_error, says};

const ATTRIBUTES: &str = "list_attr_celeba.txt";
const PARTITION: &str = "list_eval_partition.txt";

/// Five grey faces, 10 (i + 1) dark, of which 3 are for training; attribute 0 is that of every
/// second one, attribute 1 of the last.
fn faces(images: &str, lists: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let (images, lists) = (dir.path().join(images), dir.path().join(lists));
    std::fs::create_dir_all(&images).unwrap();
    std::fs::create_dir_all(&lists).unwrap();
    let mut attributes = String::from("5\nSmiling Young\n");
    let mut partition = String::new();
    for i in 0..5 {
        let picture = RgbImage::from_pixel(20, 30, Rgb([10 * (i + 1); 3]));
        picture.save(images.join(format!("00000{i}.jpg"))).unwrap();
        let sign = |holds| if holds { " 1" } else { "-1" };
        let (a, b) = (sign(i % 2 == 0), sign(i == 4));
        attributes += &format!("00000{i}.jpg {a} {b}\n");
        partition += &format!("00000{i}.jpg {}\n", [0, 0, 1, 0, 2][usize::from(i)]);
    }
    std::fs::write(lists.join(ATTRIBUTES), attributes).unwrap();
    std::fs::write(lists.join(PARTITION), partition).unwrap();
    dir
}

/// The first pixel of every image.
fn greys(data: &super::super::ImageDataset) -> Vec<u8> {
    let images = data
        .images()
        .chunks(3 * data.shape().height * data.shape().width);
    images.map(|image| image[0]).collect()
}

#[test]
fn celeba_is_split_by_its_partition() {
    for (images, lists) in [("img_align_celeba", ""), ("Img/img_align_celeba", "Anno")] {
        let dir = faces(images, lists);
        let found = celeba(dir.path(), Limits::default()).unwrap();
        assert_eq!(greys(&found.train), [10, 20, 40]);
        assert_eq!(greys(&found.validation), [30]);
        assert_eq!(greys(&found.test), [50]);
        let attributes = [true, false, false, false, false, false];
        assert_eq!(found.train.attributes(), attributes);
        assert_eq!(found.test.attributes(), [true, true]);
        assert_eq!(found.test.class_names(), ["Smiling", "Young"]);
        assert_eq!(
            found.train.shape(),
            super::super::ImageShape::new(3, 64, 64)
        );
    }
    let limits = Limits {
        train: Some(3),
        test: Some(0),
    };
    let found = celeba(faces("img_align_celeba", "").path(), limits).unwrap();
    assert_eq!(greys(&found.train), [10, 20]);
    assert_eq!((found.validation.len(), found.test.len()), (1, 0));
}

#[test]
fn damaged_lists_of_celeba_are_named_with_the_line() {
    let check = |list: &str, from: &str, to: &str, parts: &[&str]| {
        let dir = faces("img_align_celeba", "");
        let path = dir.path().join(list);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replacen(from, to, 1)).unwrap();
        let e = data_error(celeba(dir.path(), Limits::default()));
        says(e, &[&[list], parts].concat());
    };
    check(
        ATTRIBUTES,
        "5\n",
        "x\n",
        &["line 1", "number of images", "x"],
    );
    check(ATTRIBUTES, "5\n", "6\n", &["line 1", "5 lines", "6"]);
    check(ATTRIBUTES, "Smiling Young\n", "\n", &["names"]);
    check(
        ATTRIBUTES,
        "1.jpg -1 -1",
        "1.jpg -1 0",
        &["line 4", "1 or -1", "0"],
    );
    check(
        ATTRIBUTES,
        "1.jpg -1 -1",
        "1.jpg -1",
        &["line 4", "2 attributes"],
    );
    check(
        PARTITION,
        "1.jpg 0",
        "1.jpg 3",
        &["line 2", "0, 1 or 2", "3"],
    );
    check(PARTITION, "000001.jpg 0\n", "", &["000001.jpg"]);

    let dir = faces("img_align_celeba", "");
    std::fs::remove_file(dir.path().join("img_align_celeba/000003.jpg")).unwrap();
    says(
        data_error(celeba(dir.path(), Limits::default())),
        &["000003.jpg"],
    );
    std::fs::remove_file(dir.path().join(PARTITION)).unwrap();
    says(
        data_error(celeba(dir.path(), Limits::default())),
        &[PARTITION],
    );
}

fn save(path: &Path, grey: u8) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    RgbImage::from_pixel(12, 8, Rgb([grey; 3]))
        .save(path)
        .unwrap();
}

#[test]
fn imagenet_has_a_folder_a_class() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name);
    for (name, grey) in [
        ("train/n02/a.png", 1),
        ("train/n02/b.png", 2),
        ("train/n02/c.png", 3),
        ("train/n01/x.png", 4),
        ("val/n01/x.png", 5),
        ("val/n02/a.png", 6),
    ] {
        save(&file(name), grey);
    }
    std::fs::write(file("train/n01/notes.txt"), "no picture").unwrap();
    let (train, test) = imagenet(dir.path(), Limits::default()).unwrap();
    assert_eq!(train.labels(), [0, 1, 1, 1]);
    assert_eq!(greys(&train), [4, 1, 2, 3]);
    assert_eq!((test.labels(), greys(&test)), (&[0, 1][..], vec![5, 6]));
    assert_eq!(test.class_names(), ["n01", "n02"]);
    assert_eq!(test.shape(), super::super::ImageShape::new(3, 224, 224));

    let limits = Limits {
        train: Some(3),
        test: Some(1),
    };
    let (train, test) = imagenet(dir.path(), limits).unwrap();
    assert_eq!((greys(&train), greys(&test)), (vec![4, 1, 2], vec![5]));

    std::fs::remove_dir_all(file("val/n01")).unwrap();
    let e = data_error(imagenet(dir.path(), Limits::default()));
    says(e, &["n01"]);
    std::fs::remove_dir_all(file("train")).unwrap();
    says(
        data_error(imagenet(dir.path(), Limits::default())),
        &["train"],
    );
    std::fs::create_dir(file("train")).unwrap();
    let e = data_error(imagenet(dir.path(), Limits::default()));
    says(e, &["train", "class's folder"]);
}
