//! The one table of flags. Parsing, environment variables, `--help`, the manual page and the
//! shells' completions all read it.

use std::fmt::Write as _;

use super::wrap;

/// The subcommands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    Serve,
    Share,
    Get,
    Add,
    Inspect,
    Ls,
    Show,
    Pause,
    Resume,
    Rm,
    Wait,
    Verify,
    Settings,
    Health,
    Completions,
    Man,
    Help,
    Version,
}

/// The commands that ask a running agent.
const CLIENTS: &[Verb] = &[
    Verb::Inspect,
    Verb::Ls,
    Verb::Show,
    Verb::Pause,
    Verb::Resume,
    Verb::Rm,
    Verb::Wait,
    Verb::Verify,
    Verb::Settings,
    Verb::Health,
];

impl Verb {
    /// Every subcommand, in the order in which `--help` lists them.
    pub const ALL: [Verb; 18] = [
        Verb::Get,
        Verb::Serve,
        Verb::Add,
        Verb::Inspect,
        Verb::Ls,
        Verb::Show,
        Verb::Pause,
        Verb::Resume,
        Verb::Rm,
        Verb::Wait,
        Verb::Verify,
        Verb::Settings,
        Verb::Health,
        Verb::Share,
        Verb::Completions,
        Verb::Man,
        Verb::Help,
        Verb::Version,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Verb::Serve => "serve",
            Verb::Share => "share",
            Verb::Get => "get",
            Verb::Add => "add",
            Verb::Inspect => "inspect",
            Verb::Ls => "ls",
            Verb::Show => "show",
            Verb::Pause => "pause",
            Verb::Resume => "resume",
            Verb::Rm => "rm",
            Verb::Wait => "wait",
            Verb::Verify => "verify",
            Verb::Completions => "completions",
            Verb::Man => "man",
            Verb::Settings => "settings",
            Verb::Health => "health",
            Verb::Help => "help",
            Verb::Version => "version",
        }
    }

    /// What follows the name on the command line, apart from flags.
    pub fn operand(self) -> &'static str {
        match self {
            Verb::Serve | Verb::Ls | Verb::Man | Verb::Health | Verb::Version => "",
            Verb::Settings => " [NAME=VALUE...]",
            Verb::Help => " [COMMAND]",
            Verb::Share => " DIR",
            Verb::Get => " LINK [DIR] | --batch FILE",
            Verb::Add => " LINK DIR",
            Verb::Inspect => " LINK",
            Verb::Show => " ID",
            Verb::Pause | Verb::Resume => " ID...|all",
            Verb::Rm | Verb::Wait => " ID...",
            Verb::Verify => " ID|DIR...",
            Verb::Completions => " SHELL",
        }
    }

    /// How many words may follow, flags aside: at least and at most.
    pub fn operands(self) -> (usize, usize) {
        match self {
            Verb::Serve | Verb::Ls | Verb::Man | Verb::Health | Verb::Version => (0, 0),
            Verb::Settings => (0, usize::MAX),
            Verb::Help => (0, 1),
            Verb::Share | Verb::Show | Verb::Inspect => (1, 1),
            // Without the word the answer is what words there are.
            Verb::Completions => (0, 1),
            Verb::Get => (1, 2),
            Verb::Add => (2, 2),
            Verb::Pause | Verb::Resume | Verb::Rm | Verb::Wait | Verb::Verify => (1, usize::MAX),
        }
    }

    /// One line for `--help`.
    pub fn about(self) -> &'static str {
        match self {
            Verb::Serve => "Run the download agent and its local REST API",
            Verb::Share => "Offer a folder as a package that a haul can download",
            Verb::Get => "Download a package here and now; the same command again goes on",
            Verb::Add => "Have the running agent download a package; prints its ID",
            Verb::Inspect => "List the files of a package, before anything is downloaded",
            Verb::Ls => "List the agent's downloads",
            Verb::Show => "Show one download and its files",
            Verb::Pause => "Pause downloads",
            Verb::Resume => "Let paused or failed downloads go on",
            Verb::Rm => "Remove downloads from the agent's list",
            Verb::Wait => {
                "Wait until downloads are complete (exit 0), or one is paused or in error (exit 1)"
            }
            Verb::Verify => {
                "Read the files of complete downloads, or of folders with a list, back (exit 0: all as saved)"
            }
            Verb::Completions => "Print what completes haul's command line in bash, zsh or fish",
            Verb::Settings => "Show the agent's settings, or change some",
            Verb::Health => "Ask the agent whether all is well (exit 0 or 1), for containers",
            Verb::Man => "Print the manual page, for man -l -",
            Verb::Help => "Print this, or a command's flags",
            Verb::Version => "Print the version",
        }
    }
}

