//! The structure of `src/` and of the kernels below it, read off their `use` lines: which room may import
//! which.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The rooms, the lowest first. A room imports those of lower floors only.
const FLOORS: [&[&str]; 13] = [
    &["kernels"],
    &["error"],
    &["bridge", "shape", "sparsity", "profile", "threads"],
    &["backend", "distributed"],
    &["ops", "data"],
    &["inference"],
    &["nn", "optim"],
    &["models", "checkpoint"],
    &["train"],
    &["diffusion"],
    &["eval"],
    &["run"],
    &["prelude", "tutorial"],
];

/// Every source file that is not a test: its path, and its lines outside of its test module.
fn sources(folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            if name != "tests" {
                sources(&path, found);
            }
        } else if name.ends_with(".rs") && name != "tests.rs" {
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
            found.push((path.to_str().unwrap().to_owned(), code.to_owned()));
        }
    }
}

fn all_sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    sources(&root.join("src"), &mut found);
    sources(&root.join("kernels/src"), &mut found);
    assert!(found.len() > 100, "{} files", found.len());
    // Such a line would hide what it imports.
    assert!(found.iter().all(|(_, code)| !code.contains("use crate::{")));
    found
}

/// The words of a path: `["ops", "conv2d"]` of `src/ops/conv2d.rs`, `["kernels", "cpu"]` of
/// `kernels/src/cpu/mod.rs`.
fn module(path: &str) -> Vec<&str> {
    let (root, inside) = path.rsplit_once("src/").unwrap();
    let inside = inside.trim_end_matches(".rs").trim_end_matches("/mod");
    let kernels = root.ends_with("kernels/").then_some("kernels");
    kernels.into_iter().chain(inside.split('/')).collect()
}

/// The modules that a file names after `crate::`.
fn imports(code: &str) -> impl Iterator<Item = Vec<&str>> {
    let lines = code.lines().map(str::trim_start);
    let lines = lines.filter(|line| !line.starts_with("//"));
    lines
        .flat_map(|line| line.split("crate::").skip(1))
        .map(|rest| {
            let word =
                |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == ':';
            let end = rest.find(|c| !word(c)).unwrap_or(rest.len());
            rest[..end]
                .split("::")
                .filter(|part| !part.is_empty())
                .collect()
        })
        .filter(|path: &Vec<_>| !path.is_empty())
}

#[test]
fn rooms_import_lower_floors_only() {
    let floor = |room: &str| FLOORS.iter().position(|rooms| rooms.contains(&room));
    let mut wrong = BTreeSet::new();
    for (path, code) in all_sources() {
        let room = module(&path)[0];
        // Kernels are a crate of their own, which cannot import from here.
        if room == "lib" || room == "kernels" {
            continue;
        }
        let own = floor(room).unwrap_or_else(|| panic!("{room} is on no floor"));
        for import in imports(&code) {
            let target = import[0];
            // Types and macros of the crate's root are no rooms.
            if target != room && floor(target).is_some_and(|floor| floor >= own) {
                wrong.insert(format!("{path}: {room} imports {target}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn kernels_know_nothing_of_dfdx() {
    for (path, code) in all_sources() {
        if module(&path)[0] == "kernels" {
            assert!(!code.contains("dfdx"), "{path}");
        }
    }
}

#[test]
fn no_room_is_too_large() {
    let mut lines = BTreeMap::<String, usize>::new();
    for (path, code) in all_sources() {
        // The kernels are several rooms: one for each kind of file, and the convolutions.
        let room = match module(&path)[..] {
            ["kernels", "cpu", "conv2d", ..] => "kernels/cpu/conv2d".to_owned(),
            ["kernels", kind, ..] => format!("kernels/{kind}"),
            [room, ..] => room.to_owned(),
            [] => continue,
        };
        *lines.entry(room).or_default() += code.lines().count();
    }
    let all: usize = lines.values().sum();
    for (room, lines) in lines {
        assert!(lines * 4 <= all, "{room} has {lines} of {all} lines");
    }
}
