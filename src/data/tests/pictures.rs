//! CelebA and ImageNet, from small folders.

use std::path::Path;

use image::{Rgb, RgbImage};
use tempfile::TempDir;

use super::super::dataset::permutation;
use super::super::picture::decode;
use super::super::{celeba, folder, folder_classes, imagenet, Fit, Limits, Splits};
use super::super::{BatchLoader, DataError, ImageDataset, ImageShape, Task};
use super::kept::case;
use super::{data_error, one_file, says, show, zip, Files};

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
fn greys(data: &ImageDataset) -> Vec<u8> {
    (0..data.len()).map(|i| data.image(i).unwrap()[0]).collect()
}

#[test]
fn celeba_is_split_by_its_partition() {
    for (images, lists) in [
        ("img_align_celeba", ""),
        ("img_align_celeba/img_align_celeba", ""),
        ("Img/img_align_celeba", "Anno"),
    ] {
        let dir = faces(images, lists);
        let found = celeba(dir.path(), Limits::default()).unwrap();
        assert_eq!(greys(&found.train), [10, 20, 40]);
        assert_eq!(greys(&found.validation), [30]);
        assert_eq!(greys(&found.test), [50]);
        let attributes = [true, false, false, false, false, false];
        assert_eq!(found.train.attributes(), attributes);
        assert_eq!(found.test.attributes(), [true, true]);
        assert_eq!(found.test.class_names(), ["Smiling", "Young"]);
        assert_eq!(found.train.shape(), ImageShape::new(3, 64, 64));
    }
    let limits = Limits {
        train: Some(3),
        test: Some(0),
    };
    let dir = faces("img_align_celeba", "");
    let found = celeba(dir.path(), limits).unwrap();
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
    assert_eq!(test.shape(), ImageShape::new(3, 224, 224));

    let limits = Limits {
        train: Some(3),
        test: Some(1),
    };
    // The validation images serve for both; those of the test have no labels.
    let splits = Task::ImageNet.load(dir.path(), limits, 0).unwrap();
    assert_eq!(splits.validation, splits.test);
    let (train, test) = imagenet(dir.path(), limits).unwrap();
    assert_eq!((&splits.train, &splits.test), (&train, &test));
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
    save(&file("train/a.png"), 1);
    let e = data_error(imagenet(dir.path(), Limits::default()));
    says(e, &["train", "a folder for each class", "a.png"]);
}

/// The files below a folder, with their places.
fn files_in(folder: &Path, at: &str, files: &mut Files) {
    for entry in std::fs::read_dir(folder.join(at)).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let place = if at.is_empty() {
            name
        } else {
            format!("{at}/{name}")
        };
        match folder.join(&place).is_dir() {
            true => files_in(folder, &place, files),
            false => files.push((place.clone(), std::fs::read(folder.join(&place)).unwrap())),
        }
    }
}

/// The zip of a folder's files, in a folder, with the paths changed.
fn zipped(
    folder: &Path,
    name: &str,
    change: impl Fn(String) -> String,
) -> (TempDir, std::path::PathBuf) {
    let mut files = Files::new();
    files_in(folder, "", &mut files);
    let files = files.into_iter().map(|(name, bytes)| (change(name), bytes));
    one_file(name, &zip(&files.collect()))
}

fn counts(data: &ImageDataset) -> Vec<usize> {
    data.pixels().unwrap();
    data.class_counts()
}

#[test]
fn hidden_files_and_folders_are_left_out() {
    for name in ["pictures_appledouble", "pictures_hidden_class"] {
        let in_zip = zipped(&case(name), "a.zip", |name| name);
        for path in [&case(name), &in_zip.1] {
            let (train, test) = imagenet(path, Limits::default()).unwrap();
            assert_eq!(train.class_names(), ["n01", "n02"]);
            assert_eq!(train.labels(), [0, 0, 0, 1, 1, 1]);
            assert_eq!((counts(&train), counts(&test)), (vec![3, 3], vec![3, 3]));
        }
    }
}

#[test]
fn bytes_after_the_end_of_a_picture_do_not_matter() {
    let (train, _) = imagenet(case("pictures_trailing_bytes"), Limits::default()).unwrap();
    assert_eq!(counts(&train), [3, 3]);
    let (same, _) = imagenet(case("pictures_appledouble"), Limits::default()).unwrap();
    let pictures = |data: &ImageDataset| [0, 1].map(|i| data.image(i).unwrap().into_owned());
    assert_eq!(pictures(&train)[0], pictures(&same)[0]);
    assert_ne!(pictures(&train)[1], vec![0; 3 * 224 * 224]);
}