impl Verb {
    /// What else there is to know, for `--help` and the manual page; one line each.
    pub fn notes(self) -> &'static [&'static str] {
        match self {
            Verb::Get => &[
                "LINK can be - (the first line of stdin) or @FILE (the first line of FILE): others \
                 on this machine \
                 can see arguments, and the link's secret in them. DIR is the current directory \
                 where it is left out.",
                "Ctrl-C pauses. Where everything is in place already, nothing is done; a file that \
                 is missing is \
                 downloaded again.",
                "Exit status: 0 complete, 1 failed, 2 bad usage, 3 refused by the link's server \
                 (not found, expired, \
                 password), 130 interrupted by SIGINT or SIGTERM.",
            ],
            Verb::Add => &[
                "LINK can be - (the first line of stdin) or @FILE (the first line of FILE): others \
                 on this machine \
                 can see arguments, and the link's secret in them. DIR is on the agent's machine.",
            ],
            Verb::Inspect => &[
                "LINK can be - (the first line of stdin) or @FILE (the first line of FILE): others \
                 on this machine \
                 can see arguments, and the link's secret in them. The running agent is asked.",
            ],
            Verb::Show | Verb::Pause | Verb::Resume | Verb::Rm | Verb::Wait | Verb::Verify => {
                &["Of an ID its end, as ls shows it, or its beginning is enough."]
            }
            Verb::Settings => &[
                "Settings are rate-limit=RATE (rate-limit=10M, rate-limit=none), workers=N, \
                 manifest=KIND (the list of checksums of downloads that do not say which: sha256, \
                 xxh64, blake3, ascmhl or none), windows-names=BOOL, verify-rate=RATE and \
                 verify-every-days=N (or none). What is set so survives a restart, and wins over \
                 the flags of haul serve.",
            ],
            _ => &[],
        }
    }
}

/// One flag of one subcommand, or of several to which it means the same.
#[derive(Debug)]
pub struct Flag {
    pub verb: Verb,
    /// The other subcommands that have it.
    pub also: &'static [Verb],
    /// Without the dashes.
    pub name: &'static str,
    /// What stands for the value in `--help`. Empty where it takes none: given, it means `true`,
    /// and its variable is `true` or `false`.
    pub value: &'static str,
    /// The environment variable that is read where the flag is not given.
    pub env: &'static str,
    /// The value where neither is given; empty if there is none or it is worked out.
    pub default: &'static str,
    /// May be given more than once; in the environment the values are separated by commas or
    /// spaces.
    pub repeats: bool,
    /// For `--help`.
    pub help: &'static str,
}

const fn flag(
    verb: Verb,
    name: &'static str,
    value: &'static str,
    env: &'static str,
    default: &'static str,
    help: &'static str,
) -> Flag {
    Flag {
        verb,
        also: &[],
        name,
        value,
        env,
        default,
        repeats: false,
        help,
    }
}

/// The same flag, for other subcommands too.
const fn also(verbs: &'static [Verb], flag: Flag) -> Flag {
    Flag {
        also: verbs,
        ..flag
    }
}

