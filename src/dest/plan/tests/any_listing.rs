//! What holds for any listing at all, and for any disk that it meets.

use proptest::prelude::*;

use super::*;
use crate::dest::Published;

fn component() -> impl Strategy<Value = String> {
    let common = prop::sample::select(vec![
        "a",
        "A",
        "b",
        "a.part",
        "A.PART",
        "a (1)",
        "a (1).part",
        "a (2)",
        ".",
        "..",
        "",
        "CON",
        "con.part",
        "a.",
        "\0a",
        "unnamed",
        "é",
        "É",
    ]);
    let long = (
        250usize..260,
        prop::sample::select(vec!["a", "é", "a.part", "A"]),
    )
        .prop_map(|(length, end)| format!("{}{end}", "n".repeat(length - end.len())));
    prop_oneof![8 => common.prop_map(str::to_owned), 1 => long, 1 => any::<String>()]
}

fn listing() -> impl Strategy<Value = Vec<Listed>> {
    let entry = (
        prop::collection::vec(component(), 0..4),
        component(),
        prop::bool::weighted(0.15),
        prop::bool::weighted(0.05),
    );
    let entry = entry.prop_map(|(path, name, is_folder, virus)| Listed {
        virus,
        kind: if is_folder { "directory" } else { "file" }.into(),
        ..file(&path.join("/"), &name)
    });
    prop::collection::vec(entry, 0..40)
}

fn policy() -> impl Strategy<Value = IfExists> {
    prop::sample::select(vec![IfExists::Rename, IfExists::Overwrite, IfExists::Skip])
}

fn any_traits() -> impl Strategy<Value = Traits> {
    let all = vec![
        Traits::default(),
        Traits::WINDOWS,
        Traits {
            name_max: 143,
            ignores_case: true,
            ..Traits::default()
        },
    ];
    prop::sample::select(all)
}

/// Every path that the table stands for, each once: folders, final names, `.part` names.
fn all_paths(table: &FileTable) -> Vec<String> {
    let mut paths: Vec<String> = folders(table).into_iter().map(|(path, _)| path).collect();
    for file in 0..table.len() {
        let path = table.path(file);
        if table.state(file) != FileState::Skipped {
            let folder = path.rfind('/').map_or("", |slash| &path[..=slash]);
            paths.push(format!("{folder}{}", table.names(file).part));
        }
        paths.push(path);
    }
    paths
}

proptest! {
    #[test]
    fn every_file_gets_a_safe_path_of_its_own(
        listing in listing(), traits in any_traits(), policy in policy()
    ) {
        let files = listing.iter().filter(|listed| listed.kind == "file").count();
        let table = plan_on(&Held::default(), traits, policy, listing);
        prop_assert_eq!(table.len() as usize, files);
        let mut seen = HashSet::new();
        for path in all_paths(&table) {
            for component in path.split('/') {
                prop_assert!(!matches!(component, "" | "." | ".."), "{:?}", path);
                prop_assert!(component.len() <= traits.name_max, "{:?}", path);
                prop_assert!(!component.contains(char::is_control), "{:?}", path);
            }
            let key = if traits.ignores_case { path.to_lowercase() } else { path.clone() };
            prop_assert!(seen.insert(key), "twice: {:?}", path);
        }
    }

    #[test]
    fn every_file_arrives_among_planted_links_and_files(
        planted in prop::collection::vec((component(), 0u8..4), 0..12),
        listing in listing(),
        policy in policy(),
    ) {
        let outside = TempDir::new().unwrap();
        let dir = TempDir::new().unwrap();
        plant(dir.path(), outside.path(), &planted);
        let (root, _) = Root::make(dir.path()).unwrap();
        let table = plan_on(&RootDisk::new(&root, [], || ()), root.traits(), policy, listing);
        for (index, entry) in table.dirs().iter().enumerate().skip(1) {
            let index = u32::try_from(index).unwrap();
            let existed = dir.path().join(table.dir_components(index).join("/")).is_dir();
            prop_assert_eq!(existed, !entry.ours);
        }
        for file in 0..table.len() {
            if table.state(file) == FileState::Skipped {
                continue;
            }
            let components = table.dir_components(table.dir_of(file));
            let folder = root.folder(&components, true).unwrap();
            let names = table.names(file);
            let part = folder.create_part(&names.part).unwrap();
            prop_assert!(part.is_some(), "{:?} is taken", names.part);
        }
        for file in 0..table.len() {
            if table.state(file) == FileState::Skipped {
                continue;
            }
            let components = table.dir_components(table.dir_of(file));
            let folder = root.folder(&components, false).unwrap();
            let names = table.names(file);
            let replace = policy == IfExists::Overwrite;
            let published = folder.publish(&names.part, &names.last, replace).unwrap();
            prop_assert_eq!(published, Published::Done, "{:?}", names);
            prop_assert_eq!(folder.kind(&names.last), Some(Kind::File));
        }
        let untouched: Vec<_> = fs::read_dir(outside.path()).unwrap().collect();
        prop_assert_eq!(untouched.len(), 1);
        prop_assert_eq!(fs::read_to_string(outside.path().join("a")).unwrap(), "outside");
    }
}

/// Puts files, folders and links to what is outside where the package wants to go.
fn plant(inside: &std::path::Path, outside: &std::path::Path, planted: &[(String, u8)]) {
    fs::write(outside.join("a"), "outside").unwrap();
    for (name, what) in planted {
        let at = inside.join(&*paths::mend_file(name, Traits::default()));
        // What is planted twice stays what it was first.
        let _ = match what {
            0 => fs::File::create_new(&at).map(drop),
            1 => fs::create_dir(&at).and_then(|()| symlink(outside, at.join("a"))),
            2 => symlink(outside, &at),
            _ => symlink(outside.join("a"), &at),
        };
    }
}