#[test]
fn cut_off_pictures_are_named_in_the_order_of_the_data_set() {
    let in_zip = zipped(&case("pictures_truncated"), "a.zip", |name| name);
    for path in [&case("pictures_truncated"), &in_zip.1] {
        let (train, test) = imagenet(path, Limits::default()).unwrap();
        assert_eq!(counts(&test), [3, 3]);
        says(
            data_error(train.image(1)),
            &["n01/1.JPEG", "ends at byte", "inside the picture"],
        );
        says(data_error(train.image(5)), &["n02/2.JPEG"]);
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            let (whole, damaged) = pool.install(|| train.without_damaged()).unwrap();
            assert_eq!(damaged.iter().map(|d| d.index).collect::<Vec<_>>(), [1, 5]);
            says(&damaged[1], &["n02/2.JPEG", "ends at byte"]);
            assert_eq!(whole.labels(), [0, 0, 1, 1]);
            assert!(whole.pixels().is_ok());
        }
        for (workers, prefetch) in [(0, 1), (1, 2), (4, 6)] {
            let loader = BatchLoader::new(&train, 3).unwrap();
            let loader = loader.workers(workers).prefetch(prefetch);
            let all: Vec<_> = loader.epoch(0).collect();
            for (batch, name) in all.into_iter().zip(["n01/1.JPEG", "n02/2.JPEG"]) {
                let e = data_error(batch);
                assert!(matches!(e, DataError::Picture { .. }), "{e}");
                says(e, &[name]);
            }
            assert!(loader.damaged().is_empty());

            let loader = loader.skip_damaged(true);
            let all: Vec<_> = loader.epoch(0).map(Result::unwrap).collect();
            assert_eq!(all[0].indices(), [0, 2]);
            assert_eq!(all[1].indices(), [3, 4]);
            assert_eq!(
                (all[0].labels(), all[0].images().len()),
                (&[0, 0][..], 2 * 3 * 224 * 224)
            );
            let damaged = loader.damaged();
            assert_eq!(damaged.iter().map(|d| d.index).collect::<Vec<_>>(), [1, 5]);
            says(&damaged[0], &["n01/1.JPEG"]);
            assert!(loader.skip_damaged(false).damaged().is_empty());
        }
        // Of a rank's share nothing is left: it goes along with an image that counts elsewhere.
        for (rank, expected) in [
            (1, [(0, 0.0), (4, 1.0 / 3.0)]),
            (2, [(2, 1.0 / 3.0), (3, 0.0)]),
        ] {
            let loader = BatchLoader::new(&train, 3).unwrap().skip_damaged(true);
            let loader = loader.share_of(rank, 3).unwrap();
            let found = loader.epoch(0).map(Result::unwrap);
            let found: Vec<_> = found.map(|b| (b.indices()[0], b.share())).collect();
            assert_eq!(found, expected);
        }
        // Nothing is left of a batch.
        let one = BatchLoader::new(&train, 1).unwrap().skip_damaged(true);
        says(data_error(one.epoch(0).nth(1).unwrap()), &["n01/1.JPEG"]);
    }
}

