//! What Primacy is made of may be used as Primacy is: by licence, by source, and without what a system would have to
//! bring.

use std::process::Command;

use serde_json::Value;

/// Licences under which everybody may use, change and pass on what they get.
const LICENCES: [&str; 10] = [
    "MIT",
    "MIT-0",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "Unicode-3.0",
    "0BSD",
];
/// Packages under another licence that allows the same.
const EXCEPTIONS: [(&str, &str); 1] = [("machine-prime", "CC0-1.0")];
/// Where all others come from.
const SOURCE: &str = "registry+https://github.com/rust-lang/crates.io-index";
/// What a system would have to bring, or `cargo build` would have to fetch.
const BANNED: [&str; 5] = ["openssl", "openssl-sys", "native-tls", "protoc-bin-vendored", "pkg-config"];

/// Whether an expression of licences (SPDX) can be kept with what is allowed; `/` is how old packages write OR.
fn is_allowed(expression: &str) -> bool {
    let expression = expression.replace(" / ", " OR ").replace('/', " OR ");
    expression.split(" AND ").all(|part| {
        let part = part.trim_matches(['(', ')', ' ']);
        part.split(" OR ").any(|licence| LICENCES.contains(&licence.trim_matches(['(', ')', ' '])))
    })
}

fn printed_by(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Those of this platform: the build has fetched them, so that no network is needed.
fn packages() -> Vec<Value> {
    let version = printed_by("rustc", &["-vV"]);
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    let of_host = ["metadata", "--locked", "--format-version", "1", "--filter-platform", host];
    let metadata: Value = serde_json::from_str(&printed_by(env!("CARGO"), &of_host)).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

#[test]
fn dependencies_have_licences_and_sources_that_are_allowed() {
    let packages = packages();
    assert!(packages.len() > 100, "only {} packages were found", packages.len());
    for package in packages {
        let (name, licence) =
            (package["name"].as_str().unwrap(), package["license"].as_str().unwrap_or("none"));
        assert!(!BANNED.contains(&name), "{name} is not to be depended on");
        assert!(
            is_allowed(licence) || EXCEPTIONS.contains(&(name, licence)),
            "{name} has the licence {licence}, which is not among {LICENCES:?}"
        );
        let is_own = package["source"].is_null() && name.starts_with("primacy");
        assert!(is_own || package["source"] == SOURCE, "{name} comes from {}", package["source"]);
    }
}

#[test]
fn expressions_of_licences_are_read() {
    for allowed in
        ["MIT", "MIT/Apache-2.0", "GPL-3.0 OR MIT", "(MIT OR GPL-2.0) AND Unicode-3.0", "Apache-2.0 / MIT"]
    {
        assert!(is_allowed(allowed), "{allowed}");
    }
    for refused in ["GPL-3.0", "MIT AND GPL-3.0", "(MIT OR Apache-2.0) AND SSPL-1.0", "none", ""] {
        assert!(!is_allowed(refused), "{refused}");
    }
}
