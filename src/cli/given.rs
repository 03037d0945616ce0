//! From what was said on the command line, with the environment behind it, to a command.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::command::{Ask, Batch, Command, Get, Output, Serve, Transfers, What};
use super::flags::{self, Flag, Verb};
use crate::model::manifest::Manifest;
use crate::model::request::RequestOptions;
use crate::model::selection::Selection;

use super::{Share, UsageError, completions, shard, values};
use crate::base::listen::{Address, TlsFiles};
use crate::upstream::Outlet;
use crate::upstream::proxy::Proxies;

/// A value, and where it came from for the error message.
struct Found {
    source: String,
    value: OsString,
}

impl Found {
    fn wrong(&self, what: &str) -> UsageError {
        UsageError::new(format!("{}: {what}", self.source))
    }

    fn text(&self) -> Result<&str, UsageError> {
        self.value
            .to_str()
            .ok_or_else(|| self.wrong("the value is not UTF-8"))
    }
}

/// What was said on the command line, with the environment behind it.
pub(super) struct Given<'a> {
    verb: Verb,
    pub(super) flags: Vec<(&'static str, OsString)>,
    pub(super) operands: Vec<OsString>,
    env: &'a dyn Fn(&str) -> Option<OsString>,
}

impl<'a> Given<'a> {
    pub(super) fn new(verb: Verb, env: &'a dyn Fn(&str) -> Option<OsString>) -> Given<'a> {
        Given {
            verb,
            flags: Vec::new(),
            operands: Vec::new(),
            env,
        }
    }

    fn flag(&self, name: &str) -> &'static Flag {
        flags::of(self.verb)
            .find(|flag| flag.name == name)
            .expect("only flags of the table are asked for; a test asks for each")
    }

    /// The values of a flag: from the command line, else the environment, else its default.
    fn all(&self, name: &str) -> Result<Vec<Found>, UsageError> {
        let flag = self.flag(name);
        let said: Vec<Found> = self
            .flags
            .iter()
            .filter(|(said, _)| *said == flag.name)
            .map(|(_, value)| Found {
                source: format!("--{}", flag.name),
                value: value.clone(),
            })
            .collect();
        if let Some(empty) = said.iter().find(|found| found.value.is_empty()) {
            return Err(empty.wrong("the value is empty"));
        }
        if !said.is_empty() {
            return Ok(said);
        }
        if let Some(value) = (self.env)(flag.env) {
            let source = flag.env.to_owned();
            return Ok(vec![Found { source, value }]);
        }
        Ok(match flag.default {
            "" => Vec::new(),
            default => vec![Found {
                source: format!("--{}", flag.name),
                value: default.into(),
            }],
        })
    }

