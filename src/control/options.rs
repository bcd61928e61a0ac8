//! What a person typed, as typed: the same words as flags of `uswitch start` and as keys of a
//! configuration file. [`super::Config`] is what they come to.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::de::DeTable;

use super::config::{ConfigError, EngineChoice};

/// A word that was not typed is `None` or empty; its default is in the help text and in
/// [`super::Config::new`].
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Options {
    /// Name of the switch, and of its device on the host [default: uswitch0]
    #[arg(long)]
    pub name: Option<String>,
    /// Containers to make [default: 2]
    #[arg(long, value_name = "N")]
    pub ports: Option<u64>,
    /// Containers are named PREFIX1, PREFIX2, ... [default: container]
    #[arg(long)]
    pub prefix: Option<String>,
    /// Subnet, IPv4 or IPv6, may be repeated: the first address is the gateway's, container N has the
    /// one N further [default: 172.16.0.0/24 (wider for more than 253 ports) and fd00:172:16::/64]
    #[arg(long, value_name = "CIDR")]
    pub subnet: Vec<String>,
    /// Reach beyond the host: masquerade what leaves it
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", hide_possible_values = true)]
    pub nat: Option<bool>,
    /// No port to the host: the containers reach only each other
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", hide_possible_values = true)]
    pub internal: Option<bool>,
    /// MTU of every device, 68 (1280 with IPv6) to 65521 [default: 1500]
    #[arg(long, value_name = "BYTES")]
    pub mtu: Option<u64>,
    /// Worker threads, 1 to 64 [default: 1 on up to 3 CPUs, else half as many as CPUs, at most 4]
    #[arg(long, value_name = "N")]
    pub workers: Option<u64>,
    /// How frames are moved [default: auto]
    #[arg(long)]
    pub engine: Option<EngineChoice>,
    /// Frames cross complete: no super-frames, no unfinished checksums
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", hide_possible_values = true)]
    pub no_offload: Option<bool>,
    /// CPUs that the workers stay on, such as 1 or 2-5,8; 'any': the scheduler may move them
    /// [default: each stays where it starts]
    #[arg(long, value_name = "LIST")]
    pub cpus: Option<String>,
    /// How long a worker looks for the next frame itself before it sleeps, and as root keeps idle CPUs awake, up to 1000000
    /// [default: 50 without the latter while stations exchange single frames, as requests and answers are, else 0]
    #[arg(long, value_name = "MICROSECONDS")]
    pub busy_poll: Option<u64>,
    /// How long a learned address lives without a frame from it, 1 to 1000000 [default: 300]
    #[arg(long, value_name = "SECONDS")]
    pub ageing_time: Option<u64>,
    /// Most entries in the forwarding database, 16 to 1048576 [default: 8192]
    #[arg(long, value_name = "N")]
    pub fdb_max: Option<u64>,
    /// Frames that may wait in a container's device, 1 to 1000000 [default: the kernel's]
    #[arg(long, value_name = "N")]
    pub txqueuelen: Option<u64>,
    /// Serve metrics for Prometheus at http://ADDRESS:PORT/metrics, a loopback address
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub metrics: Option<String>,
    /// Log what comes and goes (-v), and what is asked over the API too (-vv)
    #[arg(long, short, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Return when the switch forwards, and leave it in the background
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", hide_possible_values = true)]
    pub detach: Option<bool>,
}

impl Options {
    /// These words, and `other`'s where these say nothing.
    #[must_use]
    pub fn or(self, other: Options) -> Options {
        Options {
            name: self.name.or(other.name),
            ports: self.ports.or(other.ports),
            prefix: self.prefix.or(other.prefix),
            subnet: if self.subnet.is_empty() { other.subnet } else { self.subnet },
            nat: self.nat.or(other.nat),
            internal: self.internal.or(other.internal),
            mtu: self.mtu.or(other.mtu),
            workers: self.workers.or(other.workers),
            engine: self.engine.or(other.engine),
            no_offload: self.no_offload.or(other.no_offload),
            cpus: self.cpus.or(other.cpus),
            busy_poll: self.busy_poll.or(other.busy_poll),
            ageing_time: self.ageing_time.or(other.ageing_time),
            fdb_max: self.fdb_max.or(other.fdb_max),
            txqueuelen: self.txqueuelen.or(other.txqueuelen),
            metrics: self.metrics.or(other.metrics),
            verbose: if self.verbose > 0 { self.verbose } else { other.verbose },
            detach: self.detach.or(other.detach),
        }
    }
}

/// A configuration file that could be read and has only words that we know.
#[derive(Debug, Clone)]
pub struct OptionsFile {
    /// What it says.
    pub options: Options,
    path: PathBuf,
    /// Its keys, each with its line.
    lines: Vec<(String, usize)>,
}

/// Longest configuration file that is read, in bytes.
const LONGEST_FILE: u64 = 64 * 1024;

