//! The manual page, haul(1), written from the table of flags. The macros are those of man(7).

use std::fmt::Write as _;

use super::flags::{Flag, PRECEDENCE, Verb, of, usage};

/// The page's sections that no table holds. What is in them is roff already.
const DESCRIPTION: &str = r"
.B haul
downloads packages from links such as https://get.massive.app/LINK_ID?secret=SECRET: whole, fast, and
through pauses, restarts and broken networks. It runs in the background and is told what to do over a
local REST API.
.PP
A file is visible under its own name only when it is whole; until then it is
.IR NAME .part
beside it.
";

const REST: &str = r#"
.SH EXIT STATUS
.TP
.B 0
Stopped by SIGINT or SIGTERM, with everything saved; or what was asked for was printed.
.TP
.B 1
It could not start, or could not go on: the line on stderr says why.
.TP
.B 2
Bad usage.
.TP
.B 3
.B haul get
was refused by the link\(aqs server: no such link, expired, or another password.
.TP
.B 130
.B haul get
was interrupted by SIGINT or SIGTERM; the same command again goes on.
.SH FILES
.TP
.I downloads.json, downloads.journal
In the state directory: every download and what changed since. Both belong to one running
.BR haul .
.SH EXAMPLES
Download a package into a folder, without an agent:
.PP
.EX
haul get \(aqhttps://get.massive.app/LINK_ID?secret=SECRET\(aq /srv/in
.EE
.PP
Run the agent, then add a link and look at it:
.PP
.EX
haul serve
curl \-X POST \-H \(aqContent\-Type: application/json\(aq \e
    http://localhost:8080/api/v1/downloads \e
    \-d \(aq{"url":"https://get.massive.app/LINK_ID?secret=SECRET","dst_folder":"/srv/in"}\(aq
curl http://localhost:8080/api/v1/downloads
.EE
.PP
Install completions for bash:
.PP
.EX
haul completions bash >/etc/bash_completion.d/haul
.EE
"#;

/// The whole page.
pub fn page() -> String {
    let version = env!("CARGO_PKG_VERSION");
    let mut text = format!(
        ".TH HAUL 1 \"\" \"haul {version}\" \"User Commands\"\n.SH NAME\nhaul \\- {}\n.SH \
         SYNOPSIS\n",
        roff(&lower_first(env!("CARGO_PKG_DESCRIPTION")))
    );
    for (position, verb) in Verb::ALL.into_iter().enumerate() {
        if position > 0 {
            text.push_str(".br\n");
        }
        let line = usage(verb);
        let (program, rest) = line.split_once(' ').unwrap_or((&line, ""));
        // Writing to a String cannot fail.
        let _ = writeln!(text, ".B {program}\n{}", roff(rest));
    }
    let _ = writeln!(text, ".SH DESCRIPTION{DESCRIPTION}.SH COMMANDS");
    for verb in Verb::ALL {
        let _ = writeln!(text, ".SS {}\n{}.", roff(&usage(verb)), roff(verb.about()));
        for note in verb.notes() {
            let _ = writeln!(text, ".PP\n{}", roff(note));
        }
        of(verb).for_each(|flag| describe(&mut text, flag));
    }
    let _ = writeln!(text, ".SH ENVIRONMENT\n{}", roff(PRECEDENCE));
    text.push_str(REST.trim_start());
    text
}

fn describe(text: &mut String, flag: &Flag) {
    let value = match flag.value {
        "" => String::new(),
        value => format!(" \\fI{}\\fR", roff(value)),
    };
    let _ = writeln!(
        text,
        ".TP\n\\fB\\-\\-{}\\fR{value}\n{}.",
        roff(flag.name),
        roff(flag.help)
    );
    if !flag.default.is_empty() {
        let _ = writeln!(text, "Default: {}.", roff(flag.default));
    }
    let _ = writeln!(text, "Environment: {}.", roff(flag.env));
}

fn lower_first(text: &str) -> String {
    let mut rest = text.chars();
    match rest.next() {
        Some(first) => first.to_lowercase().chain(rest).collect(),
        None => String::new(),
    }
}

/// Text as roff shows it: hyphens that can be copied, and no line that starts a request.
fn roff(text: &str) -> String {
    let mut safe = text.replace('\\', "\\e").replace('-', "\\-");
    safe = safe.replace('\'', "\\(aq").replace('~', "\\(ti");
    if safe.starts_with('.') {
        safe.insert_str(0, "\\&");
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::FLAGS;

    #[test]
    fn the_page_has_every_command_flag_variable_and_default() {
        let page = page();
        for verb in Verb::ALL {
            assert!(page.contains(&format!(".SS haul {}", verb.name())));
        }
        for flag in FLAGS {
            for word in [flag.name, flag.env, flag.default] {
                assert!(page.contains(&roff(word)), "{word}");
            }
        }
    }

    #[test]
    fn text_is_never_taken_for_roff() {
        assert_eq!(roff(".so /etc/passwd"), "\\&.so /etc/passwd");
        assert_eq!(roff(r"a\fB-b"), r"a\efB\-b");
        assert_eq!(roff("'tis"), "\\(aqtis");
    }
}
