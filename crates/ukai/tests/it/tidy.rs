//! House rules that no compiler holds.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

fn allowed() -> Vec<String> {
    let deny: toml::Value =
        std::fs::read_to_string(root().join("deny.toml")).unwrap().parse::<toml::Table>().unwrap().into();
    let allow = deny["licenses"]["allow"].as_array().unwrap().clone();
    allow.iter().map(|licence| licence.as_str().unwrap().to_owned()).collect()
}

/// An SPDX expression of the forms that crates use: `A OR B`, `A AND B`, `A/B`, with parentheses.
fn is_allowed(expression: &str, allowed: &[String]) -> bool {
    let text = expression.replace('/', " OR ");
    let text = text.trim();
    let parts = |separator: &str| -> Vec<String> {
        let (mut depth, mut out, mut last) = (0i32, Vec::new(), 0);
        for (place, letter) in text.char_indices() {
            match letter {
                '(' => depth += 1,
                ')' => depth -= 1,
                _ if depth == 0 && text[place..].starts_with(separator) => {
                    out.push(text[last..place].to_owned());
                    last = place + separator.len();
                }
                _ => {}
            }
        }
        out.push(text[last..].to_owned());
        out
    };
    let all = parts(" AND ");
    if all.len() > 1 {
        return all.iter().all(|part| is_allowed(part, allowed));
    }
    let any = parts(" OR ");
    if any.len() > 1 {
        return any.iter().any(|part| is_allowed(part, allowed));
    }
    match text.strip_prefix('(').and_then(|text| text.strip_suffix(')')) {
        Some(inner) => is_allowed(inner, allowed),
        None => allowed.iter().any(|licence| licence == text),
    }
}

#[test]
fn every_licence_is_one_that_deny_toml_allows() {
    // Only what this machine builds has been fetched.
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform", &platform])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let linked: Vec<&str> =
        metadata["resolve"]["nodes"].as_array().unwrap().iter().filter_map(|node| node["id"].as_str()).collect();
    let allowed = allowed();
    let mut seen = 0;
    for package in metadata["packages"].as_array().unwrap() {
        if !linked.contains(&package["id"].as_str().unwrap()) {
            continue;
        }
        seen += 1;
        let licence = package["license"].as_str().unwrap_or("none");
        assert!(
            is_allowed(licence, &allowed),
            "{} is under {licence}, which deny.toml does not allow",
            package["name"]
        );
    }
    assert!(seen > 100, "only {seen} packages were read");
    assert!(!is_allowed("GPL-3.0-only", &allowed) && !is_allowed("MIT AND GPL-3.0-only", &allowed));
}

#[test]
fn every_dependency_says_why_it_is_there() {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let section = manifest.split("[workspace.dependencies]").nth(1).unwrap();
    let lines: Vec<&str> = section.lines().take_while(|line| !line.starts_with('[')).collect();
    let mut seen = 0;
    for (place, line) in lines.iter().enumerate() {
        let ours = line.starts_with("ukai");
        if line.contains(" = ") && !line.starts_with('#') && !ours {
            seen += 1;
            // One comment may stand above a family of crates.
            let reason = lines[..place].iter().rev().find(|above| !above.contains(" = ") || above.starts_with('#'));
            assert!(reason.is_some_and(|above| above.starts_with('#')), "no reason above `{line}`");
        }
    }
    assert!(seen > 30);
}