    /// The value of a flag; the last one where it was given twice.
    fn one<T>(
        &self,
        name: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, UsageError> {
        let Some(found) = self.all(name)?.pop() else {
            return Ok(None);
        };
        let value = read(found.text()?).map_err(|what| found.wrong(&what))?;
        Ok(Some(value))
    }

    /// The value of a flag that has a default.
    fn set<T>(
        &self,
        name: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<T, UsageError> {
        Ok(self
            .one(name, read)?
            .expect("the table has a default for this flag"))
    }

    /// A path, which need not be UTF-8.
    fn path(&self, name: &str) -> Result<Option<PathBuf>, UsageError> {
        Ok(self
            .all(name)?
            .pop()
            .map(|found| PathBuf::from(found.value)))
    }

    /// The values of a flag that repeats.
    fn list(&self, name: &str) -> Result<Vec<String>, UsageError> {
        let mut list = Vec::new();
        for found in self.all(name)? {
            let text = found.text()?;
            if found.source.starts_with("--") {
                list.push(text.to_owned());
                continue;
            }
            let parts = text.split(|c: char| c == ',' || c.is_whitespace());
            list.extend(parts.filter(|part| !part.is_empty()).map(str::to_owned));
        }
        Ok(list)
    }

    /// The values of a flag that repeats and may hold commas and spaces: one a line in the
    /// environment.
    fn lines(&self, name: &str) -> Result<Vec<String>, UsageError> {
        let mut list = Vec::new();
        for found in self.all(name)? {
            let text = found.text()?;
            match found.source.starts_with("--") {
                true => list.push(text.to_owned()),
                false => list.extend(
                    text.lines()
                        .filter(|line| !line.is_empty())
                        .map(str::to_owned),
                ),
            }
        }
        Ok(list)
    }

    fn order_options(&self) -> Result<RequestOptions, UsageError> {
        let selection = Selection {
            file_ids: self.lines("file-id")?,
            include: self.lines("include")?,
            exclude: self.lines("exclude")?,
        };
        if let Err((pattern, error)) = selection.compile() {
            return Err(UsageError::new(format!(
                "the pattern {pattern:?} is malformed: {error}"
            )));
        }
        let manifest = self.one("manifest", Manifest::or_none)?;
        let id = |text: &str| values::integer(text, 0, u32::MAX - 1);
        Ok(RequestOptions {
            selection,
            priority: self
                .one("priority", |text| values::integer(text, -1000, 1000))?
                .unwrap_or_default(),
            create_package_folder: self.is_set("create-package-folder")?.then_some(true),
            uid: self.one("uid", id)?,
            gid: self.one("gid", id)?,
            bypass_package_quarantine: self.one("bypass-package-quarantine", values::boolean)?,
            chunk_size: self.one("chunk-size", |text| values::integer(text, 1 << 20, 1 << 30))?,
            verify: self.one("verify", values::boolean)?,
            no_manifest: matches!(manifest, Some(None)),
            manifest: manifest.flatten(),
            windows_names: self.one("windows-names", values::boolean)?,
            // For `haul get` alone.
            shard: None,
        })
    }

    /// The same for `haul get`, which may bring a part of the package.
    fn options_of_shard(&self) -> Result<RequestOptions, UsageError> {
        let options = RequestOptions {
            shard: self.one("shard", |text| shard::shard(text, self.env))?,
            ..self.order_options()?
        };
        if options.shard.is_some() && options.manifest == Some(Manifest::AscMhl) {
            return Err(UsageError::new(
                "--manifest: shards do not put a list of this kind together: take sha256, xxh64 or \
                 blake3",
            ));
        }
        Ok(options)
    }

    /// Whether a flag without a value is set.
    fn is_set(&self, name: &str) -> Result<bool, UsageError> {
        Ok(self.one(name, values::boolean)?.unwrap_or(false))
    }

    fn state_dir(&self) -> Result<PathBuf, UsageError> {
        self.path("state-dir")?
            .or_else(|| values::default_state_dir(self.env))
            .ok_or_else(|| UsageError::new("--state-dir is needed, since HOME is not set"))
    }

    fn transfers(&self) -> Result<Transfers, UsageError> {
        Ok(Transfers {
            workers: self.set("workers", |text| values::number(text, 1, 256))?,
            rate_limit: self.one("rate-limit", values::rate)?.unwrap_or_default(),
            silence_timeout: self.set("silence-timeout", |text| {
                values::seconds(text, 0.1, 86_400.0)
            })?,
            retry_for: self.set("retry-for", |text| values::seconds(text, 0.0, 31_536_000.0))?,
            ca_file: self.path("ca-file")?,
            pipelining: !self.is_set("no-pipelining")?,
            outlet: Outlet {
                proxies: self.proxies()?,
                from: self.one("bind", values::local_address)?,
            },
            umask: self.one("umask", values::umask)?,
        })
    }

    fn proxies(&self) -> Result<Proxies, UsageError> {
        let flag = self.one("proxy", |text| Ok(text.to_owned()))?;
        let read = Proxies::read(flag.as_deref(), self.env);
        read.map_err(|what| {
            UsageError::new(match flag {
                Some(_) => format!("--proxy: {what}"),
                None => what,
            })
        })
    }

    pub(super) fn serve(self) -> Result<Serve, UsageError> {
        let serve = Serve {
            listen: self.listen()?,
            socket_group: self.one("socket-group", values::group)?,
            tls: self.tls()?,
            state_dir: self.state_dir()?,
            transfers: self.transfers()?,
            verify_rate: self.one("verify-rate", values::rate)?.unwrap_or_default(),
            verify_every_days: self.one("verify-every-days", values::days)?,
            origins: self.list("origin")?,
            token_file: self.path("token-file")?,
            roots: self.list("root")?.into_iter().map(PathBuf::from).collect(),
            base_path: self
                .one("base-path", values::base_path)?
                .unwrap_or_default(),
            on_complete: self.path("on-complete")?,
            on_error: self.path("on-error")?,
        };
        let open = serve.listen.iter().find(|address| match address {
            Address::Tcp(address) => !values::is_loopback(*address),
            Address::Unix(_) => false,
        });
        if let Some(open) = open.filter(|_| serve.token_file.is_none()) {
            return Err(UsageError::new(format!(
                "others can reach {open}, so --token-file is needed: a file whose first line is \
                 the API's token"
            )));
        }
        Ok(serve)
    }

    fn listen(&self) -> Result<Vec<Address>, UsageError> {
        let list = self.list("listen")?;
        let read = |text: &String| values::listen_or_path(text);
        if list.is_empty() {
            return Err(UsageError::new("--listen: there is no address"));
        }
        let addresses: Result<Vec<_>, String> = list.iter().map(read).collect();
        addresses.map_err(|what| UsageError::new(format!("--listen: {what}")))
    }

    fn tls(&self) -> Result<Option<TlsFiles>, UsageError> {
        match (self.path("tls-cert")?, self.path("tls-key")?) {
            (Some(cert), Some(key)) => Ok(Some(TlsFiles { cert, key })),
            (None, None) => Ok(None),
            _ => Err(UsageError::new(
                "--tls-cert and --tls-key belong together: give both or neither",
            )),
        }
    }

    pub(super) fn completions(self) -> Result<String, UsageError> {
        let script = self.operands.first().and_then(|shell| shell.to_str());
        script.and_then(completions::script).ok_or_else(|| {
            let shells = completions::SHELLS.join(", ");
            UsageError::new(format!("completions needs the name of a shell: {shells}"))
        })
    }

    pub(super) fn share(mut self) -> Result<Share, UsageError> {
        Ok(Share {
            dir: self.operands()?.remove(0).into(),
            listen: self.set("listen", values::listen)?,
            name: self.one("name", values::name)?,
            password: self.one("password", values::secret)?,
            link_id: self.one("link-id", values::link_id)?,
            secret: self.one("secret", values::secret)?,
            public_url: self.one("public-url", values::base_url)?,
            address_lifetime: self.set("address-lifetime", |text| {
                values::seconds(text, 1.0, 604_800.0)
            })?,
        })
    }

    /// The words that are no flags: as many as the command needs, and none of them empty.
    fn operands(&mut self) -> Result<Vec<OsString>, UsageError> {
        let words = std::mem::take(&mut self.operands);
        if words.len() < self.verb.operands().0 || words.iter().any(|word| word.is_empty()) {
            let (name, operand) = (self.verb.name(), self.verb.operand());
            let message = format!("{name} needs more to go on: haul {name}{operand}");
            return Err(UsageError::new(message));
        }
        Ok(words)
    }

    fn output(&self) -> Result<Output, UsageError> {
        match (self.is_set("json")?, self.is_set("quiet")?) {
            (true, true) => Err(UsageError::new("--json and --quiet exclude each other")),
            (true, false) => Ok(Output::Json),
            (false, true) => Ok(Output::Quiet),
            (false, false) => Ok(Output::Human),
        }
    }

    pub(super) fn get_or_batch(self) -> Result<Command, UsageError> {
        match self.path("batch")? {
            // A link says what is wanted, whatever the environment does.
            Some(file) if self.operands.is_empty() => self.batch(file).map(Command::Batch),
            Some(_) if self.flags.iter().any(|(name, _)| *name == "batch") => Err(UsageError::new(
                "links and folders stand in the list of --batch",
            )),
            _ => self.get().map(Command::Get),
        }
    }

    fn batch(self, file: PathBuf) -> Result<Batch, UsageError> {
        let for_each = |(name, _): &&(&str, OsString)| !["batch", "password"].contains(name);
        let flags = self.flags.iter().filter(for_each).map(|(name, value)| {
            let mut flag = OsString::from(format!("--{name}"));
            if !self.flag(name).value.is_empty() {
                flag.push("=");
                flag.push(value);
            }
            flag
        });
        Ok(Batch {
            file,
            flags: flags.collect(),
            password: self.one("password", values::secret)?,
            output: self.output()?,
        })
    }

    fn get(mut self) -> Result<Get, UsageError> {
        let mut operands = self.operands()?.into_iter();
        let link = operands.next().unwrap_or_default();
        let output = self.output()?;
        Ok(Get {
            link: values::link(link)?,
            dir: operands.next().unwrap_or_else(|| ".".into()).into(),
            password: self.one("password", values::secret)?,
            if_exists: self.set("if-exists", values::if_exists)?,
            order_options: self.options_of_shard()?,
            state_dir: self.state_dir()?,
            transfers: self.transfers()?,
            origins: self.list("origin")?,
            output,
        })
    }

    pub(super) fn ask(mut self) -> Result<Ask, UsageError> {
        let mut operands = self.operands()?;
        let what = match self.verb {
            Verb::Add => {
                let dir = operands.pop().unwrap_or_default().into();
                What::Add {
                    link: values::link(operands.pop().unwrap_or_default())?,
                    dir,
                    password: self.one("password", values::secret)?,
                    if_exists: self.set("if-exists", values::if_exists)?,
                    options: Box::new(self.order_options()?),
                    json: self.is_set("json")?,
                }
            }
            Verb::Inspect => What::Inspect {
                link: values::link(operands.pop().unwrap_or_default())?,
                password: self.one("password", values::secret)?,
                json: self.is_set("json")?,
            },
            Verb::Show => What::Show {
                id: values::id(operands.pop().unwrap_or_default())?,
                json: self.is_set("json")?,
            },
            Verb::Wait => What::Wait(values::ids(operands)?),
            Verb::Verify => {
                let is_folder = |word: &OsString| {
                    word.as_encoded_bytes().contains(&b'/') || Path::new(word).is_dir()
                };
                let (folders, ids): (Vec<_>, Vec<_>) = operands.into_iter().partition(is_folder);
                What::Verify {
                    ids: values::ids(ids)?,
                    folders: folders.into_iter().map(PathBuf::from).collect(),
                }
            }
            Verb::Pause if values::is_all(&operands) => What::PauseAll,
            Verb::Resume if values::is_all(&operands) => What::ResumeAll,
            Verb::Pause => What::Pause(values::ids(operands)?),
            Verb::Resume => What::Resume(values::ids(operands)?),
            Verb::Rm if values::is_all(&operands) => {
                return Err(UsageError::new(
                    "rm takes the IDs of downloads, one by one, and not all of them at once",
                ));
            }
            Verb::Rm => What::Remove {
                ids: values::ids(operands)?,
                files: self.is_set("remove-files")?,
            },
            Verb::Health => What::Health,
            Verb::Settings => {
                let pairs = operands.into_iter().map(values::setting);
                What::Settings(pairs.collect::<Result<_, _>>()?)
            }
            _ => What::List {
                states: self.one("states", values::states)?.unwrap_or_default(),
                json: self.is_set("json")?,
                watch: self.is_set("watch")?,
            },
        };
        Ok(Ask {
            server: self.set("server", values::server)?,
            ca_file: self.path("ca-file")?,
            token_file: self.path("token-file")?,
            what,
        })
    }
}