#[test]
fn a_shuffled_epoch_names_the_first_damaged_picture_of_the_data_set() {
    let mut png = std::io::Cursor::new(Vec::new());
    image::RgbImage::new(2, 2)
        .write_to(&mut png, image::ImageFormat::Png)
        .unwrap();
    let png = png.into_inner();
    // Among them pictures of which a scan in parts looks at others first.
    let (all, bad) = (2100, [1030, 1040, 2090]);
    let files: Files = (0..all)
        .map(|i| {
            let len = if bad.contains(&i) { 20 } else { png.len() };
            (format!("{}/{i:04}.png", i / 700), png[..len].to_vec())
        })
        .collect();
    let (_dir, path) = one_file("a.zip", &zip(&files));
    let tree = super::super::tree::Tree::open(&path).unwrap();
    let classes = ["0", "1", "2"].map(String::from);
    let data = super::super::imagenet::read(&tree, "", &classes, None, 2, 1.0).unwrap();
    let mut firsts = std::collections::BTreeSet::new();
    for seed in 0..6 {
        let loader = BatchLoader::new(&data, 50).unwrap().shuffle(seed);
        let order = permutation(all, seed, 0);
        firsts.insert(
            *order
                .iter()
                .find(|&&i| bad.contains(&(i as usize)))
                .unwrap(),
        );
        for (workers, threads) in [(0, 1), (1, 1), (2, 2), (4, 2)] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            let found = pool.build().unwrap().install(|| {
                let mut batches = loader.clone().workers(workers).epoch(0);
                batches.find_map(Result::err).unwrap()
            });
            says(found, &["1/1030.png"]);
        }
        let whole = loader.skip_damaged(true);
        assert_eq!(
            whole.epoch(0).map(|b| b.unwrap().len()).sum::<usize>(),
            all - bad.len()
        );
    }
    assert!(firsts.len() > 1, "{firsts:?}");
    // In the data set's order nothing is looked at again.
    let loader = BatchLoader::new(&data, 50).unwrap().workers(2);
    let errors: Vec<_> = loader.epoch(0).filter_map(Result::err).collect();
    assert_eq!(errors.len(), 2);
    says(&errors[1], &["2/2090.png"]);
}

#[test]
fn pictures_that_are_not_in_a_class_s_folder() {
    let e = data_error(imagenet(case("pictures_val_flat"), Limits::default()));
    assert!(matches!(e, DataError::Layout { .. }), "{e}");
    says(
        e,
        &[
            "val",
            "a folder for each of the 2 classes (n01",
            "ILSVRC2012_val_00000001.JPEG",
        ],
    );

    let (train, test) = imagenet(case("pictures_one_deeper"), Limits::default()).unwrap();
    assert_eq!((counts(&train), counts(&test)), (vec![3, 3], vec![1, 1]));
    says(train.file(0).unwrap(), &["n01/images/0.JPEG"]);
}

#[test]
fn classes_without_pictures_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name);
    let error = || data_error(imagenet(dir.path(), Limits::default()));
    for name in ["train/a/1.png", "val/a/1.png"] {
        save(&file(name), 7);
    }
    std::fs::create_dir(file("train/b")).unwrap();
    std::fs::create_dir(file("val/b")).unwrap();
    says(error(), &["train/b", "JPEG or PNG"]);
    std::fs::write(file("train/b/list.txt"), "no picture").unwrap();
    says(error(), &["train/b"]);
    save(&file("train/b/1.png"), 8);
    says(error(), &["val/b"]);
    save(&file("val/b/deeper/1.PNG"), 9);
    assert!(imagenet(dir.path(), Limits::default()).is_ok());
    save(&file("val/c/1.png"), 9);
    says(error(), &["val/c", "another one"]);
    std::fs::remove_dir_all(file("val/c")).unwrap();
    for other in ["x.webp", "x.GIF", "x.tiff", "x.bmp"] {
        std::fs::write(file("train/a").join(other), "RIFF").unwrap();
        let ending = other.split_once('.').unwrap().1.to_lowercase();
        says(error(), &[other, &ending, "JPEG or PNG"]);
        std::fs::remove_file(file("train/a").join(other)).unwrap();
    }
    save(&file("train/a/1/2/3/4/5/1.png"), 1);
    says(error(), &["train/a/1/2/3/4/5", "4 folders"]);
}

#[cfg(target_os = "linux")]
#[test]
fn names_that_are_no_text_are_an_error() {
    use std::os::unix::ffi::OsStrExt;
    let dir = tempfile::tempdir().unwrap();
    save(&dir.path().join("train/a/1.png"), 1);
    save(&dir.path().join("val/a/1.png"), 1);
    let name = std::ffi::OsStr::from_bytes(b"caf\xe9.jpg");
    std::fs::write(dir.path().join("train/a").join(name), "x").unwrap();
    let e = data_error(imagenet(dir.path(), Limits::default()));
    assert!(matches!(e, DataError::Name { .. }), "{e}");
    says(e, &["train/a", "UTF-8", "caf"]);
}

