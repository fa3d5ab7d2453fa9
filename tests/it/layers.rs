//! Imports point downward only, in the order of the modules in `lib.rs`; what the crates beside it must not know is not
//! among their dependencies.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The layers from the ground up: the reverse of the order in `lib.rs`.
fn layers() -> Vec<String> {
    let map = fs::read_to_string("src/lib.rs").unwrap();
    let modules = map.lines().filter_map(|line| {
        let module = line.strip_prefix("pub ").unwrap_or(line).strip_prefix("mod ")?;
        module.strip_suffix(';')
    });
    let mut layers: Vec<String> = modules.map(str::to_owned).collect();
    layers.reverse();
    layers
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] }).collect()
}

/// The module that a file belongs to: `cluster` for `src/cluster.rs` and all below `src/cluster/`.
fn module_of(path: &Path) -> String {
    let inside = path.strip_prefix("src").unwrap();
    inside.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs").to_owned()
}

/// The modules that a source names after `crate::`, in `use` lines and elsewhere, nested groups included.
fn named(source: &str) -> Vec<String> {
    let code: String =
        source.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    named_of(&code, "crate::")
}

/// What an import names after a prefix, nested groups included.
fn named_of(import: &str, prefix: &str) -> Vec<String> {
    let mut names = Vec::new();
    for after in import.split(prefix).skip(1) {
        match after.strip_prefix('{') {
            None => names.push(first_word(after)),
            Some(group) => names.extend(first_words_of_group(group)),
        }
    }
    names
}