impl OptionsFile {
    /// Reads a TOML file.
    pub fn read(path: &Path) -> Result<OptionsFile, ConfigError> {
        let refused = |source| ConfigError::Unreadable { path: path.to_owned(), source };
        let mut text = String::new();
        let file = std::fs::File::open(path).map_err(refused)?;
        let size = file.take(LONGEST_FILE + 1).read_to_string(&mut text).map_err(refused)?;
        if size as u64 > LONGEST_FILE {
            return Err(refused(std::io::Error::other(
                "longer than 64 KiB, so no configuration of a switch",
            )));
        }
        OptionsFile::parse(path, &text)
    }

    /// Takes `text` for the contents of the file at `path`.
    pub fn parse(path: &Path, text: &str) -> Result<OptionsFile, ConfigError> {
        let at_line = |error: &toml::de::Error| {
            let start = error.span().map_or(0, |span| span.start);
            let (number, line) = line_at(text, start);
            let key = line.split_once('=').map_or("", |(key, _)| key.trim());
            ConfigError::Syntax {
                path: path.to_owned(),
                line: number,
                key: if key.is_empty() { String::new() } else { format!("{key}: ") },
                message: error.message().replace('\n', " "),
            }
        };
        let options = toml::from_str(text).map_err(|error| at_line(&error))?;
        let table = DeTable::parse(text).map_err(|error| at_line(&error))?;
        let lines = table
            .get_ref()
            .keys()
            .map(|key| (key.get_ref().to_string(), line_at(text, key.span().start).0))
            .collect();
        Ok(OptionsFile { options, path: path.to_owned(), lines })
    }

    /// Where the file says something about `key`, as `FILE:LINE: key`.
    pub(super) fn place_of(&self, key: &str) -> Option<String> {
        let (_, line) = self.lines.iter().find(|(name, _)| name == key)?;
        Some(format!("{}:{line}: {key}", self.path.display()))
    }
}

/// The number (from 1) and the text of the line that has the byte at `offset`.
fn line_at(text: &str, offset: usize) -> (usize, &str) {
    let before = text.get(..offset).unwrap_or(text);
    let number = before.matches('\n').count();
    (number + 1, text.lines().nth(number).unwrap_or(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<OptionsFile, String> {
        OptionsFile::parse(Path::new("lab.toml"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn flags_and_file_keys_are_the_same() {
        let command = <Options as clap::Args>::augment_args(clap::Command::new("start"));
        let mut flags: Vec<_> = command.get_arguments().filter_map(clap::Arg::get_long).collect();
        let refusal = parse("no-such-key = 1").unwrap_err();
        let (_, listed) = refusal.split_once("expected one of ").unwrap();
        let mut keys: Vec<_> = listed.split(", ").map(|key| key.trim_matches('`')).collect();
        flags.sort_unstable();
        keys.sort_unstable();
        assert_eq!(flags, keys);
    }

    #[test]
    fn file_accepts_the_values_of_the_flags() {
        let file = parse("ports = 3\nsubnet = ['10.0.0.0/24']\nnat = true\nengine = 'poll'\nmtu = 9000\n");
        let options = file.unwrap().options;
        assert_eq!(options.ports, Some(3));
        assert_eq!(options.subnet, ["10.0.0.0/24"]);
        assert_eq!((options.nat, options.internal), (Some(true), None));
        assert_eq!(options.engine, Some(EngineChoice::Poll));
    }

    #[test]
    fn flags_override_file_options() {
        let flags = Options { ports: Some(5), nat: Some(false), ..Options::default() };
        let file = parse("ports = 3\nnat = true\nsubnet = ['10.0.0.0/24']").unwrap().options;
        let both = flags.or(file);
        assert_eq!((both.ports, both.nat), (Some(5), Some(false)));
        assert_eq!(both.subnet, ["10.0.0.0/24"]);
    }

    #[test]
    fn errors_name_file_line_and_key() {
        assert_eq!(
            parse("ports = 3\nmtu = 'big'\n").unwrap_err(),
            "lab.toml:2: mtu: invalid type: string \"big\", expected u64"
        );
        let unknown = parse("# lab\n\nprots = 3\n").unwrap_err();
        assert!(
            unknown.starts_with("lab.toml:3: prots: unknown field `prots`, expected one of "),
            "{unknown}"
        );
        let engine = parse("engine = 'dpdk'").unwrap_err();
        assert!(engine.starts_with("lab.toml:1: engine: unknown variant `dpdk`"), "{engine}");
        let syntax = parse("ports = 3\nmtu = = 4\n").unwrap_err();
        assert!(syntax.starts_with("lab.toml:2: mtu: ") && !syntax.contains('\n'), "{syntax}");
        assert!(parse("ports 3").unwrap_err().starts_with("lab.toml:1: "));
    }

    #[test]
    fn rejects_unreadable_file() {
        let error = OptionsFile::read(Path::new("/nonexistent/lab.toml")).unwrap_err().to_string();
        assert!(error.starts_with("/nonexistent/lab.toml: "), "{error}");
        let endless = OptionsFile::read(Path::new("/dev/zero")).unwrap_err().to_string();
        assert!(endless.contains("64 KiB"), "{endless}");
    }

    #[test]
    fn places() {
        let file = parse("\n# the MTU\nmtu = 1\n").unwrap();
        assert_eq!(file.place_of("mtu").as_deref(), Some("lab.toml:3: mtu"));
        assert_eq!(file.place_of("ports"), None);
    }
}
