//! Broken files, and exactly what is said about them: `broken/NAME.yaml` and `broken/NAME.problems`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::{Path, PathBuf};

use mesh_config::{parse_with, problems_text};

fn problems(text: &str, base: &Path) -> String {
    let environment = |name: &str| (name == "SET").then(|| "set".to_owned());
    match parse_with(text, base, "mesh.yaml", &environment) {
        Ok(_) => String::new(),
        // Where the files are is of no matter.
        Err(problems) => problems_text(&problems).replace(&format!("{}/", base.display()), ""),
    }
}

#[test]
fn each_broken_file_is_told_all_its_mistakes() {
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broken");
    let mut files: Vec<PathBuf> = fs::read_dir(&base)
        .expect("the directory of broken files")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "yaml")
        })
        .collect();
    files.sort();
    assert!(files.len() > 15, "the broken files are gone");

    let mut failed = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).expect("a broken file");
        let expected = fs::read_to_string(file.with_extension("problems")).unwrap_or_default();
        let found = problems(&text, &base);
        if found != expected || expected.is_empty() {
            failed.push(format!(
                "{}: found\n{found}expected\n{expected}",
                file.display()
            ));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