/// Every flag there is.
#[rustfmt::skip]
pub const FLAGS: &[Flag] = &[
    Flag {
        repeats: true,
        ..flag(Verb::Serve, "listen", "ADDRESS", "HAUL_LISTEN", "127.0.0.1:8080",
            "Where the API listens: HOST:PORT, [IPv6]:PORT or unix:/path/of/a/socket; may be \
             repeated (in HAUL_LISTEN: \
             separated by commas or spaces). Port 0 takes a free one. Anything but a loopback \
             address or a socket \
             needs --token-file; callers by a socket need no token")
    },
    flag(Verb::Serve, "socket-group", "GROUP", "HAUL_SOCKET_GROUP", "",
        "The group, by name or number, that may open the Unix sockets beside their owner (default: \
         the agent's)"),
    flag(Verb::Serve, "tls-cert", "FILE", "HAUL_TLS_CERT", "",
        "Speak TLS on TCP, with the certificate chain in this PEM file; it and the key are read \
         again on SIGHUP"),
    flag(Verb::Serve, "tls-key", "FILE", "HAUL_TLS_KEY", "",
        "The certificate's key, a PEM file"),
    also(&[Verb::Get], flag(Verb::Serve, "state-dir", "DIR", "HAUL_STATE_DIR", "",
        "Where downloads are remembered (default: $STATE_DIRECTORY, else $XDG_STATE_HOME/haul, \
         else ~/.local/state/haul)")),
    also(&[Verb::Get], flag(Verb::Serve, "workers", "N", "HAUL_WORKERS", "24",
        "Connections that transfer at the same time, 1 to 256")),
    also(&[Verb::Get], flag(Verb::Serve, "rate-limit", "RATE", "HAUL_RATE_LIMIT", "",
        "Bytes of files per second, all downloads together; k, M and G stand for thousands, \
         millions and billions, \
         Ki, Mi and Gi for powers of 1024: 500k, 10M, 10MB, 10MiB (default: no limit). What PUT \
         /api/v1/settings has set wins, also after a restart; so it is \
         with --workers")),
    Flag {
        repeats: true,
        also: &[Verb::Get],
        ..flag(Verb::Serve, "origin", "LINK_BASE=API_BASE", "HAUL_ORIGIN", "",
            "Accept links that start with LINK_BASE and ask API_BASE about them; may be repeated \
             (in HAUL_ORIGIN: separated by commas or spaces)")
    },
    Flag {
        repeats: true,
        ..flag(Verb::Serve, "root", "DIR", "HAUL_ROOT", "",
            "Let downloads go into this folder and below it only, whatever callers of the API ask \
             for; may be repeated (in HAUL_ROOT: separated by commas or spaces; default: anywhere)")
    },
    flag(Verb::Serve, "token-file", "FILE", "HAUL_TOKEN_FILE", "",
        "Ask callers of the API for the token that is this file's first line"),
    also(&[Verb::Get], flag(Verb::Serve, "silence-timeout", "SECONDS", "HAUL_SILENCE_TIMEOUT", "30",
        "Give up a connection that brings no byte for this long")),
    also(&[Verb::Get], flag(Verb::Serve, "retry-for", "SECONDS", "HAUL_RETRY_FOR", "86400",
        "Retry for this long without a byte before a fault is final")),
    also(&[Verb::Get, Verb::Add, Verb::Inspect, Verb::Ls, Verb::Show, Verb::Pause, Verb::Resume, Verb::Rm, Verb::Wait, Verb::Verify, Verb::Settings,
        Verb::Health], flag(Verb::Serve, "ca-file", "FILE", "HAUL_CA_FILE", "",
        "Trust the certificate authorities in this PEM file as well, and servers whose own \
         certificate is in it")),
    also(&[Verb::Get], flag(Verb::Serve, "no-pipelining", "", "HAUL_NO_PIPELINING", "",
        "Ask a server for one thing at a time on each connection. Slower with small files; for \
         networks with a proxy \
         that mixes up answers")),
    also(&[Verb::Get], flag(Verb::Serve, "proxy", "URL", "HAUL_PROXY", "",
        "Reach servers by way of this proxy: http://HOST:PORT, socks5://HOST:PORT or \
         socks5h://HOST:PORT (names are looked up by the proxy), with USER:PASSWORD@ before HOST \
         where it asks for them; none: no proxy (default: what the environment's https_proxy, \
         http_proxy and all_proxy say). no_proxy in the environment lists hosts that are asked \
         without it")),
    also(&[Verb::Get], flag(Verb::Serve, "bind", "ADDRESS", "HAUL_BIND", "",
        "Reach servers from this IP address of the machine, on one that has several (default: the \
         system chooses)")),
    also(&[Verb::Get], flag(Verb::Serve, "umask", "MASK", "HAUL_UMASK", "",
        "What is taken from the permissions of files and folders that are made, in octal: 002 lets the \
         group write, 027 keeps others out (default: as the process was started; a folder's default \
         ACL goes before it)")),
    flag(Verb::Serve, "base-path", "PATH", "HAUL_BASE_PATH", "",
        "Serve the page and the API below this path, such as /haul, for a proxy that passes it on"),
    flag(Verb::Serve, "on-complete", "PROGRAM", "HAUL_ON_COMPLETE", "",
        "Run this program, without arguments or a shell, when a download is complete. Its \
         environment says which: \
         HAUL_DOWNLOAD_ID, HAUL_STATE, HAUL_NAME, HAUL_DST_FOLDER, HAUL_LINK, HAUL_BYTES_TOTAL, \
         HAUL_FILES_TOTAL. \
         It has 10 minutes, and runs at most once"),
    flag(Verb::Serve, "on-error", "PROGRAM", "HAUL_ON_ERROR", "",
        "The same when a download fails; HAUL_ERROR_CODE and HAUL_ERROR_MESSAGE say why"),
    flag(Verb::Serve, "verify-rate", "RATE", "HAUL_VERIFY_RATE", "",
        "Bytes per second that verifying may read from the disks, all downloads together (default: \
         no limit)"),
    flag(Verb::Serve, "verify-every-days", "DAYS", "HAUL_VERIFY_EVERY_DAYS", "",
        "Verify complete downloads so many days after they were complete, or were last verified: 1 \
         to 3650 (default: only when asked for)"),
    flag(Verb::Share, "listen", "HOST:PORT", "HAUL_LISTEN", "127.0.0.1:9090",
        "Where the folder is served; port 0 takes a free one"),
    flag(Verb::Share, "name", "NAME", "HAUL_NAME", "",
        "The package's name (default: the folder's)"),
    flag(Verb::Share, "password", "PASSWORD", "HAUL_PASSWORD", "",
        "Ask for this password. Others on this machine can see flags: rather set HAUL_PASSWORD"),
    flag(Verb::Share, "link-id", "ID", "HAUL_LINK_ID", "",
        "The link's identifier, so that it stays the same after a restart (default: random)"),
    flag(Verb::Share, "secret", "SECRET", "HAUL_SECRET", "",
        "The link's secret (default: random). Others on this machine can see flags: rather set \
         HAUL_SECRET"),
    flag(Verb::Share, "public-url", "URL", "HAUL_PUBLIC_URL", "",
        "How others reach this server, where it is behind a proxy or listens on all addresses \
         (default: http:// and the listening address)"),
    flag(Verb::Share, "address-lifetime", "SECONDS", "HAUL_ADDRESS_LIFETIME", "3600",
        "How long the address of a file's bytes is good for, at least; at most twice as long"),
    also(&[Verb::Add, Verb::Inspect], flag(Verb::Get, "password", "PASSWORD", "HAUL_PASSWORD", "",
        "The link's password. Others on this machine can see flags: rather set HAUL_PASSWORD")),
    also(&[Verb::Add], flag(Verb::Get, "if-exists", "WHAT", "HAUL_IF_EXISTS", "rename",
        "What to do where a file of that name is there already: rename, overwrite or skip")),
    Flag {
        repeats: true,
        also: &[Verb::Add],
        ..flag(Verb::Get, "include", "PATTERN", "HAUL_INCLUDE", "",
            "Only files that a pattern matches: ? * ** [a-z] [!a-z] {a,b}, and \\ before a \
             literal; without / the \
             file's name, with / at its end all below; may be repeated (in HAUL_INCLUDE: one a \
             line)")
    },
    Flag {
        repeats: true,
        also: &[Verb::Add],
        ..flag(Verb::Get, "exclude", "PATTERN", "HAUL_EXCLUDE", "",
            "No file that a pattern matches; may be repeated (in HAUL_EXCLUDE: one a line)")
    },
    Flag {
        repeats: true,
        also: &[Verb::Add],
        ..flag(Verb::Get, "file-id", "ID", "HAUL_FILE_ID", "",
            "Only the file with this identifier, as inspect --json shows it; may be repeated (in \
             HAUL_FILE_ID: one \
             a line)")
    },
    also(&[Verb::Add], flag(Verb::Get, "create-package-folder", "", "HAUL_CREATE_PACKAGE_FOLDER", "",
        "Put the files into a folder of the package's name")),
    also(&[Verb::Add], flag(Verb::Get, "priority", "N", "HAUL_PRIORITY", "",
        "From -1000 to 1000 (default: 0): the agent's workers go to the highest that has work")),
    also(&[Verb::Add], flag(Verb::Get, "uid", "UID", "HAUL_UID", "",
        "Give files and folders that are made to this user, by number")),
    also(&[Verb::Add], flag(Verb::Get, "gid", "GID", "HAUL_GID", "",
        "Give files and folders that are made to this group, by number")),
    also(&[Verb::Add], flag(Verb::Get, "bypass-package-quarantine", "BOOL", "HAUL_BYPASS_PACKAGE_QUARANTINE", "",
        "true: download a package without its flagged files (default); false: not at all")),
    also(&[Verb::Add], flag(Verb::Get, "chunk-size", "BYTES", "HAUL_CHUNK_SIZE", "",
        "The size of a large file's ranges, 1048576 to 1073741824 (default: adapted)")),
    also(&[Verb::Add], flag(Verb::Get, "manifest", "KIND", "HAUL_MANIFEST", "",
        "Leave a list of checksums beside the files: sha256, xxh64, blake3, ascmhl or none (default: \
         none, or what the agent's settings name)")),
    also(&[Verb::Add], flag(Verb::Get, "windows-names", "BOOL", "HAUL_WINDOWS_NAMES", "",
        "true: give files names that Windows can hold, whatever the disk is (default: only on such \
         disks)")),
    also(&[Verb::Add], flag(Verb::Get, "verify", "BOOL", "HAUL_VERIFY", "",
        "true: hold files against the checksums that servers tell (default); false: do not")),
    flag(Verb::Get, "batch", "FILE", "HAUL_BATCH", "",
        "Download many packages, one after the other: on each line of this file (- is stdin) a link, a \
         folder and flags for it, with quotes as in a shell; # begins a comment. Other flags here \
         hold for all"),
    flag(Verb::Get, "shard", "K/N", "HAUL_SHARD", "",
        "Download only the K-th of N parts of the package, while other nodes download the others into          the same folder; auto takes K and N from Slurm, Kubernetes or Nomad (default: the whole          package)"),
    flag(Verb::Get, "json", "", "HAUL_JSON", "",
        "Print one JSON object a line for each event"),
    flag(Verb::Get, "quiet", "", "HAUL_QUIET", "",
        "Print nothing but errors"),
    also(CLIENTS, flag(Verb::Add, "server", "URL", "HAUL_SERVER", "http://127.0.0.1:8080",
        "The agent to ask: http://HOST:PORT, https://HOST:PORT, HOST:PORT or \
         unix:/path/of/a/socket")),
    also(CLIENTS, flag(Verb::Add, "token-file", "FILE", "HAUL_TOKEN_FILE", "",
        "The agent's token is this file's first line")),
    flag(Verb::Ls, "states", "STATES", "HAUL_STATES", "",
        "Only downloads in these states, separated by commas: transferring, paused, complete, error"),
    also(&[Verb::Add, Verb::Show, Verb::Inspect], flag(Verb::Ls, "json", "", "HAUL_JSON", "",
        "Print the API's answer as it is")),
    flag(Verb::Ls, "watch", "", "HAUL_WATCH", "",
        "Go on until interrupted, and show what changes"),
    flag(Verb::Rm, "remove-files", "", "HAUL_REMOVE_FILES", "",
        "Remove the files that they downloaded, too"),
];

