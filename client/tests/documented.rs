//! Every public type and function has an example in its documentation, and every example runs.

use std::collections::HashSet;
use std::path::Path;

/// A public item, and the documentation before it.
struct Item {
    place: String,
    text: String,
    documentation: String,
}

/// The sources, which are formatted: what a line begins with tells what it is.
fn sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => found.push((path.display().to_string(), std::fs::read_to_string(path).unwrap())),
            }
        }
    }
    found
}

fn word_after<'a>(line: &'a str, prefixes: &[&str]) -> Option<&'a str> {
    let rest = prefixes.iter().find_map(|prefix| line.strip_prefix(prefix))?;
    rest.split(|c: char| !c.is_alphanumeric() && c != '_').next()
}

/// Public types, and functions of public types.
fn public_items() -> Vec<Item> {
    const TYPES: &[&str] = &["pub struct ", "pub enum ", "pub type ", "pub mod "];
    const FUNCTIONS: &[&str] = &["pub fn ", "pub async fn ", "pub const fn "];
    let sources = sources();
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let types: HashSet<_> = sources
        .iter()
        .flat_map(|(_, text)| text.lines().filter_map(|line| word_after(line, TYPES)))
        .collect();
    let mut items = Vec::new();
    for (path, text) in &sources {
        let (mut documentation, mut of_public_type) = (String::new(), true);
        for (number, line) in lines(text).iter().enumerate() {
            if line.starts_with("impl") {
                let bare = line.split_once("> ").filter(|_| line.starts_with("impl<")).map(|(_, rest)| rest);
                let name = word_after(bare.unwrap_or(line), &["impl ", ""]);
                of_public_type = name.is_some_and(|name| types.contains(name));
            }
            let line = line.trim_start();
            if let Some(more) = line.strip_prefix("///") {
                documentation += more;
                documentation += "\n";
            } else if !line.starts_with("#[") {
                let is_function = word_after(line, FUNCTIONS).is_some();
                if word_after(line, TYPES).is_some() || (is_function && of_public_type) {
                    let place = format!("{path}:{}", number + 1);
                    items.push(Item { place, text: line.to_owned(), documentation: documentation.clone() });
                }
                documentation.clear();
            }
        }
    }
    items
}

#[test]
fn every_public_item_has_an_example_that_runs() {
    let items = public_items();
    assert!(items.iter().any(|item| item.text.contains("pub async fn send_batch")), "items are found");
    let lacking = items.iter().filter(|item| {
        // A module says it with `//!`, in its own file.
        let is_module = item.text.starts_with("pub mod ");
        !is_module && !item.documentation.contains("```") || item.documentation.contains("```no_run")
    });
    let lacking: Vec<_> = lacking.map(|item| format!("{} {}", item.place, item.text)).collect();
    assert!(lacking.is_empty(), "without an example that runs:\n{}", lacking.join("\n"));
}
