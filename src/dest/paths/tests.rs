use proptest::prelude::*;

use super::*;
use crate::dest::NAME_MAX;

const LINUX: Traits = Traits {
    windows_names: false,
    ignores_case: false,
    name_max: NAME_MAX,
};

#[test]
fn linux_keeps_everything_but_slashes_and_control_characters() {
    assert_eq!(mend_file("a/b\0c\u{7}d\u{85}.txt", LINUX), "abcd.txt");
    assert_eq!(mend_file(r#"<a>:"b"\|?*. "#, LINUX), r#"<a>:"b"\|?*. "#);
    assert_eq!(mend_file("../../etc/passwd", LINUX), "....etcpasswd");
    assert_eq!(mend_file("naïve 日本.mov", LINUX), "naïve 日本.mov");
}

#[test]
fn windows_targets_lose_what_windows_cannot_hold() {
    for (raw, mended) in [
        (r#"a<b>c:d"e\f|g?h*i"#, "abcdefghi"),
        ("take 1. . ", "take 1"),
        ("CON", "unnamed"),
        ("con.txt", "unnamed.txt"),
        ("NUL .tar.gz", "unnamed.tar.gz"),
        ("Lpt9", "unnamed"),
        ("COM¹.log", "unnamed.log"),
        ("C:ON", "unnamed"),
        ("CONSOLE", "CONSOLE"),
        ("COM10", "COM10"),
        ("...", "unnamed"),
        (" lead", " lead"),
    ] {
        assert_eq!(mend_file(raw, Traits::WINDOWS), mended, "{raw:?}");
    }
}

#[test]
fn nothing_is_left_of_dots_and_control_characters() {
    for raw in ["", ".", "..", "\0", ".\u{1}.", "/", "\n\t"] {
        assert_eq!(mend_file(raw, LINUX), UNNAMED, "{raw:?}");
        assert_eq!(mend_folder(raw, LINUX), None, "{raw:?}");
    }
    assert_eq!(mend_folder("...", LINUX).unwrap(), "...");
    assert_eq!(mend_folder("..  ", Traits::WINDOWS), None);
}

#[test]
fn a_name_of_250_bytes_stays_and_a_longer_one_keeps_its_extension() {
    let fits = format!("{}.mov", "a".repeat(246));
    assert_eq!(mend_file(&fits, LINUX), fits);
    let long = format!("{}.mov", "a".repeat(247));
    let short = mend_file(&long, LINUX);
    assert_eq!(short.len(), 246);
    assert!(short.ends_with("a.mov"));
}

#[test]
fn names_are_cut_between_characters() {
    let short = mend_file(&"é".repeat(150), LINUX).into_owned();
    assert_eq!(short, "é".repeat(123));
    let short = mend_file(&format!("{}.mov", "日".repeat(100)), LINUX).into_owned();
    assert_eq!(short, format!("{}.mov", "日".repeat(80)));
}

#[test]
fn what_follows_a_far_away_dot_is_no_extension() {
    let name = format!("1. {}", "a".repeat(300));
    assert_eq!(mend_file(&name, LINUX).len(), 246);
    assert_eq!(
        mend_file(&format!(".{}", "b".repeat(300)), LINUX).len(),
        246
    );
}

#[test]
fn a_counter_goes_before_the_last_extension() {
    assert_eq!(numbered("a.tar.gz", 1, LINUX), "a.tar (1).gz");
    assert_eq!(numbered(".profile", 2, LINUX), ".profile (2)");
    assert_eq!(numbered("noext", 3, LINUX), "noext (3)");
}

#[test]
fn part_names_count_before_their_end() {
    assert_eq!(part_name("a.mov", 0, LINUX), "a.mov.part");
    assert_eq!(part_name("a.mov", 2, LINUX), "a.mov (2).part");
}

#[test]
fn short_name_limits_are_kept() {
    let encrypted = Traits {
        name_max: 143,
        ..LINUX
    };
    let name = mend_file(&"n".repeat(200), encrypted).into_owned();
    assert_eq!(name.len(), 134);
    assert!(numbered(&name, u32::MAX, encrypted).len() <= 138);
    assert!(part_name(&name, u32::MAX, encrypted).len() <= 143);
}

#[test]
fn case_folding_joins_what_file_systems_join() {
    let same = |a: &str, b: &str| folded(a).eq(folded(b));
    assert!(same("README.TXT", "readme.txt"));
    assert!(same("ΟΔΟΣ", "οδος"));
    assert!(same("ÀÉ", "àé"));
    assert!(!same("strasse", "straße"));
}

fn traits() -> impl Strategy<Value = Traits> {
    (any::<bool>(), any::<bool>(), 64usize..=255).prop_map(
        |(windows_names, ignores_case, name_max)| Traits {
            windows_names,
            ignores_case,
            name_max,
        },
    )
}

/// Names rich in what is dangerous, some of them far too long.
fn hostile() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "/", "\\", ".", "..", "\0", "\n", " ", "CON", "nul", ":", "a", "B", "é", "日本", ".mov",
        ".part", " (1)", "ſ",
    ]);
    let repeated = (prop::collection::vec(pieces, 0..8), 1usize..60)
        .prop_map(|(pieces, times)| pieces.concat().repeat(times));
    prop_oneof![repeated, any::<String>()]
}

fn assert_safe(name: &str, traits: Traits, most: usize) {
    assert!(!matches!(name, "" | "." | ".."), "{name:?}");
    assert!(
        !name.contains('/') && !name.contains(char::is_control),
        "{name:?}"
    );
    assert!(name.len() <= most, "{} bytes: {name:?}", name.len());
    if traits.windows_names {
        assert!(
            !name.contains(['<', '>', ':', '"', '\\', '|', '?', '*']),
            "{name:?}"
        );
        assert!(!name.ends_with(['.', ' ']), "{name:?}");
        let stem = name.split('.').next().unwrap_or_default().trim_end();
        assert!(!is_reserved(stem), "{name:?}");
    }
}

proptest! {
    #[test]
    fn every_name_that_comes_out_is_safe(raw in hostile(), traits in traits(), number in 1u32..) {
        let name = mend_file(&raw, traits).into_owned();
        assert_safe(&name, traits, limit(traits));
        assert_safe(&numbered(&name, number, traits), traits, limit(traits));
        assert_safe(&part_name(&name, 0, traits), traits, traits.name_max);
        assert_safe(&part_name(&name, number, traits), traits, traits.name_max);
        if let Some(folder) = mend_folder(&raw, traits) {
            assert_safe(&folder, traits, limit(traits));
        }
    }

    #[test]
    fn mending_a_mended_name_changes_nothing(raw in hostile(), traits in traits()) {
        let once = mend_file(&raw, traits).into_owned();
        prop_assert_eq!(mend_file(&once, traits), once.as_str());
    }

    #[test]
    fn names_that_lowercase_alike_fold_alike(a in any::<String>()) {
        let lower: String = a.to_lowercase();
        prop_assert!(folded(&a).eq(folded(&lower)), "{:?} {:?}", a, lower);
    }
}