#[test]
fn other_formats_under_a_picture_s_name_are_named() {
    let dir = tempfile::tempdir().unwrap();
    save(&dir.path().join("a/1.png"), 1);
    for (bytes, kind) in [
        (&b"GIF89a..."[..], "GIF"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "WebP"),
        (b"<html>", "HTML"),
        (b"", "empty"),
        (b"\0\0\0\x18ftypheic", "HEIF"),
    ] {
        std::fs::write(dir.path().join("a/0.jpg"), bytes).unwrap();
        let data = folder(dir.path(), 8, Limits::default(), 0).unwrap().train;
        let found = (0..data.len()).map(|i| data.image(i).map(|_| ()));
        let e = found.filter_map(Result::err).map(|e| e.to_string());
        let e: Vec<String> = e.collect();
        // It is for training, or held out.
        if let [e] = &e[..] {
            says(e, &["a/0.jpg", kind]);
        }
    }
}

#[test]
fn cmyk_pictures_come_out_in_their_colours() {
    let text = std::fs::read_to_string(case("pictures_cmyk/rgb.json")).unwrap();
    let wanted: serde_json::Value = serde_json::from_str(&text).unwrap();
    let (train, _) = imagenet(case("pictures_cmyk"), Limits::default()).unwrap();
    assert_eq!(train.len(), 3);
    for i in 0..3 {
        let file = train.file(i).unwrap().file;
        let colour = &wanted[file.file_stem().unwrap().to_str().unwrap()];
        let image = train.image(i).unwrap();
        for (c, plane) in image.chunks(224 * 224).enumerate() {
            let wanted = colour[c].as_u64().unwrap() as u8;
            for &found in plane {
                assert!(
                    found.abs_diff(wanted) <= 3,
                    "{file:?} {c}: {found} {wanted}"
                );
            }
        }
    }
}

/// The JPEGs in tests/fixtures/jpeg, each with the pixels that Pillow makes of it.
fn jpegs() -> Vec<(String, Vec<u8>, RgbImage)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/jpeg");
    let mut files = Files::new();
    files_in(&dir, "", &mut files);
    files.retain(|(name, _)| name.ends_with(".jpg"));
    assert_eq!(files.len(), 10);
    let with_png = files.into_iter().map(|(name, jpeg)| {
        let png = image::open(dir.join(name.replace(".jpg", ".png"))).unwrap();
        (name, jpeg, png.into_rgb8())
    });
    with_png.collect()
}

#[test]
fn every_kind_of_jpeg_is_as_pillow_reads_it() {
    let mut pixels = Vec::new();
    for (name, mut jpeg, wanted) in jpegs() {
        let found = decode(&mut jpeg, &mut pixels).unwrap();
        assert_eq!((found.width, found.height), (40, 24));
        let repeat = 3 / found.channels;
        let found = found
            .pixels
            .iter()
            .flat_map(|&value| [value].repeat(repeat));
        let apart = found.zip(wanted.as_raw()).map(|(a, b)| a.abs_diff(*b));
        let largest = apart.max().unwrap();
        // Half the chroma is filled in by other rules.
        let most = if name.contains("halved") { 12 } else { 3 };
        assert!(largest <= most, "{name}: {largest}");
    }
}

#[test]
fn a_scan_that_is_cut_off_before_an_end_marker_is_found() {
    let mut pixels = Vec::new();
    for (name, jpeg, _) in jpegs() {
        let last_scan = jpeg
            .windows(2)
            .rposition(|pair| pair == [0xff, 0xda])
            .unwrap();
        let scan_data = last_scan + 2 + usize::from(jpeg[last_scan + 3]);
        for end in scan_data..jpeg.len() - 4 {
            // In the middle of an escape the ends would be another one.
            if jpeg[end - 1] == 0xff {
                continue;
            }
            for tail in [&[0xff, 0xd9][..], b"", b"\xff\xd9\xff\xda"] {
                let mut cut = [&jpeg[..end], tail].concat();
                let found = decode(&mut cut, &mut pixels);
                assert!(found.is_err(), "{name} cut at {end} of {}", jpeg.len());
            }
        }
    }
}

#[test]
fn changed_bytes_of_a_jpeg_do_no_harm() {
    let mut errors = 0;
    for (name, jpeg, _) in jpegs() {
        for at in 0..jpeg.len() {
            for mask in [0x01, 0x80, 0xff] {
                let mut bytes = jpeg.clone();
                bytes[at] ^= mask;
                let mut pixels = Vec::new();
                match decode(&mut bytes, &mut pixels) {
                    Ok(found) => {
                        let len = found.width * found.height * found.channels;
                        assert_eq!(found.pixels.len(), len, "{name}");
                    }
                    Err(_) => errors += 1,
                }
                // As much memory as the bytes can fill.
                assert!(pixels.len() <= 3 * 512 * (jpeg.len() + 64), "{name}: {at}");
            }
        }
    }
    assert!(errors > 1000, "{errors}");
}

