//! The real program on a terminal: a pseudo-terminal of which the test is the other side.
#![expect(clippy::string_slice, reason = "the index is at the boundary of a character")]

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use tempfile::TempDir;

use crate::support::app::PATIENCE;

/// A program on a terminal. Killed when dropped.
pub(crate) struct OnTerminal {
    child: Child,
    keyboard: File,
    shown: Arc<Mutex<Vec<u8>>>,
    folder: TempDir,
}

impl Drop for OnTerminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl OnTerminal {
    /// Starts the program on a terminal with so many columns, in a folder of its own with these settings as its
    /// environment.
    pub(crate) fn start(columns: u16, arguments: &[&str], settings: &[(&str, String)]) -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        tcsetwinsize(&ours, Winsize { ws_row: 40, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let theirs = || -> Stdio {
            let name = ptsname(&ours, Vec::new()).unwrap();
            File::from(rustix::fs::open(&name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap()).into()
        };
        let folder = tempfile::tempdir().unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_qwen-bridge"))
            .args(arguments)
            .env_clear()
            .env("TERM", "xterm-256color")
            .envs(settings.iter().map(|(name, value)| (name, value)))
            .current_dir(folder.path())
            .stdin(theirs())
            .stdout(theirs())
            .stderr(theirs())
            .spawn()
            .unwrap();
        let keyboard = File::from(ours);
        let shown = Arc::new(Mutex::new(Vec::new()));
        let (mut screen, seen) = (keyboard.try_clone().unwrap(), Arc::clone(&shown));
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // The read fails when the program has ended.
            while let Ok(count @ 1..) = screen.read(&mut bytes) {
                seen.lock().extend_from_slice(&bytes[..count]);
            }
        });
        Self { child, keyboard, shown, folder }
    }

    /// Types these keys.
    pub(crate) fn types(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Everything that was shown so far, styles and all.
    pub(crate) fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock()).into_owned()
    }

    /// The folder it runs in.
    pub(crate) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// Waits until this was shown, after the first `from` bytes. Gives how many bytes were shown up to its end.
    pub(crate) async fn shows(&self, from: usize, word: &str) -> usize {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let shown = self.shown();
            if let Some(at) = shown.get(from..).and_then(|rest| rest.find(word)) {
                return from + at + word.len();
            }
            let end = &shown[shown.floor_char_boundary(shown.len().saturating_sub(2000))..];
            assert!(Instant::now() < deadline, "it never showed {word:?}: {end:?}");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    /// Sends it a signal, `INT` or the like.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status().unwrap();
        assert!(status.success());
    }

    /// Waits for its end; the exit code.
    pub(crate) async fn code(&mut self) -> i32 {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            assert!(Instant::now() < deadline, "it does not end: {:?}", self.shown());
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }
}
