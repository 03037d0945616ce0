//! What a shell needs to complete haul's command line, written from the table of flags.

use std::fmt::Write as _;

use super::flags::{Flag, Verb, of};

/// The shells that scripts can be written for.
pub const SHELLS: [&str; 3] = ["bash", "zsh", "fish"];

/// The script for one of [`SHELLS`]; None for any other.
pub fn script(shell: &str) -> Option<String> {
    match shell {
        "bash" => Some(bash()),
        "zsh" => Some(zsh()),
        "fish" => Some(fish()),
        _ => None,
    }
}

/// What can stand where a value or an operand is due.
#[derive(Clone, Copy)]
enum Kind {
    File,
    Folder,
    Shell,
    /// Nothing that a shell could know.
    Free,
}

/// By the word that stands for the value in `--help`; of several the last, which is the one that a
/// shell can know.
fn kind(value: &str) -> Kind {
    let last = value.split_whitespace().last().unwrap_or_default();
    match last.trim_matches(['[', ']']) {
        "FILE" => Kind::File,
        "DIR" => Kind::Folder,
        "SHELL" => Kind::Shell,
        _ => Kind::Free,
    }
}

/// The help's first statement: a list of completions has one line for each.
fn brief(help: &str) -> &str {
    let ends = [";", ". ", " (", ", so that"];
    let end = ends.iter().filter_map(|end| help.find(end)).min();
    &help[..end.unwrap_or(help.len())]
}

/// In single quotes, for any of the three shells.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn words(verb: Verb) -> String {
    of(verb).fold("--help".to_owned(), |mut words, flag| {
        // Writing to a String cannot fail.
        let _ = write!(words, " --{}", flag.name);
        words
    })
}

fn bash() -> String {
    let verbs = Verb::ALL.map(Verb::name).join(" ");
    let mut text = format!(
        "# bash completion for haul; made by `haul completions bash`.
_haul() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}}
    # Readline context `--flag=value` over in three words.
    if [[ $word == = ]]; then
        word=
    elif [[ $before == = ]]; then
        before=${{COMP_WORDS[COMP_CWORD-2]}}
    fi
    COMPREPLY=()
    if ((COMP_CWORD == 1)); then
        mapfile -t COMPREPLY < <(compgen -W '{verbs} --help --version' -- \"$word\")
        return
    fi
    case ${{COMP_WORDS[1]}}:$before in
"
    );
    for verb in Verb::ALL {
        for flag in of(verb).filter(|flag| !flag.value.is_empty()) {
            let _ = writeln!(
                text,
                "    {}:--{}) {} ;;",
                verb.name(),
                flag.name,
                bash_values(kind(flag.value))
            );
        }
    }
    for verb in Verb::ALL {
        let name = verb.name();
        let _ = writeln!(
            text,
            "    {name}:*)
        if [[ $word == -* ]]; then
            mapfile -t COMPREPLY < <(compgen -W '{}' -- \"$word\")
        else
            {}
        fi
        ;;",
            words(verb),
            bash_values(kind(verb.operand()))
        );
    }
    text.push_str("    esac\n}\ncomplete -F _haul haul\n");
    text
}

fn bash_values(kind: Kind) -> String {
    let source = match kind {
        Kind::File => "-f",
        Kind::Folder => "-d",
        Kind::Shell => {
            return format!(
                "mapfile -t COMPREPLY < <(compgen -W '{}' -- \"$word\")",
                SHELLS.join(" ")
            );
        }
        Kind::Free => return ":".to_owned(),
    };
    format!("compopt -o filenames; mapfile -t COMPREPLY < <(compgen {source} -- \"$word\")")
}

