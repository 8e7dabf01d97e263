//! The folder that a run's results go to.

use std::path::{Path, PathBuf};

use ssprop::Error;

/// The flags that decide it.
pub struct Output<'a> {
    /// `--out`
    pub out: Option<&'a Path>,
    /// `--overwrite`
    pub overwrite: bool,
    /// `--resume`, a checkpoint
    pub resume: Option<&'a Path>,
}

impl Output<'_> {
    /// The folder, made if it is not there: that of `--out`, else that of the run that is resumed,
    /// else the first of `base`, `base`-2, ... without any of the files `results`.
    pub fn folder(&self, base: &Path, results: &[&str]) -> ssprop::Result<PathBuf> {
        let is_used = |folder: &Path| results.iter().any(|name| folder.join(name).exists());
        let out = match (self.out, self.resume) {
            (Some(out), None) if is_used(out) && !self.overwrite => {
                return Err(Error::Format {
                    path: out.to_owned(),
                    what: "has an earlier run's results: choose another --out, go on with \
                           --resume, or replace them with --overwrite"
                        .into(),
                });
            }
            (Some(out), _) => out.to_owned(),
            (None, Some(checkpoint)) => folder_of(checkpoint),
            (None, None) => first_free(base, is_used),
        };
        std::fs::create_dir_all(&out).map_err(|err| Error::io(&out, "create the folder", err))?;
        Ok(out)
    }
}

/// The folder that a file lies in.
pub fn folder_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(folder) if folder != Path::new("") => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Makes the folder of a file that is to be written later, and checks that it can be.
pub fn prepare_file(file: &Path) -> ssprop::Result<()> {
    let folder = folder_of(file);
    std::fs::create_dir_all(&folder).map_err(|err| Error::io(&folder, "create the folder", err))?;
    if file.is_dir() {
        return Err(Error::Format {
            path: file.to_owned(),
            what: "a folder, where a file is to be written".into(),
        });
    }
    // As files are written: a temporary one beside it first.
    tempfile::tempfile_in(&folder).map_err(|err| Error::io(file, "write", err))?;
    Ok(())
}

/// `base`, or the first of `base`-2, `base`-3, ... that is not used.
fn first_free(base: &Path, is_used: impl Fn(&Path) -> bool) -> PathBuf {
    let numbered = |n: usize| match n {
        1 => base.to_owned(),
        n => PathBuf::from(format!("{}-{n}", base.display())),
    };
    let mut n = 1;
    while is_used(&numbered(n)) {
        n += 1;
    }
    numbered(n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_unused_folder_is_taken() {
        let free = |used: &[&str]| {
            first_free(Path::new("a/b"), |f| used.iter().any(|u| f == Path::new(u)))
        };
        assert_eq!(free(&[]), Path::new("a/b"));
        assert_eq!(free(&["a/b", "a/b-2", "a/b-4"]), Path::new("a/b-3"));
    }

    #[test]
    fn results_are_replaced_only_on_request() {
        let folder = tempfile::tempdir().unwrap();
        let find = |overwrite, resume: Option<&Path>| {
            let output = Output {
                out: Some(folder.path()),
                overwrite,
                resume,
            };
            output.folder(Path::new("unused"), &["metrics.csv"])
        };
        assert_eq!(find(false, None).unwrap(), folder.path());
        std::fs::write(folder.path().join("metrics.csv"), "").unwrap();
        let err = find(false, None).unwrap_err().to_string();
        assert!(
            err.contains("--overwrite") && err.contains("--resume"),
            "{err}"
        );
        assert_eq!(find(true, None).unwrap(), folder.path());
        assert_eq!(find(false, Some(Path::new("x"))).unwrap(), folder.path());
        assert_eq!(folder_of(Path::new("x")), Path::new("."));
        assert_eq!(folder_of(Path::new("a/x")), Path::new("a"));
    }

    #[test]
    fn a_file_is_prepared_or_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a/b/c.png");
        prepare_file(&file).unwrap();
        assert!(folder.path().join("a/b").is_dir() && !file.exists());
        let err = prepare_file(&folder.path().join("a")).unwrap_err();
        assert!(err.to_string().contains("a folder"), "{err}");
        std::fs::write(&file, "").unwrap();
        let err = prepare_file(&file.join("d.png")).unwrap_err();
        assert!(err.to_string().contains("c.png"), "{err}");
        prepare_file(&file).unwrap();
    }
}
