//! The classes that a denoiser can be told.

use std::fmt;
use std::path::Path;

use ssprop::checkpoint::Metadata;
use ssprop::Error;

/// Of MNIST and Fashion-MNIST.
pub const CLASSES: usize = 10;

/// What files say of them: their names, as a JSON list.
const NAMES: &str = "classes";

/// Their names, in the order of their labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Classes(Vec<String>);

impl Classes {
    /// Those of a data set.
    ///
    /// # Errors
    /// Unless it has as many as the networks of these examples.
    pub fn new(names: &[String]) -> ssprop::Result<Self> {
        match names.len() {
            CLASSES => Ok(Self(names.to_vec())),
            found => {
                let range = "left out: this data set's images are not of ten classes";
                let value = format_args!("true ({found} classes)");
                Err(Error::parameter("--classes", value, range))
            }
        }
    }

    /// Those of the checkpoint at `path`, whose metadata these are, if it has any.
    pub fn read(path: &Path, metadata: &Metadata) -> ssprop::Result<Option<Self>> {
        let Some(text) = metadata.get(NAMES) else {
            return Ok(None);
        };
        match serde_json::from_str::<Vec<String>>(text) {
            Ok(names) if names.len() == CLASSES => Ok(Some(Self(names))),
            _ => Err(Error::StoredValue {
                place: path.display().to_string(),
                name: NAMES.into(),
                value: text.clone(),
                range: "a JSON list of ten names",
            }),
        }
    }

    pub fn write(&self, metadata: &mut Metadata) {
        metadata.insert(NAMES.into(), serde_json::json!(self.0).to_string());
    }

    /// The classes of a list with commas: numbers, names, or what only one name begins with, whatever the
    /// case.
    ///
    /// # Errors
    /// With all names, for the first that is none.
    pub fn find(&self, list: &str) -> ssprop::Result<Vec<usize>> {
        list.split(',').map(|text| self.find_one(text)).collect()
    }

    fn find_one(&self, text: &str) -> ssprop::Result<usize> {
        let wanted = text.trim().to_lowercase();
        if let Some(class) = wanted.parse().ok().filter(|&class| class < CLASSES) {
            return Ok(class);
        }
        let names: Vec<String> = self.0.iter().map(|name| name.to_lowercase()).collect();
        if let Some(class) = names.iter().position(|name| *name == wanted) {
            return Ok(class);
        }
        let begins = |&class: &usize| !wanted.is_empty() && names[class].starts_with(&wanted);
        let mut begun = (0..CLASSES).filter(begins);
        match (begun.next(), begun.next()) {
            (Some(class), None) => Ok(class),
            _ => Err(Error::parameter(
                "--class",
                format_args!("{text:?} (the classes are {self})"),
                "a class's number, its name or what only its name begins with",
            )),
        }
    }
}

impl fmt::Display for Classes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbered = |(class, name): (usize, &String)| match *name == class.to_string() {
            true => name.clone(),
            false => format!("{class} {name}"),
        };
        let names: Vec<String> = self.0.iter().enumerate().map(numbered).collect();
        f.write_str(&names.join(", "))
    }
}

/// Guidance scales.
pub fn scale(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(scale) if scale >= 0.0 && scale.is_finite() => Ok(scale),
        _ => Err("must be a finite number of at least 0".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fashion() -> Classes {
        let (train, _) = ssprop::data::bundled().unwrap();
        Classes::new(train.class_names()).unwrap()
    }

    #[test]
    fn classes_are_found_by_number_and_name() {
        let classes = fashion();
        for (text, class) in [
            ("8", 8),
            ("Bag", 8),
            ("bag", 8),
            ("t-shirt", 0),
            ("ANKLE BOOT", 9),
            ("shirt", 6),
            ("sn", 7),
        ] {
            assert_eq!(classes.find(text).unwrap(), [class], "{text}");
        }
        assert_eq!(classes.find("bag, 0,dress").unwrap(), [8, 0, 3]);
        for text in ["10", "s", "", "bag,", "hat", "-1", "1.5"] {
            let err = classes.find(text).unwrap_err().to_string();
            assert!(
                err.starts_with("--class = ") && err.contains("9 Ankle boot"),
                "{err}"
            );
        }
    }

    #[test]
    fn they_are_read_back_and_others_are_refused() {
        let (path, mut metadata) = (Path::new("a.safetensors"), Metadata::new());
        assert_eq!(Classes::read(path, &metadata).unwrap(), None);
        fashion().write(&mut metadata);
        assert_eq!(Classes::read(path, &metadata).unwrap(), Some(fashion()));
        metadata.insert(NAMES.into(), r#"["a", "b"]"#.into());
        let err = Classes::read(path, &metadata).unwrap_err().to_string();
        assert!(
            err.contains("a.safetensors") && err.contains("ten names"),
            "{err}"
        );
        assert!(Classes::new(&["a".into()]).is_err());
    }
}
