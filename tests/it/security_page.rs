//! The page of what is trusted names what holds each sentence: each is there.

use std::fs;

const PAGE: &str = "docs/security.md";

/// What stands in backquotes in the last column of the page's tables.
fn named(page: &str) -> Vec<&str> {
    let rows = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| |"));
    let last = rows.map(|row| row.trim_end_matches(" |").rsplit(" | ").next().unwrap());
    last.flat_map(|column| column.split('`').skip(1).step_by(2)).collect()
}

fn is_there(name: &str) -> bool {
    if let Some(id) = name.strip_prefix("attack ") {
        let attacks = fs::read_to_string("tests/hostile/attacks.rs").unwrap();
        return attacks.contains(&format!("(\"{id}\", "));
    }
    let (module, function) = name.rsplit_once("::").unwrap();
    let path = module.replace("::", "/");
    let sources = [format!("tests/it/{path}.rs"), format!("src/{path}.rs")];
    let mut sources = sources.iter().filter_map(|path| fs::read_to_string(path).ok());
    sources.any(|source| source.contains(&format!("fn {function}()")))
}

#[test]
fn every_sentence_of_the_page_is_held_by_something_that_is_there() {
    let page = fs::read_to_string(PAGE).unwrap();
    let named = named(&page);
    let missing: Vec<_> = named.iter().filter(|name| name.contains([':', ' ']) && !is_there(name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert!(named.len() > 30, "only {} names were found: does the page still have its tables?", named.len());
}