/// What `--help` and the manual page say of flags and variables.
pub const PRECEDENCE: &str =
    "A flag wins over its environment variable; an empty variable counts as unset.";

/// The flags of one subcommand.
pub fn of(verb: Verb) -> impl Iterator<Item = &'static Flag> {
    FLAGS
        .iter()
        .filter(move |flag| flag.verb == verb || flag.also.contains(&verb))
}

/// What `haul --help` prints.
pub fn overview() -> String {
    let about = concat!("haul: ", env!("CARGO_PKG_DESCRIPTION"));
    let mut text = format!("{}\n\nUsage:\n", wrap::indented(about, 0));
    for verb in Verb::ALL {
        line(&mut text, &usage(verb), verb.about());
    }
    text.push_str("\nFlags:\n");
    line(
        &mut text,
        "-h, --help",
        "Print this, or a command's flags after its name",
    );
    line(&mut text, "-V, --version", "Print the version");
    text
}

/// What `haul VERB --help` prints.
pub fn help(verb: Verb) -> String {
    let about = wrap::indented(verb.about(), 0);
    let mut text = format!("{about}\n\nUsage: {}\n\nFlags:\n", usage(verb));
    for flag in of(verb) {
        let flag_and_value = format!("--{} {}", flag.name, flag.value);
        let _ = writeln!(text, "  {}", flag_and_value.trim_end());
        let _ = writeln!(text, "{}", wrap::indented(flag.help, 8));
        let given = match flag.default {
            "" => format!("[env: {}]", flag.env),
            default => format!("[default: {default}] [env: {}]", flag.env),
        };
        let _ = writeln!(text, "{}", wrap::indented(&given, 8));
    }
    text.push_str("  -h, --help\n        Print this\n");
    for note in verb.notes() {
        let _ = writeln!(text, "\n{}", wrap::indented(note, 0));
    }
    if of(verb).next().is_some() {
        let _ = writeln!(text, "\n{}", wrap::indented(PRECEDENCE, 0));
    }
    text
}

/// A command as it is written: its name, its operand, and whether flags may follow.
pub fn usage(verb: Verb) -> String {
    let flags = of(verb).next().map_or("", |_| " [FLAGS]");
    format!("haul {}{}{flags}", verb.name(), verb.operand())
}

fn line(text: &mut String, left: &str, right: &str) {
    const RIGHT: usize = 34;
    let right = wrap::indented(right, RIGHT);
    // Writing to a String cannot fail.
    let _ = match left.len() + 2 < RIGHT {
        true => writeln!(text, "  {left:<32}{}", &right[RIGHT..]),
        false => writeln!(text, "  {left}\n{right}"),
    };
}