fn zsh() -> String {
    let mut text = String::from(
        "#compdef haul
# zsh completion for haul; made by `haul completions zsh`.
_haul() {
    local -a commands
    commands=(
",
    );
    for verb in Verb::ALL {
        let entry = format!("{}:{}", verb.name(), verb.about());
        let _ = writeln!(text, "        {}", quoted(&entry));
    }
    text.push_str(
        "    )
    if ((CURRENT == 2)); then
        _describe command commands
        _arguments '--help[Print help]' '--version[Print the version]'
        return
    fi
    local command=$words[2]
    shift words
    ((CURRENT--))
    case $command in
",
    );
    for verb in Verb::ALL {
        let _ = write!(
            text,
            "    {})\n        _arguments '--help[Print help]'",
            verb.name()
        );
        for flag in of(verb) {
            let _ = write!(text, " \\\n            {}", quoted(&zsh_flag(flag)));
        }
        for operand in verb.operand().split_whitespace() {
            let name = operand.trim_matches(['[', ']']);
            let marks = match operand {
                _ if operand.starts_with('[') => "::",
                _ if operand.ends_with("...") => "*:",
                _ => ":",
            };
            let spec = format!("{marks}{name}:{}", zsh_values(kind(operand)));
            let _ = write!(text, " \\\n            {}", quoted(&spec));
        }
        text.push_str("\n        ;;\n");
    }
    text.push_str(
        "    esac
}
# Autoloaded, the file is the function's body; sourced, it has to be registered.
if [[ $funcstack[1] == _haul ]]; then
    _haul \"$@\"
else
    compdef _haul haul
fi
",
    );
    text
}

/// The argument of `_arguments` for one flag (zshcompsys(1)).
fn zsh_flag(flag: &Flag) -> String {
    let repeats = if flag.repeats { "*" } else { "" };
    let help = brief(flag.help).replace('[', r"\[").replace(']', r"\]");
    match flag.value {
        "" => format!("{repeats}--{}[{help}]", flag.name),
        value => format!(
            "{repeats}--{}=[{help}]:{}:{}",
            flag.name,
            value.replace(':', r"\:"),
            zsh_values(kind(value))
        ),
    }
}

fn zsh_values(kind: Kind) -> String {
    match kind {
        Kind::File => "_files".to_owned(),
        Kind::Folder => "_files -/".to_owned(),
        Kind::Shell => format!("({})", SHELLS.join(" ")),
        Kind::Free => " ".to_owned(),
    }
}

fn fish() -> String {
    let mut text = String::from(
        "# fish completion for haul; made by `haul completions fish`.
complete -c haul -f
complete -c haul -n __fish_use_subcommand -l version -s V -d 'Print the version'
complete -c haul -l help -s h -d 'Print help'
",
    );
    for verb in Verb::ALL {
        let _ = writeln!(
            text,
            "complete -c haul -n __fish_use_subcommand -a {} -d {}",
            verb.name(),
            quoted(verb.about())
        );
    }
    for verb in Verb::ALL {
        let seen = format!(
            "complete -c haul -n '__fish_seen_subcommand_from {}'",
            verb.name()
        );
        for flag in of(verb) {
            let values = match flag.value {
                "" => "",
                value => fish_values(kind(value)),
            };
            let _ = writeln!(
                text,
                "{seen} -l {}{values} -d {}",
                flag.name,
                quoted(brief(flag.help))
            );
        }
        match kind(verb.operand()) {
            Kind::Shell => {
                let _ = writeln!(text, "{seen} -a '{}'", SHELLS.join(" "));
            }
            Kind::Folder => {
                let _ = writeln!(text, "{seen} -a '(__fish_complete_directories)'");
            }
            Kind::File => {
                let _ = writeln!(text, "{seen} -F");
            }
            Kind::Free => {}
        }
    }
    text
}

fn fish_values(kind: Kind) -> &'static str {
    match kind {
        Kind::File => " -r -F",
        Kind::Folder => " -x -a '(__fish_complete_directories)'",
        Kind::Shell | Kind::Free => " -x",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::FLAGS;

    #[test]
    fn every_script_knows_every_command_and_flag() {
        for shell in SHELLS {
            let script = script(shell).unwrap();
            for verb in Verb::ALL {
                assert!(script.contains(verb.name()), "{shell}: {}", verb.name());
            }
            let dashes = if shell == "fish" { "-l " } else { "--" };
            for flag in FLAGS {
                let word = format!("{dashes}{}", flag.name);
                assert!(script.contains(&word), "{shell}: {word}");
            }
        }
        assert!(script("csh").is_none());
    }

    #[test]
    fn a_description_is_the_first_statement() {
        assert_eq!(brief("One; two"), "One");
        assert_eq!(brief("One. Two (three)"), "One");
        assert_eq!(brief("The name (default: none)"), "The name");
        assert_eq!(brief("All of 127.0.0.1 it"), "All of 127.0.0.1 it");
    }

    #[test]
    fn quotes_end_no_quotation() {
        assert_eq!(quoted("haul's"), r"'haul'\''s'");
    }
}
