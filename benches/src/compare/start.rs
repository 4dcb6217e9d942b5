//! Finding a peer, asking for its version, and starting it.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::peers::{Peer, Program};
use crate::process;

/// How long a peer may take until it listens.
const START_UP_MAX: Duration = Duration::from_secs(60);

/// Where Debian has RabbitMQ's scripts that stay who they are.
const RABBITMQ_SCRIPTS: &str = "/usr/lib/rabbitmq/bin";

/// Where programs lie that are not found by their names alone.
#[derive(Debug, Clone)]
pub(super) struct Places {
    pub(super) tenpin: PathBuf,
    pub(super) nats: Option<PathBuf>,
    pub(super) fauxqs: Option<PathBuf>,
    pub(super) elasticmq_jar: Option<PathBuf>,
    pub(super) moto_python: Option<PathBuf>,
    pub(super) localstack_python: Option<PathBuf>,
}

/// A peer that runs. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Running {
    child: Child,
    /// What it needs beside it.
    helper: Option<Child>,
    pub(super) address: SocketAddr,
}

impl Running {
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        std::iter::once(&mut self.child).chain(&mut self.helper).for_each(end);
    }
}

impl Places {
    /// The program of a peer, and its version, where it is there.
    pub(super) fn find(&self, peer: &Peer) -> Option<(PathBuf, String)> {
        match peer.program {
            Program::Named(name) => {
                let flag = if name == "beanstalkd" { "-v" } else { "--version" };
                Some((name.into(), first_line(Path::new(name), flag)?))
            }
            Program::Tenpin => Some((self.tenpin.clone(), first_line(&self.tenpin, "--version")?)),
            Program::Nats => {
                let server = self.nats.clone().unwrap_or_else(|| "nats-server".into());
                let version = first_line(&server, "--version")?;
                let is_known = peer.configuration.is_empty() || knows(&server, peer.configuration);
                is_known.then_some((server, version))
            }
            Program::RabbitMq => {
                let scripts = Path::new(RABBITMQ_SCRIPTS);
                let beside = |name: &str| Some(scripts.join(name)).filter(|script| script.is_file());
                let server = beside("rabbitmq-server").unwrap_or_else(|| "rabbitmq-server".into());
                let control = beside("rabbitmqctl").unwrap_or_else(|| "rabbitmqctl".into());
                let port = free_address().ok()?.port();
                let mut epmd = epmd(port).ok()?;
                let mut command = Command::new(control);
                let version = first_line_of(command.arg("version").env("ERL_EPMD_PORT", port.to_string()));
                end(&mut epmd);
                Some((server, version?))
            }
            Program::Fauxqs => {
                let given = self.fauxqs.clone().or_else(|| in_path("fauxqs"))?;
                let package = given.canonicalize().ok()?.parent()?.with_file_name("package.json");
                let package: serde_json::Value =
                    serde_json::from_slice(&std::fs::read(package).ok()?).ok()?;
                Some((given, package["version"].as_str()?.to_owned()))
            }
            Program::ElasticMq => {
                let jar = self.elasticmq_jar.as_ref().filter(|jar| jar.is_file())?;
                first_line(Path::new("java"), "-version")?;
                Some(("java".into(), jar.file_name()?.to_string_lossy().into_owned()))
            }
            Program::Moto => python(&self.moto_python, "moto.server", "moto"),
            Program::LocalStack => {
                python(&self.localstack_python, "localstack.runtime.main", "localstack-core")
            }
        }
    }

    /// Starts it on a free port and an empty folder, and waits until it listens.
    pub(super) fn start(&self, peer: &Peer, folder: &Path, core: Option<usize>) -> io::Result<Running> {
        let (program, _) =
            self.find(peer).ok_or_else(|| io::Error::other(format!("{} is gone", peer.title())))?;
        let (address, other, epmd_address) = (free_address()?, free_address()?, free_address()?);
        let filled = |text: &str| {
            let jar = self.elasticmq_jar.as_deref().unwrap_or(Path::new(""));
            text.replace("{port}", &address.port().to_string())
                .replace("{other_port}", &other.port().to_string())
                .replace("{epmd_port}", &epmd_address.port().to_string())
                .replace("{folder}", &folder.display().to_string())
                .replace("{jar}", &jar.display().to_string())
        };
        let helper = match peer.program {
            Program::RabbitMq => Some(epmd(epmd_address.port())?),
            _ => None,
        };
        if !peer.configuration.is_empty() {
            std::fs::write(folder.join("settings"), filled(peer.configuration))?;
        }
        let mut command = Command::new(program);
        command.args(peer.arguments.iter().map(|argument| filled(argument)));
        command.envs(peer.environment.iter().map(|(name, value)| (name, filled(value))));
        let child = silently(&mut command, core).spawn()?;
        let mut running = Running { child, helper, address };
        let deadline = Instant::now() + START_UP_MAX;
        while TcpStream::connect(address).is_err() {
            if let Some(status) = running.child.try_wait()? {
                return Err(io::Error::other(format!(
                    "{} ended with {status} while it started",
                    peer.title()
                )));
            }
            if Instant::now() >= deadline {
                return Err(io::Error::other(format!("{} does not listen", peer.title())));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(running)
    }
}

fn end(child: &mut Child) {
    // Where it has ended already both only say so.
    let _ = child.kill();
    let _ = child.wait();
}

/// Whether NATS' server takes a file of settings: an older one does not know all of them.
fn knows(server: &Path, configuration: &str) -> bool {
    let Ok(file) = tempfile::NamedTempFile::new() else { return false };
    let mut command = Command::new(server);
    command.arg("-t").arg("-c").arg(file.path());
    let written = std::fs::write(file.path(), configuration.replace("{folder}", "/tmp"));
    written.is_ok() && silently(&mut command, None).status().is_ok_and(|status| status.success())
}

/// Where Erlang's nodes find each other. Without one they start one that stays when they have ended.
fn epmd(port: u16) -> io::Result<Child> {
    let mut command = Command::new("epmd");
    command.args(["-port", &port.to_string(), "-address", "127.0.0.1"]);
    silently(&mut command, None).spawn()
}

fn silently(command: &mut Command, core: Option<usize>) -> &mut Command {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    process::tie(command, core);
    command
}

fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|program| program.is_file())
}

/// Python, given or in the PATH, and the version of a package in it, if it has the module.
fn python(given: &Option<PathBuf>, module: &str, package: &str) -> Option<(PathBuf, String)> {
    let python = given.clone().unwrap_or_else(|| "python3".into());
    let code = format!("import importlib.metadata, {module}; print(importlib.metadata.version('{package}'))");
    let output = Command::new(&python).args(["-c", &code]).stdin(Stdio::null()).output().ok()?;
    // It may print more before that.
    let version = String::from_utf8_lossy(&output.stdout).lines().last()?.to_owned();
    output.status.success().then_some((python, format!("{package} {version}")))
}

fn first_line(program: &Path, flag: &str) -> Option<String> {
    first_line_of(Command::new(program).arg(flag))
}

fn first_line_of(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    text.lines().next().map(str::to_owned)
}
