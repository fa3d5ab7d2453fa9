//! The README and the pages of `docs/` cannot lie: their commands are executed, and what they print is compared; what
//! they link to is there.

use std::{
    env, fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use crate::harness::primacy;

/// The pages with commands, in the order in which they are executed: the last one changes the leader.
const PAGES: [&str; 7] = [
    "README.md",
    "docs/bulk.md",
    "docs/ranges.md",
    "docs/proofs.md",
    "docs/grpc.md",
    "docs/command-line.md",
    "docs/when-a-node-dies.md",
];

/// A command of a page, and what it says that it prints.
struct Example {
    page: &'static str,
    command: String,
    printed: Vec<String>,
}

/// The blocks of a page that begin so, without their fences.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let text = fs::read_to_string(page).unwrap();
    let fence = format!("```{language}\n");
    text.split(&fence).skip(1).map(|after| after.split("```").next().unwrap().to_owned()).collect()
}

fn examples(page: &'static str) -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    for line in blocks(page, "console").iter().flat_map(|block| block.lines()) {
        match line.strip_prefix("$ ") {
            Some(command) => {
                examples.push(Example { page, command: command.to_owned(), printed: Vec::new() })
            }
            None => examples.last_mut().expect("a block begins with a command").printed.push(line.to_owned()),
        }
    }
    examples
}

/// Whether a line is as the README has it, where `…` stands for anything.
fn line_matches(expected: &str, line: &str) -> bool {
    let mut parts = expected.split('…');
    let first = parts.next().unwrap();
    let Some(mut rest) = line.strip_prefix(first) else { return false };
    let parts: Vec<&str> = parts.collect();
    for (place, part) in parts.iter().enumerate() {
        if place + 1 == parts.len() {
            return rest.ends_with(part);
        }
        let Some(found) = rest.find(part) else { return false };
        rest = &rest[found + part.len()..];
    }
    rest.is_empty()
}

/// The same for whole outputs, where a line `…` stands for any lines.
fn output_matches(expected: &[String], lines: &[&str]) -> bool {
    match (expected, lines) {
        ([], lines) => lines.is_empty(),
        ([any, rest @ ..], lines) if any == "…" => {
            (0..=lines.len()).any(|skipped| output_matches(rest, &lines[skipped..]))
        }
        ([expected, more @ ..], [line, lines @ ..]) => {
            line_matches(expected, line) && output_matches(more, lines)
        }
        _ => false,
    }
}

/// Numbers and blanks aside, so that times, processes and the widths of columns may differ.
fn shape(text: &str) -> Vec<String> {
    let digits_as_one = |word: &str| {
        let marked: String = word.chars().map(|c| if c.is_ascii_digit() { '#' } else { c }).collect();
        marked.split('#').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("#")
    };
    text.split_whitespace().map(digits_as_one).collect()
}

const LENT: Duration = Duration::from_secs(90);

/// `primacy` as the README runs it, on the ports of the README; its nodes end with it, however it ends.
struct Up {
    child: Child,
    announced: String,
}

impl Up {
    /// The README's ports are among those that the system lends to outgoing connections, and it keeps a lent one for
    /// 60 s after its connection has ended.
    fn start() -> Self {
        let started = Instant::now();
        loop {
            let up = Self::try_start();
            if !up.announced.is_empty() {
                return up;
            }
            sleep(Duration::from_secs(1));
            assert!(started.elapsed() < LENT, "the ports of the README stay taken");
        }
    }

    fn try_start() -> Self {
        let mut child = primacy().stdout(Stdio::piped()).spawn().unwrap();
        let mut announced = String::new();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        while lines.read_line(&mut announced).unwrap() > 0 && !announced.contains("Ctrl-C") {}
        Self { child, announced }
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A shell that finds the binary under test, and something that makes the calls of grpcurl where there is none.
fn shell(command: &str) -> Command {
    let python = env::var("PRIMACY_PYTHON").unwrap_or_else(|_| "/usr/bin/python3".to_owned());
    let folder = |path: &str| Path::new(path).parent().unwrap().display().to_string();
    let places = [folder(env!("CARGO_BIN_EXE_primacy")), folder(&python), env::var("PATH").unwrap()];
    let mut shell = Command::new("bash");
    shell.args(["-o", "pipefail", "-c", command]);
    shell.env("PATH", format!("{}:{}/tests/python", places.join(":"), env!("CARGO_MANIFEST_DIR")));
    shell
}

#[test]
#[ignore = "needs curl, grpcio of PyPI and the ports 8080-8083 and 50051-50054: scripts/test.sh runs it"]
fn the_examples_print_what_the_pages_say() {
    let up = Up::start();
    let announced = &blocks(PAGES[0], "text")[0];
    assert_eq!(shape(&up.announced), shape(announced), "{}", up.announced);
    let examples: Vec<Example> = PAGES.into_iter().flat_map(examples).collect();
    assert!(examples.len() >= 14, "the pages have lost their examples");
    for Example { page, command, printed } in examples {
        let output = shell(&command).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            output_matches(&printed, &lines),
            "$ {command}\n{text}{errors}\nbut {page} says:\n{}",
            printed.join("\n")
        );
    }
}

/// What a page refers to by its path: in links, and as `src/…` in the text.
fn references(page: &Path) -> Vec<std::path::PathBuf> {
    let text = fs::read_to_string(page).unwrap();
    let links = text.split("](").skip(1).filter_map(|after| after.split(')').next());
    let paths = links.map(|link| link.split('#').next().unwrap());
    let own = paths.filter(|path| !path.is_empty() && !path.contains("://"));
    let linked = own.map(|path| page.parent().unwrap().join(path));
    let is_path = |word: &&str| {
        let folders =
            ["src/", "tests/", "docs/", "scripts/", "deploy/", "bench/", "web/", "proto/", "openapi/"];
        folders.iter().any(|folder| word.starts_with(folder)) && !word.contains([' ', '*', '…'])
    };
    let named = text.split('`').skip(1).step_by(2).filter(is_path).map(std::path::PathBuf::from);
    linked.chain(named).collect()
}

#[test]
fn what_the_pages_refer_to_is_there() {
    let docs = fs::read_dir("docs").unwrap().map(|entry| entry.unwrap().path());
    let others = ["README.md", "CONTRIBUTING.md", "bench/README.md", "deploy/README.md"].map(Into::into);
    let pages = docs.filter(|path| path.extension().is_some_and(|kind| kind == "md")).chain(others);
    let gone: Vec<String> = pages
        .flat_map(|page| {
            let missing = references(&page).into_iter().filter(|path| !path.exists());
            missing.map(|path| format!("{} in {}", path.display(), page.display())).collect::<Vec<_>>()
        })
        .collect();
    assert!(gone.is_empty(), "{gone:#?}");
}

#[test]
fn an_ellipsis_stands_for_anything_and_nothing_else_does() {
    for (expected, line) in [("a…c", "abbc"), ("…", "x"), ("a…", "a"), ("plain", "plain"), ("a…b…c", "axbyc")]
    {
        assert!(line_matches(expected, line), "{expected} {line}");
    }
    for (expected, line) in [("a…c", "abb"), ("plain", "plainer"), ("a…b…c", "acb"), ("a…", "b")] {
        assert!(!line_matches(expected, line), "{expected} {line}");
    }
    let expected = ["a", "…", "z"].map(str::to_owned);
    assert!(output_matches(&expected, &["a", "b", "c", "z"]) && output_matches(&expected, &["a", "z"]));
    assert!(!output_matches(&expected, &["a", "b"]) && !output_matches(&expected, &["z"]));
}
