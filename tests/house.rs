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

/// The paths of a `use` line's tree, written out: `a::{b, c::D}` is `a::b` and `a::c::D`.
fn written_out(tree: &str) -> Vec<String> {
    let tree = tree.trim();
    let Some((before, inside)) = tree.split_once('{') else {
        let name = tree.split(" as ").next().unwrap();
        return vec![name.to_owned()];
    };
    let inside = inside.strip_suffix('}').unwrap_or_else(|| panic!("{tree}"));
    let mut depth = 0;
    let parts = inside.split(|c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    });
    parts
        .flat_map(written_out)
        .filter(|path| !path.is_empty())
        .map(|path| format!("{before}{path}"))
        .collect()
}

/// A file's `use` lines written out, each as words from its crate's root.
fn used(module: &[&str], code: &str, children: impl Fn(&str) -> bool) -> Vec<Vec<String>> {
    let lines = code.lines().map(|line| line.split("//").next().unwrap());
    let mut lines = lines.map(str::trim);
    let trees = std::iter::from_fn(|| {
        let first = lines.find_map(|line| match line.split_once("use ")? {
            ("" | "pub " | "pub(super) " | "pub(crate) ", tree) => Some(tree),
            _ => None,
        })?;
        let mut tree = first.to_owned();
        while !tree.ends_with(';') {
            tree += lines.next().expect("the end of a `use`");
        }
        Some(tree.trim_end_matches(';').to_owned())
    });
    let paths = trees
        .flat_map(|tree| written_out(&tree))
        .filter_map(|path| {
            let words: Vec<_> = path.split("::").map(str::trim).collect();
            let ups = words.iter().take_while(|&&word| word == "super").count();
            let (root, rest) = match words[0] {
                "crate" if module[0] == "kernels" => (&module[..1], &words[1..]),
                "crate" => (&module[..0], &words[1..]),
                "super" => (&module[..module.len() - ups], &words[ups..]),
                "self" => (module, &words[1..]),
                child if children(child) => (module, &words[..]),
                _ => return None,
            };
            let words = root.iter().chain(rest);
            Some(words.map(|&word| word.to_owned()).collect())
        });
    paths.collect()
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let sources = all_sources();
    let files: BTreeMap<_, _> = sources
        .iter()
        .map(|(path, code)| (module(path).join("::"), (path, code)))
        .collect();
    let uses: BTreeMap<_, _> = files
        .iter()
        .map(|(name, (path, code))| {
            let child = |word: &str| files.contains_key(&format!("{name}::{word}"));
            (name, used(&module(path), code, child))
        })
        .collect();
    // The file that a path is of, through those that only hand its name on.
    let file_of = |path: &[String]| {
        let mut path = path.to_vec();
        for _ in 0..5 {
            let file = (1..=path.len())
                .rev()
                .map(|end| path[..end].join("::"))
                .find(|name| files.contains_key(name))?;
            let name = path.last().unwrap().clone();
            let handed_on = |used: &&Vec<String>| used.last() == Some(&name) && **used != path;
            let inside = format!("{file}::");
            let of_a_child = |used: &&Vec<String>| used.join("::").starts_with(&inside);
            match uses[&file].iter().filter(of_a_child).find(handed_on) {
                Some(further) => path = further.clone(),
                None => return Some(file),
            }
        }
        None
    };
    let mut imports: BTreeMap<&String, BTreeSet<String>> = BTreeMap::new();
    for (name, (path, _)) in &files {
        let targets = uses[name].iter().filter_map(|path| file_of(path));
        // A folder's `mod.rs` names its files, which is no import.
        let face = path.ends_with("/mod.rs") || path.ends_with("lib.rs");
        let declared = format!("{name}::");
        let targets = targets.filter(|to| to != name && !(face && to.starts_with(&declared)));
        imports.insert(name, targets.collect());
    }
    let arrows: usize = imports.values().map(BTreeSet::len).sum();
    assert!(arrows > 500, "{arrows} arrows were read");
    // In no circle is whoever imports nobody that is left, or is imported by nobody.
    loop {
        let left: BTreeSet<_> = imports.keys().map(|name| (*name).clone()).collect();
        let imported: BTreeSet<_> = imports.values().flatten().cloned().collect();
        for targets in imports.values_mut() {
            targets.retain(|to| left.contains(to));
        }
        imports.retain(|name, targets| !targets.is_empty() && imported.contains(*name));
        if imports.len() == left.len() {
            break;
        }
    }
    assert!(imports.is_empty(), "{imports:#?}");
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
