//! The README cannot lie: its commands are executed, and what they print is compared.

use std::{
    env, fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use crate::harness::primacy;

/// A command of the README, and what it says that it prints.
struct Example {
    command: String,
    printed: Vec<String>,
}

/// The blocks of the README that begin so, without their fences.
fn blocks(language: &str) -> Vec<String> {
    let readme = fs::read_to_string("README.md").unwrap();
    let fence = format!("```{language}\n");
    readme.split(&fence).skip(1).map(|after| after.split("```").next().unwrap().to_owned()).collect()
}

fn examples() -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    for line in blocks("console").iter().flat_map(|block| block.lines()) {
        match line.strip_prefix("$ ") {
            Some(command) => examples.push(Example { command: command.to_owned(), printed: Vec::new() }),
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
fn the_examples_print_what_the_readme_says() {
    let up = Up::start();
    let announced = &blocks("text")[0];
    assert_eq!(shape(&up.announced), shape(announced), "{}", up.announced);
    let examples = examples();
    assert!(examples.len() >= 9, "the README has lost its examples");
    for Example { command, printed } in examples {
        let output = shell(&command).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            output_matches(&printed, &lines),
            "$ {command}\n{text}{errors}\nbut the README says:\n{}",
            printed.join("\n")
        );
    }
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
