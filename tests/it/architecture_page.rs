//! The page of the architecture names functions and their files: each is there.

use std::fs;

const PAGE: &str = "docs/architecture.md";

/// The rows of tables whose last column says where something happens.
fn rows(page: &str) -> Vec<&str> {
    let mut is_where = false;
    let rows = page.lines().filter(|line| {
        match line.strip_suffix("| where |") {
            Some(_) => is_where = true,
            None => is_where &= line.starts_with('|'),
        }
        is_where && !line.ends_with("| where |") && !line.starts_with("|-")
    });
    rows.collect()
}

fn code_of(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// `Type::function`, or a function alone.
fn as_function(code: &str) -> Option<(Option<&str>, &str)> {
    let (owner, function) = code.split_once("::").map_or((None, code), |(owner, name)| (Some(owner), name));
    let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
    (!function.is_empty() && function.chars().all(is_name)).then_some((owner, function))
}

fn defines(source: &str, owner: Option<&str>, function: &str) -> bool {
    let is_defined =
        [format!("fn {function}("), format!("fn {function}<")].iter().any(|head| source.contains(head));
    let is_of = |owner| source.lines().any(|line| line.starts_with("impl") && line.contains(owner));
    is_defined && owner.is_none_or(is_of)
}

#[test]
fn every_function_that_the_page_names_is_in_a_file_beside_it() {
    let page = fs::read_to_string(PAGE).unwrap();
    let (mut checked, mut missing) = (0, Vec::new());
    for row in rows(&page) {
        let codes = code_of(row);
        let sources: Vec<String> = codes
            .iter()
            .filter(|code| code.ends_with(".rs"))
            .map(|path| fs::read_to_string(path).unwrap())
            .collect();
        for code in code_of(row.trim_end_matches('|').rsplit('|').next().unwrap()) {
            let Some((owner, function)) = as_function(code) else { continue };
            if !sources.iter().any(|source| defines(source, owner, function)) {
                missing.push(code);
            }
            checked += 1;
        }
    }
    assert!(missing.is_empty(), "{PAGE} names functions that no file of their row has: {missing:?}");
    assert!(checked > 30, "only {checked} functions were found: does the page still have its tables?");
}
