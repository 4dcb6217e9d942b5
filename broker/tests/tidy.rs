//! What the sources keep to, and that the documents name what there is.

use std::fs;
use std::path::{Path, PathBuf};

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if path.file_name().is_none_or(|name| name != "target") {
                sources(&path, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn crate_folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Rules 18 and 29: what is simulated and replayed does the same each time. Time and randomness are given to it, and
/// no map's order is another one the next time. Of the shard's room that holds for all but the drivers.
#[test]
fn what_is_replayed_has_no_clock_no_chance_and_no_order_of_its_own() {
    const ROOMS: [&str; 5] = ["engine", "exchange", "catalog", "journal", "shard"];
    const DRIVERS: [&str; 10] = [
        "shard/accepting.rs",
        "shard/conformance.rs",
        "shard/conformance/",
        "shard/disk_worker.rs",
        "shard/epoll/",
        "shard/pages.rs",
        "shard/real_clock.rs",
        "shard/segment_files.rs",
        "shard/uring/",
        "shard/waker.rs",
    ];
    const WORDS: [&str; 12] = [
        "HashMap",
        "HashSet",
        "RandomState",
        "SystemTime",
        "Instant",
        "std::thread",
        "std::net",
        "std::env",
        "std::fs",
        "std::process",
        "thread_local",
        "tokio",
    ];
    let folder = crate_folder().join("src");
    let mut files = Vec::new();
    ROOMS.iter().for_each(|room| sources(&folder.join(room), &mut files));
    files.retain(|path| {
        let name = path.strip_prefix(&folder).unwrap().to_str().unwrap();
        !DRIVERS.iter().any(|driver| name.starts_with(driver))
    });
    assert!(files.len() > 150, "{} files", files.len());
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        let found = WORDS.iter().find(|word| text.contains(**word));
        assert_eq!(found, None, "{}", path.display());
    }
}

/// The table that says where each rule is kept names files, tests and planted bugs that there are.
#[test]
fn the_table_of_rules_names_what_there_is() {
    let readme = fs::read_to_string(crate_folder().join("README.md")).unwrap();
    let table = readme.split("| rule | kept by | found by |").nth(1).expect("the table is there");
    let rows: Vec<&str> = table.lines().skip(2).take_while(|line| line.starts_with('|')).collect();
    let mut files = Vec::new();
    ["broker", "client", "protocol"]
        .iter()
        .for_each(|name| sources(&crate_folder().parent().unwrap().join(name), &mut files));
    let texts: Vec<String> = files.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let flaws = fs::read_to_string(crate_folder().join("src/flaws.rs")).unwrap();
    for (place, row) in rows.iter().enumerate() {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        assert_eq!(cells[1], (place + 1).to_string(), "{row}");
        let names =
            |cell: &str| -> Vec<String> { cell.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
        let kept = names(cells[2]);
        assert!(!kept.is_empty(), "{row}");
        for name in kept {
            assert!(files.iter().any(|path| path.ends_with(&name)), "there is no {name}: {row}");
        }
        let found = names(cells[3]);
        assert!(!found.is_empty(), "{row}");
        for name in found {
            let is_flaw = flaws.contains(&format!("= \"{name}\""));
            let is_test = || {
                let declared = [format!("fn {name}("), format!("planted!({name},")];
                texts.iter().any(|text| declared.iter().any(|declared| text.contains(declared)))
            };
            assert!(is_flaw || is_test(), "there is no test or planted bug {name}: {row}");
        }
    }
    let rules = readme.split("## Rules").nth(1).expect("the rules are there");
    let stated = |number: usize| rules.lines().any(|line| line.starts_with(&format!("{number}. ")));
    assert!((1..=rows.len()).all(stated) && !stated(rows.len() + 1));
}
