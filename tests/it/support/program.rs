//! The real program as a child process.
#![expect(clippy::string_slice, reason = "every index comes from a search")]

use std::collections::BTreeMap;
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use simulator::Simulator;
use tempfile::TempDir;

use crate::support::app::PATIENCE;

/// The key of every program that [`settings`] describes.
pub(crate) const KEY: &str = "sk-CANARY-key-4c7d1f90ab";

/// A running program. Killed when dropped.
pub(crate) struct Program {
    child: Child,
    folder: TempDir,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Program {
    /// Starts it in a folder of its own with these settings as its environment, which has nothing else.
    pub(crate) fn start(arguments: &[&str], settings: &[(&str, String)]) -> Self {
        Self::run(Command::new(env!("CARGO_BIN_EXE_qwen-bridge")).args(arguments), settings)
    }

    /// Starts it as [`Program::start`] does, in this folder.
    pub(crate) fn start_in(folder: TempDir, arguments: &[&str], settings: &[(&str, String)]) -> Self {
        let stderr = File::create(folder.path().join("stderr")).unwrap();
        Self::run_with(Command::new(env!("CARGO_BIN_EXE_qwen-bridge")).args(arguments), settings, stderr.into(), folder)
    }

    /// Starts it as [`Program::start`] does, as a user who is no administrator, for whom the rights of files count.
    /// `None` where this system lets no test do that.
    pub(crate) fn start_without_privileges(arguments: &[&str], settings: &[(&str, String)]) -> Option<Self> {
        let unshared = ["--user", "--map-user=1000", "--map-group=1000"];
        let is_allowed = Command::new("unshare").args(unshared).arg("true").status();
        is_allowed.ok().filter(ExitStatus::success)?;
        let mut unshare = Command::new("unshare");
        Some(Self::run(unshare.args(unshared).arg(env!("CARGO_BIN_EXE_qwen-bridge")).args(arguments), settings))
    }

    /// Starts the server as [`Program::start`] does, with a limit of so many file descriptors.
    pub(crate) fn serve_with_descriptors(count: u32, settings: &[(&str, String)]) -> Self {
        let command = format!("ulimit -n {count} && exec \"$0\" serve");
        Self::run(Command::new("/bin/sh").args(["-c", &command, env!("CARGO_BIN_EXE_qwen-bridge")]), settings)
    }

    /// Starts the server as [`Program::start`] does, with a limit for the size of files that [`Program::limit_files`]
    /// may lower. Its log goes through a pipe, which has no such limit.
    pub(crate) fn serve_through_a_pipe(settings: &[(&str, String)]) -> Self {
        let mut program = Self::run_with(
            Command::new(env!("CARGO_BIN_EXE_qwen-bridge")).arg("serve"),
            settings,
            Stdio::piped(),
            tempfile::tempdir().unwrap(),
        );
        let mut log = program.child.stderr.take().unwrap();
        let mut file = File::create(program.folder.path().join("stderr")).unwrap();
        std::thread::spawn(move || std::io::copy(&mut log, &mut file));
        program
    }

    /// Starts the server as [`Program::start`] does, with a disk of its own of so many MiB as its state folder. `None`
    /// where this system lets no test have one.
    pub(crate) fn serve_on_a_small_disk(mib: u32, settings: &[(&str, String)]) -> Option<Self> {
        let unshared = ["--user", "--map-root-user", "--mount", "/bin/sh", "-c"];
        let folder = tempfile::tempdir().unwrap();
        let mount = format!("mkdir -p data && mount -t tmpfs -o size={mib}m,mode=700 small data");
        let is_allowed = Command::new("unshare").args(unshared).arg(&mount).current_dir(folder.path()).status();
        is_allowed.ok().filter(ExitStatus::success)?;
        let command = format!("{mount} && exec \"$0\" serve");
        let stderr = File::create(folder.path().join("stderr")).unwrap();
        let mut unshare = Command::new("unshare");
        unshare.args(unshared).args([&command, env!("CARGO_BIN_EXE_qwen-bridge")]);
        Some(Self::run_with(&mut unshare, settings, stderr.into(), folder))
    }

    /// Lets the program write no file beyond this size from now on; `None` for any size.
    pub(crate) fn limit_files(&self, bytes: Option<u64>) {
        let limit = (bytes.unwrap_or(rlimit::INFINITY), rlimit::INFINITY);
        rlimit::prlimit(self.child.id().try_into().unwrap(), rlimit::Resource::FSIZE, Some(limit), None).unwrap();
    }

    /// Lets the program open no file or socket beyond this number from now on.
    pub(crate) fn limit_descriptors(&self, count: u32) {
        let limit = (count.into(), count.into());
        rlimit::prlimit(self.child.id().try_into().unwrap(), rlimit::Resource::NOFILE, Some(limit), None).unwrap();
    }

    /// Its state folder as the program sees it, even on a disk of its own.
    pub(crate) fn state_within(&self) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.child.id()));
        root.join(self.state().strip_prefix("/").unwrap())
    }

    fn run(command: &mut Command, settings: &[(&str, String)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let stderr = File::create(folder.path().join("stderr")).unwrap();
        Self::run_with(command, settings, stderr.into(), folder)
    }

    fn run_with(command: &mut Command, settings: &[(&str, String)], stderr: Stdio, folder: TempDir) -> Self {
        let stdout = File::create(folder.path().join("stdout")).unwrap();
        let child = command
            .env_clear()
            .envs(settings.iter().map(|(name, value)| (name, value)))
            .current_dir(folder.path())
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .unwrap();
        Self { child, folder }
    }

    /// What `/proc` says of its memory under this name, in KiB.
    pub(crate) fn memory_kib(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// How many file descriptors it has.
    pub(crate) fn descriptors(&self) -> u32 {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count().try_into().unwrap()
    }

    /// For each of its connections on this port of its own, the bytes that its peer has not read yet.
    pub(crate) fn bytes_waiting_to_be_read(&self, port: u16) -> Vec<u64> {
        let table = std::fs::read_to_string(format!("/proc/{}/net/tcp", self.child.id())).unwrap();
        let open = table.lines().filter_map(|line| {
            let [_, local, peer, state, queues, ..] = line.split_whitespace().collect::<Vec<_>>()[..] else {
                return None;
            };
            let is_own = local.ends_with(&format!(":{port:04X}")) && state == "01";
            is_own.then(|| (peer, u64::from_str_radix(&queues[..8], 16).unwrap()))
        });
        // The kernel may list a connection twice while others come and go.
        open.collect::<BTreeMap<_, _>>().into_values().collect()
    }

    /// What it has used of processors so far. The clock of a busy machine says less.
    pub(crate) fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        // In hundredths of a second, in the program and in the kernel.
        let ticks = fields.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().unwrap());
        Duration::from_millis(10 * ticks.sum::<u64>())
    }

    /// Lets the peak of its memory begin anew, at what is in memory now.
    pub(crate) fn forget_peak(&self) {
        std::fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5").unwrap();
    }

    /// Everything that it wrote to standard output so far.
    pub(crate) fn stdout(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("stdout")).unwrap()
    }

    /// Everything that it wrote to standard error so far.
    pub(crate) fn stderr(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("stderr")).unwrap()
    }

    /// The folder it runs in.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Whether it has not ended yet.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Its state folder.
    pub(crate) fn state(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The first loopback address in the first line of either output with this word in it.
    pub(crate) async fn address_beside(&self, word: &str) -> SocketAddr {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let output = self.stdout() + &self.stderr();
            let line = output.lines().find(|line| line.contains(word) && line.contains("127.0.0.1:"));
            if let Some(line) = line {
                let at = line.find("127.0.0.1:").unwrap();
                let rest = &line[at..];
                let end = rest["127.0.0.1:".len()..].find(|c: char| !c.is_ascii_digit());
                return rest[..end.map_or(rest.len(), |end| end + "127.0.0.1:".len())].parse().unwrap();
            }
            assert!(Instant::now() < deadline, "it does not listen: {output}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until one of its outputs has this word.
    pub(crate) async fn until_it_says(&self, word: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !(self.stdout() + &self.stderr()).contains(word) {
            assert!(Instant::now() < deadline, "it never said {word}: {}", self.stderr());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Sends it a signal, `TERM` or the like.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status().unwrap();
        assert!(status.success());
    }

    /// Waits for its end; the exit code.
    pub(crate) async fn code(&mut self) -> i32 {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            assert!(Instant::now() < deadline, "it does not end: {}", self.stderr());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// What the program needs in front of this simulator, at its loudest.
pub(crate) fn settings(simulator: &Simulator, format: &str) -> Vec<(&'static str, String)> {
    let cookies: Vec<String> =
        simulator.accounts().names().iter().map(|account| simulator.accounts().cookie(account)).collect();
    vec![
        ("API_KEY", KEY.to_owned()),
        ("COOKIE", cookies.join("|||")),
        ("QWEN_WEB_BASE_URL", simulator.urls().web.to_string()),
        ("QWEN_AUTH_BASE_URL", simulator.urls().auth.to_string()),
        ("SERVER_PORT", "0".to_owned()),
        ("LOG_LEVEL", "trace".to_owned()),
        ("LOG_FORMAT", format.to_owned()),
    ]
}