#[test]
fn celeba_from_a_csv_and_from_zips() {
    let path = case("celeba_csv");
    let found = celeba(&path, Limits::default()).unwrap();
    let parts =
        |found: &Splits| [&found.train, &found.validation, &found.test].map(ImageDataset::len);
    assert_eq!(parts(&found).iter().sum::<usize>(), 6);
    assert_eq!(found.train.classes(), 40);
    assert_eq!(found.train.class_names()[39], "Attribute_39");
    let attributes = found.train.image_attributes(0).unwrap();
    assert_eq!(attributes[..6], [true, false, false, true, false, false]);
    let pixels = found.train.pixels().unwrap();

    // Everything in one zip, as such a collection gives it out; with one folder around it.
    for around in ["", "archive/"] {
        let (_dir, whole) = zipped(&path, "archive.zip", |name| format!("{around}{name}"));
        let found = celeba(&whole, Limits::default()).unwrap();
        assert_eq!(found.train.pixels().unwrap(), pixels);
        says(
            found.train.file(0).unwrap(),
            &["img_align_celeba/000001.jpg", "archive.zip"],
        );
    }
    // The pictures' own zip, not unpacked.
    for inner in ["img_align_celeba/", "", "img_align_celeba\\"] {
        let (dir, _) = zipped(
            &path.join("img_align_celeba/img_align_celeba"),
            "img_align_celeba.zip",
            |name| format!("{inner}{name}"),
        );
        for list in ["list_attr_celeba.csv", "list_eval_partition.csv"] {
            std::fs::copy(path.join(list), dir.path().join(list)).unwrap();
        }
        let found = celeba(dir.path(), Limits::default()).unwrap();
        assert_eq!(found.train.pixels().unwrap(), pixels);
        assert_eq!(found, celeba(dir.path(), Limits::default()).unwrap());
    }
}

#[test]
fn damage_in_a_zip_is_found_by_its_checksum() {
    let dir = tempfile::tempdir().unwrap();
    save(&dir.path().join("a/1.png"), 1);
    save(&dir.path().join("a/2.png"), 2);
    let (_zip, path) = zipped(dir.path(), "a.zip", |name| name);
    let whole = std::fs::read(&path).unwrap();
    let read = || -> crate::Result<Vec<Vec<u8>>> {
        let found = folder(&path, 4, Limits::default(), 0)?;
        let all = [&found.train, &found.validation, &found.test];
        all.into_iter().map(ImageDataset::pixels).collect()
    };
    let right = read().unwrap();
    let mut errors = 0;
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x21;
        std::fs::write(&path, &bytes).unwrap();
        match read() {
            // A name may have changed: a picture is then none, or lies elsewhere, but is whole.
            Ok(found) => {
                let right = right.concat();
                let known = |image| right.chunks(48).any(|right| right == image);
                assert!(found.concat().chunks(48).all(known), "{at}");
            }
            Err(e) => {
                assert!(e.to_string().contains("a.zip"), "{at}: {e}");
                errors += 1;
            }
        }
    }
    assert!(errors > whole.len() / 3, "{errors} of {}", whole.len());
    for len in 0..whole.len() {
        std::fs::write(&path, &whole[..len]).unwrap();
        says(read().unwrap_err(), &["a.zip"]);
    }
}

