//! Networks that do not fit together do not compile, and the compiler's message says why.
//!
//! Every file of `tests/compile_fail/` is a program. They are built against this crate in one run
//! of cargo, which shares the dependencies that were built for the tests; what is asserted is that
//! the messages name the shapes, not their wording, which changes with the compiler.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The lines of a section of this crate's manifest.
fn section(manifest: &str, name: &str) -> String {
    let lines = manifest.lines().skip_while(|line| *line != name).skip(1);
    let lines: Vec<_> = lines.take_while(|line| !line.starts_with('[')).collect();
    assert!(!lines.is_empty(), "no {name} in the manifest");
    lines.join("\n")
}

/// A crate with the programs, whose dependencies, features and profile are those of the tests.
fn write_crate(root: &Path, dir: &Path) {
    let manifest = std::fs::read_to_string(root.join("Cargo.toml")).unwrap();
    let text = format!(
        "[package]\nname = \"compile_fail\"\nversion = \"0.0.0\"\nedition = \"2021\"\n\
         publish = false\n\n[workspace]\n\n\
         [dependencies]\nssprop = {{ path = {root:?} }}\n{}\n\
         [target.'cfg(all())'.dependencies]\n{}\n[profile.dev]\n{}\n",
        section(&manifest, "[dependencies]"),
        section(&manifest, "[dev-dependencies]"),
        section(&manifest, "[profile.dev]"),
    );
    let _ = std::fs::remove_dir_all(dir.join("src"));
    std::fs::create_dir_all(dir.join("src/bin")).unwrap();
    // A manifest that is newer than before would be resolved again.
    if std::fs::read_to_string(dir.join("Cargo.toml"))
        .ok()
        .as_ref()
        != Some(&text)
    {
        std::fs::write(dir.join("Cargo.toml"), text).unwrap();
    }
    std::fs::copy(root.join("Cargo.lock"), dir.join("Cargo.lock")).unwrap();
    for program in std::fs::read_dir(root.join("tests/compile_fail")).unwrap() {
        let program = program.unwrap();
        std::fs::copy(
            program.path(),
            dir.join("src/bin").join(program.file_name()),
        )
        .unwrap();
    }
}

/// The errors of each program, as the compiler prints them; none for one that was built.
fn build(root: &Path) -> HashMap<String, String> {
    let tmp = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let dir = tmp.join("compile_fail");
    write_crate(root, &dir);
    let output = Command::new(env!("CARGO"))
        .args(["build", "--bins", "--offline", "--keep-going"])
        .args(["--message-format", "json"])
        .env("CARGO_TARGET_DIR", tmp.parent().unwrap())
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .current_dir(&dir)
        .output()
        .unwrap();
    let mut programs: HashMap<String, String> = HashMap::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let message: Value = serde_json::from_str(line).unwrap();
        if message["target"]["kind"][0] != "bin" {
            continue;
        }
        let name = message["target"]["name"].as_str().unwrap().to_string();
        let errors = programs.entry(name).or_default();
        if message["message"]["level"] == "error" {
            errors.push_str(message["message"]["rendered"].as_str().unwrap());
        }
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!programs.is_empty(), "cargo built nothing:\n{stderr}");
    programs
}

#[test]
fn networks_that_do_not_fit_do_not_compile_and_the_message_names_the_shapes() {
    let programs = build(Path::new(env!("CARGO_MANIFEST_DIR")));
    // Each program, and what its errors have to name.
    let expected: [(&str, &[&str]); 9] = [
        ("fits", &[]),
        (
            "channels_between_layers",
            &["SparseConv2D<16, 32, 3", "SparseConv2D<3, 8, 3", "Const<8>"],
        ),
        ("channels_of_the_image", &["Const<3>", "Const<1>"]),
        (
            "elements_of_the_image",
            &["N = C H W", "Flatten<784>", "Const<32>"],
        ),
        (
            "no_compile_time_size",
            &["kernel 3, stride 3, padding 1", "Const<32>"],
        ),
        (
            "groups_of_the_input",
            &[
                "GROUPS must divide C_IN",
                "SparseConv2D<6, 8, 3, 1, 1, 1, 4",
            ],
        ),
        (
            "groups_of_the_output",
            &[
                "GROUPS must divide C_OUT",
                "SparseConv2D<8, 6, 3, 1, 1, 1, 4",
            ],
        ),
        (
            "heads_of_the_channels",
            &["HEADS must divide C", "attention_hidden::<3, 8"],
        ),
        (
            "channels_of_a_concatenation",
            &[
                "the output's channels are those of both inputs",
                "concat_channels_hidden::<2, 3, 6",
            ],
        ),
    ];
    assert_eq!(programs.len(), expected.len(), "{:?}", programs.keys());
    for (name, parts) in expected {
        let errors = &programs[name];
        println!("{name}:\n{errors}");
        assert_eq!(errors.is_empty(), parts.is_empty(), "{name}: {errors}");
        for part in parts {
            assert!(errors.contains(part), "{name} names {part}: {errors}");
        }
    }
}