fn first_word(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

fn first_words_of_group(group: &str) -> Vec<String> {
    let (mut depth, mut names, mut at_start) = (1, Vec::new(), true);
    for (place, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => at_start = true,
            c if at_start && c.is_alphabetic() => {
                names.push(first_word(&group[place..]));
                at_start = false;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    names
}

#[test]
fn imports_point_downward_only() {
    let layers = layers();
    let height = |module: &str| layers.iter().position(|layer| layer == module);
    assert!(layers.len() >= 10, "lib.rs lists {layers:?}");
    let mut checked = 0;
    for path in sources(Path::new("src")) {
        let module = module_of(&path);
        let Some(own) = height(&module) else { continue };
        for name in named(&fs::read_to_string(&path).unwrap()) {
            let Some(other) = height(&name) else { continue };
            checked += 1;
            assert!(other <= own, "{}: `{module}` lies below `{name}` and must not know it", path.display());
        }
    }
    assert!(checked > 50, "only {checked} imports were found: the test no longer reads them");
}

#[test]
fn the_reader_of_imports_reads_all_forms() {
    let source = "use crate::{\n    cluster::{Cluster, lane::Lane},\n    worker::Worker,\n};\nuse crate::prime;\n// use crate::cli;";
    assert_eq!(named(source), ["cluster", "worker", "prime"]);
    assert_eq!(named("fn f() { crate::gateway::x(); }"), ["gateway"]);
}

/// The types that a source declares, those of its tests left out.
fn declared(source: &str) -> Vec<String> {
    let code = source.split("\n#[cfg(test)]\nmod tests").next().unwrap();
    let declaration = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().skip_while(|word| word.starts_with("pub")).collect();
        let is_type = ["struct", "enum", "trait", "type"].contains(words.first()?);
        // What is set in an `impl` is no name of its own.
        (is_type && !line.starts_with(' ')).then(|| first_word(words[1]))
    };
    code.lines().filter_map(declaration).collect()
}

#[test]
fn no_type_name_has_two_meanings() {
    let mut places = std::collections::BTreeMap::<String, Vec<PathBuf>>::new();
    let all = ["src", "crates/prime/src", "crates/election/src"].map(|folder| sources(Path::new(folder)));
    let is_test = |path: &PathBuf| path.iter().any(|part| part == "tests");
    for path in all.into_iter().flatten().filter(|path| !is_test(path)) {
        for name in declared(&fs::read_to_string(&path).unwrap_or_default()) {
            places.entry(name).or_default().push(path.clone());
        }
    }
    assert!(places.len() > 150, "only {} types were found: the test no longer reads them", places.len());
    places.retain(|_, paths| paths.len() > 1);
    assert!(places.is_empty(), "{places:#?}");
}

#[test]
fn generated_types_are_named_as_such() {
    let mut found = 0;
    for path in sources(Path::new("src")) {
        let source = fs::read_to_string(&path).unwrap_or_default();
        let imports = source
            .split("\nuse ")
            .skip(1)
            .filter_map(|import| import.split_once(';'))
            .map(|(import, _)| import);
        for import in imports.filter(|import| import.contains("proto")) {
            let imported = named_of(import, "proto::");
            let is_type =
                |name: &&String| name.starts_with(char::is_uppercase) && name.contains(char::is_lowercase);
            let types: Vec<_> = imported.iter().filter(is_type).collect();
            assert!(types.is_empty(), "{}: write proto::{types:?} in full", path.display());
            found += 1;
        }
    }
    assert!(found > 10, "only {found} imports of generated code were found: the test no longer reads them");
}

#[test]
fn only_the_gateway_makes_responses() {
    for path in sources(Path::new("src")) {
        let module = module_of(&path);
        let source = fs::read_to_string(&path).unwrap();
        // Errors are mapped to them in one place.
        if ["gateway", "cli", "proto"].contains(&module.as_str()) || path.ends_with("api/error.rs") {
            continue;
        }
        for made in [
            "Status::new(",
            "Status::unavailable(",
            "Status::invalid_argument(",
            "Status::internal(",
            "Response::new(",
            "StatusCode",
        ] {
            assert!(!source.contains(made), "{}: makes a response with {made}", path.display());
        }
    }
}

/// The names of the dependencies that a manifest lists in a section.
fn dependencies(manifest: &str) -> Vec<String> {
    let manifest = fs::read_to_string(manifest).unwrap();
    let section = manifest.split("[dependencies]\n").nth(1).unwrap().split("\n[").next().unwrap();
    let lines = section.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines.map(|line| line.split(['.', ' ', '=']).next().unwrap().to_owned()).collect()
}

#[test]
fn the_pure_crates_depend_on_no_runtime() {
    assert_eq!(dependencies("crates/prime/Cargo.toml"), ["dashu-int", "thiserror"]);
    assert_eq!(dependencies("crates/election/Cargo.toml"), ["rand", "thiserror"]);
}

#[test]
fn pure_code_knows_no_clock_no_thread_and_no_order_by_chance() {
    let crates = ["crates/prime/src", "crates/election/src"].map(|folder| sources(Path::new(folder)));
    let is_test = |path: &PathBuf| path.iter().any(|part| part == "tests" || part == "tests.rs");
    let pure = crates.into_iter().flatten().filter(|path| !is_test(path));
    let mut read = 0;
    for path in pure.chain([PathBuf::from("src/scheduler/pick.rs")]) {
        let source = fs::read_to_string(&path).unwrap();
        for forbidden in ["Instant::now", "SystemTime", "std::net", "std::thread", "rand::rng", "HashMap"] {
            assert!(!source.contains(forbidden), "{}: knows {forbidden}", path.display());
        }
        read += 1;
    }
    assert!(read > 20, "only {read} files were read");
}

/// The lines of a source without its tests.
fn lines_without_tests(source: &str) -> Vec<&str> {
    source.split("\n#[cfg(test)]\nmod tests").next().unwrap().lines().collect()
}

/// The functions of a source, each with its number of lines.
fn functions<'a>(lines: &'a [&'a str]) -> impl Iterator<Item = (&'a str, usize)> {
    lines.iter().enumerate().filter_map(|(first, line)| {
        let indent = line.len() - line.trim_start().len();
        let is_function =
            line.trim_start().split(" fn ").count() == 2 || line.trim_start().starts_with("fn ");
        let end = format!("{}}}", " ".repeat(indent));
        let is_code =
            is_function && !line.trim_start().starts_with("//") && !line.trim_end().ends_with([';', ',']);
        is_code
            .then(|| (*line, lines[first..].iter().position(|line| **line == end).map_or(1, |last| last + 1)))
    })
}

#[test]
fn functions_and_files_are_short() {
    let all = ["src", "crates/prime/src", "crates/election/src"].map(|folder| sources(Path::new(folder)));
    let is_code = |path: &PathBuf| {
        path.extension().is_some_and(|extension| extension == "rs")
            && !path.iter().any(|part| part == "tests")
    };
    let mut found = 0;
    for path in all.into_iter().flatten().filter(is_code) {
        let source = fs::read_to_string(&path).unwrap();
        let lines = lines_without_tests(&source);
        assert!(lines.len() <= 500, "{} has {} lines", path.display(), lines.len());
        for (function, length) in functions(&lines) {
            assert!(length <= 60, "{}: {length} lines in {function}", path.display());
            found += 1;
        }
    }
    assert!(found > 1000, "only {found} functions were found: the test no longer reads them");
}
