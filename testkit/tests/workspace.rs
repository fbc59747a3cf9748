//! The rules of the workspace that cargo does not hold by itself: every crate has the workspace's lints, and crates
//! depend on each other only along the arrows of ARCHITECTURE.md.

#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Who may depend on whom. A crate that is not here must be added, on purpose.
const ARROWS: &[(&str, &[&str])] = &[
    ("balance", &[]),
    ("conformance-testee", &["transcode"]),
    ("consistency", &["testkit"]),
    ("consul", &["resilience"]),
    ("floor", &[]),
    (
        "highpress",
        &[
            "highpress-analytics",
            "highpress-counter",
            "highpress-proxy",
            "mesh-config",
            "service-kit",
        ],
    ),
    ("highpress-analytics", &["proto", "service-kit"]),
    ("highpress-counter", &["proto", "service-kit"]),
    (
        "highpress-proxy",
        &[
            "balance",
            "consul",
            "mesh-config",
            "proto",
            "resilience",
            "service-kit",
            "transcode",
        ],
    ),
    ("load", &[]),
    ("mesh-config", &["consul", "resilience"]),
    ("proto", &[]),
    ("proto-codegen", &[]),
    ("resilience", &[]),
    ("service-kit", &["consul", "mesh-config"]),
    ("testkit", &[]),
    ("transcode", &[]),
];

/// What tests of any crate may use besides.
const IN_TESTS: &[&str] = &["proto", "testkit"];

fn packages() -> Vec<Value> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args([
        "metadata",
        "--no-deps",
        "--offline",
        "--format-version",
        "1",
        "--manifest-path",
    ]);
    let output = cargo
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

fn name(package: &Value) -> &str {
    package["name"].as_str().unwrap()
}

#[test]
fn crates_depend_on_each_other_only_along_the_arrows() {
    let packages = packages();
    let ours: BTreeSet<&str> = packages.iter().map(name).collect();
    let mut wrong = Vec::new();
    for package in &packages {
        let Some((_, allowed)) = ARROWS.iter().find(|(from, _)| *from == name(package)) else {
            wrong.push(format!("{} is not in the list of arrows", name(package)));
            continue;
        };
        for dependency in package["dependencies"].as_array().unwrap() {
            let to = name(dependency);
            let in_tests = dependency["kind"] == "dev" && IN_TESTS.contains(&to);
            if ours.contains(to) && !allowed.contains(&to) && !in_tests {
                wrong.push(format!("{} -> {to}", name(package)));
            }
        }
    }
    assert!(wrong.is_empty(), "arrows that are not allowed: {wrong:#?}");
}

#[test]
fn every_crate_has_the_lints_of_the_workspace() {
    let without: Vec<String> = packages()
        .iter()
        .map(|package| package["manifest_path"].as_str().unwrap().to_owned())
        .filter(|manifest| {
            !std::fs::read_to_string(manifest)
                .unwrap()
                .contains("[lints]\nworkspace = true\n")
        })
        .collect();
    assert!(
        without.is_empty(),
        "no `[lints] workspace = true` in {without:#?}"
    );
}

/// Cargo opens no workspace of which a member is missing, and a build of images sees only what is listed.
#[test]
fn images_are_built_from_every_crate() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let root = root.canonicalize().unwrap();
    let listed = std::fs::read_to_string(root.join("deploy/Dockerfile.dockerignore")).unwrap();
    let listed: Vec<&str> = listed
        .lines()
        .filter_map(|line| line.strip_prefix('!'))
        .collect();
    let unseen: Vec<String> = packages()
        .iter()
        .map(|package| {
            let manifest = Path::new(package["manifest_path"].as_str().unwrap());
            let directory = manifest.parent().unwrap();
            let directory = directory.strip_prefix(&root).unwrap();
            directory.display().to_string()
        })
        .filter(|directory| {
            let directory = Path::new(directory);
            !listed.iter().any(|known| directory.starts_with(known))
        })
        .collect();
    assert!(
        unseen.is_empty(),
        "not in deploy/Dockerfile.dockerignore: {unseen:?}"
    );
}