#[test]
fn any_folder_of_pictures() {
    let dir = tempfile::tempdir().unwrap();
    let at = |parts: &str, class: &str, i: u8| {
        dir.path().join(parts).join(class).join(format!("{i}.png"))
    };
    let sizes =
        |found: &Splits| [&found.train, &found.validation, &found.test].map(ImageDataset::len);
    let read = |limits| folder(dir.path(), 16, limits, 3).unwrap();
    for i in 0..25 {
        save(&at("", "cat", i), i);
        save(&at("", "dog", i), 100 + i);
    }
    assert_eq!(folder_classes(dir.path()).unwrap(), ["cat", "dog"]);
    let all = read(Limits::default());
    assert_eq!(sizes(&all), [32, 8, 10]);
    assert_eq!(all.train.shape(), ImageShape::new(3, 16, 16));
    // The test images are the same for each seed, and each image is in one part.
    let other = folder(dir.path(), 16, Limits::default(), 4).unwrap();
    assert_eq!(other.test, all.test);
    assert_ne!(other.validation, all.validation);
    let mut seen = [&all.train, &all.validation, &all.test].map(greys).concat();
    seen.sort_unstable();
    assert_eq!(seen, (0..25).chain(100..125).collect::<Vec<u8>>());
    let few = read(Limits {
        train: Some(10),
        test: Some(4),
    });
    assert_eq!(
        (sizes(&few), few.test.class_counts()),
        ([8, 2, 4], vec![2, 2])
    );

    for part in ["cat", "dog"] {
        let to = dir.path().join("train").join(part);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::rename(dir.path().join(part), to).unwrap();
    }
    assert_eq!(folder_classes(dir.path()).unwrap(), ["cat", "dog"]);
    assert_eq!(sizes(&read(Limits::default())), [32, 8, 10]);
    for (i, class) in ["cat", "dog", "dog"].into_iter().enumerate() {
        save(&at("valid", class, i as u8), 200);
    }
    let found = read(Limits::default());
    assert_eq!(sizes(&found), [50, 3, 3]);
    assert_eq!(found.validation, found.test);
    save(&at("test", "cat", 0), 201);
    save(&at("test", "dog", 0), 202);
    let found = read(Limits::default());
    assert_eq!(
        (sizes(&found), greys(&found.test)),
        ([50, 3, 2], vec![201, 202])
    );
    let (_zip, path) = zipped(dir.path(), "pets.zip", |name| format!("pets/{name}"));
    assert_eq!(
        sizes(&folder(&path, 16, Limits::default(), 3).unwrap()),
        [50, 3, 2]
    );
    assert_eq!(folder_classes(&path).unwrap(), ["cat", "dog"]);
    std::fs::remove_dir_all(dir.path().join("valid")).unwrap();
    assert_eq!(sizes(&read(Limits::default())), [40, 10, 2]);

    let nothing = tempfile::tempdir().unwrap();
    says(
        data_error(folder_classes(nothing.path())),
        &[&show(nothing.path()), "class"],
    );
    assert!(folder(dir.path(), 0, Limits::default(), 0).is_err());
}

#[test]
fn augmented_pictures_are_parts_of_the_whole_picture() {
    // Red to the left of the middle square, blue to its right.
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("a")).unwrap();
    let picture = RgbImage::from_fn(90, 30, |x, _| {
        Rgb(if x < 30 {
            [255, 0, 0]
        } else if x < 60 {
            [0, 255, 0]
        } else {
            [0, 0, 255]
        })
    });
    for i in 0..4 {
        picture.save(dir.path().join(format!("a/{i}.png"))).unwrap();
    }
    let data = folder(dir.path(), 8, Limits::default(), 0).unwrap().train;
    let loader = BatchLoader::new(&data, 9).unwrap();
    let sum = |images: &[f32], c| -> f32 { images.chunks(64).skip(c).step_by(3).flatten().sum() };
    let plain = loader.epoch(0).next().unwrap().unwrap();
    assert_eq!((sum(plain.images(), 0), sum(plain.images(), 2)), (0.0, 0.0));
    // Squeezed, all three are a third of the image, at another size too.
    for side in [8, 32] {
        let squeezed = data.clone().with_fit(Fit::Squeeze).resized(side, side);
        let squeezed = squeezed.unwrap();
        assert_eq!(squeezed.shape(), ImageShape::new(3, side, side));
        let image = squeezed.image(0).unwrap();
        for plane in image.chunks_exact(side * side) {
            let share =
                plane.iter().map(|&p| f64::from(p)).sum::<f64>() / plane.len() as f64 / 255.0;
            assert!((share - 1.0 / 3.0).abs() < 0.01, "{share}");
        }
        assert_ne!(squeezed, data.resized(side, side).unwrap());
    }
    let loader = loader
        .augment("resized-crop=0.1".parse().unwrap(), 1)
        .unwrap();
    let (mut red, mut blue) = (0.0, 0.0);
    for epoch in 0..10 {
        let batch = loader.epoch(epoch).next().unwrap().unwrap();
        red += sum(batch.images(), 0);
        blue += sum(batch.images(), 2);
    }
    assert!(red > 100.0 && blue > 100.0, "{red} {blue}");
}
