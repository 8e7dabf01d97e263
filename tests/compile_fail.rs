//! Networks that do not fit together do not compile, and the compiler's message says why.
//!
//! Every file of `compile_fail/src/bin` is a program. They are built in one run of cargo, in this
//! workspace and the tests' profile, so that nothing else is compiled; what is asserted is that the
//! messages name the shapes, not their wording, which changes with the compiler.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// The errors of each program, as the compiler prints them; none for one that was built.
fn build(package: &Path) -> HashMap<String, String> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let output = Command::new(env!("CARGO"))
        .args([
            "build",
            "--profile",
            "test",
            "--bins",
            "--offline",
            "--keep-going",
        ])
        .args(["--message-format", "json"])
        .env("CARGO_TARGET_DIR", target)
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .current_dir(package)
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
    let programs = build(&Path::new(env!("CARGO_MANIFEST_DIR")).join("compile_fail"));
    // Each program, and what its errors have to name.
    let expected: [(&str, &[&str]); 10] = [
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
            "patches_of_the_image",
            &["PATCH must divide IMAGE", "ViT<10, 1, 28, 5, 8, 16, 2, 1"],
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
